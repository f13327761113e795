"""The volume has a floor, and may be unmounted or replaced."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from bulkhead.sizes import Size
from bulkhead.storage.volume import floor_of

from .world import FLOOR, OTHERS, G, M, World, run_guard


@pytest.mark.parametrize(
    ("text", "size", "floor"),
    [
        ("auto", 100 * G, 5 * G),
        ("auto", 20 * G, 2 * G),
        ("auto", 6 * G, G * 3 // 2),
        ("auto", 1000 * G, 50 * G),
        ("auto", 10_000 * G, 50 * G),
        ("10%", 10_000 * G, 1000 * G),
        ("10%", 100 * G, 10 * G),
        ("10G", 100 * G, 10 * G),
        ("10G", 12 * G, 3 * G),
    ],
)
def test_floor_is_at_most_a_quarter_of_the_volume_and_by_itself_at_most_50_gigabytes(
    text: str, size: int, floor: int
) -> None:
    assert floor_of(None if text == "auto" else Size.parse(text), size) == floor


def test_guard_waits_for_a_volume_that_is_not_mounted(world: World) -> None:
    world.is_mounted = False
    guard = run_guard(world, 60)
    assert len([line for line in world.journal if "not mounted" in line]) == 1
    world.is_mounted, world.free = True, FLOOR + G
    world.build("big", 100 * M)
    run_guard(world, 30, guard)
    assert world.aborted == ["big"]


def test_another_filesystem_in_its_place_is_no_growth(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.build("big", M)
    guard = run_guard(world, 6)
    monkeypatch.setattr(
        os, "statvfs", lambda _: SimpleNamespace(**{**vars(world.counts("")), "f_fsid": 8, "f_bavail": M})
    )
    world.is_mounted = False
    run_guard(world, 6, guard)
    assert world.aborted == []


@pytest.mark.parametrize("identifier", [6, 8])
def test_filesystem_that_takes_its_place_at_once_is_no_growth(
    world: World, monkeypatch: pytest.MonkeyPatch, identifier: int
) -> None:
    world.build("big", M)
    guard = run_guard(world, 6)
    counts = world.counts
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(**{**vars(counts(path)), "f_fsid": identifier}))
    world.free = FLOOR + 2 * G
    run_guard(world, 6, guard)
    assert guard.volume.is_sampled
    assert world.aborted == []


def test_idle_cache_of_a_large_volume_stays_while_a_hundred_gigabytes_are_free(world: World) -> None:
    world.size, world.free, world.cache = 10_000 * G, 101 * G, 900 * G
    run_guard(world, 60)
    assert world.cache == 900 * G


def test_volume_at_rest_is_only_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = run_guard(world, 60)
    sampled: list[float] = []
    add = guard.volume.space.rate.add
    monkeypatch.setattr(guard.volume.space.rate, "add", lambda now, used: sampled.append(now) or add(now, used))
    run_guard(world, 60, guard)
    assert sampled == []
    world.rates[OTHERS] = 100 * M
    run_guard(world, 1, guard)
    assert guard.volume.space.rate.value == pytest.approx(100 * M, rel=0.05)


def test_burst_after_a_long_rest_is_measured_from_the_end_of_the_rest(world: World) -> None:
    guard = run_guard(world, 60)
    world.free -= 2 * G
    world.advance(0.5)
    guard.round(world.now)
    assert guard.volume.space.rate.value > G


def test_what_was_taken_since_the_last_sample_counts_as_used_up(world: World) -> None:
    guard = run_guard(world, 1)
    for taken in (2 * M, M):
        world.free -= taken
        world.advance(0.5)
        guard.round(world.now)
    world.free -= 2 * M
    assert guard.volume.used_up_by_now(guard.volume.space) == 5 * M


def test_space_that_the_guard_itself_takes_is_no_growth(world: World) -> None:
    world.free = 5 * G
    guard = run_guard(world, 60)
    assert world.ballast == 256 * M
    assert guard.volume.last_growth == float("-inf")
