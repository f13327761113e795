"""How many inodes a step has made is read from the memory that the kernel counts for its control group."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bulkhead.docker import cgroups
from bulkhead.docker.engines import NestedEngine
from bulkhead.docker.steps import BuildStep
from bulkhead.guard.supply import InodeSupply, SpaceSupply
from bulkhead.storage.space import Space

M = 2**20


def count(directory: Path, reclaimable: int) -> None:
    directory.mkdir(parents=True)
    (directory / "memory.stat").write_text(f"anon 5\nslab_reclaimable {reclaimable}\nslab_unreclaimable 99999999\n")


def test_step_has_made_as_many_inodes_as_its_memory_can_hold(tmp_path: Path) -> None:
    count(tmp_path / "step", 30_000 * 1024)
    step = BuildStep("a", 1, str(tmp_path / "step"), 7 * M, "make")
    assert InodeSupply().taken_by(step) == 30_000
    assert SpaceSupply().taken_by(step) == 7 * M


def test_step_whose_memory_the_kernel_does_not_count_has_made_none(tmp_path: Path) -> None:
    assert InodeSupply().taken_by(BuildStep("a", 1, str(tmp_path), 7 * M, "make")) == 0


def test_docker_and_containerd_count_as_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "ROOT", str(tmp_path))
    for unit, size in (("docker", 5), ("containerd", 2)):
        count(tmp_path / "system.slice" / f"{unit}.service", size * 1024)
    assert InodeSupply().taken_by_docker(1, [], frozenset()) == 7
    builder, step = tmp_path / "docker-b.scope", tmp_path / "docker-b.scope" / "step"
    count(builder, 9 * 1024)
    count(step, 4 * 1024)
    count(tmp_path / "elsewhere", 3 * 1024)
    engine = NestedEngine(2, str(builder), is_builder=True)
    groups = frozenset([str(step), str(tmp_path / "elsewhere")])
    assert InodeSupply().taken_by_docker(1, [engine], groups) == 7 + 9 - 4


def test_amounts_are_described_in_their_unit() -> None:
    inodes = InodeSupply()
    inodes.free, inodes.floor = 90_000, 100_000
    inodes.rate.value = 1234.5
    assert (
        inodes.describe("/v")
        == "/v has 90000 inodes left, fills by 1234 inodes/s and is below its floor of 100000 inodes"
    )
    inodes.free = inodes.floor
    assert inodes.describe("/v").endswith("and would fall below its floor of 100000 inodes")


def test_nothing_is_known_before_the_first_sample() -> None:
    for supply in (SpaceSupply(), InodeSupply()):
        supply.rest(1.0)
        assert (supply.free, supply.floor, supply.used_up, supply.is_growing) == (0, 0, 0, False)


def test_growth_and_reclaims_count_from_a_least_of_each_kind() -> None:
    space, inodes = SpaceSupply(), InodeSupply()
    assert (space.worthwhile, inodes.worthwhile) == (64 * M, 10_000)
    for supply, least in ((space, 1024), (inodes, 10)):
        assert supply.least == least
        for used, is_growing in ((least - 1, False), (least, True)):
            supply.forget()
            supply.sample(0, counts(0))
            supply.sample(1, counts(used))
            assert supply.is_growing == is_growing
        assert supply.rate.value == least
        supply.forget()
        assert (supply.free, supply.is_growing) == (0, False)


def test_burst_is_measured_from_the_end_of_a_rest() -> None:
    space = SpaceSupply()
    space.sample(0, counts(100))
    space.rest(10)
    space.sample(10.5, counts(100 + M))
    assert space.rate.value == 2 * M


def test_what_is_used_up_does_not_fall_when_space_comes_back() -> None:
    space = SpaceSupply()
    for now, used in enumerate((100, 300, 50, 150)):
        space.sample(now, counts(used))
    assert space.used_up == 200 + 100
    space.forget()
    space.sample(9, counts(999))
    assert space.used_up == 300


def test_what_is_used_up_since_the_sample_is_counted_once() -> None:
    space = SpaceSupply()
    assert space.used_since_sample(counts(100)) == 0
    space.sample(1, counts(100))
    assert (space.used_since_sample(counts(400)), space.used_since_sample(counts(50)), space.used_up) == (300, 0, 0)
    space.sample(2, counts(500))
    assert space.used_up == 400


def counts(used: int) -> Space:
    """Return a filesystem with so many bytes and inodes in use."""
    left = 1000 - used
    values = {"f_frsize": 1, "f_blocks": 1000, "f_bfree": left, "f_bavail": left, "f_files": 1000, "f_ffree": left}
    return Space(cast(os.statvfs_result, SimpleNamespace(**values)))
