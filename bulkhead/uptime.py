"""Count the time that this host is up, over all of its boots.

Nothing becomes unused by a weekend for which the host is off or asleep, nor by a clock that is set. So the age of a moment
is the time that the host was up since, which every check and every prune remembers.
"""

from __future__ import annotations

import time
from itertools import pairwise

from bulkhead import procfs, state
from pyinfra_lvm.named_tuple import NamedTuple

_NAME = "uptime"  # of the state, and of its lock
_STEP = 60  # seconds that the time of day may differ from the time up before the clock counts as set
_POINTS = 1000  # that are remembered: each boot, each sleep and each set clock adds one or two


class Point(NamedTuple):
    """A moment by both clocks."""

    time: float  # of day, in seconds since the epoch
    up: float  # seconds that the host has been up, counted from the first point of all


class Clocks(NamedTuple):
    """What the host's clocks show."""

    boot: str
    awake: float  # seconds since the boot, without those that the host slept
    time: float  # of day, in seconds since the epoch

    @classmethod
    def read(cls) -> Clocks:
        return cls(procfs.boot_id(), time.clock_gettime(time.CLOCK_MONOTONIC), time.time())


class Uptime(NamedTuple):
    """The time that the host has been up so far."""

    boot: str
    awake: float
    up: float  # seconds, counted from the first point of all
    booted: float  # what `up` was at the boot
    points: list[Point]  # the newest is the present

    @property
    def since_boot(self) -> float:
        return self.up - self.booted

    def before(self, seconds: float) -> float:
        """Return the moment before which what was used last has been unused for so many seconds of uptime.

        Returns:
            Seconds since the epoch; 0: nobody knows of such a moment, so nothing is unused for so long.
        """
        wanted = self.up - seconds
        number = sum(point.up <= wanted for point in self.points)
        if not number:
            return 0.0
        last, *later = points = self.points[number - 1 :]
        moment = last.time
        if later and _is_steady(last, later[0]):
            moment += wanted - last.up
            points = later
        # A clock that was behind, or was set back, has given recent moments old dates.
        return min([moment, *(second.time - (second.up - first.up) for first, second in pairwise(points))])


def current() -> Uptime:
    """Return the uptime until now."""
    return advanced(state.load(_NAME), Clocks.read())


def remember() -> Uptime:
    """Return the uptime until now, and remember it.

    Raises:
        OSError: it cannot be written.
    """
    with state.locked(_NAME, 5):
        uptime = current()
        state.save(_NAME, uptime._asdict())
    return uptime


def advanced(known: dict[str, object], clocks: Clocks) -> Uptime:
    """Return the uptime until the present.

    The time between the last point and a shutdown is not known, so it does not count.

    Args:
        known: what was remembered last, or anything that was found in its place.
    """
    boot, awake, now = clocks
    try:
        last = Uptime(**known)._replace(points=[Point(*map(float, point)) for point in known["points"]])  # type: ignore
        gained = max(awake - last.awake, 0.0) if boot == last.boot else awake
        up, booted = last.up + gained, last.booted if boot == last.boot else last.up
        points = last.points
    except (KeyError, TypeError, ValueError):
        up, booted, points = 0.0, -awake, []
    present = Point(now, up)
    if len(points) > 1 and _is_steady(points[-2], points[-1]) and _is_steady(points[-2], present):
        points = points[:-1]
    return Uptime(boot, awake, up, booted, [*points, present][-_POINTS:])


def _is_steady(first: Point, second: Point) -> bool:
    """Return whether the host was up, and nobody set its clock, between two points."""
    return abs((second.time - first.time) - (second.up - first.up)) < _STEP
