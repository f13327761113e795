"""Collect what `bulkhead status` shows: disks, what fills Docker's volume, moves, runs and alerts."""

from __future__ import annotations

import calendar
import contextlib
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
from bulkhead.guard import reservations
from bulkhead.names import PRUNE_TIMER
from bulkhead.outage import unit
from bulkhead.snapshot import snapshots
from bulkhead.snapshot.rollback import Rollback
from bulkhead.storage import lvm
from bulkhead.storage.space import space_of
from bulkhead.watch import alert_store, check
from bulkhead.watch.results import OK, Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bulkhead.config import Config
    from bulkhead.docker.usage import Usage
    from bulkhead.move.move import Move
    from bulkhead.storage.lvm import DiskRoom
    from bulkhead.watch.alert_store import OpenAlert

PATIENCE = 10  # seconds for Docker to measure what it stores
CRON = "/etc/cron.d/check-disk"
Collected = TypeVar("Collected")


@dataclass(frozen=True)
class DataLocation:
    """Where the data of a directory is, and how its last move ended."""

    path: str
    outcome: str
    phase: str
    since: float
    reason: str
    old: dict[str, int]  # directory → bytes of the old data beneath it

    @classmethod
    def of(cls, move: Move) -> DataLocation:
        journal = move.journal
        reason = journal.reason
        if not journal.phase:
            with contextlib.suppress(OSError):  # only root can see whether there is something to move
                reason = reason if move.is_pending else ""
        return cls(move.path, move.outcome(), journal.phase, journal.since, reason, journal.old)


@dataclass(frozen=True)
class Pruned:
    """How the last prune ended."""

    time: float
    freed: int  # bytes
    failed: list[str]  # what could not be removed, with the reason
    hindrance: str = ""  # what was in its way
    skipped_nights: int = 0  # in a row, for which something was in its way

    @classmethod
    def last(cls) -> Pruned | None:
        values = state.load("prune")
        if not values:
            return None
        hindrance, nights = values.get("hindrance", ""), values.get("skipped_nights", 0)
        return cls(values["time"], values["freed"], values["failed"], hindrance, nights)


@dataclass(frozen=True)
class Aborted:
    """A build that the guard has stopped."""

    time: float
    words: str  # the command of its step, or of the build
    written: int  # bytes, by that step


@dataclass(frozen=True)
class GuardStatus:
    """The last sample of the guard, and what it has done since boot."""

    time: float
    floor: int  # bytes that it keeps free
    free: int
    ballast: int
    aborted: list[Aborted]
    inode_floor: int = 0  # inodes that it keeps free; 0: the filesystem does not limit them
    inodes_free: int = 0

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
            int(values.get("inode_floor", 0)),  # the state of an older guard has none
            int(values.get("inodes_free", 0)),
        )


@dataclass(frozen=True)
class GuardedBuild:
    """A build of `bulkhead build` that runs or waits."""

    name: str
    since: float
    need: int  # bytes, like the others
    reserved: int  # that it may still need
    written: int  # by its steps
    limit: int  # 0: none
    is_waiting: bool

    @classmethod
    def all(cls, config: Config, now: float) -> list[GuardedBuild]:
        standing = reservations.standing()
        if not standing:
            return []
        used, accounts = space_of(config.volume_mount).used, reservations.accounts()
        return [
            cls(
                each.name,
                now - (time.monotonic() - each.since),
                each.need,
                each.remaining(accounts.of(each), used),
                accounts.of(each).steps,
                each.limit,
                each.is_waiting,
            )
            for each in standing
        ]


@dataclass
class Status:
    """The status of a host. A part that cannot be collected is empty, and its reason is in `failed`."""

    host: str
    now: float  # seconds since the epoch, like all times
    volume: str  # where Docker's volume is mounted
    group: str
    reserve: int
    observation: Observation = field(default_factory=Observation)
    usage: Usage | None = None
    places: list[DataLocation] = field(default_factory=list)  # of extra volumes; Docker's comes last
    under_way: bool = False  # whether a move is running
    rollback: str = ""  # the state of an unfinished rollback to a snapshot
    checked: float | None = None
    pruned: Pruned | None = None
    guard: GuardStatus | None = None
    builds: list[GuardedBuild] = field(default_factory=list)
    taken: dict[str, float] = field(default_factory=dict)  # our snapshots: name → when it was taken
    snapshot_hours: int = 0  # after which the guard drops a snapshot; 0: it drops none
    disk_room: list[DiskRoom] = field(default_factory=list)
    next_check: float | None = None
    next_prune: float | None = None
    alerts: list[OpenAlert] = field(default_factory=list)
    queued: dict[str, int] = field(default_factory=dict)  # messages, by receiver
    failed: dict[str, str] = field(default_factory=dict)  # part → why it cannot be collected


