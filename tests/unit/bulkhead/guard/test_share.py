"""A build is stopped only if the volume lasts longer for it. What fills the volume instead is named."""

from __future__ import annotations

import random

import pytest

from bulkhead.docker import engines
from bulkhead.docker.clients import Client
from bulkhead.watch.results import CRITICAL

from .world import DOCKER, FLOOR, INODE_FLOOR, OTHERS, G, M, World, assert_floor_kept, run_guard

SMALL = ("a", "b", "c", "d")


def alerts(world: World) -> list[str]:
    return [text for level, text in world.news if level == CRITICAL]


def test_small_builds_go_on_while_a_container_fills_the_volume_and_the_ballast_is_given_back(world: World) -> None:
    world.free = 2 * FLOOR + G
    guard = run_guard(world, 10)
    assert world.ballast == 256 * M
    for name in SMALL:
        world.build(name, 6 * M)
    world.rates[OTHERS] = 100 * M
    run_guard(world, 50, guard)
    assert (world.aborted, world.free, world.ballast) == ([], 0, 0)
    about_growth, *more = alerts(world)
    assert "What fills it is no build that the guard may stop. The steps of builds take 24M/s of that" in about_growth
    assert "to stop them would change little" in about_growth
    assert any("the ballast of 256M was deleted" in text for text in more)


def test_builds_that_make_a_third_of_the_growth_are_stopped_until_they_make_less(world: World) -> None:
    world.free = FLOOR + 2 * G
    for name in SMALL:
        world.build(name, 20 * M)
    world.rates[OTHERS] = 100 * M
    run_guard(world, 60)
    assert len(world.aborted) == 2, "80 of 180, 60 of 160; not 40 of 140"


def test_small_builds_go_on_while_a_container_rests_between_its_bursts(world: World) -> None:
    world.free, guard = FLOOR + 3 * G, None
    for name in SMALL:
        world.build(name, 6 * M)
    for _ in range(10):
        world.rates[OTHERS] = 500 * M
        guard = run_guard(world, 1, guard)
        world.rates[OTHERS] = 0
        run_guard(world, 3, guard)
    assert world.aborted == []


def test_build_that_writes_in_bursts_is_stopped_beside_a_slower_container(world: World) -> None:
    world.free, guard = FLOOR + 3 * G, None
    world.build("bursts", 0)
    world.rates[OTHERS] = 30 * M
    for _ in range(16):
        if "bursts" in world.rates:
            world.rates["bursts"] = 600 * M
        guard = run_guard(world, 0.5, guard)
        if "bursts" in world.rates:
            world.rates["bursts"] = 0
        run_guard(world, 2, guard)
    assert world.aborted == ["bursts"]
    assert world.lowest > FLOOR / 2


def test_small_builds_go_on_though_a_scan_takes_long_on_a_busy_machine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.free = FLOOR + 2 * G
    monkeypatch.setattr(engines, "nested_engines", lambda: world.advance(0.8) or [])  # at every tenth scan
    for name in SMALL:
        world.build(name, 6 * M)
    world.rates[OTHERS] = 100 * M
    run_guard(world, 30)
    assert world.aborted == []


@pytest.mark.parametrize("left", [600 * M, 900 * M])
@pytest.mark.parametrize("before", [0.0, 3.0, 12.0])
def test_file_that_somebody_allocates_at_once_stops_no_build(world: World, left: float, before: float) -> None:
    world.free = FLOOR + left + 4 * G
    guard = run_guard(world, 5)
    for name in SMALL:
        world.build(name, 2 * M, written=200 * M)
    run_guard(world, before, guard)
    world.free -= 4 * G
    run_guard(world, 10, guard)
    assert world.aborted == []


def test_build_that_begins_beside_a_container_is_stopped_within_seconds(world: World) -> None:
    world.free = FLOOR + 4 * G
    world.rates[OTHERS] = 30 * M
    guard = run_guard(world, 12)
    world.build("fast", 800 * M)
    run_guard(world, 6, guard)
    assert world.aborted == ["fast"]
    assert_floor_kept(world, 0)


@pytest.mark.parametrize("before", [OTHERS, DOCKER])
@pytest.mark.parametrize(("burst", "rate"), [(500, 400), (1000, 800), (2000, 400), (2000, 800)])
def test_build_that_begins_when_something_faster_has_just_ended_is_stopped_in_time(
    world: World, before: str, burst: float, rate: float
) -> None:
    """So begins many a build: with a pull of its base image."""
    world.free = FLOOR + G + 6 * burst * M
    world.rates[before] = burst * M
    guard = run_guard(world, 6)
    del world.rates[before]
    world.build("fast", rate * M)
    run_guard(world, 12, guard)
    assert world.aborted == ["fast"]
    assert world.lowest > FLOOR / 2


def test_slower_build_is_judged_without_what_the_stopped_one_wrote(world: World) -> None:
    world.free, world.returns_after = FLOOR + 4 * G, 60.0
    world.build("fast", 500 * M)
    world.build("slow", 60 * M)
    world.rates[OTHERS] = 40 * M
    run_guard(world, 25)
    assert world.aborted == ["fast", "slow"]


def test_small_builds_go_on_during_a_pull_and_docker_is_named(world: World) -> None:
    world.free = FLOOR + G
    for name in SMALL:
        world.build(name, 6 * M)
    world.rates[DOCKER] = 100 * M
    run_guard(world, 20)
    assert (world.aborted, world.interrupted) == ([], [])
    assert "Docker itself takes 100M/s of that, and for no client that the guard may stop" in alerts(world)[0]


