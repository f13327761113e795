"""Count what each build of `bulkhead build` writes, and end the one that passes its own limit.

Nothing that Docker runs names the build that it belongs to. A step is certainly a build's own only if no other build was
under way when the guard first met the step. The guard ends the build's own client and kills no step: so nothing but that
build can end, whatever else runs.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from bulkhead import procfs
from bulkhead.docker import clients, engines, steps
from bulkhead.guard import jobs, reservations
from bulkhead.guard.reservations import Account, Stop, identity, is_alive

if TYPE_CHECKING:
    from bulkhead.docker.steps import BuildStep
    from bulkhead.guard.classic_steps import ClassicSteps
    from bulkhead.guard.reporter import Reporter, StateFile
    from bulkhead.guard.reservations import Reservation

_INTERVAL = 1.0  # seconds between two counts
_TICK = 0.1  # seconds: a filesystem's clock is no finer than 10 ms (CONFIG_HZ=100)
_CLASSIC_INTERVAL = 5.0  # seconds until Docker is asked again for steps of the classic builder
_DIRECTORY_INTERVAL = 30.0  # seconds between two checks that the directory is there, and is read whatever its time
_AGAIN = 5.0  # seconds until a client that has not ended is interrupted again
_STOPS = 20  # that are remembered


class BuildCount:
    """What one build has written so far, in bytes.

    Args:
        known: what a guard that ran before this one has counted for it.
        own: the steps that are certainly this build's, which run now.
    """

    def __init__(self, known: Account, own: list[BuildStep]) -> None:
        # Of what these steps have written, so much was counted already, and `add` counts it again.
        again = min(known.steps, sum(step.written for step in own))
        self.total = known.total - again
        self.is_disturbed = known.is_disturbed  # whether another build was under way meanwhile
        self.interrupted = float("-inf")  # when its client was last interrupted, in monotonic seconds
        # Its own, by identifier; "": those that ended before this guard began.
        self._steps = {"": known.steps - again}

    @property
    def steps(self) -> int:
        return sum(self._steps.values())

    def add(self, own: list[BuildStep], everything: int, *, is_alone: bool) -> None:
        """Count what was written since the last call.

        Args:
            own: the steps that are certainly this build's.
            everything: bytes that Docker and all steps have written.
            is_alone: whether no other build was under way.
        """
        before = self.steps
        for step in own:
            self._steps[step.id] = max(step.written, self._steps.get(step.id, 0))
        self.total += max(everything, self.steps - before) if is_alone else self.steps - before


class BuildLimits:
    """Counts while there are such builds. Without one, a check costs a look at the time of a directory."""

    def __init__(self, reporter: Reporter, state_file: StateFile, classic: ClassicSteps) -> None:
        self._reporter = reporter
        self._state_file = state_file
        self._classic = classic
        self.cost = 0.0  # seconds that the last count took
        self._last = self._last_directory = float("-inf")  # monotonic seconds
        self._quiet_since = 0.0  # when the directory was changed last; no build has run since. 0: one runs
        self._counts: dict[str, BuildCount] = {}  # by the process of the reservation
        self._under_way: dict[int, str] = {}  # processes that built at the last check → their client
        self._clients: dict[int, str] = {}  # the same, with those of the check before
        self._owners: dict[str, set[str]] = {}  # step → the clients that it may belong to
        self._written: dict[str, int] = {}  # bytes at the last check: by Docker with its steps, by each classic step
        self._stops: deque[Stop] = deque(maxlen=_STOPS)
        self._last_stop = time.time()  # of those that are known

    def check(self, now: float) -> None:
        """Count, if it is time. A failure is reported, and never raised.

        Args:
            now: monotonic seconds.
        """
        if now - self._last < _INTERVAL:
            return
        self._last = now
        try:
            if now - self._last_directory >= _DIRECTORY_INTERVAL:
                self._last_directory, self._quiet_since = now, 0.0
                reservations.make_directory()
            looked = time.time()
            changed = reservations.changed()
            if changed == self._quiet_since:
                self._last_stop = time.time()
                return
            began = time.monotonic()
            builds = [each for each in reservations.standing() if each.client]
            if builds:
                self._quiet_since = 0.0
                self._count(builds, now)
            else:
                self._forget()
                # What came in the same tick of the filesystem's clock left no other time.
                self._quiet_since = changed if looked - changed > _TICK else 0.0
            self.cost = time.monotonic() - began
        except Exception as error:
            why = f"{error}" if isinstance(error, OSError) else repr(error)
            self._reporter.complain(f"the guard cannot count what builds write: {why}", now)

    def _forget(self) -> None:
        self._counts, self._under_way, self._owners, self._written = {}, {}, {}, {}
        self._last_stop = time.time()

    def _count(self, builds: list[Reservation], now: float) -> None:
        under_way = _clients_under_way(builds)
        self._clients = {**self._under_way, **under_way}
        self._under_way = under_way
        building = {*self._clients.values()}
        running = self._steps(now)
        owners = {step.id: self._owners.get(step.id, _owners_of(step, building)) for step in running}
        self._note_stops({**self._owners, **owners}, building)
        self._owners = owners
        everything = self._everything(running)
        accounts = {}
        for build in builds:
            own = [step for step in running if owners[step.id] == {build.client}]
            if not (count := self._counts.get(build.process)):
                count = self._counts[build.process] = BuildCount(reservations.accounts().of(build), own)
            count.add(own, everything, is_alone=building == {build.client} and own == running)
            count.is_disturbed |= not {*under_way.values()} <= {build.client} or own != running
            has_passed = 0 < build.limit < count.steps
            if has_passed and now - count.interrupted >= _AGAIN:
                self._interrupt(build, count, now)
            accounts[build.process] = Account(count.steps, count.total, has_passed, count.is_disturbed)
        self._counts = {build.process: self._counts[build.process] for build in builds}
        reservations.save_accounts(accounts, self._stops)

    def _steps(self, now: float) -> list[BuildStep]:
        """Return all running steps. Those of the classic builder come from Docker."""
        dockerd = engines.dockerd()
        if dockerd and now - self._classic.last_listing >= _CLASSIC_INTERVAL:
            self._classic.list_again(now)
        return [*(steps.steps_of(dockerd) if dockerd else []), *self._classic.refreshed()]

    def _everything(self, steps: list[BuildStep]) -> int:
        """Return the bytes that Docker and all steps have written since the last check."""
        before = self._written
        # When a step of BuildKit's ends, the kernel counts what it wrote for Docker: their sum does not change.
        dockerd = engines.dockerd()
        docker = engines.written_by_docker(dockerd) if dockerd else 0
        docker += sum(step.written for step in steps if not step.container)
        self._written = {"": docker, **{step.id: step.written for step in steps if step.container}}
        return sum(max(written - before.get(key, written), 0) for key, written in self._written.items())

    def _interrupt(self, build: Reservation, count: BuildCount, now: float) -> None:
        """Interrupt the clients of a build that has passed its limit."""
        from bulkhead.sizes import human  # rarely needed, and it takes memory

        why = f"this build has written {human(count.steps)}, its limit is {human(build.limit)}"
        for client in clients.find_clients()[0]:
            if self._under_way.get(client.pid) == build.client and clients.interrupt(
                client, f"docker-guard ends the build: {why}."
            ):
                if count.interrupted < 0:
                    jobs.say(f"ends the build `{client.words}`: {why}")
                    self._state_file.record_stop("command", identity(client.pid), client.words, count.steps)
                count.interrupted = now

    def _note_stops(self, owners: dict[str, set[str]], clients: set[str]) -> None:
        """Note whose builds the guard has stopped since the last check.

        Args:
            owners: of each step.
            clients: that were under way.
        """
        for stop in self._state_file.stops:
            if stop["time"] <= self._last_stop:
                continue
            self._last_stop = stop["time"]
            if stop["what"] == "step":
                whose = owners.get(stop["id"], clients)
            else:
                whose = {self._clients.get(int(stop["id"].split()[0]), stop["id"])}
            self._stops.append(Stop(stop["time"], sorted(whose)))


def _clients_under_way(builds: list[Reservation]) -> dict[int, str]:
    """Return the processes that build, each with the client that it works for: docker as `bulkhead build` has started it.

    For other builds, this is the process itself.
    """
    own = {int(build.client.split()[0]): build.client for build in builds if is_alive(build.client)}
    found = dict(own)
    for process in clients.programs_that_build():
        first = next((pid for pid in procfs.ancestors(process.pid) if pid in own), None)
        found[process.pid] = own[first] if first else identity(process.pid)
    return found


def _owners_of(step: BuildStep, clients: set[str]) -> set[str]:
    """Return the clients that a step may belong to: those that began before it."""
    began = procfs.start_time(step.pid)
    return {client for client in clients if int(client.split()[1]) <= began}
