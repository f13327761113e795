"""Disks that have grown: which groups take the new space, what follows, and what the owner reads before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pyinfra_lvm.model import BlockDevice, LogicalVolume, Storage
from tasks.preflight.examine import Examination, examine

from ..example_hosts import (
    EXTENT,
    GIB,
    MIB,
    ON_SPARE,
    SPARE,
    bare_host,
    converged,
    our_docker_ce_host,
    settings,
    shared_vg,
    single_root,
    spare_disk,
    with_volume,
    with_volume_file,
)
from .verdicts import finding, plan_of

NOTICE = f"the disk {SPARE} has grown from 20.0 GiB to 40.0 GiB; the volume group docker-vg takes the new space, and "


def grown(storage: Storage, path: str, size: int) -> Storage:
    device = storage.device(path)
    assert device
    # udev names a physical volume by its UUID too.
    larger = replace(device, size=size, aliases=("/dev/disk/by-id/lvm-pv-uuid-5kynUf-a3IS", *device.aliases))
    return replace(storage, devices=tuple(larger if d is device else d for d in storage.devices))


def provisioned(**changes: Any) -> Storage:
    wanted = settings(volume_disks=[SPARE], **changes)
    return converged(spare_disk(), plan_of(bare_host(), spare_disk(), wanted))


def examined(storage: Storage, **changes: Any) -> Examination:
    return examine(settings(**changes), our_docker_ce_host(), storage)


def test_volume_follows_the_only_disk_of_dockers_own_group() -> None:
    for disks in ([SPARE], "blank"):
        result = examined(grown(provisioned(), SPARE, 40 * GIB), volume_disks=disks)
        assert (result.findings, result.warnings) == ((), ())
        assert result.plan
        assert result.plan.grown_disks == (SPARE,)
        whole = plan_of(bare_host(), spare_disk(40 * GIB), ON_SPARE)
        assert (result.plan.size, result.plan.reserve) == (whole.size, whole.reserve)
        assert result.notices == (f"{NOTICE}Docker's volume grows from 18.9 GiB to 37.9 GiB",)


def test_group_that_has_taken_the_space_is_converged() -> None:
    larger = converged(spare_disk(40 * GIB), plan_of(bare_host(), spare_disk(40 * GIB), ON_SPARE))
    result = examined(larger, volume_disks=[SPARE])
    assert result.plan
    assert (result.plan.grown_disks, result.notices) == ((), ())


@pytest.mark.parametrize(
    ("more", "grows"), [(2 * EXTENT, True), (2 * EXTENT - EXTENT, False), (MIB, False), (0, False), (-GIB, False)]
)
def test_rest_of_a_disk_is_no_new_space(more: int, grows: bool) -> None:
    result = examined(grown(provisioned(), SPARE, 20 * GIB + more), volume_disks=[SPARE])
    assert result.plan
    assert bool(result.plan.grown_disks) == grows


@pytest.mark.parametrize(
    ("size", "after"), [("12G", 12 * GIB), ("50%VG", (40 * GIB - EXTENT) // 2 // EXTENT * EXTENT), ("90%FREE", None)]
)
def test_volume_follows_as_its_size_says(size: str, after: int | None) -> None:
    before = plan_of(bare_host(), spare_disk(), settings(volume_disks=[SPARE], volume_size=size)).size
    result = examined(grown(provisioned(volume_size=size), SPARE, 40 * GIB), volume_disks=[SPARE], volume_size=size)
    assert result.plan
    assert result.plan.grown_disks == (SPARE,)
    assert result.plan.size == (after or before)
    assert ("Docker's volume keeps its size, as volume_size says" in result.notices[0]) == (result.plan.size == before)


def test_snapshot_keeps_a_volume_from_following() -> None:
    taken = LogicalVolume("before", "docker-vg", GIB, True, "linear", "docker-lv", ("bulkhead-snapshot",))
    storage = provisioned()
    storage = replace(storage, logical_volumes=(*storage.logical_volumes, taken))
    found = finding(our_docker_ce_host(), grown(storage, SPARE, 40 * GIB), ON_SPARE)
    assert "has to grow to 37.9 GiB, and it has a snapshot: before" in found.found
    assert "bulkhead snapshot drop" in found.action


def on_whole_disk() -> Storage:
    """The incident's group, on a whole disk that has grown by 100 GiB."""
    storage = shared_vg()
    storage = converged(storage, plan_of(bare_host(), storage))
    disk = BlockDevice("/dev/vda1", "disk", 200 * GIB, False, (), ("LVM2_member",), ("/dev/dm-0",), ())
    return replace(storage, devices=(disk, *storage.devices[2:]))


