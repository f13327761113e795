"""Write a file on a host: whole, synced, then renamed. A power cut leaves the old file or the new one."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pyinfra import host
from pyinfra.api import FactBase, StringCommand

from pyinfra_lvm.collection import fact, operation
from tasks.support.paths import DOCKER_AT_ONCE, DOCKER_CONTAINER_PATIENCE, DOCKER_HOST, DOCKER_PATIENCE

_TOP = Path(__file__).parents[2]

# Shell code that prints the next line of standard input, decoded. It fails if the line has no end: when a connection is
# lost, sshd ends a command's standard input, and half of a file must not take the place of a whole one.
RECEIVE = '{ IFS= read -r line && printf %s "$line" | base64 --decode; }'


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TOP / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )
    environment.filters["quote"] = shlex.quote
    environment.globals["docker_host"] = DOCKER_HOST
    environment.globals["docker_patience"] = DOCKER_PATIENCE
    environment.globals["docker_container_patience"] = DOCKER_CONTAINER_PATIENCE
    environment.globals["docker_at_once"] = DOCKER_AT_ONCE
    environment.globals["receive"] = RECEIVE
    return environment


def render(template: str, **values: object) -> str:
    """Return a template of ``templates/`` filled with these values. A name that is not among them is an error."""
    return _templates().get_template(template).render(**values)


def verbatim(name: str) -> str:
    """Return a file of ``files/`` as it is."""
    return (_TOP / "files" / name).read_text()


def sent(*contents: str) -> str:
    """Return the standard input from which ``RECEIVE`` prints these contents, one at a time."""
    return "".join(f"{base64.b64encode(content.encode()).decode()}\n" for content in contents)


def replace_file(path: str, content: str, mode: str = "0644", before: str = "") -> StringCommand:
    """Return the command that replaces ``path`` as a whole, and makes its directory where there is none.

    pyinfra's files.put writes over the file in place, and a cut leaves half of it. The content goes through standard
    input, because every user of the host can read a command line.

    Args:
        before: a command that runs right before the new file takes its place.
    """
    directory = shlex.quote(str(PurePosixPath(path).parent))
    prefix = f"{before} && " if before else ""
    target, new_file = shlex.quote(path), shlex.quote(f"{path}.new")
    return StringCommand(
        f"mkdir -p {directory} && rm -f {new_file} && (umask 077; {RECEIVE} >{new_file}) && chmod {mode} {new_file} && "
        f"sync {new_file} && {prefix}mv -fT {new_file} {target} && sync {directory}",
        _stdin=sent(content),
    )


@dataclass(frozen=True)
class File:
    """A file as it should be on a host."""

    content: str
    mode: str = "0644"

    @property
    def state(self) -> str:
        """Return mode and checksum, as ``FileStates`` reports them."""
        return f"{self.mode.lstrip('0')} {hashlib.sha256(self.content.encode()).hexdigest()}"


class FileStates(FactBase[dict[str, str]]):
    """Return mode and checksum of each of some files that exists.

    Args:
        paths: of the files.
        service: that reads them when it starts. A file that has changed since then is "unread".
    """

    def command(self, paths: list[str], service: str = "") -> str:
        started = f"systemctl show --property=ExecMainStartTimestamp --value {shlex.quote(service)}"
        return (f'started=$(date -d "$({started})" +%s); ' if service else "started=; ") + (
            f'set --; for path in {shlex.join(paths)}; do [ ! -e "$path" ] || set -- "$@" "$path"; done; '
            '[ $# = 0 ] || { echo "started $started"; stat -c "file %a %Y %n" "$@"; sha256sum "$@"; } 2>/dev/null; true'
        )

    def process(self, output: list[str]) -> dict[str, str]:
        words = [line.split() for line in output]
        started = [int(rest[0]) for kind, *rest in words if kind == "started" and rest]
        checksums = {rest[0]: kind for kind, *rest in words if len(rest) == 1}
        return {
            path: "unread" if started and int(written) > started[0] else f"{mode} {checksums.get(path, '')}"
            for kind, mode, written, path in (line for line in words if line[0] == "file")
        }

    @staticmethod
    def default() -> dict[str, str]:
        return {}


@operation()
def files(wanted: Mapping[str, File | None], service: str = "") -> Generator[StringCommand, None, None]:
    """Write these files, and remove those that are None.

    Args:
        wanted: path → the file.
        service: that reads them when it starts. It is restarted after a change, also after one of an earlier run that
            was cut.
    """
    present = fact(FileStates, paths=list(wanted), service=service)
    changed = [path for path, file in wanted.items() if present.get(path) != (file and file.state)]
    for path in changed:
        file = wanted[path]
        yield replace_file(path, file.content, file.mode) if file else StringCommand(f"rm -f {shlex.quote(path)}")
    if changed and service:
        yield StringCommand(f"systemctl restart {shlex.quote(service)}")
    if not changed:
        host.noop(f"{', '.join(wanted)}: up to date")


class Present(FactBase[list[str]]):
    """Return which of some paths exist.

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
        paths: of these files and directories.
    """
    found = fact(Present, paths=paths)
    if found:
        yield StringCommand(f"rm -rf {shlex.join(found)}")
    else:
        host.noop("none of them exists")
