"""The rules in volume_disks: which disk one chooses, when it chooses none, and that it chooses once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pyinfra_lvm.model import BlockDevice, PhysicalVolume, Storage
from tasks.preflight.examine import examine

from ..example_hosts import (
    GIB,
    MIB,
    ON_SPARE,
    SPARE,
    bare_host,
    converged,
    in_no_group,
    on_the_way,
    our_docker_ce_host,
    settings,
    shared_vg,
    single_root,
    spare_disk,
    with_disk,
    with_group,
    with_tags,
    with_volume_file,
)
from ..real_hosts import RealHost, real_hosts
from .verdicts import assert_says, finding, plan_of

PATTERN = "/dev/disk/by-id/virtio-spa*"
BLANK = settings(volume_disks="blank")
HOSTS = {host.name: host for host in real_hosts()}
CHOSEN = [host for host in HOSTS.values() if host.kind == "blank disk" and "raid" not in host.name]


def blank(path: str, *aliases: str, **changes: Any) -> BlockDevice:
    return replace(BlockDevice(path, "disk", 20 * GIB, False, aliases, (), (), (), zeroed=True), **changes)


def beside(storage: Storage, *devices: BlockDevice) -> Storage:
    return replace(storage, devices=(*storage.devices, *devices))


def provisioned() -> Storage:
    return converged(spare_disk(), plan_of(bare_host(), spare_disk(), BLANK))


SECOND = blank("/dev/vdc", "/dev/disk/by-id/virtio-spare2")


# -- one disk


@pytest.mark.parametrize("host", CHOSEN, ids=lambda host: host.name)
def test_only_blank_disk_of_a_real_host_is_chosen_by_its_stable_name(host: RealHost) -> None:
    named = host.examine(**host.wanted).plan
    assert named
    result = host.examine(volume_disks="blank")
    if len(named.new_physical_volumes) > 1:
        assert "2 disks fit" in result.findings[0].found
        return
    assert result.plan, result.findings
    (wanted,), (chosen,) = named.new_physical_volumes, result.plan.new_physical_volumes
    assert host.storage.device(chosen) == host.storage.device(wanted)
    assert chosen.startswith("/dev/disk/by-id/")
    assert result.notices[0].startswith(f"volume_disks chooses {chosen} (/dev/")


def test_disk_is_chosen_by_a_pattern_of_its_names() -> None:
    host, names = HOSTS["gce-debian-12"], "/dev/disk/by-id/scsi-0Google_PersistentDisk_"
    plan = host.examine(volume_disks=f"{names}dock*").plan
    assert plan
    assert plan.new_physical_volumes == (f"{names}docker",)
    # Root's disk matches too, and is not blank.
    wider = host.examine(volume_disks=[f"{names}*"]).plan
    assert wider
    assert wider.new_physical_volumes == (f"{names}docker",)


def test_disk_that_is_named_is_not_chosen_once_more() -> None:
    storage = beside(spare_disk(), SECOND)
    result = examine(settings(volume_disks=[SPARE, PATTERN]), bare_host(), storage)
    assert result.plan
    assert result.plan.new_physical_volumes == (SPARE, "/dev/disk/by-id/virtio-spare2")
    assert result.warnings == (
        "the volume group docker-vg is on 2 disks without a mirror: if one of them is lost, all of Docker's data is lost. "
        'volume_raid = "raid1" makes one (docs/mirror.md)',
    )
    assert result.notices == (f"volume_disks chooses {SECOND.aliases[0]} (/dev/vdc, 20.0 GiB)",)


@pytest.mark.parametrize("other", [SPARE, "/dev/disk/by-id/*-spare", "/dev/vdb"])
def test_disk_of_two_names_is_one_disk(other: str) -> None:
    fresh = examine(settings(volume_disks=[other, PATTERN]), bare_host(), spare_disk()).plan
    assert fresh
    assert fresh.new_physical_volumes == ("/dev/vdb" if other == "/dev/vdb" else SPARE,)
    again = plan_of(our_docker_ce_host(), provisioned(), settings(volume_disks=[other, PATTERN]))
    assert again.new_physical_volumes == ()


def test_names_need_no_notice() -> None:
    assert examine(ON_SPARE, bare_host(), spare_disk()).notices == ()


@pytest.mark.parametrize("zeroed", [True, False])
@pytest.mark.parametrize("rule", ["blank", PATTERN])
def test_physical_volume_in_no_group_is_taken_only_by_its_name(zeroed: bool, rule: str) -> None:
    storage = in_no_group(zeroed_beyond_header=zeroed)
    found = finding(bare_host(), storage, settings(volume_disks=rule)).found
    assert f"{SPARE} (/dev/vdb, 20.0 GiB) is a physical volume in no group: name it if it shall be Docker's" in found
    if zeroed:
        assert plan_of(bare_host(), storage, ON_SPARE).new_physical_volumes == (SPARE,)


def test_cut_at_any_step_leaves_the_disk_chosen() -> None:
    plan = plan_of(bare_host(), spare_disk(), BLANK)
    for step, storage in on_the_way(spare_disk(), plan):
        # Whose physical volume it is cannot be seen before it is in a group.
        wanted = ON_SPARE if step == "physical volume made" else BLANK
        again = examine(wanted, our_docker_ce_host(), storage)
        assert again.plan, (step, again.findings)
        disks = {*again.plan.new_physical_volumes, *(v.path for v in storage.physical_volumes if v.volume_group)}
        assert disks in ({SPARE}, {"/dev/vdb"}), step
        assert again.plan.size == plan.size, step


# -- none, or more than one


def test_several_disks_are_refused_with_what_to_write_instead() -> None:
    storage = beside(spare_disk(model="QEMU HARDDISK"), SECOND)
    for rule in ("blank", PATTERN):
        found = finding(bare_host(), storage, settings(volume_disks=rule))
        assert found.found == (
            f'2 disks fit "{rule}" in volume_disks: {SPARE} (/dev/vdb, 20.0 GiB, QEMU HARDDISK), '
            "/dev/disk/by-id/virtio-spare2 (/dev/vdc, 20.0 GiB)"
        )
        assert_says(
            found,
            found_has="",
            needed="never guesses which",
            action=f'volume_disks = ["{SPARE}", "/dev/disk/by-id/virtio-spare2"]',
        )


REASONS: dict[str, tuple[BlockDevice, str]] = {
    "signature": (blank("/dev/vdb", signatures=("ext4",)), "carries a signature: ext4"),
    "partitions": (blank("/dev/vdb", children=("/dev/vdb1",)), "is in use by /dev/vdb1"),
    "mounted": (blank("/dev/vdb", mount_points=("/data",)), "is mounted or in use: /data"),
    "swap": (blank("/dev/vdb", mount_points=("[SWAP]",)), "is mounted or in use: [SWAP]"),
    "data": (blank("/dev/vdb", zeroed=False), "holds data, or cannot be read: it is not all zeros"),
    "not read": (blank("/dev/vdb", zeroed=None), "could not be read"),
    "read-only": (blank("/dev/vdb", read_only=True), "is read-only"),
    "removable": (blank("/dev/sdb", removable=True), "is a removable device"),
    "nbd": (blank("/dev/nbd0"), "is a network block device"),
    "zram": (blank("/dev/zram0"), "is a compressed RAM disk"),
    "ephemeral": (blank("/dev/nvme1n1", model="nvme_card"), "is an ephemeral disk"),
    "ZFS volume": (blank("/dev/zd0"), "is taken only by its name"),
    "small": (blank("/dev/vdb", size=20 * GIB - 1), "is smaller than volume_disk_minimum, 20G"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_disk_that_is_not_chosen_is_listed_with_the_reason(reason: str) -> None:
    device, why = REASONS[reason]
    storage = beside(replace(spare_disk(), devices=spare_disk().devices[:-1]), device)
    for rule in ("blank", "/dev/disk/by-path/pci-*"):
        named = replace(device, aliases=("/dev/disk/by-path/pci-1",))
        found = finding(
            bare_host(),
            beside(replace(spare_disk(), devices=spare_disk().devices[:-1]), named),
            settings(volume_disks=rule),
        )
        assert f'no disk fits "{rule}" in volume_disks; this host has /dev/vda (30.0 GiB) ' in found.found
        assert f"/dev/disk/by-path/pci-1 ({device.path}, " in found.found
        assert found.found.endswith(f") {why}")
    assert_says(
        finding(bare_host(), storage, BLANK),
        found_has=why,
        needed="multipath device with at least 20G (volume_disk_minimum)",
        action="attach one",
    )


def test_disk_in_a_group_of_others_is_not_chosen() -> None:
    found = finding(bare_host(), with_group(spare_disk(), "data-vg", SPARE), BLANK).found
    assert f"{SPARE} (/dev/vdb, 20.0 GiB) is in the volume group data-vg" in found


def test_partitions_and_disks_of_other_names_are_not_chosen_by_a_pattern() -> None:
    part = blank("/dev/vdb1", "/dev/disk/by-id/virtio-docker-part1", type="part")
    found = finding(bare_host(), beside(spare_disk(), part), settings(volume_disks="/dev/disk/by-id/virtio-docker*"))
    assert found.found.endswith(f"{SPARE} (/dev/vdb, 20.0 GiB) has no name that matches")


def test_pattern_matches_as_the_shell_does_that_reads_the_disks() -> None:
    lun = blank("/dev/sdc", "/dev/disk/azure/scsi1/lun0")
    storage = beside(replace(spare_disk(), devices=spare_disk().devices[:-1]), lun)
    assert plan_of(bare_host(), storage, settings(volume_disks="/dev/disk/azure/scsi?/lun*")).new_physical_volumes
    assert "has no name that matches" in finding(bare_host(), storage, settings(volume_disks="/dev/disk/azure/*")).found


def test_smaller_disk_is_chosen_where_the_minimum_allows_it_and_a_larger_minimum_tells_two_apart() -> None:
    small = spare_disk(size=4 * GIB)
    assert plan_of(bare_host(), small, settings(volume_disks="blank", volume_disk_minimum="4G")).new_physical_volumes
    two = beside(spare_disk(), replace(SECOND, size=20 * GIB + MIB))
    assert (
        plan_of(bare_host(), two, settings(volume_disks="blank", volume_disk_minimum="20481M")).new_physical_volumes
        == SECOND.aliases
    )


def test_ephemeral_disk_is_chosen_with_consent_and_a_warning() -> None:
    storage = spare_disk(model="Amazon EC2 NVMe Instance Storage")
    warning = f"{SPARE} is an ephemeral disk: Docker's data is lost when the machine is stopped or moved"
    plan = plan_of(
        bare_host(), storage, settings(volume_disks="blank", allow_ephemeral_disks=True), warnings=(warning,)
    )
    assert plan.new_physical_volumes == (SPARE,)


def test_every_rule_that_fails_is_reported() -> None:
    wanted = settings(volume_disks=["/dev/disk/by-id/a*", "/dev/disk/by-id/b*"])
    assert [
        f'"/dev/disk/by-id/{name}*"' in found.found
        for name, found in zip("ab", examine(wanted, bare_host(), spare_disk()).findings, strict=True)
    ] == [True, True]


# -- afterwards


@pytest.mark.parametrize("further", [1, 2])
def test_blank_chooses_once(further: int) -> None:
    storage = beside(provisioned(), SECOND, *[blank("/dev/vdd")][: further - 1])
    plan = plan_of(our_docker_ce_host(), storage, BLANK)
    assert (plan.volume_group, plan.new_physical_volumes) == ("docker-vg", ())
    assert plan.size == plan_of(our_docker_ce_host(), provisioned(), BLANK).size


def test_group_is_known_by_its_name_when_all_disks_have_other_names() -> None:
    devices = tuple(
        replace(d, path="/dev/nvme1n1", aliases=()) if SPARE in d.aliases else d for d in provisioned().devices
    )
    volumes = tuple(replace(v, path="/dev/nvme1n1") for v in provisioned().physical_volumes)
    renamed = replace(provisioned(), devices=devices, physical_volumes=volumes)
    assert plan_of(our_docker_ce_host(), renamed, BLANK).new_physical_volumes == ()
    warning = f"{PATTERN} is not used: the volume group docker-vg is complete without it, on /dev/nvme1n1; correct volume_disks"
    plan = plan_of(our_docker_ce_host(), renamed, settings(volume_disks=PATTERN), warnings=(warning,))
    assert plan.new_physical_volumes == ()


def test_further_disk_that_matches_a_pattern_extends_the_group_as_a_further_name_does() -> None:
    by_name = examine(
        settings(volume_disks=[SPARE, *SECOND.aliases]), our_docker_ce_host(), beside(provisioned(), SECOND)
    )
    by_pattern = examine(settings(volume_disks=PATTERN), our_docker_ce_host(), beside(provisioned(), SECOND))
    assert by_name.plan == by_pattern.plan
    assert by_pattern.plan
    assert by_pattern.plan.new_physical_volumes == SECOND.aliases
    # One that holds something is somebody's, and the group has a disk.
    used = beside(provisioned(), replace(SECOND, signatures=("ext4",)))
    assert plan_of(our_docker_ce_host(), used, settings(volume_disks=PATTERN)).new_physical_volumes == ()


def test_two_further_disks_that_match_a_pattern_are_refused() -> None:
    third = blank("/dev/vdd", "/dev/disk/by-id/virtio-spare3")
    found = finding(our_docker_ce_host(), beside(provisioned(), SECOND, third), settings(volume_disks=PATTERN))
    assert "2 disks fit" in found.found


def test_blank_makes_no_volume_in_a_group_of_others() -> None:
    storage = beside(with_group(spare_disk(), "docker-vg", SPARE), SECOND)
    foreign = converged(storage, plan_of(bare_host(), storage, ON_SPARE))
    foreign = with_tags(foreign, "docker-lv", "another")
    found = examine(BLANK, our_docker_ce_host(), foreign).findings[0].found
    assert "the volume group docker-vg is on /dev/vdb already, and not on /dev/disk/by-id/virtio-spare2" in found


def test_lost_disk_is_not_replaced_by_a_blank_one() -> None:
    lost = replace(
        provisioned(), physical_volumes=(), volume_groups=(), logical_volumes=(), mounts=provisioned().mounts[:1]
    )
    devices = (*(d for d in lost.devices if d.type != "lvm" and SPARE not in d.aliases), SECOND)
    result = examine(
        BLANK, our_docker_ce_host(configured_volume="/dev/mapper/docker--vg-docker--lv"), replace(lost, devices=devices)
    )
    assert result.plan is None
    assert "the volume docker-vg/docker-lv for /srv/docker-volume is not there" in result.findings[0].found


def test_incomplete_group_gets_no_other_disk() -> None:
    group = tuple(replace(g, missing_physical_volumes=1) for g in provisioned().volume_groups)
    missing = PhysicalVolume("[unknown]", "docker-vg", 20 * GIB, 0, missing=True)
    storage = replace(provisioned(), volume_groups=group, physical_volumes=(*provisioned().physical_volumes, missing))
    found = finding(our_docker_ce_host(), beside(storage, SECOND), BLANK)
    assert "lacks 1 of its physical volumes" in found.found


def test_blank_disk_takes_over_from_a_file() -> None:
    wanted = settings(volume_file="18G")
    plan = plan_of(bare_host(), single_root(), wanted)
    on_file = with_disk(converged(with_volume_file(single_root(), plan.disk_file_bytes), plan))
    result = examine(BLANK, our_docker_ce_host(), on_file)
    assert result.plan
    assert (result.plan.new_physical_volumes, result.plan.leaves_file) == ((SPARE,), True)


def test_pattern_extends_a_group_of_others_only_with_consent() -> None:
    storage = with_disk(shared_vg())
    changes = {"volume_disks": PATTERN, "volume_group": "ubuntu-vg"}
    assert "ubuntu-vg is on /dev/vda1 already" in finding(bare_host(), storage, settings(**changes)).found
    extended = examine(settings(**changes, volume_group_extend=True), bare_host(), storage)
    assert extended.plan
    assert extended.plan.new_physical_volumes == (SPARE,)
