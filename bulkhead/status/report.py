"""`bulkhead status`: the disks, what fills Docker's, what has been done about it and what comes next, at a glance."""

from __future__ import annotations

import calendar
import os
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from bulkhead import names, state
from bulkhead.command import output_of
from bulkhead.docker import daemon, usage
from bulkhead.docker.engine import Engine
from bulkhead.names import PRUNE_TIMER
from bulkhead.outage import unit
from bulkhead.snapshot import snapshots
from bulkhead.snapshot.rollback import Rollback
from bulkhead.watch import alert_store, check
from bulkhead.watch.findings import OK, Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bulkhead.config import Config
    from bulkhead.docker.usage import Usage
    from bulkhead.move.move import Move
    from bulkhead.watch.alert_store import Standing

PATIENCE = 10  # seconds for Docker to count what it holds
CRON = "/etc/cron.d/check-disk"
Found = TypeVar("Found")


@dataclass(frozen=True)
class DataLocation:
    """Where a directory is, and what its last move came to."""

    path: str
    outcome: str
    phase: str
    since: float
    reason: str
    old: dict[str, int]  # directory → bytes of its old tree

    @classmethod
    def of(cls, move: Move) -> DataLocation:
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
class GuardStatus:
    """What the guard has seen last, and has done since the host came up."""

    time: float
    floor: int  # bytes that it keeps free
    free: int
    ballast: int
    aborted: list[Aborted]

    @classmethod
    def last(cls) -> GuardStatus | None:
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
    seen: Observation = field(default_factory=Observation)
    usage: Usage | None = None
    places: list[DataLocation] = field(default_factory=list)  # of extra volumes, and Docker's as the last
    under_way: bool = False  # a move
    rollback: str = ""  # to a snapshot, that is not finished: what it has come to
    checked: float | None = None
    pruned: Pruned | None = None
    guard: GuardStatus | None = None
    taken: dict[str, float] = field(default_factory=dict)  # snapshots of ours, by name → since when they stand
    snapshot_hours: int = 0  # after which the guard drops them; 0: nobody does
    next_check: float | None = None
    next_prune: float | None = None
    standing: list[Standing] = field(default_factory=list)  # alerts
    queued: dict[str, int] = field(default_factory=dict)  # messages, by receiver
    failed: dict[str, str] = field(default_factory=dict)


# -- gathering


def gather(config: Config, moves: Callable[[], Sequence[Move]]) -> Status:
    """Ask for everything. What fails is told in its place, and keeps nothing else from being shown.

    Args:
        moves: gives the moves of extra volumes, and Docker's as the last.
    """
    status = Status(socket.gethostname(), time.time(), config.volume_mount, config.vg_name, config.reserve_bytes)

    def part(name: str, ask: Callable[[], Found], otherwise: Found) -> Found:
        try:
            return ask()
        except Exception as error:  # whatever it is, the other parts are worth showing
            status.failed[name] = str(error) or repr(error)
            return otherwise

    known = state.load("check")
    status.seen = part("disks", lambda: _observe(config, known), status.seen)
    status.checked = part("last check", lambda: _last_sample(known), None)
    if any(finding.key == "docker" and finding.level == OK for finding in status.seen.findings):
        status.usage = part("usage", _usage, None)
    status.places = part("places", lambda: [DataLocation.of(move) for move in moves()], [])
    status.under_way = part("under way", unit.is_under_way, False)
    status.rollback = part("rollback", lambda: _unfinished(Rollback(config, print)), "")
    status.pruned = part("last prune", Pruned.last, None)
    status.guard = part("guard", GuardStatus.last, None)
    if status.seen.snapshots:
        status.taken = part("snapshots", lambda: {each.name: each.made for each in snapshots.ours(config)}, {})
        status.snapshot_hours = config.snapshot_max_hours if names.GUARD_SERVICE in config.watched_units else 0
    status.next_check = part("next check", lambda: _next_by_cron(status.now), None)
    status.next_prune = part("next prune", _next_by_timer, None)
    status.standing = part("alerts", alert_store.standing, [])
    status.queued = part("messages", alert_store.queued, {})
    if os.geteuid() != 0:  # what is remembered is root's, and looks empty to others
        status.failed |= dict.fromkeys(("last check", "last prune", "guard", "alerts"), "only root sees it")
    return status


def _unfinished(rollback: Rollback) -> str:
    return rollback.outcome() if rollback.is_pending else ""


def _observe(config: Config, known: dict[str, Any]) -> Observation:
    levels = known.get("levels")
    standing = levels if isinstance(levels, dict) else {}
    seen, _ = check.collect(config, check.Limits.of(config, None), check.CheckClock.read(), known, standing)
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
    command = f"systemctl show {PRUNE_TIMER} --timestamp=utc --value --property=NextElapseUSecRealtime"
    said = output_of(command.split(), daemon.PATIENCE).split()  # Wed 2026-11-25 03:00:00 UTC
    return calendar.timegm(time.strptime(" ".join(said[1:3]), "%Y-%m-%d %H:%M:%S")) if len(said) == 4 else None
