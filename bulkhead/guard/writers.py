"""Measure who fills Docker's volume, and how fast: the steps of builds, and Docker itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bulkhead.docker import engines, steps
from bulkhead.guard import jobs, policy
from bulkhead.guard.policy import DOCKER

if TYPE_CHECKING:
    from bulkhead.docker.engines import NestedEngine
    from bulkhead.docker.steps import BuildStep
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.supply import Supply
    from bulkhead.guard.volume_monitor import VolumeMonitor

# Minimum interval in seconds between scans for steps of the classic builder, which are containers. Busy: there are such
# steps, or the volume fills by a twentieth of its floor within ten seconds. Idle: otherwise.
_CLASSIC_INTERVAL_BUSY, _CLASSIC_INTERVAL_IDLE = 1.0, 10.0
_CLASSIC_TIMEOUT = 60  # seconds
_SEARCH_INTERVAL = 1.0  # minimum interval in seconds between searches for engines in containers


class Writers:
    """The writers, and what each has written at the last scans."""

    def __init__(self, volume: VolumeMonitor, runner: JobRunner) -> None:
        self.steps: list[BuildStep] = []  # at the last scan, with those of the classic builder
        self.similar: list[str] = []  # names of containers that only look like steps
        self.cost = 0.0  # seconds that the last scan took, and the stops since then
        self._volume = volume
        self._runner = runner
        self._classic: list[BuildStep] = []  # as Docker last listed them
        self._last_classic_scan = float("-inf")
        self._nested: list[NestedEngine] = []  # at the last search
        self._last_search = float("-inf")

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
        self._classic = [step for each in self._classic if (step := steps.refreshed(each))]
        speeds = history.speeds()
        self.steps = [
            *(steps.steps_of(dockerd) if dockerd else []),
            *steps.nested_steps(self._nested, self._volume.config.volume_mount),
            *self._classic,
        ]
        taken = {step.id: supply.taken_by(step) for step in self.steps}
        # To count what Docker has taken is slow: all processes are looked at.
        if dockerd and not (speeds and policy.is_worth_stopping(taken, speeds, history.total_speed(()))):
            builders = [engine for engine in self._nested if engine.is_builder]
            groups = frozenset(step.cgroup for step in self.steps)
            taken[DOCKER] = supply.taken_by_docker(dockerd, builders, groups)
        history.add(now, taken, supply.used_up)
        self.cost = time.monotonic() - began
        if dockerd:
            self._scan_classic(now, last_stop, interval)
        return True

    def _scan_classic(self, now: float, last_stop: float, interval: float) -> None:
        """Ask Docker for the steps of the classic builder, in the background, if it is time for that."""
        is_idle = not self._classic and not any(
            supply.rate.value * _CLASSIC_INTERVAL_IDLE >= supply.floor / 20 for supply in self._volume.supplies
        )
        interval = max(interval, _CLASSIC_INTERVAL_IDLE if is_idle else _CLASSIC_INTERVAL_BUSY)
        if now - max(self._last_classic_scan, last_stop) >= interval and not self._runner.is_running("classic"):
            self._last_classic_scan = now
            self._runner.start("classic", jobs.classic_steps, _CLASSIC_TIMEOUT, self._take_classic)

    def _take_classic(self, found: Any) -> None:
        self._classic, self.similar = [steps.BuildStep(*each) for each in found[0]], found[1]
        for supply in self._volume.supplies:
            for step in self._classic:
                supply.history.meet(step.id, supply.taken_by(step))
