"""Decide, from samples, how fast Docker's volume fills, who fills it, and what to do. Pure.

All of it holds for space, in bytes, and for inodes, which are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from bulkhead.docker.steps import BuildStep

NOTHING, RECLAIM, ABORT, BALLAST = range(4)  # each includes those before it
DOCKER = "docker"  # the key for what Docker writes itself, beside those of the steps
_WINDOW = 2.0  # seconds of samples from which the rate is measured
_SHORT = 0.25  # seconds of samples that are enough for a rate
_HALVED = 1.0  # seconds in which a rate falls to half while nothing grows
SOON = 15.0  # seconds before the floor at which the guard reclaims cache
REST, NEAR, _SHORTEST = 0.5, 0.25, 0.05  # seconds between samples
_SCAN_INTERVAL = 0.1  # minimum interval in seconds between scans of the writers
_RECENT, _LONG = 1.0, 10.0  # seconds over which the speed of a writer is measured
_SHARE = 0.05  # a writer with this share of the growth counts as growing; of many writers, half of an equal share
# Builds with a smaller share of the growth go on. Without them the volume would last less than half as long again.
_WORTH_STOPPING = 1 / 3


class Rate:
    """The growth of what is used, per second. It rises quickly and falls slowly.

    Args:
        least: per second; less counts as no growth.
    """

    def __init__(self, least: float = 1024) -> None:
        self.value = 0.0
        self._least = least
        self._samples: list[tuple[float, int]] = []

    def add(self, now: float, free: int) -> None:
        """Add a sample. Only the differences count, so that ``free`` may be less than zero."""
        samples = self._samples
        if not self.value and samples and free >= samples[-1][1]:  # at rest: the cheap path
            samples[:] = [(now, free)]
            return
        samples.append((now, free))
        while len(samples) > 2 and samples[1][0] <= now - _WINDOW:
            del samples[0]
        # The shorter span shows at once what begins; the longer one shows what comes in bursts.
        shorter = next((sample for sample in reversed(samples) if sample[0] <= now - _SHORT), samples[0])
        measured = max(_slope(sample, samples[-1]) for sample in (samples[0], shorter))
        rests = len(samples) > 1 and free <= samples[-2][1]  # else space came back: something ended
        fallen = self.value * 0.5 ** ((now - samples[-2][0]) / _HALVED) if rests else 0.0
        self.value = max(measured, fallen)
        if self.value < self._least:
            self.value = 0.0

    def forget(self) -> None:
        """Forget all samples: a build was stopped, or much space came or went at once, so they predict nothing."""
        self.value = 0.0
        self._samples.clear()


def _slope(before: tuple[float, int], after: tuple[float, int]) -> float:
    return (before[1] - after[1]) / (after[0] - before[0]) if after[0] > before[0] else 0.0


def judge(free: int, rate: float, floor: int, reaction: float, expected: int = 0) -> int:
    """Decide what to do: NOTHING, RECLAIM or ABORT.

    Args:
        rate: growth per second.
        reaction: seconds until a build that is stopped now no longer writes.
        expected: what will come back from stopped builds. For its sake ``free`` may fall below the floor for a moment,
            but not below half of it.
    """
    ahead = free - rate * reaction
    if rate > 0 and (ahead + expected < floor or ahead < floor / 2):
        return ABORT
    if free < 2 * floor or free - rate * SOON < floor:
        return RECLAIM
    return NOTHING


def interval(free: int, rate: float, floor: int) -> float:
    """Return the seconds until the next sample: few when the floor comes near fast, more when it comes near slowly."""
    if rate <= 0:
        return REST if free >= 2 * floor else NEAR
    left = max(free - floor, 0) / rate
    return min(max(left / 60, floor / 200 / rate, _SHORTEST), REST)


def scan_interval(free: int, rate: float, floor: int) -> float:
    """Return the seconds until the next scan of the writers. A scan costs more than a sample, and matters near the floor."""
    return min(max(max(free - floor, floor / 200) / rate / 20, _SCAN_INTERVAL), _LONG / 2)


class Speed(NamedTuple):
    recent: float  # per second
    long: float


class Scan(NamedTuple):
    at: float  # monotonic seconds
    written: dict[str, int]  # by writer
    used_up: int  # of the volume, by all


class WriteHistory:
    """How much each writer had written at the last scans, and how much of the volume was used up."""

    def __init__(self) -> None:
        self._scans: list[Scan] = []

    def add(self, now: float, written: Mapping[str, int], used_up: int) -> None:
        scans = self._scans
        if scans and scans[-1].written.keys() - written.keys() - {DOCKER}:
            # When a step ends, the kernel counts what it wrote for Docker itself.
            for scan in scans:
                scan.written.pop(DOCKER, None)
        scans.append(Scan(now, dict(written), used_up))
        while scans[0].at < now - _LONG:
            del scans[0]

    def meet(self, key: str, written: int) -> None:
        """Add a writer that was found late, with what it had written by then: it may be much older."""
        for scan in self._scans:
            scan.written.setdefault(key, written)

    def last(self) -> float:
        """Return the time of the last scan."""
        return self._scans[-1].at if self._scans else float("-inf")

    def is_long_enough(self) -> bool:
        """Whether there are speeds: one scan alone tells nothing."""
        return len(self._scans) > 1

    def speeds(self) -> dict[str, Speed]:
        """Return how fast each writer writes."""
        if not self.is_long_enough():
            return {}
        *before, (now, last, _) = self._scans
        speeds = {}
        for key, size in last.items():
            # A step that an earlier scan does not have wrote all of it since; Docker is not in every scan.
            known = [scan for scan in before if key in scan.written] if key == DOCKER else before
            bases = [known[position] for position in _bases(known, now)]
            rates = [max(size - base.written.get(key, 0), 0) / (now - base.at) for base in bases]
            speeds[key] = Speed(*rates or (0, 0))
        return speeds

    def fill_rate(self) -> float:
        """Return how fast the volume has filled since the scans began; what was written at once before them is not in it."""
        if not self.is_long_enough():
            return 0
        *before, last = self._scans
        bases = [before[position] for position in _bases(before, last.at)]
        return max((last.used_up - base.used_up) / (last.at - base.at) for base in bases)

    def total_speed(self, stopped: Collection[str]) -> Speed:
        """Return how fast the volume fills, without the writers that have ended since, or that were stopped.

        It spans the same scans as the speeds do: a burst of a writer and the growth that it makes are seen together.
        """
        *before, last = scans = self._scans
        rates = []
        for first in _bases(before, last.at):
            base, latest = scans[first], dict[str, int]()
            for scan in scans[first:]:
                latest |= scan.written
            gone = latest.keys() - last.written.keys() - {DOCKER} | latest.keys() & {*stopped}
            ended = sum(max(latest[key] - base.written.get(key, 0), 0) for key in gone)
            rates.append(max(last.used_up - base.used_up - ended, 0) / (last.at - base.at))
        return Speed(*rates)


def _bases(scans: list[Scan], now: float) -> tuple[int, ...]:
    """Return the positions of the scans from which the recent and the long speeds count; none if there are no scans."""
    # Without a recent scan, the last counts.
    recent = (number for number, scan in enumerate(scans) if scan.at >= now - _RECENT)
    return (next(recent, len(scans) - 1), 0) if scans else ()


def growing(speeds: Mapping[str, Speed], rate: float) -> list[str]:
    """Return the writers that have a share in the growth of the volume, the fastest first."""
    share = max(rate * min(_SHARE, 1 / (2 * max(len(speeds), 1))), 1)
    for window in range(2):
        found = [key for key, speed in speeds.items() if speed[window] >= share]
        if found:
            return sorted(found, key=lambda key: speeds[key], reverse=True)
    return []


def speed_of(keys: Iterable[str], speeds: Mapping[str, Speed]) -> Speed:
    """Return how fast these writers write together."""
    known = [speeds[key] for key in keys if key in speeds]
    return Speed(sum(each.recent for each in known), sum(each.long for each in known))


def is_worth_stopping(keys: Iterable[str], speeds: Mapping[str, Speed], total: Speed) -> bool:
    """Tell whether the volume would last much longer without these writers.

    Of both, the span counts in which they are faster. While a writer pauses between two bursts, what others write in that
    moment is not all of the growth. But a build that has just begun, after somebody who wrote much, is all of it from now on.
    """
    return max(speed_of(keys, speeds)) >= max(max(total) * _WORTH_STOPPING, 1)


def first_to_go(
    steps: Iterable[BuildStep], speeds: Mapping[str, Speed], total: Speed, beside: Collection[str] = ()
) -> BuildStep | None:
    """Return the step that fills the volume fastest; of equal ones the one that wrote most, then the newest.

    None: to stop the builds would change little, or one of the others is faster.

    Args:
        beside: other writers that write for builds.
    """
    known = [step for step in steps if step.id in speeds]
    if not is_worth_stopping([*(step.id for step in known), *beside], speeds, total):
        return None
    together = speed_of([*(step.id for step in known), *beside], speeds)
    span = together.index(max(together))
    first = max(known, key=lambda step: (speeds[step.id][span], step.written, step.pid), default=None)
    is_fastest = first and all(speeds[first.id][span] > speed_of([key], speeds)[span] for key in beside)
    return first if is_fastest else None
