"""Stop builds: first the one that fills Docker's volume fastest, and the next when that was not enough."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.docker import running_builds
from bulkhead.guard import jobs, policy
from bulkhead.guard.policy import DOCKER
from bulkhead.text import short

if TYPE_CHECKING:
    from bulkhead.docker.running_builds import BuildStep
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.reporter import Reporter
    from bulkhead.guard.volume_monitor import VolumeMonitor
    from bulkhead.guard.writers import Writers

SETTLING = 3.0  # seconds in which the space of a stopped build comes back
_SETTLING_SLOWLY = 10.0  # seconds, on a busy disk: used only while the volume hardly grows
_AFTER_STEP, _AFTER_CLIENT = 0.3, 2.0  # seconds until a stop shows its effect
AT_ONCE = 0.1  # seconds, below half the floor
_REMOVAL_TIMEOUT = 60  # seconds


class Stopped(NamedTuple):
    """A step of a build, or its command line, that the guard stopped."""

    at: float  # monotonic seconds
    written: int  # bytes that should come back
    free: int  # bytes that were free then


def expected(stopped: list[Stopped], free: int, now: float) -> int:
    """Return the bytes that are still to come back from what was stopped a moment ago."""
    recent = [each for each in stopped if now - each.at <= SETTLING]
    if not recent:
        return 0
    return max(sum(each.written for each in recent) - max(free - recent[0].free, 0), 0)


class Stopper:
    """Decides which build to stop, and stops it."""

    def __init__(self, volume: VolumeMonitor, writers: Writers, reporter: Reporter, runner: JobRunner) -> None:
        self.last_stop = float("-inf")  # monotonic seconds
        self._volume = volume
        self._writers = writers
        self._reporter = reporter
        self._runner = runner
        self._stopped: list[Stopped] = []
        self._ended: dict[str, float] = {}  # step or client → when it was stopped
        self._next_stop = 0.0  # monotonic seconds: until then the last stop may still show its effect

    def expected(self, now: float) -> int:
        """Return the bytes that are still to come back."""
        return expected(self._stopped, self._volume.free, now) if self._stopped else 0

    def forget_ended(self, now: float) -> None:
        """Forget what was stopped long ago, after a scan that no longer found it."""
        self._ended = {key: at for key, at in self._ended.items() if now - at <= SETTLING}

    def stop_one(self, now: float) -> bool:
        """Stop the build that fills the volume fastest, unless the last stop may still show its effect.

        Returns:
            True if there is nothing to stop although the volume fills.
        """
        volume = self._volume
        if now < self._next_stop and not (volume.free < volume.floor // 2 and now - self.last_stop >= AT_ONCE):
            return False
        speeds, rate = self._writers.speeds(), volume.rate.value
        if now - self.last_stop < _SETTLING_SLOWLY and rate * _SETTLING_SLOWLY < volume.floor / 10:
            return False
        left = [step for step in self._writers.steps if step.id not in self._ended]
        if step := policy.first_to_go(left, speeds, rate):
            self._abort(step, now)
            return False
        if DOCKER in policy.growing(speeds, rate) and now >= self._next_stop and self._interrupt(now):
            return False
        return bool(speeds) and not self.expected(now)

    def _abort(self, step: BuildStep, now: float) -> None:
        began = time.monotonic()
        why = self._volume.describe()
        self._next_stop, self.last_stop = now + _AFTER_STEP, now
        self._ended[step.id] = now
        running_builds.abort(
            step, f"docker-guard stops this build: {why}. This step has written {short(step.written)}."
        )
        self._writers.scan_cost += time.monotonic() - began
        self._stopped = [*self._stopped[-20:], Stopped(now, step.written, self._volume.free)]
        self._reporter.report_stop(now, "step", step.id, step.words, step.written, why)
        if step.container:
            self._runner.start(f"remove {step.id}", lambda: jobs.remove_step(step.id), _REMOVAL_TIMEOUT, lambda _: None)

    def _interrupt(self, now: float) -> bool:
        """Interrupt a command line that has Docker write. Return whether there was one."""
        building, pulling = running_builds.clients()
        # Docker does not write for a client whose build runs a step, nor for one whose step was just stopped.
        at_a_step = len(self._writers.steps) + sum(now - each.at <= _SETTLING_SLOWLY for each in self._stopped)
        is_urgent = self._volume.free < self._volume.floor // 2
        candidates = building if len(building) > at_a_step or is_urgent else []
        if self._volume.config.guard_stop_pulls:
            candidates = [*candidates, *pulling]
        for client in candidates:
            key = f"{client.pid} {client.started}"
            if key in self._ended:
                continue
            why = self._volume.describe()
            self._ended[key] = now
            if not running_builds.interrupt(client, f"docker-guard interrupts this: {why}."):
                continue
            self._next_stop, self.last_stop = now + _AFTER_CLIENT, now
            self._reporter.report_stop(now, "command", key, client.words, 0, why)
            return True
        return False
