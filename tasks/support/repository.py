"""Apt repositories of others: tried before they are in place, so that one that is wrong leaves apt as it was."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from tasks.support.files import render
from tasks.support.packages import install_command, missing_of, update_command

_NEEDED = ("gpg", "ca-certificates")

# The shell command that prints the fingerprint of each primary key of a file: apt would trust a second one too. Without these
# options gpg makes itself a directory in the home, and a look changes nothing on a host.
_FINGERPRINTS = (
    "gpg --no-options --no-keyring --trust-model always --batch --quiet --show-keys --with-colons {file} | "
    'awk -F: \'$1 == "pub" {{ primary = 1 }} $1 == "fpr" && primary {{ print $10; primary = 0 }}\''
)


@dataclass(frozen=True)
class RepositoryState:
    source: str = ""  # content of our entry
    fingerprint: str = ""  # of its key; of each, where somebody has put more into the file


class Repository(FactBase[RepositoryState]):
    """Our entry for a repository, and the fingerprint of its key.

    Args:
        source, key: paths of the two.
    """

    def command(self, source: str, key: str) -> str:
        source, key = shlex.quote(source), shlex.quote(key)
        return (
            f"[ ! -f {source} ] || sed 's/^/source=/' {source}; "
            f"[ ! -f {key} ] || {{ {_FINGERPRINTS.format(file=key)} | sed 's/^/fingerprint /'; }} 2>/dev/null; true"
        )

    def process(self, output: list[str]) -> RepositoryState:
        return RepositoryState(
            source="".join(line.removeprefix("source=") + "\n" for line in output if line.startswith("source=")),
            fingerprint=" ".join(line.split()[1] for line in output if line.startswith("fingerprint ")),
        )

    @staticmethod
    def default() -> RepositoryState:
        return RepositoryState()


def addition(**values: str) -> str:
    """The script that adds a repository, whose entry comes on standard input; `repository` says what the values are."""
    return render("add-repository.sh.j2", fingerprints=_FINGERPRINTS.format(file='"$aside/key.asc"'), **values)


@operation()
def repository(
    whose: str, path: str, source: str, key: str, key_url: str, fingerprint: str, setting: str, lock_timeout: int
) -> Generator[StringCommand, None, None]:
    """Have a repository in apt, its key checked against a fingerprint, and seen to be signed with it.

    Args:
        whose: is named where it goes wrong.
        path: of the entry.
        source: its content, deb822.
        key: path of the key, which the content names.
        key_url: where the key is fetched from.
        fingerprint: 40 hexadecimal digits.
        setting: that has the repository's address; the one with ``_fingerprint`` after it has the fingerprint.
        lock_timeout: seconds to wait for another package manager.
    """
    found = host.get_fact(Repository, source=path, key=key)
    if found == RepositoryState(source, fingerprint):
        host.noop(f"{whose} repository is there, with its key")
        return
    if missing := missing_of(_NEEDED):
        yield update_command(lock_timeout)
        yield install_command(missing, lock_timeout)
    script = addition(whose=whose, source=path, key=key, url=key_url, fingerprint=fingerprint, setting=setting)
    yield StringCommand(script, _stdin=source)
