"""Write files for systemd, have it read them, and keep timers and services running by them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pyinfra import host
from pyinfra.api import FactBase, StringCommand

from pyinfra_lvm.collection import fact, operation
from tasks.support import gpu
from tasks.support.files import replace_file

_STAMPS = "/var/lib/systemd/timers"  # when persistent timers elapsed last (systemd.timer(5))


@dataclass(frozen=True)
class UnitFiles:
    """Files of systemd's on disk, whether it has read them, and which units are enabled and active, since when."""

    contents: dict[str, str]
    needs_reload: bool
    up: frozenset[str]
    changed: int = 0  # when the newest file was written, in seconds since the epoch
    started: dict[str, int] = field(default_factory=dict)  # service → when its process started, likewise


def mount_unit(path: str) -> str:
    r"""Return the name of the unit that mounts a path (systemd.unit(5)).

    >>> mount_unit("/srv/docker-volume"), mount_unit("/.a b/é"), mount_unit("/")
    ('srv-docker\\x2dvolume.mount', '\\x2ea\\x20b-\\xc3\\xa9.mount', '-.mount')
    """
    name = "/".join(filter(None, path.split("/")))
    plain = [bool(re.fullmatch(rb"[\w:.]", byte)) for byte in _bytes(name)]
    parts = zip(_bytes(name), plain, strict=True)
    escaped = "".join(
        "-" if byte == b"/" else byte.decode() if is_plain and (byte, at) != (b".", 0) else f"\\x{byte.hex()}"
        for at, (byte, is_plain) in enumerate(parts)
    )
    return f"{escaped or '-'}.mount"


def _bytes(text: str) -> list[bytes]:
    return [bytes([number]) for number in text.encode()]


class SystemdFiles(FactBase[UnitFiles]):
    """Return the contents of files of systemd's by path, and the state of the units that they belong to.

    Args:
        paths: of the files.
        units: that the files belong to.
    """

    # Those that the answer is about, in the output of a question about more of them.
    paths: Collection[str] | None = None
    units: Collection[str] | None = None

    def command(self, paths: list[str], units: list[str]) -> str:
        self.paths, self.units = paths, units
        properties = "Id,NeedDaemonReload,ActiveState,UnitFileState,ExecMainStartTimestamp"
        return (
            f"LC_ALL=C TZ=UTC systemctl show --property={properties} {shlex.join(units)}; "
            f'set --; for path in {shlex.join(paths)}; do [ ! -f "$path" ] || set -- "$@" "$path"; done; '
            '[ $# = 0 ] || { stat -c "file %Y %n" "$@"; '
            'awk \'FNR == 1 { print "in " FILENAME } { print "=" $0 }\' "$@"; }'
        )

    def process(self, output: list[str]) -> UnitFiles:
        contents: dict[str, str] = {}
        path, changed = "", 0
        for line in output:
            if line.startswith("file "):
                _, written, path = line.split(" ", 2)
                if self.paths is None or path in self.paths:
                    contents[path], changed = "", max(changed, int(written))
            elif line.startswith("in "):
                path = line.removeprefix("in ")
            elif line.startswith("=") and path in contents:
                contents[path] += line[1:] + "\n"
        # An empty line stands between two units.
        blocks = [block.splitlines() for block in "\n".join(output).split("\nfile ")[0].split("\n\n")]
        every = [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks]
        shown = [unit for unit in every if self.units is None or unit.get("Id") in self.units]
        started = {unit["Id"]: unit.get("ExecMainStartTimestamp", "") for unit in shown if "Id" in unit}
        return UnitFiles(
            contents,
            needs_reload=any(unit.get("NeedDaemonReload") == "yes" for unit in shown),
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
    """Return a time that systemctl prints, in UTC, as seconds since the epoch. (systemd prints those only since 250.)

    >>> _moment("Wed 2026-11-25 02:43:54 UTC")
    1795574634
    """
    return int(datetime.strptime(f"{text}+0000", "%a %Y-%m-%d %H:%M:%S UTC%z").timestamp())


@operation()
def unit_files(
    contents: Mapping[str, str], units: Sequence[str], timers: Sequence[str] = (), services: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """Write these files and have systemd read them, even if an earlier run was cut between the two.

    Args:
        contents: path → content.
        units: that the files belong to.
        timers: those units that are enabled, and restarted after a change.
        services: likewise.
    """
    found = fact(SystemdFiles, paths=list(contents), units=list(units))
    changed = [path for path, content in contents.items() if found.contents.get(path) != content]
    if changed or found.needs_reload:
        gpu.warn_before("systemd is reloaded")
    for path in changed:
        yield replace_file(path, contents[path])
    if changed or found.needs_reload:
        yield StringCommand("systemctl daemon-reload")
    restarted = [unit for unit in (*timers, *services) if changed or found.needs_reload or not _is_current(unit, found)]
    if restarted:
        yield StringCommand(f"systemctl enable --quiet --no-reload {shlex.join(restarted)}")
        # Without the stamp a persistent timer would run at once, for a time in its new schedule that has passed.
        stamps = shlex.join(f"{_STAMPS}/stamp-{unit}" for unit in restarted if unit in timers)
        stamped = f"mkdir -p {_STAMPS} && touch {stamps} && " if stamps else ""
        yield StringCommand(f"{stamped}systemctl restart {shlex.join(restarted)}")
    elif not changed and not found.needs_reload:
        host.noop(f"{', '.join(units)}: up to date")


def _is_current(unit: str, found: UnitFiles) -> bool:
    """Return whether a unit is enabled and active. A service must also have started after its files were written."""
    return unit in found.up and found.started.get(unit, found.changed) >= found.changed


@operation()
def unit_files_removed(
    paths: Sequence[str], units: Sequence[str], timers: Sequence[str] = (), services: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """Remove these files, and have systemd know it.

    Args:
        paths: of the files.
        units: that the files belong to.
        timers, services: those units that are to be stopped, and disabled if they are enabled.
    """
    found = fact(SystemdFiles, paths=list(paths), units=list(units))
    if not found.contents and not found.needs_reload:
        host.noop(f"{', '.join(units)}: already removed")
        return
    gpu.warn_before("systemd is reloaded")
    enabled = (*timers, *services)
    if present := [unit for unit in enabled if any(path.endswith(f"/{unit}") for path in found.contents)]:
        yield StringCommand(f"systemctl disable --quiet --no-reload --now {shlex.join(present)}")
    if stamps := [f"{_STAMPS}/stamp-{unit}" for unit in present if unit in timers]:
        yield StringCommand(f"rm -f {shlex.join(stamps)}")
    yield StringCommand(f"rm -f {shlex.join(paths)}")
    if drop_ins := sorted({path.rpartition("/")[0] for path in paths if ".d/" in path}):
        yield StringCommand(f"rmdir {shlex.join(drop_ins)} 2>/dev/null; true")  # files of others there stay
    yield StringCommand("systemctl daemon-reload")