def test_group_that_others_share_takes_the_space_only_with_the_setting() -> None:
    asked = examined(on_whole_disk(), volume_group_grow=True)
    assert asked.plan
    assert (asked.plan.grown_disks, asked.warnings) == (("/dev/vda1",), ())
    assert asked.plan.size == int(0.6 * (200 * GIB - EXTENT)) // EXTENT * EXTENT
    assert "ubuntu-vg takes the new space" in asked.notices[0]
    alone = examined(on_whole_disk())
    assert alone.plan
    assert (alone.plan.grown_disks, alone.plan.size, alone.notices) == ((), 60 * GIB, ())
    (warning,) = alone.warnings
    assert warning == (
        "the disk /dev/vda1 has grown from 100.0 GiB to 200.0 GiB; the volume group ubuntu-vg leaves the new space unused, "
        "because others share it. volume_group_grow = True takes it"
    )


def test_volume_of_others_makes_dockers_group_a_shared_one() -> None:
    storage = with_volume(grown(provisioned(volume_size="12G"), SPARE, 40 * GIB), "docker-vg", "backup-lv", GIB)
    result = examined(storage, volume_disks=[SPARE], volume_size="12G")
    assert result.plan
    assert result.plan.grown_disks == ()
    assert "because others share it" in result.warnings[0]


@pytest.mark.parametrize("grows", [True, False])
def test_group_that_docker_does_not_use_is_left_alone(grows: bool) -> None:
    beside = on_whole_disk()
    spare = spare_disk().devices[-1]
    storage = replace(
        beside,
        devices=(*beside.devices, spare),
        logical_volumes=beside.logical_volumes[:1],
        mounts=beside.mounts[:1],
        fstab=(),
        directories=shared_vg().directories,
    )
    result = examine(settings(volume_disks=[SPARE], volume_group_grow=grows), bare_host(), storage)
    assert result.plan, result.findings
    assert (result.plan.volume_group, result.plan.grown_disks) == ("docker-vg", ())
    assert (result.warnings, result.notices) == ((), ())


def test_file_that_is_dockers_disk_grows_by_its_own_setting() -> None:
    wanted = settings(volume_file="18G")
    plan = plan_of(bare_host(), single_root(), wanted)
    storage = converged(with_volume_file(single_root(), plan.disk_file_bytes), plan)
    assert plan_of(our_docker_ce_host(), storage, settings(volume_file="30G")).grown_disks == ()


# -- partitions


def on_a_partition(disk: int, last: bool = True) -> Storage:
    """Docker's group on a partition of 20 GiB of a disk."""
    spare = provisioned().device(SPARE)
    assert spare
    part = replace(spare, path="/dev/vdb1", type="part", aliases=(f"{SPARE}-part1",))
    after = BlockDevice("/dev/vdb2", "part", GIB, False, (), ("ext4",), (), ())
    children = ("/dev/vdb1", *(() if last else ("/dev/vdb2",)))
    whole = BlockDevice("/dev/vdb", "disk", disk, False, (SPARE,), ("gpt",), children, ())
    storage = provisioned()
    volumes = tuple(replace(volume, path="/dev/vdb1") for volume in storage.physical_volumes)
    devices = tuple(device for device in storage.devices if device is not spare)
    return replace(storage, devices=(*devices, whole, part, *(() if last else (after,))), physical_volumes=volumes)


def test_partition_has_to_grow_first() -> None:
    wanted = {"volume_disks": [f"{SPARE}-part1"]}
    (warning,) = examined(on_a_partition(40 * GIB), **wanted).warnings
    assert warning.startswith(
        f"the disk {SPARE} has 20.0 GiB in no partition, and Docker's volume group is on its last one"
    )
    assert "`growpart /dev/vdb 1` (package cloud-guest-utils)" in warning
    assert len(examined(on_a_partition(21 * GIB), **wanted).warnings) == 1
    for storage in (on_a_partition(21 * GIB - 1), on_a_partition(40 * GIB, last=False)):
        result = examined(storage, **wanted)
        assert result.plan
        assert (result.warnings, result.plan.grown_disks) == ((), ())


def test_partition_that_has_grown_is_taken() -> None:
    storage = grown(on_a_partition(40 * GIB), f"{SPARE}-part1", 40 * GIB - MIB)
    result = examined(storage, volume_disks=[f"{SPARE}-part1"])
    assert result.plan
    assert result.plan.grown_disks == (f"{SPARE}-part1",)
    assert result.warnings == ()


def test_partition_of_a_group_that_others_share_is_nobodys_business() -> None:
    storage = converged(shared_vg(), plan_of(bare_host(), shared_vg()))
    assert examined(grown(storage, "/dev/vda", 200 * GIB)).warnings == ()
    (warning,) = examined(grown(storage, "/dev/vda", 200 * GIB), volume_group_grow=True).warnings
    assert "`growpart /dev/vda 1`" in warning
