"""How this project writes a file on a host: whole, synced, renamed. A power cut leaves the old file or the new one."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

_TOP = Path(__file__).parents[2]


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TOP / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )
    environment.filters["quote"] = shlex.quote
    return environment


def render(template: str, **values: object) -> str:
    """A template of ``templates/`` with these values; an undefined name in it is an error."""
    return _templates().get_template(template).render(**values)


def verbatim(name: str) -> str:
    """A file of ``files/``."""
    return (_TOP / "files" / name).read_text()


def replace_file(path: str, content: str, mode: str = "0644") -> StringCommand:
    """The command that replaces ``path`` as a whole, making its directory where there is none.

    pyinfra's files.put copies over the file in place: a cut in the middle leaves half of it. The content goes by
    standard input: a command line is for everybody on the host to read.
    """
    directory = shlex.quote(str(PurePosixPath(path).parent))
    target, aside = shlex.quote(path), shlex.quote(f"{path}.new")
    return StringCommand(
        f"mkdir -p {directory} && rm -f {aside} && (umask 077; cat >{aside}) && chmod {mode} {aside} && "
        f"sync {aside} && mv -fT {aside} {target} && sync {directory}",
        _stdin=content,
    )


@dataclass(frozen=True)
class File:
    content: str
    mode: str = "0644"

    @property
    def state(self) -> str:
        return f"{self.mode.lstrip('0')} {hashlib.sha256(self.content.encode()).hexdigest()}"


class FileStates(FactBase[dict[str, str]]):
    """Mode and checksum of those of some files that are there.

    Args:
        paths: of them.
        service: that reads them when it starts. One that has been changed since is "unread".
    """

    def command(self, paths: list[str], service: str = "") -> str:
        started = f"systemctl show --property=ExecMainStartTimestamp --value {shlex.quote(service)}"
        return (f'started=$(date -d "$({started})" +%s); ' if service else "started=; ") + (
            f"for path in {shlex.join(paths)}; do "
            'if [ ! -e "$path" ]; then :; '
            'elif [ "$started" ] && [ "$(stat -c %Y "$path")" -gt "$started" ]; then echo "$path unread"; '
            'else echo "$path $(stat -c %a "$path") $(sha256sum <"$path")"; fi; done'
        )

    def process(self, output: list[str]) -> dict[str, str]:
        words = (line.split() for line in output)
        return {path: " ".join(state[:2]) for path, *state in words}

    @staticmethod
    def default() -> dict[str, str]:
        return {}


@operation()
def files(wanted: Mapping[str, File | None], service: str = "") -> Generator[StringCommand, None, None]:
    """Have these files, and not those that are None.

    Args:
        wanted: path → the file.
        service: that reads them when it starts: it is restarted after a change, also one that a run was cut after.
    """
    there = host.get_fact(FileStates, paths=list(wanted), service=service)
    changed = [path for path, file in wanted.items() if there.get(path) != (file and file.state)]
    for path in changed:
        file = wanted[path]
        yield replace_file(path, file.content, file.mode) if file else StringCommand(f"rm -f {shlex.quote(path)}")
    if changed and service:
        yield StringCommand(f"systemctl restart {shlex.quote(service)}")
    if not changed:
        host.noop(f"{', '.join(wanted)}: as they should be")


class Present(FactBase[list[str]]):
    """Which of some paths exist.

    Args:
        paths: of files and directories.
    """

    def command(self, paths: list[str]) -> str:
        return f"ls -d {shlex.join(paths)} 2>/dev/null; true"

    def process(self, output: list[str]) -> list[str]:
        return output

    @staticmethod
    def default() -> list[str]:
        return []


@operation()
def removed(paths: list[str]) -> Generator[StringCommand, None, None]:
    """Remove files and directories of this project.

    Args:
        paths: of them.
    """
    found = host.get_fact(Present, paths=paths)
    if found:
        yield StringCommand(f"rm -rf {shlex.join(found)}")
    else:
        host.noop("nothing of it is there")
