"""Measure who fills Docker's volume, and how fast: the steps of builds, and Docker itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bulkhead.docker import engines, steps
from bulkhead.guard import policy
from bulkhead.guard.policy import DOCKER

if TYPE_CHECKING:
    from bulkhead.docker.engines import NestedEngine
    from bulkhead.docker.steps import BuildStep
    from bulkhead.guard.classic_steps import ClassicSteps
    from bulkhead.guard.supply import Supply
    from bulkhead.guard.volume_monitor import VolumeMonitor

# Minimum interval in seconds between scans for steps of the classic builder, which are containers. Busy: there are such
# steps, or the volume fills by a twentieth of its floor within ten seconds. Idle: otherwise.
_CLASSIC_INTERVAL_BUSY, _CLASSIC_INTERVAL_IDLE = 1.0, 10.0
_SEARCH_INTERVAL = 1.0  # minimum interval in seconds between searches for engines in containers


class Writers:
    """The writers, and what each has written at the last scans."""

    def __init__(self, volume: VolumeMonitor, classic: ClassicSteps) -> None:
        self.steps: list[BuildStep] = []  # at the last scan, with those of the classic builder
        self.cost = 0.0  # seconds that the last scan took, and the stops since then
        self._volume = volume
        self._classic = classic
        classic.tell = self._meet
        self._nested: list[NestedEngine] = []  # at the last search
        self._last_search = float("-inf")

    @property
    def similar(self) -> list[str]:
        """Return the names of containers that only look like steps."""
        return self._classic.similar

    def add_cost(self, seconds: float) -> None:
        """Count the time of a stop: it delays the next one as a scan does."""
        self.cost += seconds

    def scan(self, now: float, last_stop: float, supply: Supply) -> bool:
        """Read how much each writer has taken of a supply, if it is time for a scan.

        Args:
            now: monotonic seconds.
            last_stop: when the guard last stopped a build, in monotonic seconds.

        Returns:
            Whether it was time.
        """
        history = supply.history
        interval = policy.scan_interval(supply.free, supply.rate.value, supply.floor)
        if now - history.last() < interval:
            return False
        began = time.monotonic()
        dockerd = engines.dockerd()
        if now - self._last_search >= _SEARCH_INTERVAL:
            self._last_search = now
            self._nested = engines.nested_engines()
        classic = self._classic.refreshed()
        speeds = history.speeds()
        self.steps = [
            *(steps.steps_of(dockerd) if dockerd else []),
            *steps.nested_steps(self._nested, self._volume.config.volume_mount),
            *classic,
        ]
        taken = {step.id: supply.taken_by(step) for step in self.steps}
        # Docker's own part decides nothing where the steps are enough, and it takes as long as all of the steps.
        if dockerd and not (speeds and policy.is_worth_stopping(taken, speeds, history.total_speed(()))):
            builders = [engine for engine in self._nested if engine.is_builder]
            groups = frozenset(step.cgroup for step in self.steps)
            taken[DOCKER] = supply.taken_by_docker(dockerd, builders, groups)
        # The sample is older than what was read here: a scan takes its time.
        history.add(now, taken, self._volume.used_up_by_now(supply))
        self.cost = time.monotonic() - began
        if dockerd:
            self._scan_classic(now, last_stop, interval, is_idle=not classic)
        return True

    def _scan_classic(self, now: float, last_stop: float, interval: float, *, is_idle: bool) -> None:
        """Ask Docker for the steps of the classic builder, if it is time for that."""
        is_idle = is_idle and not any(
            supply.rate.value * _CLASSIC_INTERVAL_IDLE >= supply.floor / 20 for supply in self._volume.supplies
        )
        interval = max(interval, _CLASSIC_INTERVAL_IDLE if is_idle else _CLASSIC_INTERVAL_BUSY)
        if now - max(self._classic.last_listing, last_stop) >= interval:
            self._classic.list_again(now)

    def _meet(self, found: list[BuildStep]) -> None:
        for supply in self._volume.supplies:
            for step in found:
                supply.history.meet(step.id, supply.taken_by(step))
