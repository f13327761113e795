"""Decide, from samples, how fast Docker's volume fills, who fills it, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bulkhead.docker.steps import BuildStep

NOTHING, RECLAIM, ABORT, BALLAST = range(4)  # each includes those before it
DOCKER = "docker"  # the key for what Docker writes itself, beside those of the steps
_WINDOW = 2.0  # seconds of samples from which the rate is measured
_SHORT = 0.25  # seconds of samples that are enough for a rate
_HALVED = 1.0  # seconds in which a rate falls to half while nothing grows
_LEAST = 1024  # bytes per second: less counts as no growth
SOON = 15.0  # seconds before the floor at which the guard reclaims cache
REST, NEAR, _SHORTEST = 0.5, 0.25, 0.05  # seconds between samples
_SCAN_INTERVAL = 0.1  # minimum interval in seconds between scans of the writers
_RECENT, _LONG = 1.0, 10.0  # seconds over which the speed of a writer is measured
_SHARE = 0.05  # a writer with this share of the growth counts as growing; of many writers, half of an equal share


class Rate:
    """The growth of the used space, in bytes per second. It rises quickly and falls slowly."""

    def __init__(self) -> None:
        self.value = 0.0
        self._samples: list[tuple[float, int]] = []

    def add(self, now: float, free: int) -> None:
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
        if self.value < _LEAST:
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
        free: bytes.
        rate: bytes per second.
        reaction: seconds until a build that is stopped now no longer writes.
        expected: bytes that will come back from stopped builds. For their sake the free space may fall below the floor
            for a moment, but not below half of it.
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
    recent: float  # bytes per second
    long: float


class WriteHistory:
    """How much each writer had written at the last scans."""

    def __init__(self) -> None:
        self._scans: list[tuple[float, dict[str, int]]] = []

    def add(self, now: float, written: Mapping[str, int]) -> None:
        scans = self._scans
        if scans and scans[-1][1].keys() - {DOCKER} != written.keys() - {DOCKER}:
            # When a step ends, the kernel counts what it wrote for Docker itself.
            for _, before in scans:
                before.pop(DOCKER, None)
        scans.append((now, dict(written)))
        while scans[0][0] < now - _LONG:
            del scans[0]

    def meet(self, key: str, written: int) -> None:
        """Add a writer that was found late, with what it had written by then: it may be much older."""
        for _, scan in self._scans:
            scan.setdefault(key, written)

    def last(self) -> float:
        """Return the time of the last scan."""
        return self._scans[-1][0] if self._scans else float("-inf")

    def speeds(self) -> dict[str, Speed]:
        """Return how fast each writer writes; one scan alone tells nothing."""
        if len(self._scans) < 2:
            return {}
        *before, (now, last) = self._scans
        speeds = {}
        for key, size in last.items():
            # A step that an earlier scan does not have wrote all of it since; Docker is not in every scan.
            known = [(at, scan.get(key, 0)) for at, scan in before if key in scan or key != DOCKER]
            recent = next((each for each in known if each[0] >= now - _RECENT), known[-1] if known else (0.0, size))
            bases = (recent, known[0] if known else recent)
            speeds[key] = Speed(*(max(size - had, 0) / (now - at) for at, had in bases))
        return speeds


def growing(speeds: Mapping[str, Speed], rate: float) -> list[str]:
    """Return the writers that have a share in the growth of the volume, the fastest first."""
    share = max(rate * min(_SHARE, 1 / (2 * max(len(speeds), 1))), 1)
    for window in range(2):
        found = [key for key, speed in speeds.items() if speed[window] >= share]
        if found:
            return sorted(found, key=lambda key: speeds[key], reverse=True)
    return []


def first_to_go(steps: Iterable[BuildStep], speeds: Mapping[str, Speed], rate: float) -> BuildStep | None:
    """Return the step that fills the volume fastest; of equal ones the one that wrote most, then the newest."""
    fill = growing(speeds, rate)
    found = [step for step in steps if step.id in fill]
    return max(found, key=lambda step: (speeds[step.id].recent, step.written, step.pid), default=None)
