"""What the guard counts for each build of `bulkhead build`, and how it holds a build's own limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.docker import clients, engines, steps
from bulkhead.docker.clients import Client
from bulkhead.docker.steps import BuildStep
from bulkhead.guard import build_limits, jobs, reservations
from bulkhead.guard.build_limits import BuildLimits
from bulkhead.guard.classic_steps import ClassicSteps
from bulkhead.guard.loop import Guard
from bulkhead.guard.reservations import Account, Reservation, identity
from bulkhead.storage.processes import Process

from ...fake_proc import FakeProc
from ..configs import config
from .world import FLOOR, G, M, World, run_guard


class BuildsHost:
    """A host with guarded builds, with others, and with their steps. Everybody's processes are made up."""

    def __init__(self, proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = proc
        self.now = 100.0
        self.steps: dict[str, BuildStep] = {}
        self.classic: dict[str, BuildStep] = {}
        self.docker = 50 * G  # bytes that Docker itself has written
        self.interrupted: list[tuple[int, str]] = []
        self.stops: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.journal: list[str] = []
        self.limits = BuildLimits(self, self, ClassicSteps(self))  # type: ignore[arg-type] # it is all three
        self._pid = 1000
        self.proc.add(500, "dockerd")
        monkeypatch.setattr(engines, "dockerd", lambda: 500)
        monkeypatch.setattr(steps, "steps_of", lambda _: [*self.steps.values()])
        monkeypatch.setattr(steps, "refreshed", lambda step: self.classic.get(step.id))
        monkeypatch.setattr(engines, "written_by_docker", lambda _: self.docker)
        monkeypatch.setattr(clients, "programs_that_build", self.programs)
        monkeypatch.setattr(clients, "find_clients", lambda: ([self.client(each.pid) for each in self.programs()], []))
        monkeypatch.setattr(clients, "interrupt", self.interrupt)
        monkeypatch.setattr(jobs, "classic_steps", lambda: ([*self.classic.values()], []))
        monkeypatch.setattr(jobs, "say", self.journal.append)

    # -- in the place of the guard's other parts

    def complain(self, text: str, _: float) -> None:
        self.complaints.append(text)

    def record_stop(self, what: str, identifier: str, words: str, written: int) -> None:
        del words, written
        self.stops.append({"time": 2e9 + len(self.stops), "what": what, "id": identifier})

    def is_running(self, _name: str) -> bool:
        return False

    def start(self, _name: str, work: Callable[[], Any], _seconds: float, then: Callable[[Any], None]) -> None:
        then(work())

    # -- what runs

    def add(self, command_line: str, parent: int = 1) -> int:
        self._pid += 1
        self.proc.add(self._pid, command_line, parent=parent)
        return self._pid

    def build(self, name: str = "app", limit: int = 0) -> Reservation:
        """Begin a guarded build. Its client is docker with its plugin."""
        command = self.add("python3 bulkhead build")
        client = self.add("docker build .", command)
        self.add("docker-buildx build .", client)
        place = Reservation(identity(command), name, 25 * G, limit, 0, 0, client=identity(client))
        reservations.save(place)
        return place

    def programs(self) -> list[Process]:
        found = []
        for path in self.proc.path.iterdir():
            words = (path / "cmdline").read_text().split("\0") if (path / "cmdline").exists() else [""]
            if words[0] in ("docker", "docker-buildx") and (path / "stat").exists():
                found.append(Process(int(path.name), words[0]))
        return found

    def client(self, pid: int) -> Client:
        return Client(pid, 0, f"docker {pid}")

    def interrupt(self, client: Client, why: str) -> bool:
        self.interrupted.append((client.pid, why))
        return True

    def end(self, process: str) -> None:
        (self.proc.path / process.split()[0] / "stat").unlink()

    def step(self, name: str, written: int, *, classic: bool = False) -> None:
        """Let a step begin, or write."""
        steps = self.classic if classic else self.steps
        known = steps.get(name)
        pid = known.pid if known else self.add("sh")
        steps[name] = BuildStep(name, pid, f"/cgroup/{name}", written, "make", f"c {name}" if classic else "")

    def step_ends(self, name: str) -> None:
        self.docker += self.steps.pop(name).written  # the kernel counts it for Docker now

    def check(self) -> None:
        self.now += 1
        self.limits.check(self.now)
        assert self.complaints == []

    def account(self, place: Reservation) -> Account:
        self.check()
        return reservations.accounts().of(place)


@pytest.fixture
def host(proc: FakeProc, monkeypatch: pytest.MonkeyPatch, run_directory: Path) -> BuildsHost:
    monkeypatch.setattr(reservations, "DIRECTORY", str(run_directory / "builds"))
    monkeypatch.setattr(reservations, "DOCKER_API", str(run_directory / "docker.sock"))
    return BuildsHost(proc, monkeypatch)


def test_steps_of_the_only_build_are_its_own_and_stay_counted(host: BuildsHost) -> None:
    place = host.build()
    host.step("one", 3 * G)
    assert host.account(place).steps == 3 * G
    host.step("one", 5 * G)
    assert host.account(place).steps == 5 * G
    host.step_ends("one")
    host.step("two", 2 * G)
    assert host.account(place) == Account(steps=7 * G, total=7 * G)


def test_guard_that_is_restarted_goes_on_counting(host: BuildsHost) -> None:
    place = host.build(limit=9 * G)
    host.step("one", 3 * G)
    host.check()
    host.step_ends("one")
    host.step("two", 2 * G)
    assert host.account(place) == Account(steps=5 * G, total=5 * G)
    host.limits = BuildLimits(host, host, ClassicSteps(host))  # type: ignore[arg-type]
    host.step("two", 4 * G)
    assert host.account(place) == Account(steps=5 * G, total=5 * G), "what grew while no guard ran is not certain"
    host.step("two", 7 * G)
    assert host.account(place) == Account(steps=8 * G, total=8 * G)
    host.step("two", 9 * G)
    assert host.account(place).has_passed_limit


def test_what_docker_writes_counts_in_total_while_no_other_build_runs(host: BuildsHost) -> None:
    place = host.build()
    host.check()
    host.docker += 4 * G
    assert host.account(place) == Account(steps=0, total=4 * G)
    host.add("docker build /other")
    host.docker += 9 * G
    assert host.account(place) == Account(steps=0, total=4 * G, is_disturbed=True)


def test_step_that_begins_while_two_builds_run_is_nobodys(host: BuildsHost) -> None:
    place = host.build()
    host.step("mine", G)
    host.check()
    other = host.add("docker build /other")
    host.step("unknown", 30 * G)
    host.step("mine", 2 * G)
    assert host.account(place).steps == 2 * G, "a step that was known before stays its own"
    host.end(identity(other))
    host.step("unknown", 40 * G)
    assert host.account(place).steps == 2 * G
    host.check()
    host.step("later", G)
    assert host.account(place).steps == 3 * G


def test_step_that_began_before_the_build_is_not_its_own(host: BuildsHost) -> None:
    host.step("older", 30 * G)
    place = host.build()
    host.docker += 5 * G
    assert host.account(place) == Account(0, 0, is_disturbed=True)
    host.docker += 5 * G
    assert host.account(place) == Account(0, 0, is_disturbed=True), "a build that nobody sees is under way"


def test_build_that_has_just_ended_may_still_own_a_new_step(host: BuildsHost) -> None:
    place, other = host.build(), host.add("docker build /other")
    host.check()
    host.step("dying", 10 * G)
    host.end(identity(other))
    assert host.account(place).steps == 0


def test_steps_of_the_classic_builder_count(host: BuildsHost) -> None:
    place = host.build()
    host.step("container", 3 * G, classic=True)
    host.check()
    assert host.account(place).steps == 3 * G
    host.step("container", 4 * G, classic=True)
    host.docker += G
    assert host.account(place) == Account(steps=4 * G, total=5 * G)


def test_build_that_passes_its_limit_is_ended_with_the_figures(host: BuildsHost) -> None:
    place = host.build(limit=20 * G)
    host.step("big", 20 * G)
    assert host.account(place) == Account(20 * G, 20 * G)
    assert host.interrupted == []
    host.step("big", 41 * G // 2)
    account = host.account(place)
    assert account.has_passed_limit
    client, plugin = (pid for pid, _ in sorted(host.interrupted))
    assert identity(client) == place.client
    assert plugin == client + 1
    why = "this build has written 20.5 GiB, its limit is 20.0 GiB"
    assert {text for _, text in host.interrupted} == {f"docker-guard ends the build: {why}."}
    assert host.journal == [f"ends the build `docker {host.interrupted[0][0]}`: {why}"]
    assert [each["what"] for each in host.stops] == ["command"]


def test_limit_counts_no_step_of_which_the_build_is_not_certain(host: BuildsHost) -> None:
    place = host.build(limit=20 * G)
    host.build("web")
    host.step("big", 30 * G)
    assert not host.account(place).has_passed_limit
    assert host.interrupted == []


@pytest.mark.parametrize("last_pid", [2000, 99], ids=["higher-pids", "pids-begin-anew"])
def test_limit_ends_no_other_build(host: BuildsHost, last_pid: int) -> None:
    place = host.build(limit=20 * G)
    host.step("big", G)
    host.check()
    host._pid = last_pid
    host.step("big", 30 * G)
    host.add("docker build /other")
    host.build("web", limit=40 * G)
    assert host.account(place).has_passed_limit, "the step is older than the other builds"
    client = int(place.client.split()[0])
    assert {pid for pid, _ in host.interrupted} == {client, client + 1}


def test_client_that_does_not_end_is_interrupted_again_after_five_seconds(host: BuildsHost) -> None:
    host.build(limit=20 * G)
    host.step("big", 30 * G)
    for _ in range(5):
        host.check()
    assert len(host.interrupted) == 2
    host.check()
    assert len(host.interrupted) == 4
    assert len(host.stops) == 1


def test_stop_is_tied_to_the_build_of_the_step(host: BuildsHost) -> None:
    place = host.build()
    host.step("one", G)
    host.check()
    other = host.build("web")
    host.step("two", G)
    host.check()
    for name in ("one", "two", "three"):
        host.record_stop("step", name, "make", G)
    host.steps.clear()
    host.check()
    mine, both, unknown = (stop.clients for stop in reservations.accounts().stops)
    assert mine == [place.client]
    assert both == unknown == sorted([place.client, other.client])


def test_stop_of_a_client_is_tied_to_its_build(host: BuildsHost) -> None:
    place = host.build()
    foreign = host.add("docker build /other")
    host.check()
    plugin = int(place.client.split()[0]) + 1
    host.record_stop("command", identity(plugin), "docker", 0)
    host.record_stop("command", identity(foreign), "docker", 0)
    host.end(str(plugin))
    host.check()
    assert [stop.clients for stop in reservations.accounts().stops] == [[place.client], [identity(foreign)]]


def test_stop_before_the_build_is_not_tied_to_it(host: BuildsHost) -> None:
    host.record_stop("step", "x", "make", G)
    host.stops[0]["time"] = 1.0
    host.build()
    host.check()
    assert reservations.accounts().stops == ()


def test_without_a_guarded_build_nothing_is_scanned(host: BuildsHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "programs_that_build", lambda: 1 / 0)
    monkeypatch.setattr(engines, "dockerd", lambda: 1 / 0)
    host.check()
    place = host.build()
    reservations.save(place._replace(client="", is_waiting=True))
    host.check()


def test_without_a_guarded_build_the_directory_is_read_only_when_it_has_changed(
    host: BuildsHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[float] = []
    really_read = reservations.standing
    monkeypatch.setattr(reservations, "standing", lambda: reads.append(host.now) or really_read())
    for _ in range(60):
        host.check()
    assert len(reads) == 2, "and twice a minute in any case"
    host.step("one", G)
    os.utime(reservations.DIRECTORY, (1, 1))  # files came and went before
    place = host.build()
    assert host.account(place).total == 0
    host.step("one", 3 * G)
    host.end(place.process)
    host.check()
    assert len(reads) == 4, "while a build runs, in each second"


def test_reservation_in_the_tick_of_the_last_change_is_seen(host: BuildsHost, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 1_000_000.0
    os.utime(reservations.DIRECTORY, (moment, moment))
    clock = [moment + 0.005]
    monkeypatch.setattr(build_limits, "time", SimpleNamespace(monotonic=time.monotonic, time=lambda: clock[0]))
    really_read = reservations.standing

    def read_slowly() -> list[Reservation]:
        found = really_read()
        clock[0] = moment + 60  # the machine stands still
        return found

    with monkeypatch.context() as slow:
        slow.setattr(reservations, "standing", read_slowly)
        host.check()
    place = host.build()
    os.utime(reservations.DIRECTORY, (moment, moment))
    assert host.account(place).total == 0


def test_count_that_fails_holds_up_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "standing", lambda: 1 / 0)
    world.free = 3 * G
    world.build("big", 500 * M)
    run_guard(world, 10)
    assert world.aborted == ["big"]
    failed = [line for line in world.journal if "ZeroDivisionError" in line]
    assert failed == ["the guard cannot count what builds write: ZeroDivisionError('division by zero')"]


def test_docker_is_asked_for_steps_of_the_classic_builder_once_for_all(
    world: World, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(jobs, "classic_steps", lambda: asked.append(world.now) or ([], []))
    monkeypatch.setattr(clients, "programs_that_build", list)
    for pid in (10, 11):
        proc.add(pid, "docker build .")
    world.free = FLOOR + G
    guard = run_guard(world, 2)
    reservations.save(Reservation(identity(10), "app", G, 0, 0, 0, client=identity(11)))
    world.build("slow", 5 * M)
    run_guard(world, 15, guard)
    assert 3 <= len(asked) <= 5, "every five seconds, and not for each of both"


def test_directory_that_cannot_be_made_is_reported(host: BuildsHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "makedirs", refused)
    host.limits.check(1.0)
    assert host.complaints == ["the guard cannot count what builds write: no"]


def test_the_guards_loop_holds_limits_far_from_the_floor(
    world: World, proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid, words, parent in ((10, "bulkhead build", 1), (11, "docker build .", 10)):
        proc.add(pid, words, parent=parent)
    proc.add(1001, "sh")
    monkeypatch.setattr(clients, "programs_that_build", lambda: [Process(11, "docker")])
    guard = Guard(config())
    run_guard(world, 2, guard)
    reservations.save(Reservation(identity(10), "app", G, G, 0, 0, client=identity(11)))
    world.building = [Client(11, 1100, "docker build .")]
    world.build("big", 2**29)
    monkeypatch.setattr(world, "step", lambda name: BuildStep(name, 1001, "/c", int(world.written[name]), "make"))
    monkeypatch.setattr(clients, "interrupt", lambda client, _: world.interrupted.append(client.words) or True)
    run_guard(world, 4, guard)
    assert world.interrupted == ["docker build ."]
    assert world.aborted == []
    assert world.free > 15 * G
    assert build_limits._AGAIN == 5