def test_build_that_copies_is_interrupted_and_not_the_small_step_of_another(world: World) -> None:
    world.free = FLOOR + 2 * G
    world.build("small", 6 * M)
    world.rates[DOCKER] = 100 * M
    world.building = [Client(2, 2, "docker build copies"), Client(1, 1, "docker build small")]
    run_guard(world, 30)
    assert (world.aborted, world.interrupted[:1]) == ([], ["docker build copies"])


def test_step_that_is_faster_goes_before_the_client_that_copies_little(world: World) -> None:
    world.free = FLOOR + 2 * G
    world.build("step", 30 * M)
    world.rates |= {DOCKER: 7 * M, OTHERS: 63 * M}
    world.building = [Client(2, 2, "docker build copies"), Client(1, 1, "docker build step")]
    run_guard(world, 60)
    assert (world.aborted, world.interrupted) == (["step"], []), "37 of 100 are builds', then 7 of 70"


@pytest.mark.parametrize("nested", [True, False])
def test_step_that_was_stopped_in_a_container_counts_for_no_client_here(world: World, nested: bool) -> None:
    world.free, world.returns_after = FLOOR + 2 * G, 60.0
    world.build("step", 120 * M, nested=nested)
    world.rates[DOCKER] = 100 * M
    world.building = [Client(2, 2, "docker build copies")]
    guard = run_guard(world, 1)
    while not world.aborted:
        run_guard(world, 0.5, guard)
    run_guard(world, 4, guard)
    assert world.interrupted == (["docker build copies"] if nested else [])


@pytest.mark.parametrize("returns_after", [0.5, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_24_builds_that_write_3_gigabytes_a_second_are_stopped_above_half_the_floor(
    world: World, seed: int, returns_after: float
) -> None:
    chance = random.Random(seed)
    world.free, world.returns_after = FLOOR + chance.uniform(20, 24) * G, returns_after
    guard = run_guard(world, 2)
    for number in range(24):
        world.build(f"b{number}", 3 * G / 24 * chance.uniform(0.5, 1.5), files=chance.uniform(0, 100))
    world.rates[OTHERS] = 20 * M
    run_guard(world, 20, guard)
    assert world.lowest > FLOOR / 2


# -- inodes


@pytest.mark.parametrize("classic", [False, True])
def test_build_of_small_files_is_stopped_before_the_inodes_are_used_up(world: World, classic: bool) -> None:
    guard = run_guard(world, 5)
    world.build("small files", 5 * M, files=30_000, classic=classic)
    world.build("large files", 20 * M, files=10)
    run_guard(world, 90, guard)
    assert world.aborted == ["small files"]
    assert world.fewest_inodes > INODE_FLOOR - 3000
    (stopped,) = (line for line in world.journal if line.startswith("stops the build"))
    assert "left, fills by 30" in stopped
    assert "inodes/s and would fall below its floor of 130000 inodes" in stopped


def test_idle_cache_is_reclaimed_before_a_build_is_stopped_for_inodes(world: World) -> None:
    world.inodes_free, world.cached_files = 400_000, 500_000.0
    world.build("small files", 5 * M, files=5_000)
    guard = run_guard(world, 60)
    del world.rates["small files"], world.file_rates["small files"]
    run_guard(world, 5, guard)
    assert world.aborted == []
    assert world.cached_files < 500_000


def test_inodes_that_a_container_uses_up_stop_no_build(world: World) -> None:
    world.inodes_free = INODE_FLOOR + 100_000
    world.build("build", 5 * M, files=1_000)
    world.file_rates[OTHERS] = 10_000
    run_guard(world, 60)
    assert world.aborted == []
    assert "inodes/s" in alerts(world)[0]
    assert "The steps of builds take 1000 inodes/s of that: to stop them would change little" in alerts(world)[0]


def test_docker_that_copies_small_files_is_interrupted(world: World) -> None:
    world.inodes_free = INODE_FLOOR + 100_000
    world.rates[DOCKER], world.file_rates[DOCKER] = 5 * M, 10_000
    world.building = [Client(1, 1, "docker build .")]
    run_guard(world, 30)
    assert world.interrupted == ["docker build ."]


def test_data_is_no_growth_of_inodes_on_xfs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """xfs can make inodes of all free space, so the fewer are free the more data is written."""
    counts = world.counts

    def of_xfs(path: str) -> object:
        found = counts(path)
        found.f_files, found.f_ffree = 1_000_000 + int(world.free) // 512, int(world.free) // 512
        return found

    monkeypatch.setattr("os.statvfs", of_xfs)
    world.free = 12 * G
    world.build("data", 100 * M)
    guard = run_guard(world, 20)
    assert guard.volume.space.is_growing
    assert not guard.volume.inodes.is_growing


def test_filesystem_that_does_not_limit_inodes_has_no_floor_for_them(world: World) -> None:
    world.inodes, world.inodes_free = 0, 0
    world.build("small files", 5 * M, files=30_000)
    guard = run_guard(world, 30)
    assert guard.volume.supplies == [guard.volume.space]
    assert world.aborted == []


def test_24_builds_of_small_files_are_stopped_above_half_the_floor(world: World) -> None:
    world.inodes_free = 1_500_000
    guard = run_guard(world, 2)
    for number in range(24):
        world.build(f"b{number}", M, files=2_000 + 50 * number)
    run_guard(world, 35, guard)
    assert world.aborted
    assert world.fewest_inodes > INODE_FLOOR / 2
