"""The guard makes space: idle build cache, and the ballast."""

from __future__ import annotations

import pytest

from bulkhead.guard import jobs
from bulkhead.prune import pruner
from bulkhead.watch.results import CRITICAL, OK

from ..configs import config
from .world import FLOOR, OTHERS, G, M, World, run_guard, saved


def test_cache_is_reclaimed_before_any_build_is_stopped(world: World) -> None:
    world.free, world.cache = 5 * G, 3 * G
    world.build("big", 100 * M)
    guard = run_guard(world, 45)
    del world.rates["big"]
    run_guard(world, 5, guard)
    assert world.aborted == []
    assert world.cache < 3 * G
    assert saved()["reclaimed"]["freed"] > 0


def test_cache_stays_while_there_is_enough_space(world: World) -> None:
    world.cache = 3 * G
    run_guard(world, 60)
    assert world.cache == 3 * G


def test_guard_that_found_nothing_to_reclaim_waits_before_the_next_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(jobs, "reclaim_cache", lambda *_: asked.append(world.now) or (0, 0))
    world.free = 3 * G
    run_guard(world, 900)
    assert len(asked) == 2


def test_cache_of_a_stopped_build_is_reclaimed_once_it_is_idle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(jobs, "reclaim_cache", lambda *_: asked.append(world.now) or (0, 0))
    world.free, world.returns_after = FLOOR + G, 60.0
    world.build("fast", 500 * M)
    run_guard(world, 50)
    assert world.aborted == ["fast"]
    assert 3 <= len(asked) <= 6


def test_docker_at_rest_is_asked_seldom_for_classic_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(jobs, "classic_steps", lambda: asked.append(world.now) or ([], []))
    world.free = FLOOR - 100 * M
    world.rates[OTHERS] = M
    run_guard(world, 60)
    assert 4 <= len(asked) <= 7


def test_docker_is_asked_often_for_classic_steps_while_the_volume_fills(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(jobs, "classic_steps", lambda: asked.append(world.now) or ([], []))
    world.free = FLOOR - 100 * M
    world.rates[OTHERS] = FLOOR / 20 / 10 + M  # a twentieth of the floor within ten seconds
    run_guard(world, 30)
    assert 20 <= len(asked) <= 31


def test_docker_that_does_not_run_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.free, world.is_docker_up = FLOOR - M, False
    world.rates[OTHERS] = M
    monkeypatch.setattr(jobs, "reclaim_cache", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(jobs, "classic_steps", lambda: pytest.fail("asked"))
    run_guard(world, 60)


def test_ballast_is_taken_and_given_back_when_the_volume_is_full(world: World) -> None:
    guard = run_guard(world, 8)
    assert world.ballast == 256 * M
    world.free = 0
    run_guard(world, 1, guard)
    assert (world.ballast, world.free) == (0, 256 * M)
    world.free = 4 * G + 100 * M
    run_guard(world, 120, guard)
    assert world.ballast == 0
    assert [level for level, text in world.news if "ballast" in text] == [CRITICAL]
    world.free = 5 * G
    run_guard(world, 120, guard)
    assert world.ballast == 256 * M


def test_ballast_is_not_taken_while_the_volume_fills(world: World) -> None:
    world.rates[OTHERS] = M
    run_guard(world, 60)
    assert world.ballast == 0


def test_news_of_reclaimed_cache_are_gathered(world: World) -> None:
    world.free, guard = 2 * FLOOR + G, None
    for _ in range(24):  # every 14 minutes: none when the four hours end
        world.cache = world.free = 2 * FLOOR - G
        guard = run_guard(world, 840, guard)
    sent = [text for level, text in world.news if level == OK and "build cache" in text]
    assert len(sent) == 2, "one at once, one after four hours; what came since then waits"
    assert sent[0] == "1.0G of idle build cache removed: /srv/docker-volume has 4.0G left"
    assert "G of idle build cache removed in 17 reclaims within 3 h: /srv/docker-volume has " in sent[1]


@pytest.mark.parametrize(("per_gigabyte", "portions"), [(100_000, 3), (1000, 5)])
def test_cache_is_reclaimed_in_portions_until_enough_inodes_are_free(
    monkeypatch: pytest.MonkeyPatch, per_gigabyte: int, portions: int
) -> None:
    left = [4 * G + 300 * M]
    asked: list[int] = []

    def reclaim(_: object, need: int, *__: object, wait: float) -> int:
        assert wait == 0
        asked.append(need)
        freed = min(left[0], max(need - 50 * G, 0))
        left[0] -= freed
        return freed

    class Found:
        available = 50 * G

        @property
        def inodes_free(self) -> int:
            return 10_000 + (4 * G + 300 * M - left[0]) * per_gigabyte // G

    monkeypatch.undo()
    monkeypatch.setattr(pruner, "reclaim_cache", reclaim)
    for module in (jobs, pruner):
        monkeypatch.setattr(module, "space_of", lambda _: Found())
    freed, inodes = jobs.reclaim_cache(config(), 4 * G, 300_000)
    assert asked == [4 * G, *[51 * G] * portions]
    assert (freed, inodes) == (min(portions * G, 4 * G + 300 * M), Found().inodes_free - 10_000)
