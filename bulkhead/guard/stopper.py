"""Stop builds: first the one that fills Docker's volume fastest, and the next when that was not enough."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.docker import clients, steps
from bulkhead.guard import jobs, policy
from bulkhead.guard.policy import DOCKER
from bulkhead.text import short
from bulkhead.watch.results import WARNING

if TYPE_CHECKING:
    from bulkhead.docker.clients import Client
    from bulkhead.docker.steps import BuildStep
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.reporter import Reporter, StateFile
    from bulkhead.guard.volume_monitor import VolumeMonitor
    from bulkhead.guard.writers import Writers

SETTLING = 3.0  # seconds in which the space of a stopped build comes back
_SETTLING_SLOWLY = 10.0  # the same on a busy disk: the guard waits so long only while the volume hardly grows
_AFTER_STEP, _AFTER_CLIENT = 0.3, 2.0  # seconds until a stop shows its effect
AT_ONCE = 0.1  # the same, below half the floor
_REMOVAL_TIMEOUT = 60  # seconds
_LONGEST_HISTORY = 21  # stopped steps


class Stopped(NamedTuple):
    """A step of a build that the guard has stopped."""

    at: float  # monotonic seconds
    written: int  # bytes that should come back
    free: int  # bytes that were free then


def expected(stopped: list[Stopped], free: int, now: float) -> int:
    """Return the bytes that should still come back from steps that were stopped a moment ago."""
    recent = [each for each in stopped if now - each.at <= SETTLING]
    if not recent:
        return 0
    return max(sum(each.written for each in recent) - max(free - recent[0].free, 0), 0)


class StopHistory:
    """What the guard has stopped, in monotonic seconds."""

    def __init__(self) -> None:
        self.last = float("-inf")
        self._steps: list[Stopped] = []
        self._ending: dict[str, float] = {}  # step or client → when it was stopped

    def expected(self, free: int, now: float) -> int:
        """Return the bytes that should still come back."""
        return expected(self._steps, free, now) if self._steps else 0

    def count_recent(self, now: float) -> int:
        """Return how many steps were stopped so recently that their clients may still be ending."""
        return sum(now - each.at <= _SETTLING_SLOWLY for each in self._steps)

    def is_ending(self, key: str) -> bool:
        return key in self._ending

    def add_key(self, key: str, now: float) -> None:
        """Note that this step or client should end now."""
        self._ending[key] = now

    def add_step(self, step: Stopped) -> None:
        self._steps = [*self._steps, step][-_LONGEST_HISTORY:]

    def forget_ended(self, now: float) -> None:
        """Forget the steps and clients that have had time to end."""
        self._ending = {key: at for key, at in self._ending.items() if now - at <= SETTLING}


class Stopper:
    """Decides which build to stop, and stops it."""

    def __init__(
        self, volume: VolumeMonitor, writers: Writers, reporter: Reporter, state_file: StateFile, runner: JobRunner
    ) -> None:
        self.history = StopHistory()
        self._volume = volume
        self._writers = writers
        self._reporter = reporter
        self._state_file = state_file
        self._runner = runner
        self._next_stop = 0.0  # monotonic seconds: until then the last stop may still show its effect

    def stop_one(self, now: float) -> bool:
        """Stop the build that fills the volume fastest, unless the last stop may still show its effect.

        Returns:
            True if the volume fills, and there is no build to stop.
        """
        volume, since = self._volume, now - self.history.last
        if now < self._next_stop and not (volume.free < volume.floor // 2 and since >= AT_ONCE):
            return False
        speeds, rate = self._writers.speeds(), volume.rate.value
        if since < _SETTLING_SLOWLY and rate * _SETTLING_SLOWLY < volume.floor / 10:
            return False
        left = [step for step in self._writers.steps if not self.history.is_ending(step.id)]
        if step := policy.first_to_go(left, speeds, rate):
            self._abort(step, now)
            return False
        if DOCKER in policy.growing(speeds, rate) and now >= self._next_stop and self._interrupt(now):
            return False
        return bool(speeds) and not self.history.expected(volume.free, now)

    def _abort(self, step: BuildStep, now: float) -> None:
        began = time.monotonic()
        why = self._volume.describe()
        self._note_stop(now, _AFTER_STEP)
        self.history.add_key(step.id, now)
        steps.abort(step, f"docker-guard stops this build: {why}. This step has written {short(step.written)}.")
        self._writers.add_cost(time.monotonic() - began)
        self.history.add_step(Stopped(now, step.written, self._volume.free))
        self._report(now, "step", step.id, step.words, step.written, why)
        if step.container:
            self._runner.start(f"remove {step.id}", lambda: jobs.remove_step(step.id), _REMOVAL_TIMEOUT, lambda _: None)

    def _interrupt(self, now: float) -> bool:
        """Interrupt a client that Docker writes for. Return whether there was one."""
        for client in self._clients(now):
            key = f"{client.pid} {client.started}"
            if self.history.is_ending(key):
                continue
            why = self._volume.describe()
            self.history.add_key(key, now)
            if clients.interrupt(client, f"docker-guard interrupts this: {why}."):
                self._note_stop(now, _AFTER_CLIENT)
                self._report(now, "command", key, client.words, 0, why)
                return True
        return False

    def _clients(self, now: float) -> list[Client]:
        """Return the clients that Docker may be writing for."""
        building, pulling = clients.find_clients()
        # Docker does not write for a client whose build runs a step, nor for one whose step was just stopped.
        # The client of a Docker in a container is not among these.
        at_a_step = sum(not step.is_nested for step in self._writers.steps) + self.history.count_recent(now)
        is_urgent = self._volume.free < self._volume.floor // 2
        candidates = building if len(building) > at_a_step or is_urgent else []
        return [*candidates, *pulling] if self._volume.config.guard_stop_pulls else candidates

    def _note_stop(self, now: float, effect: float) -> None:
        self._next_stop, self.history.last = now + effect, now

    def _report(self, now: float, what: str, identifier: str, words: str, written: int, why: str) -> None:
        self._state_file.record_stop(what, identifier, words, written)
        self._volume.rate.forget()
        text = f"the build {what} `{words}`" + (f", which has written {short(written)}" if written else "") + f": {why}"
        self._reporter.alert(WARNING, f"the guard has stopped {text}", reclaim=True, journal=f"stops {text}")
        self._state_file.write(now)  # `bulkhead build` reads it as soon as docker has ended
