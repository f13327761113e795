"""The volume has a floor, and may be unmounted or replaced."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from bulkhead.sizes import Size
from bulkhead.storage.volume import floor_of

from .world import FLOOR, G, M, World, run_guard


@pytest.mark.parametrize(
    ("text", "size", "floor"),
    [
        ("auto", 100 * G, 5 * G),
        ("auto", 20 * G, 2 * G),
        ("auto", 6 * G, G * 3 // 2),
        ("10%", 100 * G, 10 * G),
        ("10G", 100 * G, 10 * G),
        ("10G", 12 * G, 3 * G),
    ],
)
def test_floor_is_at_most_a_quarter_of_the_volume(text: str, size: int, floor: int) -> None:
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
