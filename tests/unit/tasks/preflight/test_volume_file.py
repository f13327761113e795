"""A file as Docker's disk: where one is made, how large, and which hosts and files are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkhead.names import VOLUME_FILE
from pyinfra_lvm.model import DiskImage, LogicalVolume, LvmConfig, PhysicalVolume, Storage
from settings.model import Settings
from tasks.preflight.examine import examine
from tasks.support.paths import VOLUME_FILE_DEVICE

from ..example_hosts import (
    GIB,
    MIB,
    SPARE,
    bare_host,
    converged,
    docker_host,
    on_the_way,
    settings,
    shared_vg,
    single_root,
    with_disk,
    with_volume_file,
)
from .verdicts import assert_says, finding, plan_of

ON_FILE = settings(volume_file="60G")


def provisioned(wanted: Settings = ON_FILE, storage: Storage | None = None) -> Storage:
    """A host that a run with these settings has made."""
    storage = storage or single_root()
    plan = plan_of(bare_host(), storage, wanted)
    return converged(with_volume_file(storage, plan.disk_file_bytes), plan)


# -- where it is made, and how large


def test_file_becomes_a_group_of_its_own_where_root_has_the_disk() -> None:
    plan = plan_of(bare_host(), single_root(), ON_FILE)
    assert plan.disk_file_bytes == 60 * GIB
    assert (plan.volume_group, plan.new_physical_volumes) == ("docker-vg", (VOLUME_FILE_DEVICE,))
    assert 56.9 * GIB < plan.size < 57 * GIB  # all but the reserve


def test_file_can_be_a_share_of_its_filesystem() -> None:
    assert plan_of(bare_host(), single_root(), settings(volume_file="50%")).disk_file_bytes == 50 * GIB


def test_size_of_the_file_is_whole_in_steps_of_4_mebibytes() -> None:
    size = plan_of(bare_host(), single_root(), settings(volume_file="33.3%")).disk_file_bytes
    assert size % (4 * MIB) == 0
    assert 33.3 * GIB - 4 * MIB < size < 33.3 * GIB


def test_group_has_the_name_of_the_settings() -> None:
    plan = plan_of(bare_host(), single_root(), settings(volume_file="60G", volume_group="my-vg"))
    assert (plan.volume_group, plan.disk_file_bytes) == ("my-vg", 60 * GIB)


def test_file_lies_on_the_filesystem_that_holds_var() -> None:
    root = single_root(free=GIB)
    var = replace(root.mounts[0], target="/var", available=80 * GIB)
    assert plan_of(bare_host(), replace(root, mounts=(*root.mounts, var)), ON_FILE).disk_file_bytes == 60 * GIB


def test_no_file_is_made_where_a_group_has_room() -> None:
    warning = "volume_file is not used: a volume group has Docker's volume, or room for it"
    plan = plan_of(bare_host(), shared_vg(), ON_FILE, warnings=(warning,))
    assert (plan.disk_file_bytes, plan.volume_group) == (0, "ubuntu-vg")


def test_file_is_made_beside_a_group_that_is_full() -> None:
    full = shared_vg(free=0)
    root = replace(full.mounts[0], available=90 * GIB)
    plan = plan_of(bare_host(), replace(full, mounts=(root,), kernel=(6, 8)), ON_FILE)
    assert (plan.disk_file_bytes, plan.volume_group) == (60 * GIB, "docker-vg")


def test_no_file_is_made_where_disks_are_named() -> None:
    plan = plan_of(bare_host(), with_disk(single_root()), settings(volume_file="60G", volume_disks=[SPARE]))
    assert (plan.disk_file_bytes, plan.new_physical_volumes) == (0, (SPARE,))


def test_host_without_the_setting_is_told_of_it() -> None:
    offered = 'or set volume_file: a file on / becomes the disk (at most "60G" fits)'
    assert offered in finding(bare_host(), single_root()).action
    assert offered not in finding(bare_host(), shared_vg(free=0), settings(volume_group="ubuntu-vg")).action
    assert "volume_file" not in finding(bare_host(), single_root(fstype="btrfs")).action
    assert "volume_file" not in finding(bare_host(), single_root(free=22 * GIB)).action


# -- every state on the way, and after it


def test_converged_host_has_nothing_to_do() -> None:
    plan = plan_of(bare_host(), provisioned(), ON_FILE)
    assert (plan.new_physical_volumes, plan.disk_file_bytes) == ((), 60 * GIB)
    assert plan.size == plan_of(bare_host(), single_root(), ON_FILE).size


def test_run_that_was_cut_goes_on_with_the_same_plan() -> None:
    first = plan_of(bare_host(), single_root(), ON_FILE)
    allocated = with_volume_file(single_root(), first.disk_file_bytes, loops=())
    detached = replace(allocated, devices=allocated.devices[:-1])
    states = [("allocated", detached), *on_the_way(with_volume_file(single_root(), first.disk_file_bytes), first)]
    for state, storage in states:
        plan = plan_of(bare_host(), storage, ON_FILE)
        assert (plan.disk_file_bytes, plan.volume_group, plan.size) == (60 * GIB, "docker-vg", first.size), state


def test_host_that_others_have_filled_is_still_converged() -> None:
    storage = provisioned()
    full = replace(storage, mounts=(replace(storage.mounts[0], available=0), *storage.mounts[1:]))
    assert plan_of(bare_host(), full, ON_FILE).disk_file_bytes == 60 * GIB


def test_host_whose_setting_is_gone_keeps_its_file() -> None:
    plan = plan_of(bare_host(), provisioned())
    assert (plan.disk_file_bytes, plan.new_physical_volumes) == (60 * GIB, ())


def test_larger_setting_grows_file_and_volume() -> None:
    storage = provisioned(storage=single_root(free=90 * GIB))
    plan = plan_of(bare_host(), storage, settings(volume_file="70G"))
    assert plan.disk_file_bytes == 70 * GIB
    assert plan.size - plan_of(bare_host(), storage, ON_FILE).size > 9 * GIB


def test_growth_leaves_the_filesystem_its_share_too() -> None:
    found = finding(bare_host(), provisioned(), settings(volume_file="70G"))
    assert_says(found, found_has="/ has 20.0 GiB free", needed="10.0 GiB for volume_file 70G", action='"60G" fits')


def test_growth_that_was_cut_goes_on() -> None:
    """The file and its loop device are larger already, and LVM does not know it."""
    before = storage = provisioned(storage=single_root(free=90 * GIB))
    grown = tuple(replace(d, size=70 * GIB) if d.path == "/dev/loop0" else d for d in storage.devices)
    image = replace(storage.images[0], size=70 * GIB, allocated=70 * GIB)
    storage = replace(storage, devices=grown, images=(image,))
    wanted = settings(volume_file="70G")
    assert plan_of(bare_host(), storage, wanted).size == plan_of(bare_host(), before, wanted).size


def test_file_never_shrinks() -> None:
    warning = f"{VOLUME_FILE} has 60.0 GiB, more than the 30.0 GiB of volume_file: it never shrinks"
    plan = plan_of(bare_host(), provisioned(), settings(volume_file="30G"), warnings=(warning,))
    assert plan.disk_file_bytes == 60 * GIB


# -- a disk takes over

TAKEOVER = settings(volume_file="60G", volume_disks=[SPARE])
MOVES = f"Docker's volume moves from {VOLUME_FILE} to {SPARE}; the file is removed"


def beside_disk(size: int = 100 * GIB, **changes: object) -> Storage:
    """A host whose volume is on a file, and a disk that was attached since."""
    storage = with_disk(provisioned())
    return replace(storage, devices=(*storage.devices[:-1], replace(storage.devices[-1], size=size, **changes)))  # type: ignore[arg-type]


def extended(storage: Storage, used_on_file: int) -> Storage:
    """The group on both, with so many bytes still on the file."""
    (on_file,) = storage.physical_volumes
    added = (100 * GIB - MIB) // (4 * MIB) * 4 * MIB
    on_disk = PhysicalVolume("/dev/vdb", "docker-vg", added, added - 57 * GIB + used_on_file)
    group = storage.volume_groups[0]
    return replace(
        storage,
        physical_volumes=(replace(on_file, free=on_file.size - used_on_file), on_disk),
        volume_groups=(replace(group, size=group.size + added, free=group.free + added),),
    )


def test_disk_that_is_named_beside_the_file_takes_over() -> None:
    plan = plan_of(bare_host(), beside_disk(), TAKEOVER, warnings=(MOVES,))
    assert (plan.volume_group, plan.new_physical_volumes) == ("docker-vg", (SPARE,))
    assert (plan.leaves_file, plan.disk_file_bytes) == (True, 0)
    assert 94 * GIB < plan.size < 95 * GIB  # the disk is larger, and so is the volume


def test_takeover_that_was_cut_goes_on_with_the_same_plan() -> None:
    first = plan_of(bare_host(), beside_disk(), TAKEOVER, warnings=(MOVES,))
    for used in (57 * GIB, 20 * GIB, 0):
        plan = plan_of(bare_host(), extended(beside_disk(), used), TAKEOVER, warnings=(MOVES,))
        assert (plan.leaves_file, plan.size, plan.new_physical_volumes) == (True, first.size, ())
    halfway = extended(beside_disk(), 20 * GIB)
    own = LogicalVolume("pvmove0", "docker-vg", 20 * GIB, True, "mirror", "")
    halfway = replace(halfway, logical_volumes=(*halfway.logical_volumes, own))
    assert plan_of(bare_host(), halfway, TAKEOVER, warnings=(MOVES,)).size == first.size


def test_file_that_is_left_over_is_removed_by_the_next_run() -> None:
    on_both = extended(beside_disk(), 0)
    (on_file, on_disk) = on_both.physical_volumes
    group = replace(on_both.volume_groups[0], size=on_disk.size, free=on_disk.free)
    reduced = replace(on_both, physical_volumes=(replace(on_file, volume_group=""), on_disk), volume_groups=(group,))
    assert plan_of(bare_host(), reduced, TAKEOVER).leaves_file
    image = replace(reduced.images[0], loops=())
    removed = replace(reduced, physical_volumes=(on_disk,), images=(image,))
    assert plan_of(bare_host(), removed, TAKEOVER).leaves_file
    clean = replace(removed, images=(DiskImage(VOLUME_FILE, "absent"),))
    assert not plan_of(bare_host(), clean, TAKEOVER).leaves_file
    # A file that holds something is nobody's to remove, and neither is one beside a volume that is not there.
    holding = replace(removed, images=(replace(image, signatures=("LVM2_member",)),))
    assert not plan_of(bare_host(), holding, TAKEOVER).leaves_file
    alone = replace(with_disk(single_root()), images=(image,))
    assert not plan_of(bare_host(), alone, TAKEOVER).leaves_file


def test_disk_that_is_too_small_takes_nothing_over() -> None:
    found = finding(bare_host(), beside_disk(size=50 * GIB), TAKEOVER)
    assert_says(
        found,
        found_has=f"the group docker-vg holds 56.9 GiB, and {SPARE} have room for 49.9 GiB",
        needed="never shrunk",
        action="name a larger disk",
    )


def test_disk_that_is_not_blank_takes_nothing_over() -> None:
    found = finding(bare_host(), beside_disk(signatures=("ext4",), zeroed=False), TAKEOVER)
    assert "carries a signature: ext4" in found.found


def test_kernel_that_cannot_move_extents_takes_nothing_over() -> None:
    assert_says(
        finding(bare_host(), replace(beside_disk(), tools=("dm-raid",)), TAKEOVER),
        found_has="the kernel has no module dm-mirror, and the group docker-vg moves to",
        needed="pvmove",
        action="install a kernel package",
    )


def test_file_that_lvm_would_ignore_is_refused_before_root_is_filled() -> None:
    pattern = "r|/dev/loop|"
    config = LvmConfig(filters=((pattern,),))
    assert_says(
        finding(bare_host(), replace(single_root(), lvm_config=config), ON_FILE),
        found_has=f"LVM ignores {VOLUME_FILE_DEVICE} (60.0 GiB): {pattern} in a filter of lvm.conf rejects it",
        needed="LVM uses",
        action=f'put "a|^{VOLUME_FILE_DEVICE}$|" before that pattern',
    )
    accepted = LvmConfig(filters=((f"a|^{VOLUME_FILE_DEVICE}$|", pattern),))
    assert plan_of(bare_host(), replace(single_root(), lvm_config=accepted), ON_FILE).disk_file_bytes


def test_group_with_a_snapshot_does_not_move() -> None:
    storage = beside_disk()
    snapshot = LogicalVolume("docker-lv-snapshot", "docker-vg", GIB, True, "snapshot", "docker-lv")
    storage = replace(storage, logical_volumes=(*storage.logical_volumes, snapshot))
    assert_says(
        finding(bare_host(), storage, TAKEOVER),
        found_has="/dev/docker-vg/docker-lv-snapshot",
        needed="no snapshot",
        action="`bulkhead snapshot drop`",
    )


def test_file_that_was_removed_can_still_be_taken_over() -> None:
    """Its content is there as long as the loop device has it."""
    storage = replace(beside_disk(), images=(DiskImage(VOLUME_FILE, "absent"),))
    assert plan_of(bare_host(), storage, TAKEOVER, warnings=(MOVES,)).leaves_file


# -- hosts that do not qualify


@pytest.mark.parametrize("fstype", ["btrfs", "zfs", "overlay", "nfs4", "tmpfs"])
def test_filesystem_that_does_not_keep_the_space_is_refused(fstype: str) -> None:
    found = finding(bare_host(), single_root(fstype=fstype), ON_FILE)
    assert_says(
        found,
        found_has=f"the filesystem on /, which would hold {VOLUME_FILE}, is {fstype}",
        needed="ext4 or xfs",
        action="name a blank disk in volume_disks (there is none: attach one)",
    )


def test_filesystem_without_a_block_device_is_refused() -> None:
    storage = single_root()
    overlay = replace(storage.mounts[0], device="", source="overlay", fstype="overlay")
    assert "is overlay" in finding(bare_host(), replace(storage, mounts=(overlay,)), ON_FILE).found


def test_filesystem_on_a_thin_volume_is_refused() -> None:
    storage = shared_vg(free=0)
    thin = LogicalVolume("ubuntu-lv", "ubuntu-vg", 100 * GIB, True, "thin", "")
    storage = replace(storage, logical_volumes=(thin,), mounts=(replace(storage.mounts[0], available=90 * GIB),))
    assert "is on a thin volume" in finding(bare_host(), storage, ON_FILE).found


def test_filesystem_on_a_network_block_device_is_refused() -> None:
    storage = single_root()
    disk, part = storage.devices
    nbd = (replace(disk, path="/dev/nbd0", children=("/dev/nbd0p1",)), replace(part, path="/dev/nbd0p1"))
    storage = replace(storage, devices=nbd, mounts=(replace(storage.mounts[0], device="/dev/nbd0p1"),))
    assert "is on a network block device" in finding(bare_host(), storage, ON_FILE).found


def test_read_only_filesystem_is_refused() -> None:
    storage = single_root()
    storage = replace(storage, mounts=(replace(storage.mounts[0], options=("ro",)),))
    assert "is read-only" in finding(bare_host(), storage, ON_FILE).found


@pytest.mark.parametrize(("kernel", "refused"), [((5, 15), True), ((5, 19), False), ((6, 1), False), ((7, 0), False)])
def test_kernel_that_punches_holes_all_the_same_is_refused(kernel: tuple[int, int], refused: bool) -> None:
    storage = replace(single_root(), kernel=kernel)
    found = [each.found for each in examine(ON_FILE, bare_host(), storage).findings]
    assert found == ([f"the kernel is Linux {kernel[0]}.{kernel[1]}"] if refused else [])


@pytest.mark.parametrize(
    ("size", "free", "keep", "fits"),
    [
        (100, 80, "20%", True),  # 20 GiB stay, of 20
        (100, 79, "20%", False),
        (20 * 6, 80, "10G", True),
        (20 * 6, 65, "1G", True),  # 5 GiB stay whatever the setting says
        (20 * 6, 64, "1G", False),
        (80, 64, "1%", False),
    ],
)
def test_filesystem_keeps_a_share_and_at_least_5_gib_free(size: int, free: int, keep: str, fits: bool) -> None:
    wanted = settings(volume_file="60G", volume_file_keep=keep)
    result = examine(wanted, bare_host(), single_root(size * GIB, free * GIB))
    assert (result.plan is not None) == fits


def test_filesystem_with_too_little_room_is_refused_with_what_fits() -> None:
    found = finding(bare_host(), single_root(free=50 * GIB), ON_FILE)
    assert_says(
        found,
        found_has="/ has 50.0 GiB free",
        needed="80.0 GiB: 60.0 GiB for volume_file 60G, and 20.0 GiB that stay free (volume_file_keep 20%",
        action='set a smaller volume_file (at most "30G" fits), free space on /, or name a blank disk in volume_disks',
    )
    assert "old data" not in found.found


def test_old_data_and_the_file_must_fit_at_once() -> None:
    state = docker_host(store_bytes=30 * GIB, docker_data=replace(docker_host().docker_data, images=3))
    found = finding(state, single_root(free=50 * GIB), ON_FILE)
    assert "Docker's old data, 30.0 GiB, is on it too and stays until the move is finalized" in found.found
    assert "with relocation_finalize too" in found.found


def test_file_too_small_for_the_data_is_refused_with_the_setting_to_change() -> None:
    state = docker_host(store_bytes=30 * GIB, docker_data=replace(docker_host().docker_data, images=3))
    found = finding(state, single_root(free=70 * GIB), settings(volume_file="30G"))
    assert 'set a larger volume_file (at most "47.5G" fits)' in found.action


# -- files that do not qualify


@pytest.mark.parametrize(
    ("changes", "found", "action"),
    [
        ({"kind": "other"}, "is not ours: other", "move it away"),
        ({"mode": "root:644"}, "is not ours: regular, root:644", "chmod 600"),
        ({"mode": "joe:600"}, "is not ours: regular, joe:600", "chown root"),
        ({"links": 2}, "2 names", "move it away"),
        (
            {"allocated": 50 * GIB},
            "has holes: 10.0 GiB of its 60.0 GiB",
            f"`fallocate --length {60 * GIB} {VOLUME_FILE}`",
        ),
        ({"shared": True}, "shares extents with another file", "remove the copy"),
        ({"size": 50 * GIB}, "has 50.0 GiB, and its loop device 60.0 GiB: somebody truncated it", "stop Docker"),
    ],
)
def test_file_that_does_not_hold_the_bound_is_refused(changes: dict[str, object], found: str, action: str) -> None:
    storage = provisioned()
    storage = replace(storage, images=(replace(storage.images[0], **changes),))  # type: ignore[arg-type]
    assert_says(finding(bare_host(), storage, ON_FILE), found_has=found, needed="", action=action)


def test_file_with_two_loop_devices_is_refused() -> None:
    storage = provisioned()
    (image,) = storage.images
    second = replace(image.loops[0], path="/dev/loop7")
    storage = replace(storage, images=(replace(image, loops=(*image.loops, second)),))
    found = finding(bare_host(), storage, ON_FILE)
    assert_says(found, found_has="/dev/loop0, /dev/loop7", needed="destroyed", action="--detach /dev/loop7")


def test_file_that_is_gone_while_it_is_in_use_is_refused() -> None:
    storage = replace(provisioned(), images=(DiskImage(VOLUME_FILE, "absent"),))
    found = finding(bare_host(), storage, ON_FILE)
    assert_says(found, found_has="somebody moved or removed the file", needed="next boot", action="move it back")


def test_disk_that_is_not_attached_is_refused_and_nothing_takes_its_place() -> None:
    """The unit was disabled: the group and its volume are not there, and the file is."""
    before = provisioned()
    image = replace(before.images[0], loops=(), signatures=("LVM2_member",))
    after_boot = replace(single_root(), images=(image,), fstab=before.fstab, directories=before.directories)
    found = examine(ON_FILE, bare_host(), after_boot).findings
    assert any(f"{VOLUME_FILE} holds LVM2_member, and is not attached" in each.found for each in found)
    assert any("the volume docker-vg/docker-lv for /srv/docker-volume is not there" in each.found for each in found)
    assert any("systemctl enable --now docker-disk.service" in each.action for each in found)


def test_file_that_was_gone_at_the_boot_is_asked_for_and_no_other_is_made() -> None:
    after_boot = replace(single_root(), fstab=provisioned().fstab)
    state = bare_host(configured_volume="/dev/mapper/docker--vg-docker--lv", configured_file=True)
    found = finding(state, after_boot, ON_FILE)
    assert f"put its disk back, {VOLUME_FILE}: `systemctl status docker-disk.service`" in found.action


def test_every_finding_on_host_and_file_is_reported() -> None:
    storage = replace(with_volume_file(single_root(fstype="btrfs"), 4 * MIB, mode="joe:600"), kernel=(5, 10))
    found = [each.found for each in examine(ON_FILE, bare_host(), storage).findings]
    assert len(found) == 3
