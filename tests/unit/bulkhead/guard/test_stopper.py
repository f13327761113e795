"""The guard stops builds, as few as necessary, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bulkhead.docker.clients import Client
from bulkhead.guard import jobs
from bulkhead.guard.stopper import StopHistory, Stopped
from bulkhead.guard.supply import InodeSupply, SpaceSupply
from bulkhead.watch.results import CRITICAL

from ..fake_engine import Query, fake_engine
from .world import DOCKER, FLOOR, OTHERS, G, M, World, assert_floor_kept, run_guard


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
