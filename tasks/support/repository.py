"""Add apt repositories of others. Each is tried before it is put in place: a wrong one leaves apt as it was."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand

from pyinfra_lvm.collection import fact, operation
from tasks.support.files import render
from tasks.support.packages import install_command, missing_of, update_command

_NEEDED = ("gpg", "ca-certificates")

# The shell command that prints the fingerprint of each primary key in a file: apt would trust a second key too. Without
# these options gpg makes itself a directory in the home, and a fact must not change the host.
_FINGERPRINTS = (
    "gpg --no-options --no-keyring --trust-model always --batch --quiet --show-keys --with-colons {file} | "
    'awk -F: \'$1 == "pub" {{ primary = 1 }} $1 == "fpr" && primary {{ print $10; primary = 0 }}\''
)


@dataclass(frozen=True)
class RepositoryState:
    """Our entry for a repository and its key, as they are on the host."""

    source: str = ""  # content of our entry
    fingerprint: str = ""  # of its key; of each key, where somebody has added others to the file


class RepositoryEntry(FactBase[RepositoryState]):
    """Return our entry for a repository, and the fingerprint of its key.

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


def addition_script(**values: str) -> str:
    """Return the script that adds a repository. It reads the entry from standard input. `repository` has the values."""
    return render("add-repository.sh.j2", fingerprints=_FINGERPRINTS.format(file='"$scratch/key.asc"'), **values)


@operation()
def repository(
    whose: str, path: str, source: str, key: str, key_url: str, fingerprint: str, setting: str, lock_timeout: int
) -> Generator[StringCommand, None, None]:
    """Add a repository to apt, after its key has matched a fingerprint and apt has verified its signature.

    Args:
        whose: the repository, for messages, such as "Docker's".
        path: of the entry.
        source: content of the entry, deb822.
        key: path of the key, which the entry names.
        key_url: address of the key.
        fingerprint: of the key, 40 hexadecimal digits.
        setting: that has the repository's address; the one with ``_fingerprint`` after it has the fingerprint.
        lock_timeout: seconds to wait for another package manager.
    """
    found = fact(RepositoryEntry, source=path, key=key)
    if found == RepositoryState(source, fingerprint):
        host.noop(f"apt has {whose} repository and its key")
        return
    if missing := missing_of(_NEEDED):
        yield update_command(lock_timeout)
        yield install_command(missing, lock_timeout)
    script = addition_script(whose=whose, source=path, key=key, url=key_url, fingerprint=fingerprint, setting=setting)
    yield StringCommand(script, _stdin=source)
