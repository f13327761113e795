"""Who writes to Docker's volume: the steps of builds, and Docker itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bulkhead.docker import running_builds
from bulkhead.guard import jobs, policy
from bulkhead.guard.policy import DOCKER

if TYPE_CHECKING:
    from bulkhead.docker.running_builds import BuildStep
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.volume_monitor import VolumeMonitor

# Minimum interval in seconds between scans for steps of the classic builder, which are containers. Busy: there are some, or
# a twentieth of the floor will soon be written. Idle: otherwise.
_CLASSIC_INTERVAL_BUSY, _CLASSIC_INTERVAL_IDLE = 1.0, 10.0
_CLASSIC_TIMEOUT = 60  # seconds


class Writers:
    """What each writer has written at the last scans."""

    def __init__(self, volume: VolumeMonitor, runner: JobRunner) -> None:
        self.steps: list[BuildStep] = []  # at the last scan, with those of the classic builder
        self.similar: list[str] = []  # names of containers that only look like steps
        self.scan_cost = 0.0  # seconds that the last scan took, and the stops since
        self._volume = volume
        self._runner = runner
        self._history = policy.WriteHistory()
        self._classic: list[BuildStep] = []  # as Docker last listed them
        self._last_classic_scan = float("-inf")

    def speeds(self) -> dict[str, policy.Speed]:
        return self._history.speeds()

    def growing(self) -> list[str]:
        """Return who fills the volume, the fastest first."""
        rate = self._volume.rate.value
        return policy.growing(self.speeds(), rate) if rate else []

    def scan(self, now: float, last_stop: float) -> bool:
        """Read what each writer has written, unless the last scan was a moment ago.

        Args:
            last_stop: when the guard last stopped a build, in monotonic seconds.

        Returns:
            Whether it was time for a scan.
        """
        volume = self._volume
        interval = policy.scan_interval(volume.free, volume.rate.value, volume.floor)
        if now - self._history.last() < interval:
            return False
        began = time.monotonic()
        dockerd = running_builds.dockerd()
        self._classic = [step for each in self._classic if (step := running_builds.refreshed(each))]
        self.steps = [*(running_builds.steps(dockerd) if dockerd else []), *self._classic]
        written = {step.id: step.written for step in self.steps}
        if dockerd and not written.keys() & self.growing():
            written[DOCKER] = running_builds.written_by_docker(dockerd)
        self._history.add(now, written)
        self.scan_cost = time.monotonic() - began
        if dockerd:
            self._scan_classic(now, last_stop, interval)
        return True

    def _scan_classic(self, now: float, last_stop: float, interval: float) -> None:
        """Ask Docker, beside the loop, for the steps of the classic builder."""
        is_idle = not self._classic and self._volume.rate.value * _CLASSIC_INTERVAL_IDLE < self._volume.floor / 20
        interval = max(interval, _CLASSIC_INTERVAL_IDLE if is_idle else _CLASSIC_INTERVAL_BUSY)
        if now - max(self._last_classic_scan, last_stop) >= interval and not self._runner.is_running("classic"):
            self._last_classic_scan = now
            self._runner.start("classic", jobs.classic_steps, _CLASSIC_TIMEOUT, self._take_classic)

    def _take_classic(self, found: Any) -> None:
        self._classic, self.similar = [running_builds.BuildStep(*each) for each in found[0]], found[1]
        for step in self._classic:
            self._history.meet(step.id, step.written)
