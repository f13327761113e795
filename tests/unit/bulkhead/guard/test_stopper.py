"""The guard stops builds, as few as necessary, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bulkhead.docker import clients, steps
from bulkhead.docker.clients import Client
from bulkhead.guard import jobs
from bulkhead.guard.loop import Guard
from bulkhead.guard.stopper import StopHistory, Stopped
from bulkhead.guard.supply import InodeSupply, SpaceSupply
from bulkhead.watch.results import CRITICAL, WARNING

from ..configs import config
from ..fake_engine import Query, fake_engine
from .world import DOCKER, FLOOR, OTHERS, G, M, World, assert_floor_kept, run_guard, saved


@pytest.mark.parametrize("rate", [10 * M, 100 * M, 500 * M, 1500 * M])
@pytest.mark.parametrize("classic", [False, True])
def test_build_that_would_fill_the_volume_is_stopped_above_the_floor(world: World, rate: float, classic: bool) -> None:
    world.free = 5 * G
    guard = run_guard(world, 5)
    world.build("big", rate, classic=classic)
    run_guard(world, 5 * G / rate + 10, guard)
    assert world.aborted == ["big"]
    assert_floor_kept(world, rate * 0.1)
    assert world.free > 4 * G


def test_build_that_fits_is_left_alone(world: World) -> None:
    world.free = 9 * G
    world.build("big", 200 * M)
    guard = run_guard(world, 25)
    del world.rates["big"]
    run_guard(world, 30, guard)
    assert world.aborted == []


def test_build_that_starts_near_the_floor_is_stopped_within_a_second(world: World) -> None:
    world.free = FLOOR + 200 * M
    guard = run_guard(world, 5)
    world.build("big", 400 * M)
    run_guard(world, 5, guard)
    assert world.aborted == ["big"]
    assert_floor_kept(world, 400 * M)


def test_only_the_fastest_of_several_builds_is_stopped_if_that_is_enough(world: World) -> None:
    world.free = 6 * G
    world.build("slow", 20 * M, written=5 * G)
    world.build("fast", 300 * M)
    world.build("idle", 0, written=9 * G)
    guard = run_guard(world, 20)
    assert world.aborted == ["fast"]
    del world.rates["slow"]
    run_guard(world, 20, guard)
    assert world.aborted == ["fast"]
    assert_floor_kept(world, 0)


@pytest.mark.parametrize("returns_after", [0.2, 1.0, 2.8])
def test_no_more_builds_are_stopped_than_necessary(world: World, returns_after: float) -> None:
    """Each has written a gigabyte when the floor is near: with one of them gone, the others have enough space."""
    world.free, world.returns_after = FLOOR + 4 * G, returns_after
    for name in ("a", "b", "c"):
        world.build(name, 100 * M + len(world.rates) * 20 * M)
    guard = run_guard(world, 14)
    assert world.aborted == ["c"]
    world.rates.clear()
    run_guard(world, 10, guard)
    assert world.aborted == ["c"]
    assert_floor_kept(world, 0)


def test_all_builds_are_stopped_one_after_the_other_if_necessary(world: World) -> None:
    world.free = FLOOR + G
    for number in range(5):
        world.build(f"b{number}", 100 * M + number * 10 * M)
    run_guard(world, 120)
    assert world.aborted == ["b4", "b3", "b2", "b1", "b0"]
    assert_floor_kept(world, 100 * M)


def test_many_slow_builds_together_stay_above_the_floor(world: World) -> None:
    world.free = FLOOR + 3 * G
    for number in range(25):
        world.build(f"b{number}", 10 * M)
    run_guard(world, 60)
    assert world.aborted
    assert_floor_kept(world, 0)


def test_old_slow_classic_build_does_not_count_as_a_fast_one(world: World) -> None:
    world.free = 9 * G
    world.build("old", M, written=3 * G, classic=True)
    guard = run_guard(world, 10)
    world.build("fast", 300 * M)
    run_guard(world, 40, guard)
    assert world.aborted == ["fast"]


def test_guard_does_not_wait_for_space_to_come_back_below_half_the_floor(world: World) -> None:
    world.free, world.returns_after = FLOOR + 2 * G, 60.0
    for name in ("a", "b"):
        world.build(name, 300 * M)
    run_guard(world, 20)
    assert sorted(world.aborted) == ["a", "b"]
    assert world.lowest > FLOOR / 2


def test_no_other_build_is_stopped_while_the_kernel_returns_space_slowly(world: World) -> None:
    world.free, world.returns_after = FLOOR + 3 * G, 2.5
    world.build("fast", 500 * M)
    world.build("slow", 5 * M)
    run_guard(world, 20)
    assert world.aborted == ["fast"]


def test_build_is_not_stopped_for_data_that_a_container_writes(world: World) -> None:
    world.free = 4 * G
    world.build("idle", 0, written=G)
    world.rates[OTHERS] = 100 * M
    run_guard(world, 30)
    assert world.aborted == []
    reported = [text for level, text in world.news if level == CRITICAL]
    assert len([text for text in reported if "no build that the guard may stop" in text]) == 1


@pytest.mark.parametrize("answers", [[(204, None)], [(404, {})], [(409, {"message": "running"}), (204, None)]])
def test_container_of_a_stopped_step_is_removed_once_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[tuple[int, Any]]
) -> None:
    asked = []

    def answer(method: str, path: str, query: Query) -> tuple[int, Any]:
        asked.append((method, path, query))
        return answers.pop(0)

    monkeypatch.setattr(time, "sleep", lambda _: None)
    with fake_engine(tmp_path / "docker.sock", answer) as engine:
        monkeypatch.setattr("bulkhead.docker.engine.Engine", lambda: engine)
        jobs.remove_step("3f")
    assert answers == []
    assert {*map(str, asked)} == {str(("DELETE", "/containers/3f", {}))}  # not by force, and no volume


def client(pid: int, words: str) -> Client:
    return Client(pid, pid, words)


def test_client_whose_build_copies_is_interrupted(world: World) -> None:
    world.free = 4 * G
    world.rates[DOCKER] = 100 * M
    world.building = [client(1, "docker build .")]
    run_guard(world, 40)
    assert world.interrupted == ["docker build ."]
    assert_floor_kept(world, 0)


def test_clients_are_interrupted_one_at_a_time(world: World) -> None:
    world.free = 4 * G
    world.rates[DOCKER] = 100 * M
    world.building = [client(2, "docker build new"), client(1, "docker build old")]
    guard = run_guard(world, 17)
    assert world.interrupted == []
    world.free = FLOOR
    run_guard(world, 1.5, guard)
    assert world.interrupted == ["docker build new"]
    run_guard(world, 5, guard)
    assert world.interrupted == ["docker build new", "docker build old"]


def test_client_whose_build_runs_an_idle_step_is_left_alone(world: World) -> None:
    world.free = 4 * G
    world.build("rests", 0)
    world.rates[OTHERS] = 100 * M
    world.building = [client(1, "docker build .")]
    run_guard(world, 25)
    assert world.interrupted == []


def test_step_of_a_docker_in_a_container_is_stopped_as_any_other(world: World) -> None:
    world.free = 5 * G
    guard = run_guard(world, 5)
    world.build("nested", 300 * M, nested=True)
    run_guard(world, 27, guard)
    assert world.aborted == ["nested"]
    assert_floor_kept(world, 30 * M)


def test_step_of_a_docker_in_a_container_runs_for_no_client_of_this_host(world: World) -> None:
    world.free = 4 * G
    world.build("nested", 0, nested=True)
    world.rates[DOCKER] = 100 * M
    world.building = [client(1, "docker build .")]
    run_guard(world, 40)
    assert world.interrupted == ["docker build ."]
    assert_floor_kept(world, 0)


def test_client_that_ends_after_its_step_was_stopped_does_not_count_as_copying(world: World) -> None:
    world.free, world.returns_after = FLOOR + 2 * G, 60.0
    world.build("fast", 300 * M)
    world.build("slow", 0)
    world.building = [client(2, "docker build fast"), client(1, "docker build slow")]
    guard = run_guard(world, 7)
    assert world.aborted == ["fast"]
    world.rates[DOCKER] = 50 * M
    run_guard(world, 4, guard)
    assert world.interrupted == []


def test_step_is_stopped_before_clients_that_docker_writes_for(world: World) -> None:
    world.free = 4 * G
    world.build("big", 100 * M)
    world.rates[DOCKER] = 50 * M
    world.building = [client(2, "docker build a"), client(1, "docker build b")]
    run_guard(world, 60)
    assert world.aborted == ["big"]
    assert world.interrupted == ["docker build a", "docker build b"]


@pytest.mark.parametrize(("setting", "interrupted"), [(True, ["docker pull big"]), (False, [])])
def test_pull_is_interrupted_if_the_settings_say_so(world: World, setting: bool, interrupted: list[str]) -> None:
    world.free = 4 * G
    world.rates[DOCKER] = 100 * M
    world.pulling = [client(1, "docker pull big")]
    run_guard(world, 30, guard_stop_pulls=setting)
    assert world.interrupted == interrupted


def test_space_of_a_stopped_step_is_expected_for_three_seconds() -> None:
    history, space = StopHistory(), SpaceSupply()
    space.free = G
    history.add_step(Stopped(10.0, space, 5 * G, G))
    assert history.expected(space, 11.0) == 5 * G
    assert history.expected(InodeSupply(), 11.0) == 0
    assert history.expected(space, 14.0) == 0
    space.free = 4 * G
    assert history.expected(space, 11.0) == 2 * G
    space.free = 9 * G
    assert history.expected(space, 11.0) == 0
    space.free = 0
    assert history.expected(space, 13.0) == 5 * G
    assert history.expected(space, 13.1) == 0


def test_what_is_expected_counts_from_the_first_of_several_stops() -> None:
    history, space = StopHistory(), SpaceSupply()
    history.add_step(Stopped(10.0, space, 5 * G, 4 * G))
    history.add_step(Stopped(11.0, space, G, 6 * G))
    space.free = 7 * G
    assert history.expected(space, 12.0) == (5 + 1 - 3) * G
    assert history.expected(space, 13.5) == 0, "of the second, all has come"


def test_clients_of_stopped_steps_may_be_ending_for_ten_seconds() -> None:
    history = StopHistory()
    history.add_step(Stopped(10.0, SpaceSupply(), G, G))
    history.add_step(Stopped(10.0, SpaceSupply(), G, G, has_client=False))
    assert [history.count_recent(now) for now in (10.0, 20.0, 20.1)] == [1, 1, 0]


def test_step_that_was_told_to_end_has_three_seconds_for_it() -> None:
    history = StopHistory()
    history.add_key("a", 10.0)
    history.forget_ended(13.0)
    assert [*history.ending] == ["a"]
    history.forget_ended(13.1)
    assert [*history.ending] == []


# -- one decision


def guard_of(world: World, free: float, total: float = 0, **speeds: float) -> Guard:
    """Return a guard that has just seen who writes how fast, in bytes per second, with so much left."""
    guard = Guard(config())
    space = guard.volume.space
    space.free, space.floor = int(free), FLOOR
    for name in speeds.keys() - {DOCKER}:
        world.build(name, speeds[name], written=3 * G)
    space.history.add(world.now - 1, dict.fromkeys(speeds, 0), 0)
    space.history.add(
        world.now, {name: int(speed) for name, speed in speeds.items()}, int(total or sum(speeds.values()))
    )
    guard.writers.steps = world.steps()
    return guard


def stop_one(guard: Guard, world: World, after: float = 0, rate: float = 100 * M) -> str:
    """Let the guard decide so many seconds after its scan, while the volume fills at a rate."""
    guard.volume.space.rate.value = rate
    return guard.stopper.stop_one(world.now + after, guard.volume.space)


@pytest.mark.parametrize(
    ("free", "after", "stopped"),
    [
        (FLOOR // 2 - 1, 0.09, ["fast"]),
        (FLOOR // 2 - 1, 0.1, ["fast", "slow"]),
        (FLOOR // 2, 0.1, ["fast"]),
        (FLOOR // 2, 0.29, ["fast"]),
        (FLOOR // 2, 0.3, ["fast", "slow"]),
    ],
)
def test_next_step_is_stopped_sooner_below_half_the_floor(
    world: World, free: int, after: float, stopped: list[str]
) -> None:
    world.now = 0.0
    guard = guard_of(world, free, fast=60 * M, slow=40 * M)
    assert stop_one(guard, world) == ""
    assert world.aborted == ["fast"]
    assert stop_one(guard, world, after) == ""
    assert world.aborted == stopped


@pytest.mark.parametrize("free", [FLOOR, FLOOR // 2 - 1])
def test_next_client_has_two_seconds_also_below_half_the_floor(world: World, free: int) -> None:
    guard = guard_of(world, free, docker=100 * M)
    world.building = [client(2, "docker build new"), client(1, "docker build old")]
    for after, interrupted in ((0, 1), (0.1, 1), (0.3, 1), (1.9, 1), (2.0, 2)):
        assert stop_one(guard, world, after) == ""
        assert len(world.interrupted) == interrupted, after


def test_client_is_interrupted_after_a_step_only_when_the_stop_had_its_effect(world: World) -> None:
    guard = guard_of(world, FLOOR // 2 - 1, step=60 * M, docker=40 * M)
    world.building = [client(1, "docker build copies")]
    for after, interrupted in ((0, 0), (0.1, 0), (0.3, 1)):
        stop_one(guard, world, after)
        assert (world.aborted, len(world.interrupted)) == (["step"], interrupted), after


@pytest.mark.parametrize(("free", "interrupted"), [(FLOOR // 2, []), (FLOOR // 2 - 1, ["docker build ."])])
def test_client_whose_step_may_still_be_ending_is_interrupted_only_below_half_the_floor(
    world: World, free: int, interrupted: list[str]
) -> None:
    guard = guard_of(world, free, docker=100 * M)
    guard.stopper.history.add_step(Stopped(world.now - 9, SpaceSupply(), 0, 0))
    world.building = [client(1, "docker build .")]
    stop_one(guard, world)
    assert world.interrupted == interrupted


@pytest.mark.parametrize(
    ("after", "rate", "stopped"),
    [
        (9.9, FLOOR / 100 - 1, ["fast"]),
        (9.9, FLOOR / 10 / 10, ["fast", "slow"]),
        (10.0, 1, ["fast", "slow"]),
    ],
)
def test_space_has_ten_seconds_to_come_back_while_the_volume_hardly_grows(
    world: World, after: float, rate: float, stopped: list[str]
) -> None:
    guard = guard_of(world, FLOOR, fast=60 * M, slow=40 * M)
    stop_one(guard, world)
    stop_one(guard, world, after, rate)
    assert world.aborted == stopped


def test_nobody_is_stopped_after_one_scan(world: World) -> None:
    guard = guard_of(world, FLOOR, fast=60 * M)
    guard.volume.space.history = type(guard.volume.space.history)()
    guard.volume.space.history.add(world.now, {"fast": G}, G)
    assert stop_one(guard, world) == ""
    assert world.aborted == []


def test_client_that_has_ended_meanwhile_does_not_save_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guard_of(world, FLOOR, docker=100 * M)
    world.building = [client(2, "docker build ended"), client(1, "docker build .")]
    monkeypatch.setattr(clients, "interrupt", lambda each, why: each.pid == 1 and world.interrupt(each, why))
    assert stop_one(guard, world) == ""
    assert world.interrupted == ["docker build ."]
    assert {*guard.stopper.history.ending} == {"2 2", "1 1"}


def test_client_that_takes_its_time_to_end_is_interrupted_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guard_of(world, FLOOR, docker=100 * M)
    world.building = [client(2, "docker build slow"), client(1, "docker build .")]
    interrupted: list[int] = []
    monkeypatch.setattr(clients, "interrupt", lambda each, _: interrupted.append(each.pid) or True)
    for after in (0, 2, 4):
        stop_one(guard, world, after)
    assert interrupted == [2, 1]


def test_stop_that_finds_nobody_says_what_fills_the_volume(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guard_of(world, FLOOR, docker=100 * M)
    world.building = [client(2, "docker build ended")]
    monkeypatch.setattr(clients, "interrupt", lambda *_: False)
    assert stop_one(guard, world).startswith(
        "What fills it is no build that the guard may stop. Docker itself takes 100M"
    )
    assert guard.stopper.history.last == float("-inf")


@pytest.mark.parametrize(
    ("step", "docker", "stopped"),
    [
        (31, 3, []),  # a third together, but Docker writes too little to copy for a build
        (30, 10, ["step"]),
        (10, 30, ["docker build ."]),
        (10, 20, []),  # less than a third
    ],
)
def test_faster_one_is_stopped_of_a_step_and_what_docker_copies(
    world: World, step: int, docker: int, stopped: list[str]
) -> None:
    guard = guard_of(world, FLOOR, 100 * M, step=step * M, docker=docker * M)
    world.building = [client(2, "docker build ."), client(1, "docker build old")]
    assert (stop_one(guard, world) == "") == bool(stopped)
    assert world.aborted + world.interrupted == stopped


def test_time_that_a_stop_takes_delays_the_next_decision(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guard_of(world, FLOOR, fast=100 * M)
    monkeypatch.setattr(steps, "abort", lambda *_: world.advance(0.5))
    stop_one(guard, world)
    assert guard.writers.cost == 0.5


@pytest.mark.parametrize(("share", "is_named"), [(5, True), (4.9, False)])
def test_alert_names_who_has_a_twentieth_of_the_growth(world: World, share: float, is_named: bool) -> None:
    guard = guard_of(world, FLOOR, 100 * M, step=share * M, docker=share * M)
    words = [
        "What fills it is no build that the guard may stop",
        "The steps of builds take 5.0M/s of that: to stop them would change little",
        "Docker itself takes 5.0M/s of that, and for no client that the guard may stop",
    ]
    assert stop_one(guard, world) == ". ".join(words[: 3 if is_named else 1])
    guard.build_limits._classic.similar = ["database", "web"]
    assert stop_one(guard, world).endswith(". Left alone, though they look like a build's steps: database, web")


def test_nothing_is_said_while_space_of_a_stopped_step_comes_back(world: World) -> None:
    guard = guard_of(world, FLOOR, 100 * M)
    guard.stopper.history.add_step(Stopped(world.now, guard.volume.space, G, FLOOR))
    assert stop_one(guard, world, 3.0) == ""
    assert stop_one(guard, world, 3.1) == "What fills it is no build that the guard may stop"


@pytest.mark.parametrize(
    ("speeds", "what"),
    [
        ({"big": 100 * M}, "step `make big`, which has written 3.0G"),
        ({DOCKER: 100 * M}, "command `docker build .`"),
    ],
)
def test_stop_is_reported_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, speeds: dict[str, float], what: str
) -> None:
    guard = guard_of(world, FLOOR - M, **speeds)
    world.building = [client(1, "docker build .")] if DOCKER in speeds else []
    stop_one(guard, world)
    why = "/srv/docker-volume has 2.0G left, fills by 100M/s and is below its floor of 2.0G"
    assert f"stops the build {what}: {why}" in world.journal
    sent: list[object] = []
    monkeypatch.setattr(jobs, "send_alerts", lambda _, alerts: sent.extend(alerts) or len(alerts))
    guard.reporter.send_alerts(guard.volume.config, guard.runner)
    assert sent == [(WARNING, f"the guard has stopped the build {what}: {why}", True, False)], (
        "it names what to reclaim"
    )
    assert guard.volume.space.rate.value == 0, "it says nothing of what comes"
    assert saved()["aborted"][0]["what"] == what.split()[0]
