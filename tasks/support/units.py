"""How this project brings files to systemd: written, read by it once, and timers and services running by them."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from tasks.support import gpu
from tasks.support.files import replace_file

_STAMPS = "/var/lib/systemd/timers"  # when persistent timers elapsed last (systemd.timer(5))


@dataclass(frozen=True)
class UnitFiles:
    """What is on disk, whether systemd has read it, and which units are enabled and active, and since when."""

    contents: dict[str, str]
    needs_reload: bool
    up: frozenset[str]
    changed: int = 0  # when the newest of the files was written, in seconds since the epoch
    started: dict[str, int] = field(default_factory=dict)  # when the process of a service was


class SystemdFiles(FactBase[UnitFiles]):
    """Contents of files of systemd's by path, and whether it has yet to read a change of one of these units.

    Args:
        paths: of the files.
        units: that they are about.
    """

    def command(self, paths: list[str], units: list[str]) -> str:
        properties = "Id,NeedDaemonReload,ActiveState,UnitFileState,ExecMainStartTimestamp"
        return (
            f"LC_ALL=C TZ=UTC systemctl show --property={properties} {shlex.join(units)}; "
            f"for path in {shlex.join(paths)}; do "
            'if [ -f "$path" ]; then stat -c "file %Y %n" "$path"; sed "s/^/=/" "$path"; fi; done'
        )

    def process(self, output: list[str]) -> UnitFiles:
        contents: dict[str, str] = {}
        path, changed = "", 0
        for line in output:
            if line.startswith("file "):
                _, written, path = line.split(" ", 2)
                contents[path], changed = "", max(changed, int(written))
            elif line.startswith("="):
                contents[path] += line[1:] + "\n"
        # An empty line stands between two units.
        blocks = [block.splitlines() for block in "\n".join(output).split("\nfile ")[0].split("\n\n")]
        shown = [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks]
        started = {unit["Id"]: unit.get("ExecMainStartTimestamp", "") for unit in shown if "Id" in unit}
        return UnitFiles(
            contents,
            needs_reload="NeedDaemonReload=yes" in output,
            up=frozenset(
                unit["Id"]
                for unit in shown
                if (unit.get("ActiveState"), unit.get("UnitFileState")) == ("active", "enabled")
            ),
            changed=changed,
            started={unit: _moment(when) for unit, when in started.items() if when},
        )

    @staticmethod
    def default() -> UnitFiles:
        return UnitFiles({}, needs_reload=False, up=frozenset())


def _moment(text: str) -> int:
    """A time of systemctl's, in UTC, in seconds since the epoch. (It says them so itself only since systemd 250.)

    >>> _moment("Wed 2026-11-25 02:43:54 UTC")
    1795574634
    """
    return int(datetime.strptime(f"{text}+0000", "%a %Y-%m-%d %H:%M:%S UTC%z").timestamp())


@operation()
def unit_files(
    contents: Mapping[str, str], units: Sequence[str], timers: Sequence[str] = (), services: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """Have these files, read by systemd, also when an earlier run was cut between the two.

    Args:
        contents: path → content.
        units: that the files are about.
        timers: those of them that are enabled, and run by what their files say now.
        services: likewise.
    """
    found = host.get_fact(SystemdFiles, paths=list(contents), units=list(units))
    changed = [path for path, content in contents.items() if found.contents.get(path) != content]
    if changed or found.needs_reload:
        gpu.say_before("systemd is reloaded")
    for path in changed:
        yield replace_file(path, contents[path])
    if changed or found.needs_reload:
        yield StringCommand("systemctl daemon-reload")
    restarted = [unit for unit in (*timers, *services) if changed or found.needs_reload or not _in_force(unit, found)]
    if restarted:
        yield StringCommand(f"systemctl enable --quiet --no-reload {shlex.join(restarted)}")
        # A timer that is persistent takes what it has missed by its new times for due.
        stamps = shlex.join(f"{_STAMPS}/stamp-{unit}" for unit in restarted if unit in timers)
        stamped = f"mkdir -p {_STAMPS} && touch {stamps} && " if stamps else ""
        yield StringCommand(f"{stamped}systemctl restart {shlex.join(restarted)}")
    elif not changed and not found.needs_reload:
        host.noop(f"{', '.join(units)}: in force")


def _in_force(unit: str, found: UnitFiles) -> bool:
    """Whether it is enabled, and runs by what its files say; a service also since they were written."""
    return unit in found.up and found.started.get(unit, found.changed) >= found.changed


@operation()
def unit_files_removed(
    paths: Sequence[str], units: Sequence[str], timers: Sequence[str] = (), services: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """Have none of these files, and systemd know of it.

    Args:
        paths: of the files.
        units: that they are about.
        timers, services: those of them that were enabled.
    """
    found = host.get_fact(SystemdFiles, paths=list(paths), units=list(units))
    if not found.contents and not found.needs_reload:
        host.noop(f"{', '.join(units)}: no file of ours")
        return
    gpu.say_before("systemd is reloaded")
    enabled = (*timers, *services)
    if there := [unit for unit in enabled if any(path.endswith(f"/{unit}") for path in found.contents)]:
        yield StringCommand(f"systemctl disable --quiet --no-reload --now {shlex.join(there)}")
    if stamps := [f"{_STAMPS}/stamp-{unit}" for unit in there if unit in timers]:
        yield StringCommand(f"rm -f {shlex.join(stamps)}")
    yield StringCommand(f"rm -f {shlex.join(paths)}")
    if drop_ins := sorted({path.rpartition("/")[0] for path in paths if ".d/" in path}):
        yield StringCommand(f"rmdir {shlex.join(drop_ins)} 2>/dev/null; true")  # what others have put there stays
    yield StringCommand("systemctl daemon-reload")
