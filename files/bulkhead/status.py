"""`bulkhead status`: the disks, what fills Docker's, what has been done about it and what comes next, at a glance."""

from __future__ import annotations

import argparse
import calendar
import json
import os
import re
import shutil
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from bulkhead import alert, check, lvm, moving, snapshot, state, unit, usage
from bulkhead.alert import Standing
from bulkhead.check import CRITICAL, LEVELS, OK, SEVERITY, UNKNOWN, WARNING, Seen, plain, short, span
from bulkhead.config import Config
from bulkhead.engine import Engine
from bulkhead.forecast import Forecast
from bulkhead.moving import Move
from bulkhead.rollback import Rollback
from bulkhead.system import count
from bulkhead.usage import Usage
from sizes import human

PATIENCE = 10  # seconds for Docker to count what it holds
CRON = "/etc/cron.d/check-disk"
TIMER = "docker-prune.timer"

Found = TypeVar("Found")


@dataclass(frozen=True)
class Place:
    """Where a directory is, and what its last move came to."""

    path: str
    outcome: str
    phase: str
    since: float
    reason: str
    old: dict[str, int]  # directory → bytes of its old tree

    @classmethod
    def of(cls, move: Move) -> Place:
        journal = move.journal
        return cls(move.path, move.outcome(), journal.phase, journal.since, journal.reason, journal.old)


@dataclass(frozen=True)
class Pruned:
    """What the last prune came to."""

    time: float
    freed: int  # bytes
    failed: list[str]  # what could not be removed, and why

    @classmethod
    def last(cls) -> Pruned | None:
        values = state.load("prune")
        return cls(values["time"], values["freed"], values["failed"]) if values else None


@dataclass(frozen=True)
class Aborted:
    """A build that the guard has stopped."""

    time: float
    words: str  # the command of its step, or its own
    written: int  # bytes, by that step


@dataclass(frozen=True)
class Guard:
    """What the guard has seen last, and has done since the host came up."""

    time: float
    floor: int  # bytes that it keeps free
    free: int
    ballast: int
    aborted: list[Aborted]

    @classmethod
    def last(cls) -> Guard | None:
        values = state.load("guard")
        if not values:
            return None
        return cls(
            float(values["time"]),
            int(values["floor"]),
            int(values["free"]),
            int(values["ballast"]),
            [Aborted(float(each["time"]), str(each["words"]), int(each["written"])) for each in values["aborted"]],
        )


@dataclass
class Status:
    """What a host looks like. A part that could not be had is in `failed`, with the reason, and else empty."""

    host: str
    now: float  # seconds since the epoch, as all times
    volume: str  # where Docker's is mounted
    group: str
    reserve: int
    seen: Seen = field(default_factory=Seen)
    usage: Usage | None = None
    places: list[Place] = field(default_factory=list)  # of extra volumes, and Docker's as the last
    under_way: bool = False  # a move
    rollback: str = ""  # to a snapshot, that is not finished: what it has come to
    checked: float | None = None
    pruned: Pruned | None = None
    guard: Guard | None = None
    taken: dict[str, float] = field(default_factory=dict)  # snapshots of ours, by name → since when they stand
    snapshot_hours: int = 0  # after which the guard drops them; 0: nobody does
    next_check: float | None = None
    next_prune: float | None = None
    standing: list[Standing] = field(default_factory=list)  # alerts
    queued: dict[str, int] = field(default_factory=dict)  # messages, by receiver
    failed: dict[str, str] = field(default_factory=dict)


def run(config: Config, options: argparse.Namespace) -> int:
    """Show it. That something is wrong with the host is no failure of this command: `bulkhead check` judges."""
    status = gather(config, lambda: moving.moves(config, print))
    if options.json:
        print(json.dumps(as_json(status), indent=4))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        print(render(status, colour, shutil.get_terminal_size().columns))
    return 0


# -- gathering