# -- collecting


def collect(config: Config, moves: Callable[[], Sequence[Move]], *, measures_usage: bool = True) -> Status:
    """Collect every part. A part that fails does not hide the others.

    Args:
        moves: returns the moves of extra volumes, and Docker's as the last.
        measures_usage: whether Docker is asked what fills the volume, which can take seconds.
    """
    status = Status(socket.gethostname(), time.time(), config.volume_mount, config.vg_name, config.reserve_bytes)

    def part(name: str, ask: Callable[[], Collected], otherwise: Collected) -> Collected:
        try:
            return ask()
        except Exception as error:  # whatever it is, the other parts are worth showing
            status.failed[name] = str(error) or repr(error)
            return otherwise

    known = state.load("check")
    status.observation = part("disks", lambda: _observe(config, known), status.observation)
    status.checked = part("last check", lambda: _last_sample(known), None)
    docker_answers = any(result.key == "docker" and result.level == OK for result in status.observation.results)
    if measures_usage and docker_answers:
        status.usage = part("usage", _usage, None)
    status.places = part("places", lambda: [DataLocation.of(move) for move in moves()], [])
    status.under_way = part("under way", unit.is_under_way, False)
    status.rollback = part("rollback", lambda: _unfinished(Rollback(config, print)), "")
    status.pruned = part("last prune", Pruned.last, None)
    status.guard = part("guard", GuardStatus.last, None)
    status.builds = part("builds", lambda: GuardedBuild.all(config, status.now), [])
    if status.observation.snapshots:
        status.taken = part("snapshots", lambda: {each.name: each.made for each in snapshots.ours(config)}, {})
        status.snapshot_hours = config.snapshot_max_hours if names.GUARD_SERVICE in config.watched_units else 0
    status.disk_room = part("disk room", lvm.list_disk_room, [])
    status.next_check = part("next check", lambda: _next_by_cron(status.now), None)
    status.next_prune = part("next prune", _next_by_timer, None)
    status.alerts = part("alerts", alert_store.open_alerts, [])
    status.queued = part("messages", alert_store.queued, {})
    if os.geteuid() != 0:  # only root can read the state: for others it would be empty
        status.failed |= dict.fromkeys(("last check", "last prune", "guard", "alerts"), "only root can see it")
    return status


def _unfinished(rollback: Rollback) -> str:
    return rollback.outcome() if rollback.is_pending else ""


def _observe(config: Config, known: dict[str, Any]) -> Observation:
    levels = known.get("levels")
    standing = levels if isinstance(levels, dict) else {}
    observation, _ = check.collect(config, check.Limits.of(config, None), check.CheckClock.read(), known, standing)
    return observation


def _last_sample(known: dict[str, Any]) -> float | None:
    return max((samples[-1][0] for samples in known.get("samples", {}).values() if samples), default=None)


def _usage() -> Usage:
    """
    Raises:
        TimeoutError: Docker takes too long to measure, for example millions of files in its volumes.
    """
    found: list[Usage] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            found.append(usage.usage(Engine()))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # abandoned when Docker hangs
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise errors[0]
    if not found:
        raise TimeoutError(f"Docker did not report its disk usage within {PATIENCE} s")
    return found[0]


def _next_by_cron(now: float) -> float | None:
    """Return when cron runs the next check; None for any other schedule than every so many minutes."""
    with open(CRON, encoding="utf-8") as file:
        schedule = re.search(r"^\*/(\d+) \* \* \* \* .*check-disk", file.read(), re.MULTILINE)
    if not schedule:
        return None
    minutes, every = time.localtime(now).tm_min, int(schedule[1])
    return now - now % 60 + 60 * (min(minutes // every * every + every, 60) - minutes)


def _next_by_timer() -> float | None:
    command = f"systemctl show {PRUNE_TIMER} --timestamp=utc --value --property=NextElapseUSecRealtime"
    words = output_of(command.split(), daemon.PATIENCE).split()  # Wed 2026-11-25 03:00:00 UTC
    return calendar.timegm(time.strptime(" ".join(words[1:3]), "%Y-%m-%d %H:%M:%S")) if len(words) == 4 else None
