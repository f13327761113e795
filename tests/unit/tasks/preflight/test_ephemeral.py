"""Disks that forget: which hosts may make their volume anew at a boot, and volumes that are striped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyinfra_lvm.model import BlockDevice, Storage
from settings.model import Settings
from tasks.preflight.examine import examine

from ..example_hosts import (
    EXTENT,
    GIB,
    MIB,
    SPARE,
    bare_host,
    converged,
    our_docker_ce_host,
    settings,
    spare_disk,
    with_group,
    with_volume,
)
from .test_mirror import DEVICE, SECOND, mirror, two_disks
from .verdicts import finding, plan_of

HOST = bare_host(machine="digest")
ONE = settings(volume_disks=[SPARE], volume_ephemeral=True)
STRIPED = settings(volume_disks=[SPARE, SECOND], volume_raid="raid0")


def planned_size(wanted: Settings) -> int:
    result = examine(wanted, bare_host(), two_disks())
    assert result.plan
    return result.plan.size


def striped(size: int) -> Storage:
    """A striped volume of ours on two disks."""
    storage = mirror(size // 2 - EXTENT, segment_type="striped")
    (volume,), (filesystem,) = storage.logical_volumes, storage.filesystems
    return replace(
        storage, logical_volumes=(replace(volume, size=size),), filesystems=(replace(filesystem, size=size),)
    )


def test_plan_has_the_entries_as_they_are_written_and_the_machine() -> None:
    wanted = settings(volume_disks=["/dev/disk/by-id/virtio-sp*"], volume_ephemeral=True)
    plan = plan_of(HOST, spare_disk(), wanted)
    assert (plan.boot_disks, plan.machine) == (("/dev/disk/by-id/virtio-sp*",), "digest")
    assert plan.new_physical_volumes == (SPARE,)
    assert plan_of(HOST, spare_disk(), settings(volume_disks=[SPARE])).boot_disks == ()


def test_host_whose_firmware_has_no_uuid_is_warned_and_its_boots_make_nothing() -> None:
    result = examine(ONE, bare_host(), spare_disk())
    assert result.plan
    assert result.plan.boot_disks == ()
    assert any("no boot of this host makes Docker's volume anew" in warning for warning in result.warnings)
    assert not any("no boot of this host" in warning for warning in examine(ONE, HOST, spare_disk()).warnings)


def test_ephemeral_disk_needs_no_further_consent() -> None:
    storage = spare_disk(model="Amazon EC2 NVMe Instance Storage")
    warnings = (f"{SPARE} is an ephemeral disk: Docker's data is lost when the machine is stopped or moved",)
    assert plan_of(HOST, storage, ONE, warnings).boot_disks == (SPARE,)
    chosen = settings(volume_disks=["/dev/disk/by-id/virtio-s*"], volume_ephemeral=True)
    assert plan_of(HOST, storage, chosen, warnings).new_physical_volumes == (SPARE,)


def test_lost_volume_is_made_anew_without_further_consent_where_the_disk_is_blank() -> None:
    state = our_docker_ce_host(configured_volume=DEVICE, machine="digest")
    result = examine(ONE, state, spare_disk())
    assert result.plan
    assert result.plan.lost_volumes
    assert any("is given up, as volume_ephemeral says: a new, empty one takes its place" in w for w in result.warnings)
    found = finding(state, spare_disk(signatures=("ext4",), zeroed=False), ONE)
    assert "carries a signature: ext4" in found.found
    assert "is not there" in finding(state, spare_disk(), settings(volume_disks=[SPARE])).found


def test_converged_host_is_planned_the_same() -> None:
    plan = plan_of(HOST, spare_disk(), ONE)
    after = plan_of(HOST, converged(spare_disk(), plan), ONE)
    assert (after.boot_disks, after.size, after.new_physical_volumes) == (plan.boot_disks, plan.size, ())


def test_entry_must_stand_for_one_disk_at_a_boot() -> None:
    other = BlockDevice("/dev/vdc", "disk", 20 * GIB, False, ("/dev/disk/by-id/virtio-sparse",), ("ext4",), (), ())
    storage = replace(spare_disk(), devices=(*spare_disk().devices, other))
    wanted = settings(volume_disks=["/dev/disk/by-id/virtio-spar*"], volume_ephemeral=True)
    found = finding(HOST, storage, wanted)
    assert found.found.startswith('"/dev/disk/by-id/virtio-spar*" in volume_disks stands for 2 whole disks: ')
    assert plan_of(HOST, storage, settings(volume_disks=["/dev/disk/by-id/virtio-spar*"])).new_physical_volumes == (
        SPARE,
    )
    found = finding(HOST, spare_disk(type="part"), ONE)
    assert found.found == f'"{SPARE}" in volume_disks stands for no whole disks'


def test_group_must_have_nothing_that_a_boot_would_not_make() -> None:
    storage = with_group(spare_disk(), "docker-vg", SPARE)
    with_others = with_volume(storage, "docker-vg", "data", GIB)
    found = finding(HOST, with_others, settings(volume_disks=[SPARE], volume_ephemeral=True, volume_size="10G"))
    assert "has volumes of others, which a boot would not make anew" in found.found
    on_two = mirror(10 * GIB, segment_type="linear")
    found = finding(our_docker_ce_host(machine="digest"), on_two, ONE)
    assert found.found == f"the volume group docker-vg is also on {SECOND}"


# -- stripes


@pytest.mark.parametrize(("first", "second"), [(20, 20), (20, 60), (60, 20)])
def test_striped_volume_takes_as_much_of_each_disk_as_the_smallest_has(first: int, second: int) -> None:
    result = examine(STRIPED, bare_host(), two_disks(first * GIB, second * GIB))
    assert result.plan
    assert result.plan.stripes == 2
    room = 2 * (20 * GIB - EXTENT)  # less what pvcreate takes of each
    assert result.plan.size == (room * 95 // 100) // (2 * EXTENT) * (2 * EXTENT)
    assert any("on 2 disks without a mirror" in warning for warning in result.warnings)


def test_size_in_bytes_is_whole_stripes() -> None:
    wanted = settings(volume_disks=[SPARE, SECOND], volume_raid="raid0", volume_size="10244M")
    assert planned_size(wanted) == 10240 * MIB


def test_striped_volume_stays_one_and_keeps_its_size() -> None:
    size = planned_size(STRIPED)
    for wanted in (STRIPED, settings(volume_disks=[SPARE, SECOND])):
        plan = plan_of(our_docker_ce_host(), striped(size), wanted)
        assert (plan.stripes, plan.size) == (2, size)


def test_volume_with_data_is_never_striped_and_a_striped_one_gets_no_further_disk() -> None:
    found = finding(our_docker_ce_host(), mirror(10 * GIB, segment_type="linear"), STRIPED)
    assert found.found == "the logical volume docker-vg/docker-lv is of the type linear, and volume_raid is raid0"
    third = BlockDevice("/dev/vdd", "disk", 20 * GIB, False, ("/dev/disk/by-id/virtio-new",), (), (), (), zeroed=True)
    storage = striped(10 * GIB)
    storage = replace(storage, devices=(*storage.devices, third))
    wanted = settings(volume_disks=[SPARE, SECOND, "/dev/disk/by-id/virtio-new"], volume_raid="raid0")
    found = finding(our_docker_ce_host(), storage, wanted)
    assert "is striped over 2 disks, and volume_disks also names /dev/disk/by-id/virtio-new" in found.found


def test_several_ephemeral_disks_are_not_advised_a_mirror() -> None:
    result = examine(settings(volume_disks=[SPARE, SECOND], volume_ephemeral=True), HOST, two_disks())
    assert result.plan
    assert not any("without a mirror" in warning for warning in result.warnings)