def gather(config: Config, moves: Callable[[], Sequence[Move]]) -> Status:
    """Ask for everything. What fails is told in its place, and keeps nothing else from being shown.

    Args:
        moves: gives the moves of extra volumes, and Docker's as the last.
    """
    status = Status(socket.gethostname(), time.time(), config.volume, config.group, config.reserve)

    def part(name: str, ask: Callable[[], Found], otherwise: Found) -> Found:
        try:
            return ask()
        except Exception as error:  # whatever it is, the other parts are worth showing
            status.failed[name] = str(error) or repr(error)
            return otherwise

    known = state.load("check")
    status.seen = part("disks", lambda: _look(config, known), status.seen)
    status.checked = part("last check", lambda: _last_sample(known), None)
    if any(finding.key == "docker" and finding.level == OK for finding in status.seen.findings):
        status.usage = part("usage", _usage, None)
    status.places = part("places", lambda: [Place.of(move) for move in moves()], [])
    status.under_way = part("under way", unit.is_under_way, False)
    status.rollback = part("rollback", lambda: _unfinished(Rollback(config, print)), "")
    status.pruned = part("last prune", Pruned.last, None)
    status.guard = part("guard", Guard.last, None)
    if status.seen.snapshots:
        status.taken = part("snapshots", lambda: {each.name: each.made for each in snapshot.ours(config)}, {})
        status.snapshot_hours = config.snapshot_hours if check.GUARD in config.units else 0
    status.next_check = part("next check", lambda: _next_by_cron(status.now), None)
    status.next_prune = part("next prune", _next_by_timer, None)
    status.standing = part("alerts", alert.standing, [])
    status.queued = part("messages", alert.queued, {})
    if os.geteuid() != 0:  # what is remembered is root's, and looks empty to others
        status.failed |= dict.fromkeys(("last check", "last prune", "guard", "alerts"), "only root sees it")
    return status


def _unfinished(rollback: Rollback) -> str:
    return rollback.outcome() if rollback.is_pending else ""


def _look(config: Config, known: dict[str, Any]) -> Seen:
    levels = known.get("levels")
    standing = levels if isinstance(levels, dict) else {}
    seen, _ = check.look(config, check.Limits.of(config, None), check.Clock.read(), known, standing)
    return seen


def _last_sample(known: dict[str, Any]) -> float | None:
    return max((samples[-1][0] for samples in known.get("samples", {}).values() if samples), default=None)


def _usage() -> Usage:
    """
    Raises:
        TimeoutError: Docker takes too long to count, as with millions of files in its volumes.
    """
    found: list[Usage] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            found.append(usage.usage(Engine()))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # left behind when it hangs
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise errors[0]
    if not found:
        raise TimeoutError(f"Docker does not say within {PATIENCE} s what it holds")
    return found[0]


