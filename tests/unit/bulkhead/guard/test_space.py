"""The guard makes space: idle build cache, and the ballast."""

from __future__ import annotations

import pytest

from bulkhead.guard import jobs
from bulkhead.watch.results import CRITICAL

from .world import FLOOR, OTHERS, G, M, World, saved, watched


def test_cache_is_reclaimed_before_any_build_is_stopped(world: World) -> None:
    world.free, world.cache = 5 * G, 3 * G
    world.build("big", 100 * M)
    guarded = watched(world, 45)
    del world.rates["big"]
    watched(world, 5, guarded)
    assert world.aborted == []
    assert world.cache < 3 * G
    assert saved()["reclaimed"]["freed"] > 0


def test_cache_stays_where_there_is_room(world: World) -> None:
    world.cache = 3 * G
    watched(world, 60)
    assert world.cache == 3 * G


def test_nothing_to_reclaim_is_not_looked_for_all_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(jobs, "reclaim_cache", lambda *_: asked.append(world.now) or 0)
    world.free = 3 * G
    watched(world, 900)
    assert len(asked) == 2


def test_cache_that_a_stopped_build_leaves_is_reclaimed_when_it_has_let_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(jobs, "reclaim_cache", lambda *_: asked.append(world.now) or 0)
    world.free, world.returns_after = FLOOR + G, 60.0
    world.build("fast", 500 * M)
    watched(world, 50)
    assert world.aborted == ["fast"]
    assert 3 <= len(asked) <= 6


def test_hosts_that_rest_are_not_asked_for_steps_all_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(jobs, "classic_steps", lambda: asked.append(world.now) or ([], []))
    world.free = FLOOR - 100 * M
    world.rates[OTHERS] = M
    watched(world, 60)
    assert 4 <= len(asked) <= 7


def test_docker_that_does_not_run_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.free, world.is_docker_up = FLOOR - M, False
    world.rates[OTHERS] = M
    monkeypatch.setattr(jobs, "reclaim_cache", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(jobs, "classic_steps", lambda: pytest.fail("asked"))
    watched(world, 60)


def test_ballast_is_taken_and_given_back_when_nothing_else_helped(world: World) -> None:
    guarded = watched(world, 8)
    assert world.ballast == 256 * M
    world.free = 0
    watched(world, 1, guarded)
    assert (world.ballast, world.free) == (0, 256 * M)
    world.free = 4 * G + 100 * M
    watched(world, 120, guarded)
    assert world.ballast == 0
    assert [level for level, text in world.news if "ballast" in text] == [CRITICAL]
    world.free = 5 * G
    watched(world, 120, guarded)
    assert world.ballast == 256 * M


def test_ballast_is_not_taken_while_the_volume_fills(world: World) -> None:
    world.rates[OTHERS] = M
    watched(world, 60)
    assert world.ballast == 0
