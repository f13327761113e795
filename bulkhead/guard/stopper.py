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
    from collections.abc import Collection

    from bulkhead.docker.clients import Client
    from bulkhead.docker.steps import BuildStep
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.reporter import Reporter, StateFile
    from bulkhead.guard.supply import Supply
    from bulkhead.guard.volume_monitor import VolumeMonitor
    from bulkhead.guard.writers import Writers

SETTLING = 3.0  # seconds in which the space of a stopped build comes back
_SETTLING_SLOWLY = 10.0  # the same on a busy disk: the guard waits so long only while the volume hardly grows
_AFTER_STEP, _AFTER_CLIENT = 0.3, 2.0  # seconds until a stop shows its effect
AT_ONCE = 0.1  # the same, below half the floor
_REMOVAL_TIMEOUT = 60  # seconds
_LONGEST_HISTORY = 21  # stopped steps
_WORTH_NAMING = 0.05  # an alert names who has this share of the growth


class Stopped(NamedTuple):
    """A step of a build that the guard has stopped."""

    at: float  # monotonic seconds
    supply: Supply
    taken: int  # that should come back
    free: int  # then
    has_client: bool = True  # of this host's Docker


def _key_of(client: Client) -> str:
    return f"{client.pid} {client.started}"


class StopHistory:
    """What the guard has stopped, in monotonic seconds."""

    def __init__(self) -> None:
        self.last = float("-inf")
        self._steps: list[Stopped] = []
        self._ending: dict[str, float] = {}  # step or client → when it was stopped

    def expected(self, supply: Supply, now: float) -> int:
        """Return how much of a supply should still come back from steps that were stopped a moment ago."""
        recent = [each for each in self._steps if each.supply is supply and now - each.at <= SETTLING]
        if not recent:
            return 0
        return max(sum(each.taken for each in recent) - max(supply.free - recent[0].free, 0), 0)

    def count_recent(self, now: float) -> int:
        """Return how many steps were stopped so recently that their clients may still be ending."""
        return sum(each.has_client and now - each.at <= _SETTLING_SLOWLY for each in self._steps)

    @property
    def ending(self) -> Collection[str]:
        """Return the steps and clients that were told to end a moment ago."""
        return self._ending.keys()

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

    def stop_one(self, now: float, supply: Supply) -> str:
        """Stop the build that fills the volume fastest, unless the last stop may still show its effect.

        Returns:
            What fills the volume, in sentences, if there is no build to stop. Else nothing.
        """
        since = now - self.history.last
        if now < self._next_stop and not (supply.free < supply.floor // 2 and since >= AT_ONCE):
            return ""
        rate = supply.rate.value
        if not supply.history.is_long_enough() or (
            since < _SETTLING_SLOWLY and rate * _SETTLING_SLOWLY < supply.floor / 10
        ):
            return ""
        speeds, total = supply.history.speeds(), supply.history.total_speed(self.history.ending)
        left = [step for step in self._writers.steps if step.id not in self.history.ending]
        if step := policy.first_to_go(left, speeds, total):
            self._abort(step, now, supply)
            return ""
        steps = [step.id for step in left]
        is_copying = DOCKER in policy.growing(speeds, rate)
        is_worth_it = is_copying and policy.is_worth_stopping([*steps, DOCKER], speeds, total)
        if is_worth_it and now < self._next_stop:
            return ""
        if is_worth_it and (candidates := self._clients(now, supply)):
            if step := policy.first_to_go(left, speeds, total, [DOCKER]):
                self._abort(step, now, supply)
                return ""
            if self._interrupt(candidates, now, supply):
                return ""
        if self.history.expected(supply, now):
            return ""
        by_steps, by_docker = (max(policy.speed_of(keys, speeds)) for keys in (steps, [DOCKER]))
        sentences = ["What fills it is no build that the guard may stop"]
        if by_steps >= max(total) * _WORTH_NAMING:
            sentences.append(
                f"The steps of builds take {supply.amount(by_steps)}/s of that: to stop them would change little"
            )
        if by_docker >= max(total) * _WORTH_NAMING:
            sentences.append(
                f"Docker itself takes {supply.amount(by_docker)}/s of that, and for no client that the guard may stop"
            )
        if similar := ", ".join(self._writers.similar):
            sentences.append(f"Left alone, though they look like a build's steps: {similar}")
        return ". ".join(sentences)

    def _abort(self, step: BuildStep, now: float, supply: Supply) -> None:
        began, taken = time.monotonic(), supply.taken_by(step)
        why = supply.describe(self._volume.config.volume_mount)
        self._note_stop(now, _AFTER_STEP)
        self.history.add_key(step.id, now)
        steps.abort(step, f"docker-guard stops this build: {why}. This step has written {short(step.written)}.")
        self._writers.add_cost(time.monotonic() - began)
        self.history.add_step(Stopped(now, supply, taken, supply.free, not step.is_nested))
        self._report(now, "step", step.id, step.words, step.written, why)
        if step.container:
            self._runner.start(f"remove {step.id}", lambda: jobs.remove_step(step.id), _REMOVAL_TIMEOUT, lambda _: None)

    def _interrupt(self, candidates: list[Client], now: float, supply: Supply) -> bool:
        """Interrupt a client that Docker writes for. Return whether one was still there."""
        for client in candidates:
            why = supply.describe(self._volume.config.volume_mount)
            self.history.add_key(key := _key_of(client), now)
            if clients.interrupt(client, f"docker-guard interrupts this: {why}."):
                self._note_stop(now, _AFTER_CLIENT)
                self._report(now, "command", key, client.words, 0, why)
                return True
        return False

    def _clients(self, now: float, supply: Supply) -> list[Client]:
        """Return the clients that Docker may be writing for."""
        building, pulling = clients.find_clients()
        # Docker does not write for a client whose build runs a step, nor for one whose step was just stopped.
        # The client of a Docker in a container is not among these.
        at_a_step = sum(not step.is_nested for step in self._writers.steps) + self.history.count_recent(now)
        is_urgent = supply.free < supply.floor // 2
        candidates = building if len(building) > at_a_step or is_urgent else []
        pulls = pulling if self._volume.config.guard_stop_pulls else []
        return [client for client in (*candidates, *pulls) if _key_of(client) not in self.history.ending]

    def _note_stop(self, now: float, effect: float) -> None:
        self._next_stop, self.history.last = now + effect, now

    def _report(self, now: float, what: str, identifier: str, words: str, written: int, why: str) -> None:
        self._state_file.record_stop(what, identifier, words, written)
        self._volume.forget_rates()
        text = f"the build {what} `{words}`" + (f", which has written {short(written)}" if written else "") + f": {why}"
        self._reporter.alert(WARNING, f"the guard has stopped {text}", reclaim=True, journal=f"stops {text}")
        self._state_file.write(now)  # `bulkhead build` reads it as soon as docker has ended