def _next_by_cron(now: float) -> float | None:
    """When the disks are checked next, by a schedule of every so many minutes; None by any other."""
    with open(CRON, encoding="utf-8") as file:
        schedule = re.search(r"^\*/(\d+) \* \* \* \* .*check-disk", file.read(), re.MULTILINE)
    if not schedule:
        return None
    minutes, every = time.localtime(now).tm_min, int(schedule[1])
    return now - now % 60 + 60 * (min(minutes // every * every + every, 60) - minutes)


def _next_by_timer() -> float | None:
    command = f"systemctl show {TIMER} --timestamp=utc --value --property=NextElapseUSecRealtime"
    said = lvm.said(command.split(), check.PATIENCE).split()  # Wed 2026-11-25 03:00:00 UTC
    return calendar.timegm(time.strptime(" ".join(said[1:3]), "%Y-%m-%d %H:%M:%S")) if len(said) == 4 else None


# -- for programs


def as_json(status: Status) -> dict[str, Any]:
    """The same for programs; Docker's move is at the top, where it has always been."""
    *extra_volumes, docker = [asdict(place) for place in status.places] or [{}]
    return {
        **docker,
        "under_way": status.under_way,
        "rollback": status.rollback,
        "extra_volumes": {place["path"]: place for place in extra_volumes},
        "host": status.host,
        "time": status.now,
        "level": status.seen.level,
        **status.seen.as_dict(),
        "usage": asdict(status.usage) if status.usage else None,
        "checked": status.checked,
        "next_check": status.next_check,
        "pruned": asdict(status.pruned) if status.pruned else None,
        "next_prune": status.next_prune,
        "guard": asdict(status.guard) if status.guard else None,
        "taken": status.taken,
        "alerts": [asdict(standing) for standing in status.standing],
        "queued": status.queued,
        "failed": status.failed,
    }


# -- for people

_COLOURS = {OK: "32", WARNING: "33", CRITICAL: "31", UNKNOWN: "35"}
_INDENT = 14
_BAR = 28  # characters at most
_FAILURES = 5  # of a prune that are shown
_ABORTED = 5  # builds that are shown
_SILENT = 60  # seconds after which it is told when the guard looked last


@dataclass(frozen=True)
class _Page:
    """How things are written."""

    colour: bool
    room: int  # characters in a line

    def painted(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour and text else text

    def heading(self, text: str) -> str:
        return "\n" + self.painted(text, "1")

    def bar(self, share: float, length: int, level: int = OK) -> str:
        """
        >>> _Page(colour=False, room=80).bar(0.26, 8)
        '[##......]'
        """
        filled = min(int(share * length), length)  # only what is full looks full
        return f"[{self.painted('#' * filled, _COLOURS[level])}{'.' * (length - filled)}]"

    def line(self, name: str, text: str, level: int | None = None) -> str:
        """A name, and a text that may take more than one line."""
        lines = textwrap.wrap(text, self.room - _INDENT, break_on_hyphens=False) or [""]
        head = f"  {name:<{_INDENT - 2}}"
        if level is not None:
            head = self.painted(head, _COLOURS[level])
        return head + ("\n" + " " * _INDENT).join(lines)


def render(status: Status, colour: bool, width: int) -> str:
    """The page for people.

    Args:
        width: of the terminal, in characters. The table takes at least 72.
    """
    page = _Page(colour, max(width, 72))
    parts = (_summary, _filesystems, _contents, _guard, _volume_groups, _places, _runs, _alerts)
    return "\n".join(line for part in parts for line in part(status, page))


def _summary(status: Status, page: _Page) -> Iterator[str]:
    level = UNKNOWN if "disks" in status.failed else status.seen.level
    yield f"{page.painted(status.host, '1')}  {page.painted(LEVELS[level], f'1;{_COLOURS[level]}')}  {_date(status.now)}"
    for finding in sorted(status.seen.findings, key=lambda finding: SEVERITY.index(finding.level), reverse=True):
        if finding.level:
            yield page.line(LEVELS[finding.level], finding.text, finding.level)


def _filesystems(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading("Filesystems")
    if "disks" in status.failed:
        yield page.line("unknown", status.failed["disks"], UNKNOWN)
        return
    room = page.room - 53  # for the name and the bar
    name = min(max((len(filesystem.mount) for filesystem in status.seen.filesystems), default=0), room - 8)
    length = min(room - name, _BAR)
    yield page.painted(
        f"  {'':<{name}}  {'':<{length + 2}}  {'used':>12}  {'size':>5}  {'free':>5}  {'growth':>8}  {'full in':>7}",
        "2",
    )
    for filesystem in status.seen.filesystems:
        mount = filesystem.mount
        level = max((finding.level for finding in status.seen.findings if finding.mount == mount), default=OK)
        trend = status.seen.forecasts.get(mount)
        yield (
            f"  {_fitting(mount, name):<{name}}  {page.bar(filesystem.percent / 100, length, level)}"
            f"  {int(filesystem.percent):>3} %  {short(filesystem.used):>5}"
            f"  {short(filesystem.size):>5}  {short(filesystem.available):>5}"
            f"  {_growth(trend):>8}  {_time_left(trend):>7}"
        )
    if status.seen.forecasts.keys() != {filesystem.mount for filesystem in status.seen.filesystems}:
        yield page.painted("  ? is known, to root, after five checks", "2")


def _contents(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading(f"What fills {status.volume}")
    if status.usage is None:
        silent = [finding.text for finding in status.seen.findings if finding.key == "docker"]
        yield page.line("unknown", status.failed.get("usage") or "; ".join(silent) or "Docker was not asked", UNKNOWN)
        return
    rows = {
        "images": status.usage.images,
        "containers": status.usage.containers,
        "build cache": status.usage.build_cache,
        "volumes": status.usage.volumes,
        "logs": status.usage.logs,
    }
    whole = next((f.size for f in status.seen.filesystems if f.mount == status.volume), 0) or sum(rows.values()) or 1
    for name, size in rows.items():
        reclaimable = status.usage.reclaimable.get(name, 0)
        rest = f"  {short(reclaimable):>5} reclaimable" if reclaimable else ""
        yield f"  {name:<{_INDENT - 2}}{page.bar(size / whole, min(page.room - 44, _BAR))}  {short(size):>5}{rest}"


def _guard(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading("Guard")
    unit = next((finding for finding in status.seen.findings if finding.key == f"unit:{check.GUARD}"), None)
    if unit is None:
        unseen = status.failed.get("disks")
        yield page.line("unknown", unseen, UNKNOWN) if unseen else "  none: no build is stopped"
        return
    if unit.level:
        yield page.line(LEVELS[unit.level], unit.text, unit.level)
    guard = status.guard
    if guard is None:
        yield page.line("unknown", status.failed.get("guard", "it has not looked yet"), UNKNOWN)
        return
    if status.now - guard.time > _SILENT:
        yield page.line("silent", f"it looked {span(status.now - guard.time)} ago for the last time", WARNING)
    left = f"{short(guard.free - guard.floor)} until then" if guard.free > guard.floor else "less than that is free"
    yield page.line("floor", f"{short(guard.floor)} stay free; {left}", None if guard.free > guard.floor else WARNING)
    yield page.line("ballast", short(guard.ballast) if guard.ballast else "none")
    for aborted in reversed(guard.aborted[-_ABORTED:]):
        written = f", with {short(aborted.written)} written" if aborted.written else ""
        yield page.line("stopped", f"{span(status.now - aborted.time)} ago{written}: {plain(aborted.words)}")


def _volume_groups(status: Status, page: _Page) -> Iterator[str]:
    if not status.seen.groups:
        return
    yield page.heading("Volume groups")
    for group in status.seen.groups:
        text = f"{short(group.free)} of {short(group.size)} free"
        if group.name == status.group and status.reserve:
            text += f"; the reserve is {short(status.reserve)}"
        yield page.line(group.name, text)
    for found in status.seen.snapshots:
        text = f"{found.group}/{found.name} of {found.origin}, {int(found.percent)} % full"
        if found.group == status.group and (since := status.taken.get(found.name)):
            text += f", {span(status.now - since)} old"
            if status.snapshot_hours:
                text += f"; goes in {span(since + status.snapshot_hours * 3600 - status.now)}"
        yield page.line("snapshot", text)
    if "snapshots" in status.failed:
        yield page.line("unknown", f"whose snapshots they are: {status.failed['snapshots']}", UNKNOWN)


def _places(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading("Where the data is")
    if "places" in status.failed:
        yield page.line("unknown", f"whether it was moved: {status.failed['places']}", UNKNOWN)
    for finding in status.seen.findings:
        if finding.key == "isolation":
            yield f"  {finding.text}."
    for place in reversed(status.places):
        if not place.since:
            continue  # it was never moved: there is nothing to tell
        yield from textwrap.wrap(place.outcome, page.room, initial_indent="  ", subsequent_indent="  ")
        yield page.line("  since", _date(place.since))
        for path, size in place.old.items():
            yield page.line("  kept", f"{human(size)} beneath {path}; `bulkhead finalize` removes it")
        if place.reason:
            yield page.line("  reason", place.reason)
    if "rollback" in status.failed:
        yield page.line("unknown", f"whether it goes back to a snapshot: {status.failed['rollback']}", UNKNOWN)
    if status.rollback:
        yield page.line("rollback", status.rollback, WARNING)
    if "under way" in status.failed:
        yield page.line("unknown", f"whether a move is under way: {status.failed['under way']}", UNKNOWN)
    if status.under_way:
        yield page.line("now", "a move is under way: `bulkhead relocate --join` watches it", WARNING)


def _runs(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading("Runs")
    checked, pruned = status.checked, status.pruned
    for name, last, coming in (
        ("check", checked, status.next_check),
        ("prune", pruned and pruned.time, status.next_prune),
    ):
        ran = f"{span(status.now - last)} ago" if last else "unknown" if f"last {name}" in status.failed else "none yet"
        comes = f"next in {span(coming - status.now)}" if coming else ""
        yield page.line(name, f"{ran:<14}{comes}".rstrip())
        for part in (f"last {name}", f"next {name}"):
            if part in status.failed:
                yield page.line("", f"the {part} is unknown: {status.failed[part]}", UNKNOWN)
    if pruned:
        yield page.line("  freed", short(pruned.freed))
        for failure in pruned.failed[:_FAILURES]:
            yield page.line("  failed", failure, WARNING)
        if pruned.failed[_FAILURES:]:
            yield page.line("", f"and {len(pruned.failed) - _FAILURES} more: `journalctl -u docker-prune`")


def _alerts(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading("Alerts")
    for name in ("alerts", "messages"):
        if name in status.failed:
            yield page.line("unknown", status.failed[name], UNKNOWN)
    if not (status.standing or status.queued or {"alerts", "messages"} & status.failed.keys()):
        yield "  none"
    for standing in status.standing:
        since, told = (span(status.now - moment) for moment in (standing.since, standing.told))
        text = f"{standing.key} since {since}, told {told} ago"
        yield page.line(LEVELS[standing.level], text, standing.level)
    for receiver, messages in status.queued.items():
        if messages:
            yield page.line("waiting", f"{count(messages, 'message')} for {receiver}", WARNING)


# -- words


def _date(moment: float) -> str:
    return time.strftime("%F %T %Z", time.localtime(moment))


def _growth(trend: Forecast | None) -> str:
    """
    >>> _growth(Forecast(rate=2**20 / 30, seconds_left=3 * 3600)), _growth(Forecast(rate=-1.0, seconds_left=None)), _growth(None)
    ('+120M/h', '0', '?')
    """
    if trend is None:
        return "?"
    size = short(abs(trend.rate) * 3600)
    return f"{'+' if trend.rate > 0 else '-'}{size}/h" if abs(trend.rate) * 3600 >= 2**20 else "0"


def _time_left(trend: Forecast | None) -> str:
    if trend is None:
        return "?"
    return "-" if trend.seconds_left is None or trend.seconds_left > 365 * 86400 else span(trend.seconds_left)


def _fitting(text: str, length: int) -> str:
    """The end of a long path says more than its beginning.

    >>> _fitting("/srv/machine-learning/models", 15)
    '...rning/models'
    """
    return text if len(text) <= length else f"...{text[3 - length :]}"
