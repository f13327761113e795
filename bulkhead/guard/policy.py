"""How fast Docker's volume fills, who fills it, and what is to be done about that. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bulkhead.docker.running_builds import BuildStep

NOTHING, RECLAIM, ABORT, BALLAST = range(4)  # each includes what is before it
DOCKER = "docker"  # beside the steps: what Docker writes itself
_WINDOW = 2.0  # seconds of samples that tell a rate
_SHORT = 0.25  # seconds of them that are enough for one
_HALVED = 1.0  # seconds in which a rate that is no longer seen falls to a half
_LEAST = 1024  # bytes per second: less is none
SOON = 15.0  # seconds before the floor at which cache is reclaimed
REST, NEAR, _SHORTEST = 0.5, 0.25, 0.05  # seconds between samples
_LOOKS = 0.1  # seconds at least between looks at who writes
_RECENT, _LONG = 1.0, 10.0  # seconds over which a step's speed is told
_SHARE = 0.05  # of the growth that makes one of those that grow; of many, half of an equal share


class Rate:
    """The growth of what is in use, in bytes per second: quick to rise, slow to fall."""

    def __init__(self) -> None:
        self.value = 0.0
        self._samples: list[tuple[float, int]] = []

    def add(self, now: float, free: int) -> None:
        samples = self._samples
        if not self.value and samples and free >= samples[-1][1]:  # at rest: as good as nothing to do
            samples[:] = [(now, free)]
            return
        samples.append((now, free))
        while len(samples) > 2 and samples[1][0] <= now - _WINDOW:
            del samples[0]
        # The shorter span sees at once what begins, the longer one what comes in bursts.
        shorter = next((sample for sample in reversed(samples) if sample[0] <= now - _SHORT), samples[0])
        measured = max(_slope(sample, samples[-1]) for sample in (samples[0], shorter))
        rests = len(samples) > 1 and free <= samples[-2][1]  # else space has come back: something has ended
        fallen = self.value * 0.5 ** ((now - samples[-2][0]) / _HALVED) if rests else 0.0
        self.value = max(measured, fallen)
        if self.value < _LEAST:
            self.value = 0.0

    def forget(self) -> None:
        """What was is no sign of what comes: something has been stopped, or space has come or gone at once."""
        self.value = 0.0
        self._samples.clear()


def _slope(before: tuple[float, int], after: tuple[float, int]) -> float:
    return (before[1] - after[1]) / (after[0] - before[0]) if after[0] > before[0] else 0.0


def judge(free: int, rate: float, floor: int, reaction: float, expected: int = 0) -> int:
    """What is to be done: NOTHING, RECLAIM or ABORT.

    Args:
        free: bytes.
        rate: bytes per second.
        reaction: seconds until a build that is stopped now no longer writes.
        expected: bytes that will come back of what has been stopped. They may make it go below the floor for a moment,
            but not below half of it.
    """
    ahead = free - rate * reaction
    if rate > 0 and (ahead + expected < floor or ahead < floor / 2):
        return ABORT
    if free < 2 * floor or free - rate * SOON < floor:
        return RECLAIM
    return NOTHING


def interval(free: int, rate: float, floor: int) -> float:
    """Seconds until the next sample: the fewer, the sooner the floor is reached; what grows slowly may take its time."""
    if rate <= 0:
        return REST if free >= 2 * floor else NEAR
    left = max(free - floor, 0) / rate
    return min(max(left / 60, floor / 200 / rate, _SHORTEST), REST)


def pause_of_looks(free: int, rate: float, floor: int) -> float:
    """Seconds until the next look at who writes: it costs more than a sample, and counts only when the floor is near."""
    return min(max(max(free - floor, floor / 200) / rate / 20, _LOOKS), _LONG / 2)


class Speed(NamedTuple):
    recent: float  # bytes per second
    long: float


class Looks:
    """What each had written at the last looks."""

    def __init__(self) -> None:
        self._looks: list[tuple[float, dict[str, int]]] = []

    def add(self, now: float, written: Mapping[str, int]) -> None:
        looks = self._looks
        if looks and looks[-1][1].keys() - {DOCKER} != written.keys() - {DOCKER}:
            # What a step wrote counts for Docker itself as soon as it has ended.
            for _, before in looks:
                before.pop(DOCKER, None)
        looks.append((now, dict(written)))
        while looks[0][0] < now - _LONG:
            del looks[0]

    def meet(self, key: str, written: int) -> None:
        """Know what one had written when it was found: it may have been there long before."""
        for _, look in self._looks:
            look.setdefault(key, written)

    def time(self) -> float:
        """The time of the last look."""
        return self._looks[-1][0] if self._looks else float("-inf")

    def speeds(self) -> dict[str, Speed]:
        """How fast each has written; nothing is known after the first look."""
        if len(self._looks) < 2:
            return {}
        *before, (now, last) = self._looks
        speeds = {}
        for key, size in last.items():
            # A step that was not there then has written all of it since; Docker was not asked.
            known = [(at, look.get(key, 0)) for at, look in before if key in look or key != DOCKER]
            recent = next((each for each in known if each[0] >= now - _RECENT), known[-1] if known else (0.0, size))
            bases = (recent, known[0] if known else recent)
            speeds[key] = Speed(*(max(size - had, 0) / (now - at) for at, had in bases))
        return speeds


def growing(speeds: Mapping[str, Speed], rate: float) -> list[str]:
    """Those that have a part in the growth of the volume, the fastest first."""
    share = max(rate * min(_SHARE, 1 / (2 * max(len(speeds), 1))), 1)
    for window in range(2):
        found = [key for key, speed in speeds.items() if speed[window] >= share]
        if found:
            return sorted(found, key=lambda key: speeds[key], reverse=True)
    return []


def first_to_go(steps: Iterable[BuildStep], speeds: Mapping[str, Speed], rate: float) -> BuildStep | None:
    """Of the steps that fill the volume the fastest; of equal ones what has written most, then the newest."""
    fill = growing(speeds, rate)
    found = [step for step in steps if step.id in fill]
    return max(found, key=lambda step: (speeds[step.id].recent, step.written, step.pid), default=None)
