"""A mirror: how large it becomes, what it needs, and what preflight says of one that is not whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pyinfra_lvm.model import BlockDevice, PhysicalVolume, Storage
from pyinfra_lvm.operations import UNFINISHED_TAG
from settings.model import Settings
from tasks.preflight.examine import examine
from tasks.support.paths import TAG

from ..example_hosts import (
    EXTENT,
    GIB,
    MIB,
    SPARE,
    bare_host,
    our_docker_ce_host,
    settings,
    shared_vg,
    spare_disk,
    with_disk,
    with_filesystem,
    with_fstab,
    with_group,
    with_volume,
)
from .verdicts import all_found, finding, plan_of

SECOND, NEW = "/dev/disk/by-id/virtio-second", "/dev/disk/by-id/virtio-new"
DEVICE = "/dev/mapper/docker--vg-docker--lv"
MIRROR = settings(volume_raid="raid1", volume_disks=[SPARE, SECOND])


def two_disks(size: int = 20 * GIB, second: int = 20 * GIB) -> Storage:
    """A plain root without LVM, and two blank disks."""
    disk = BlockDevice("/dev/vdc", "disk", second, False, (SECOND,), (), (), (), zeroed=True)
    return replace(spare_disk(size), devices=(*spare_disk(size).devices, disk), tools=("dm-raid",))


def size_of(disk: int = 20 * GIB) -> int:
    """How large a mirror on two disks of this size becomes."""
    room = disk - 2 * EXTENT  # less what pvcreate takes, and an extent for the notes of a copy
    return (room * 95 // 100) // EXTENT * EXTENT


def mirror(size: int, disks: int = 20 * GIB, missing: int = 0, **changes: Any) -> Storage:
    """The same with a mirror of ours on both disks, or on one, with the other missing or removed from the group."""
    storage = with_group(two_disks(disks), "docker-vg", SPARE)
    (group,), (first,) = storage.volume_groups, storage.physical_volumes
    free = first.size - size - EXTENT
    here = (replace(first, free=free), PhysicalVolume("/dev/vdc", "docker-vg", first.size, free))
    storage = replace(
        storage,
        volume_groups=(replace(group, size=2 * first.size, free=2 * free, missing_physical_volumes=missing),),
        physical_volumes=here,
    )
    volume = {"segment_type": "raid1", "tags": (TAG,)} | changes
    return with_filesystem(with_volume(storage, "docker-vg", "docker-lv", size, **volume), DEVICE)


def without_second(storage: Storage) -> Storage:
    """The second disk is gone, and so is what LVM knew of it."""
    return replace(
        storage,
        devices=tuple(device for device in storage.devices if SECOND not in device.aliases),
        physical_volumes=storage.physical_volumes[:1],
    )


@pytest.mark.parametrize(("sizes", "reserve"), [((20, 20), 1), ((20, 60), 1), ((60, 20), 1)])
def test_mirror_is_as_large_as_the_smaller_disk_less_reserve_and_notes(sizes: tuple[int, int], reserve: int) -> None:
    plan = plan_of(bare_host(), two_disks(*(size * GIB for size in sizes)), MIRROR)
    assert plan.mirrored
    assert plan.new_physical_volumes == (SPARE, SECOND)
    assert plan.size == size_of()
    assert plan.reserve == pytest.approx(2 * reserve * (20 * GIB - 2 * EXTENT) // 20)


def test_volume_on_two_disks_is_no_mirror_unless_the_settings_say_so() -> None:
    result = examine(settings(volume_disks=[SPARE, SECOND]), bare_host(), two_disks())
    assert result.plan
    assert not result.plan.mirrored
    assert result.plan.size > 37 * GIB
    assert 'volume_raid = "raid1" makes one' in result.warnings[0]


@pytest.mark.parametrize("wanted", [MIRROR, settings(volume_disks=[SPARE, SECOND])], ids=["wanted", "not asked for"])
def test_mirror_that_is_there_stays_as_it_is(wanted: Settings) -> None:
    fresh = plan_of(bare_host(), two_disks(), MIRROR)
    assert plan_of(our_docker_ce_host(), mirror(fresh.size), wanted) == replace(fresh, new_physical_volumes=())


def test_mirror_grows_by_what_both_disks_have() -> None:
    assert plan_of(our_docker_ce_host(), mirror(size_of(), disks=30 * GIB), MIRROR).size == size_of(30 * GIB)


def test_mirror_keeps_its_size_when_one_disk_has_grown() -> None:
    storage = mirror(size_of())
    storage = replace(
        storage, devices=tuple(replace(d, size=30 * GIB) if SPARE in d.aliases else d for d in storage.devices)
    )
    result = examine(MIRROR, our_docker_ce_host(), storage)
    assert result.plan
    assert (result.plan.size, result.plan.grown_disks) == (size_of(), (SPARE,))
    assert "Docker's volume keeps its size, until a second disk has as much room" in result.notices[0]


def test_mirror_does_not_fit_where_only_one_disk_has_room() -> None:
    found = finding(
        bare_host(),
        two_disks(60 * GIB, 20 * GIB),
        settings(volume_raid="raid1", volume_disks=[SPARE, SECOND], volume_size="30G"),
    )
    assert found.found.startswith("volume group docker-vg, made of ")
    assert "has 19.9 GiB for Docker's volume, which is a mirror, on each of two disks" in found.found


def test_group_on_one_disk_has_no_mirror() -> None:
    storage = replace(with_disk(shared_vg()), tools=("dm-raid",))
    found = finding(bare_host(), storage, settings(volume_raid="raid1"))
    assert found.found == "the volume group ubuntu-vg is on /dev/vda1, and volume_raid is raid1"
    assert SPARE in found.action


def test_group_of_others_on_two_disks_gets_a_mirror() -> None:
    storage = replace(with_disk(shared_vg()), tools=("dm-raid",))
    wanted = settings(volume_raid="raid1", volume_group="ubuntu-vg", volume_disks=[SPARE], volume_group_extend=True)
    result = examine(wanted, bare_host(), storage)
    assert result.plan
    room = 20 * GIB - 2 * EXTENT
    assert result.plan.size == (room * 60 // 100) // EXTENT * EXTENT


def on_one_disk() -> Storage:
    """Two partitions of the second disk, blank."""
    storage = two_disks()
    disk, parts = replace(storage.devices[2], children=("/dev/vdb1", "/dev/vdb2"), signatures=("gpt",)), (1, 2)
    made = [
        BlockDevice(f"/dev/vdb{n}", "part", 9 * GIB, False, (f"{SPARE}-part{n}",), (), (), (), zeroed=True)
        for n in parts
    ]
    return replace(storage, devices=(*storage.devices[:2], disk, *storage.devices[3:], *made))


def test_two_partitions_of_one_disk_make_no_mirror() -> None:
    wanted = settings(volume_raid="raid1", volume_disks=[f"{SPARE}-part1", f"{SPARE}-part2"])
    found = finding(bare_host(), on_one_disk(), wanted)
    assert found.found == f"{SPARE}-part1, {SPARE}-part2 are on one disk, and volume_raid is raid1"
    assert SECOND in found.action


def test_group_on_two_partitions_of_one_disk_has_no_mirror_and_with_a_third_disk_room_counts_by_disk() -> None:
    storage = with_group(with_group(on_one_disk(), "data-vg", "/dev/vdb1"), "data-vg", "/dev/vdb2")
    storage = replace(storage, volume_groups=(replace(storage.volume_groups[0], size=18 * GIB, free=18 * GIB),))
    wanted = settings(volume_raid="raid1", volume_group="data-vg")
    assert all_found(wanted, storage) == ["/dev/vdb1, /dev/vdb2 are on one disk, and volume_raid is raid1"]
    small = replace(storage.devices[3], size=6 * GIB)
    storage = replace(storage, devices=(*storage.devices[:3], small, *storage.devices[4:]))
    more = settings(
        volume_raid="raid1", volume_group="data-vg", volume_disks=[SECOND], volume_group_extend=True, volume_size="5G"
    )
    plan = examine(more, bare_host(), storage).plan
    assert plan
    assert plan.mirror_disks == ("/dev/vdb1", SECOND)
    assert examine(replace_size(more, "8G"), bare_host(), storage).plan is None


def replace_size(wanted: Settings, size: str) -> Settings:
    return wanted.model_copy(update={"volume_size": settings(volume_size=size).volume_size})


def test_mirror_grows_on_its_own_two_disks_of_a_larger_group() -> None:
    storage = mirror(10 * GIB)
    parts = ("docker-lv_rimage_0", "docker-lv_rmeta_0"), ("docker-lv_rimage_1", "docker-lv_rmeta_1")
    first, second = (replace(pv, volumes=names) for pv, names in zip(storage.physical_volumes, parts, strict=True))
    third = PhysicalVolume("/dev/vde", "docker-vg", 90 * GIB, 90 * GIB)
    (group,) = storage.volume_groups
    disk = BlockDevice("/dev/vde", "disk", 90 * GIB + MIB, False, (), ("LVM2_member",), (), ())
    larger = replace(
        storage,
        physical_volumes=(third, first, second),
        volume_groups=(replace(group, size=group.size + third.size, free=group.free + third.free),),
        devices=(*storage.devices, disk),
    )
    plan = examine(MIRROR, our_docker_ce_host(), larger).plan
    assert plan
    assert (plan.mirror_disks, plan.size) == (("/dev/vdb", "/dev/vdc"), size_of())


def test_kernel_without_the_module_makes_no_mirror() -> None:
    found = finding(bare_host(), replace(two_disks(), tools=()), MIRROR)
    assert found.found == "the kernel has no module dm-raid, and volume_raid is raid1"


def test_linear_volume_is_left_to_its_owner_with_the_commands() -> None:
    one = with_group(two_disks(), "docker-vg", SPARE)
    one = with_filesystem(with_volume(one, "docker-vg", "docker-lv", 19 * GIB, tags=(TAG,)), DEVICE)
    found = finding(our_docker_ce_host(), one, MIRROR)
    assert found.found == "the logical volume docker-vg/docker-lv has one copy (linear), and volume_raid is raid1"
    assert found.action.startswith(
        f"`vgextend docker-vg {SECOND}` and `lvconvert --type raid1 --mirrors 1 docker-vg/docker-lv` on the host"
    )


@pytest.mark.parametrize("has_room", [True, False])
def test_linear_volume_whose_group_has_no_second_room_needs_a_disk_of_its_size(has_room: bool) -> None:
    one = with_group(with_group(two_disks(), "docker-vg", SPARE), "docker-vg", SECOND)
    one = replace(one, volume_groups=one.volume_groups[:1])
    one = with_filesystem(with_volume(one, "docker-vg", "docker-lv", 18 * GIB, tags=(TAG,)), DEVICE)
    first, second = one.physical_volumes
    used = replace(first, free=first.size - 18 * GIB), second if has_room else replace(second, free=GIB)
    action = finding(our_docker_ce_host(), replace(one, physical_volumes=used), MIRROR).action
    needs = "`vgextend docker-vg BLANK_DISK` with a blank disk of at least 18.0 GiB"
    assert action.startswith("`lvconvert --type raid1" if has_room else needs)


@pytest.mark.parametrize("in_fstab", [False, True])
def test_mirror_that_a_power_cut_left_half_made_is_to_be_removed_unless_it_is_in_use(in_fstab: bool) -> None:
    cut = mirror(18 * GIB, tags=(TAG, UNFINISHED_TAG), active=False)
    if in_fstab:
        cut = with_fstab(cut, DEVICE, "/srv/docker-volume")
    found = finding(our_docker_ce_host(), cut, MIRROR)
    assert ("`lvremove docker-vg/docker-lv`" in found.action) != in_fstab
    assert ("no run has finished it" in found.found) != in_fstab


@pytest.mark.parametrize(("options", "is_warned"), [(("defaults",), True), (("defaults", "nofail"), False)])
def test_other_volumes_of_the_group_that_the_host_does_not_boot_without_are_warned_about(
    options: tuple[str, ...], is_warned: bool
) -> None:
    storage = with_fstab(with_volume(mirror(10 * GIB), "docker-vg", "data", GIB), "/dev/docker-vg/data", "/data")
    storage = replace(storage, fstab=tuple(entry._replace(options=options) for entry in storage.fstab))
    warnings = examine(MIRROR, our_docker_ce_host(), storage).warnings
    assert any("of the mirror also has /data: when one of its disks is lost" in each for each in warnings) == is_warned


def test_mirror_without_a_disk_is_not_lost_and_the_message_replaces_the_disk() -> None:
    lost = without_second(mirror(18 * GIB, missing=1, health="partial"))
    found = finding(our_docker_ce_host(configured_volume=DEVICE), lost, MIRROR)
    assert found.found == (
        "the volume group docker-vg lacks 1 of its disks, and the mirror docker-vg/docker-lv has one copy left, which "
        "Docker uses"
    )
    assert (
        "`bulkhead snapshot drop` if there is a snapshot, `vgextend docker-vg BLANK_DISK`, `lvconvert" in found.action
    )
    assert "`lvconvert --repair docker-vg/docker-lv`, `vgreduce --removemissing docker-vg`" in found.action
    asleep = without_second(mirror(18 * GIB, missing=1, health="partial", active=False))
    action = finding(our_docker_ce_host(), asleep, MIRROR).action
    assert action.startswith(
        "`systemctl restart docker-mirror.service && systemctl start docker` brings Docker back, or "
    )


@pytest.mark.parametrize("health", ["refresh needed", "repair needed"])
def test_mirror_that_does_not_use_a_disk_is_warned_about_and_does_not_grow(health: str) -> None:
    result = examine(MIRROR, our_docker_ce_host(), mirror(18 * GIB, disks=30 * GIB, health=health))
    assert result.plan
    assert result.plan.size == 18 * GIB
    assert result.warnings == (
        f"the mirror docker-vg/docker-lv is not whole ({health}): docs/mirror.md repairs it; it keeps its size until it is "
        "whole",
    )


def test_group_takes_the_disk_that_replaces_a_lost_one() -> None:
    """After vgreduce the group is complete on one disk, and lvconvert has nowhere to put the second copy."""
    reduced = without_second(mirror(18 * GIB, health="refresh needed"))
    disk = BlockDevice("/dev/vdd", "disk", 20 * GIB, False, (NEW,), (), (), (), zeroed=True)
    reduced = replace(reduced, devices=(*reduced.devices, disk))
    result = examine(settings(volume_raid="raid1", volume_disks=[SPARE, NEW]), our_docker_ce_host(), reduced)
    assert result.plan
    assert (result.plan.new_physical_volumes, result.plan.size) == ((NEW,), 18 * GIB)
    assert all_found(MIRROR, reduced) == [
        f"there is no disk {SECOND}; this host has /dev/vda (30.0 GiB), {SPARE} (20.0 GiB), {NEW} (20.0 GiB)"
    ]


def test_small_extents_leave_room_for_the_notes() -> None:
    storage = with_group(with_group(two_disks(), "data-vg", SPARE), "data-vg", SECOND)
    group = replace(storage.volume_groups[0], extent_size=MIB // 8, size=40 * GIB, free=40 * GIB)
    storage = replace(storage, volume_groups=(group,))
    wanted = settings(volume_raid="raid1", volume_group="data-vg", volume_size="100%FREE", volume_reserve="10G")
    plan = examine(wanted, bare_host(), storage).plan
    assert plan
    assert storage.physical_volumes[0].size - 10 * GIB - plan.size == 3 * MIB // 8
