"""How this project brings files to systemd: written, read by it once, and timers running by them."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from tasks.files import replace_file

_STAMPS = "/var/lib/systemd/timers"  # when persistent timers elapsed last (systemd.timer(5))


@dataclass(frozen=True)
class UnitFiles:
    """What is on disk, whether systemd has read it, and which units are enabled and active."""

    contents: dict[str, str]
    needs_reload: bool
    up: frozenset[str]


class SystemdFiles(FactBase[UnitFiles]):
    """Contents of files of systemd's by path, and whether it has yet to read a change of one of these units.

    Args:
        paths: of the files.
        units: that they are about.
    """

    def command(self, paths: list[str], units: list[str]) -> str:
        return (
            f"systemctl show --property=Id,NeedDaemonReload,ActiveState,UnitFileState {shlex.join(units)}; "
            f"for path in {shlex.join(paths)}; do "
            'if [ -f "$path" ]; then echo "file $path"; sed "s/^/=/" "$path"; fi; done'
        )

    def process(self, output: list[str]) -> UnitFiles:
        contents: dict[str, str] = {}
        path = ""
        for line in output:
            if line.startswith("file "):
                path = line.removeprefix("file ")
                contents[path] = ""
            elif line.startswith("="):
                contents[path] += line[1:] + "\n"
        # An empty line stands between two units.
        shown = [block.splitlines() for block in "\n".join(output).split("\nfile ")[0].split("\n\n")]
        up = [unit for unit in shown if {"ActiveState=active", "UnitFileState=enabled"} <= {*unit}]
        return UnitFiles(
            contents,
            needs_reload="NeedDaemonReload=yes" in output,
            up=frozenset(line.removeprefix("Id=") for unit in up for line in unit if line.startswith("Id=")),
        )

    @staticmethod
    def default() -> UnitFiles:
        return UnitFiles({}, needs_reload=False, up=frozenset())


@operation()
def unit_files(
    contents: Mapping[str, str], units: Sequence[str], timers: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """Have these files, read by systemd, also when an earlier run was cut between the two.

    Args:
        contents: path → content.
        units: that the files are about.
        timers: those of them that are enabled, and run by what their files say now.
    """
    found = host.get_fact(SystemdFiles, paths=list(contents), units=list(units))
    changed = [path for path, content in contents.items() if found.contents.get(path) != content]
    for path in changed:
        yield replace_file(path, contents[path])
    if changed or found.needs_reload:
        yield StringCommand("systemctl daemon-reload")
    restarted = [unit for unit in timers if changed or found.needs_reload or unit not in found.up]
    if restarted:
        yield StringCommand(f"systemctl enable --quiet {shlex.join(restarted)}")
        # A timer that is persistent takes what it has missed by its new times for due.
        stamps = shlex.join(f"{_STAMPS}/stamp-{unit}" for unit in restarted)
        yield StringCommand(f"mkdir -p {_STAMPS} && touch {stamps} && systemctl restart {shlex.join(restarted)}")
    elif not changed and not found.needs_reload:
        host.noop(f"{', '.join(units)}: in force")


@operation()
def unit_files_removed(
    paths: Sequence[str], units: Sequence[str], timers: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """Have none of these files, and systemd know of it.

    Args:
        paths: of the files.
        units: that they are about.
        timers: those of them that were enabled.
    """
    found = host.get_fact(SystemdFiles, paths=list(paths), units=list(units))
    if not found.contents and not found.needs_reload:
        host.noop(f"{', '.join(units)}: no file of ours")
        return
    if there := [unit for unit in timers if any(path.endswith(f"/{unit}") for path in found.contents)]:
        stamps = shlex.join(f"{_STAMPS}/stamp-{unit}" for unit in there)
        yield StringCommand(f"systemctl disable --quiet --now {shlex.join(there)} && rm -f {stamps}")
    yield StringCommand(f"rm -f {shlex.join(paths)}")
    if drop_ins := sorted({path.rpartition("/")[0] for path in paths if ".d/" in path}):
        yield StringCommand(f"rmdir {shlex.join(drop_ins)} 2>/dev/null; true")  # what others have put there stays
    yield StringCommand("systemctl daemon-reload")
