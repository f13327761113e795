"""The disks that the settings name: which ones are refused, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyinfra_lvm.model import BlockDevice, LvmConfig, Mount, PhysicalVolume, Storage
from tasks.preflight.examine import examine

from ..example_hosts import (
    GIB,
    ON_SPARE,
    SPARE,
    bare_host,
    converged,
    in_no_group,
    our_docker_ce_host,
    settings,
    shared_vg,
    spare_disk,
    with_disk,
    with_group,
    with_tags,
)
from .verdicts import assert_says, finding, plan_of

DESTROYING = ("wipefs", "dd ", "blkdiscard", "pvremove", "vgremove", "lvremove", "mkfs", "zeros over")


def disk(path: str, kind: str = "disk", *children: str, **changes: object) -> BlockDevice:
    return replace(BlockDevice(path, kind, 20 * GIB, False, (), (), children, (), zeroed=False), **changes)  # type: ignore[arg-type]


def beside_root(*devices: BlockDevice) -> Storage:
    """A host with a plain root, and these devices."""
    return replace(spare_disk(), devices=(*spare_disk().devices[:-1], *devices))


def blank(path: str, **changes: object) -> BlockDevice:
    return disk(path, zeroed=True, **changes)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"signatures": ("ext4",), "zeroed": False}, "carries a signature: ext4"),
        ({"signatures": ("gpt",), "children": ("/dev/vdb1",)}, "carries a signature: gpt"),
        ({"mount_points": ("/data",), "signatures": ("xfs",)}, "is mounted or in use: /data"),
        ({"mount_points": ("[SWAP]",), "signatures": ("swap",)}, "is mounted or in use: [SWAP]"),
        ({"children": ("/dev/dm-3",)}, "is in use by /dev/dm-3"),
        ({"zeroed": False}, "holds data"),
        ({"zeroed": None}, "could not be read"),
        ({"read_only": True}, "is read-only"),
    ],
)
def test_disk_that_is_not_blank_is_refused(changes: dict[str, object], found: str) -> None:
    result = finding(bare_host(), spare_disk(**changes), ON_SPARE)
    assert_says(result, found_has=f"{SPARE} (20.0 GiB) {found}", needed="ever overwritten", action="name another disk")


@pytest.mark.parametrize("name", ["/dev/disk/by-id/dm-name-vault", "/dev/mapper/vault"])
def test_only_a_kernel_name_is_called_one(name: str) -> None:
    storage = beside_root(disk("/dev/dm-0", "crypt", aliases=(name,), signatures=("ext4",)))
    for path, is_kernels in ((name, False), ("/dev/dm-0", True)):
        action = finding(bare_host(), storage, settings(volume_disks=[path])).action
        assert (f"{path} is a kernel name" in action) == is_kernels


def test_absent_disk_is_refused_with_those_there_are() -> None:
    beside = (disk("/dev/dm-9", "crypt"), disk("/dev/vda9", "part"))
    storage = replace(spare_disk(), devices=(*spare_disk().devices, *beside))
    found = finding(bare_host(), storage, settings(volume_disks=["/dev/disk/by-id/virtio-gone"]))
    assert_says(
        found,
        found_has=f"there is no disk /dev/disk/by-id/virtio-gone; this host has /dev/vda (30.0 GiB), {SPARE} (20.0 GiB)",
        needed="every disk",
        action="correct volume_disks",
    )


def test_one_disk_by_two_names_is_refused() -> None:
    found = finding(bare_host(), spare_disk(), settings(volume_disks=[SPARE, "/dev/vdb"]))
    assert_says(
        found, found_has=f"{SPARE} and /dev/vdb are the same disk", needed="once", action="correct volume_disks"
    )


def test_every_bad_disk_is_reported() -> None:
    wanted = settings(volume_disks=["/dev/vdz", "/dev/vda"])
    result = examine(wanted, bare_host(), spare_disk())
    assert [f.found.split(";")[0] for f in result.findings] == [
        "there is no disk /dev/vdz",
        "/dev/vda (30.0 GiB) carries a signature: gpt",
    ]


def test_disk_of_another_group_is_refused() -> None:
    found = finding(bare_host(), with_group(spare_disk(), "data-vg", SPARE), ON_SPARE)
    assert_says(found, found_has="in the volume group data-vg", needed="a blank disk", action="volume_group to data-vg")


def test_physical_volume_that_was_never_in_a_group_is_our_own_unfinished_work() -> None:
    storage = in_no_group(zeroed_beyond_header=True)
    assert plan_of(bare_host(), storage, ON_SPARE).new_physical_volumes == (SPARE,)


@pytest.mark.parametrize("beyond", [False, None])
def test_physical_volume_of_a_removed_group_is_refused(beyond: bool | None) -> None:
    found = finding(bare_host(), in_no_group(zeroed_beyond_header=beyond), ON_SPARE)
    assert_says(found, found_has="`vgcfgrestore` may bring back", needed="a blank disk", action="name another disk")


# -- what the host runs on


@pytest.mark.parametrize(
    ("devices", "uses"),
    [
        ([disk("/dev/vdb", "disk", "/dev/vdb1"), disk("/dev/vdb1", "part", mount_points=("/boot",))], "/dev/vdb1 is mounted on /boot"),
        ([disk("/dev/vdb", "disk", "/dev/vdb5"), disk("/dev/vdb5", "part", mount_points=("[SWAP]",))], "/dev/vdb5 is swap"),
        (
            [
                disk("/dev/vdb", "disk", "/dev/vdb1"),
                disk("/dev/vdb1", "part", "/dev/md0", signatures=("linux_raid_member",)),
                disk("/dev/md0", "raid1", mount_points=("/srv",)),
            ],
            "/dev/md0 is mounted on /srv",
        ),
        (
            [
                disk("/dev/vdb", "disk", "/dev/dm-0", signatures=("crypto_LUKS",)),
                disk("/dev/dm-0", "crypt", aliases=("/dev/mapper/secret",)),
            ],
            "/dev/mapper/secret (crypt) is on it",
        ),
        (
            [disk("/dev/vdb", "disk", "/dev/vdb1"), disk("/dev/vdb1", "part", signatures=("zfs_member",))],
            "/dev/vdb1 belongs to a ZFS pool",
        ),
    ],
    ids=["filesystem", "swap", "RAID", "LUKS", "ZFS"],
)  # fmt: skip
def test_disk_that_the_host_runs_on_is_refused_without_a_recipe(devices: list[BlockDevice], uses: str) -> None:
    found = finding(bare_host(), beside_root(*devices), settings(volume_disks=["/dev/vdb"]))
    assert_says(found, found_has=uses, needed="never overwritten", action="name another disk: this host uses this one")
    assert "/dev/vdb is a kernel name, which can mean another disk after every boot" in found.action


@pytest.mark.parametrize(
    ("signature", "uses"),
    [
        ("btrfs", "may belong to a btrfs that is mounted"),
        ("ceph_bluestore", "belongs to Ceph"),
        ("drbd", "belongs to DRBD"),
        ("jbd", "is the journal of an ext4"),
        ("xfs_external_log", "is the log of an xfs"),
        ("oracleasm", "belongs to Oracle ASM"),
    ],
)
def test_disk_whose_holder_shows_no_mount_of_it_is_refused_without_a_recipe(signature: str, uses: str) -> None:
    root = Mount("/", "/dev/vda1", "/dev/vda1", "/@", "btrfs", (), "shared", 29 * GIB, 20 * GIB)
    whole = beside_root(disk("/dev/vdb", "disk", signatures=(signature,)))
    partition = beside_root(disk("/dev/vdb", "disk", "/dev/vdb1"), disk("/dev/vdb1", "part", signatures=(signature,)))
    for storage in (whole, partition):
        found = finding(bare_host(), replace(storage, mounts=(root,)), settings(volume_disks=["/dev/vdb"]))
        assert_says(
            found, found_has=uses, needed="never overwritten", action="name another disk: this host uses this one"
        )
        assert "refused.md" not in found.action


def test_disk_with_a_btrfs_that_nobody_has_mounted_gets_the_recipe() -> None:
    unused = beside_root(disk("/dev/vdb", "disk", signatures=("btrfs",)))
    others = [Mount(f"/srv/{kind}", kind, "", "/", kind, (), "private") for kind in ("autofs", "xfs")]
    unused = replace(unused, mounts=(*unused.mounts, *others))
    assert "docs/refused.md" in finding(bare_host(), unused, settings(volume_disks=["/dev/vdb"])).action


def test_disk_that_carries_roots_group_is_refused_with_what_is_on_it() -> None:
    found = finding(bare_host(), shared_vg(), settings(volume_disks=["/dev/vda"]))
    assert found.found == (
        "/dev/vda (101.0 GiB) carries a signature: gpt; /dev/vda1 is in the volume group ubuntu-vg; "
        "/dev/mapper/ubuntu--vg-ubuntu--lv is mounted on /"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"signatures": ("ext4",)},
        {"signatures": ("btrfs",)},
        {"signatures": ("LVM2_member",)},
        {"zeroed": False},
        {"mount_points": ("/data",)},
        {"children": ("/dev/vdb1",), "signatures": ("gpt",)},
    ],
)
def test_no_advice_destroys_what_is_on_a_disk(changes: dict[str, object]) -> None:
    for storage in (spare_disk(**changes), in_no_group()):
        (found, *_) = examine(ON_SPARE, bare_host(), storage).findings
        assert not [word for word in DESTROYING if word in str(found)]


def test_path_of_a_multipath_device_is_refused_with_the_name_of_the_device() -> None:
    paths = [disk(path, "disk", "/dev/dm-0", signatures=("mpath_member",)) for path in ("/dev/sdb", "/dev/sdc")]
    storage = beside_root(*paths, disk("/dev/dm-0", "mpath", aliases=("/dev/mapper/mpatha",), zeroed=True))
    found = finding(bare_host(), storage, settings(volume_disks=["/dev/sdb"]))
    assert_says(
        found,
        found_has="/dev/mapper/mpatha (mpath) is on it",
        needed="blank",
        action="is a path of: /dev/mapper/mpatha",
    )
    assert plan_of(bare_host(), storage, settings(volume_disks=["/dev/mapper/mpatha"])).new_physical_volumes
    assert "there is /dev/mapper/mpatha (20.0 GiB)" in finding(bare_host(), storage).action


# -- names


def test_kernel_name_is_accepted_with_the_stable_one() -> None:
    warning = f"/dev/vdb can be another disk after a boot; name it {SPARE} in volume_disks"
    plan = plan_of(bare_host(), spare_disk(), settings(volume_disks=["/dev/vdb"]), warnings=(warning,))
    assert plan.new_physical_volumes == ("/dev/vdb",)


@pytest.mark.parametrize("other", ["/dev/disk/by-path/pci-1", "/dev/mapper/vault"])
def test_name_that_stays_is_accepted_in_silence_and_the_kernels_is_not(other: str) -> None:
    device = blank("/dev/dm-0", type="crypt", aliases=("/dev/disk/by-id/dm-name-vault", other))
    storage = beside_root(device)
    assert plan_of(bare_host(), storage, settings(volume_disks=[other])).new_physical_volumes == (other,)
    for alone in (device, replace(device, aliases=(other,))):
        warning = f"/dev/dm-0 can be another disk after a boot; name it {alone.aliases[0]} in volume_disks"
        plan_of(bare_host(), beside_root(alone), settings(volume_disks=["/dev/dm-0"]), warnings=(warning,))


@pytest.mark.parametrize("more", [0, 1])
def test_disk_that_is_too_small_for_a_volume_is_not_suggested(more: int) -> None:
    action = finding(bare_host(), beside_root(blank("/dev/vdb", size=GIB + more))).action
    assert ("there is /dev/vdb (1.0 GiB)" in action) == bool(more)


def with_our_group_on_vdb() -> Storage:
    return converged(spare_disk(), plan_of(bare_host(), spare_disk(), ON_SPARE))


@pytest.mark.parametrize("name", ["/dev/vda", "/dev/vdz", "/dev/disk/by-id/nvme-of-an-older-machine"])
def test_group_of_ours_is_known_by_its_name_when_its_disks_have_other_names(name: str) -> None:
    """After a boot /dev/vdb may be /dev/vda, the disk of root. A machine of another type has other names for all disks."""
    known = with_our_group_on_vdb()
    warning = (
        f"{name} is not used: the volume group docker-vg is complete without it, on /dev/vdb; correct volume_disks"
    )
    plan = plan_of(our_docker_ce_host(), known, settings(volume_disks=[name]), warnings=(warning,))
    assert (plan.volume_group, plan.new_physical_volumes) == ("docker-vg", ())


def test_stable_name_of_another_disk_is_taken_as_meant() -> None:
    other = blank("/dev/vdc", aliases=("/dev/disk/by-id/virtio-other",))
    storage = with_our_group_on_vdb()
    storage = replace(storage, devices=(*storage.devices, other))
    found = finding(our_docker_ce_host(), storage, settings(volume_disks=["/dev/disk/by-id/virtio-other"]))
    assert_says(found, found_has="docker-vg is on /dev/vdb already", needed="Docker's own", action="volume_group")


def test_disk_that_is_named_after_a_stale_name_is_judged() -> None:
    known, other = with_our_group_on_vdb(), "/dev/disk/by-id/virtio-other"
    second = PhysicalVolume("/dev/vdc", "docker-vg", 20 * GIB, 20 * GIB)
    storage = replace(
        known,
        devices=(*known.devices, disk("/dev/vdd", aliases=(other,), signatures=("ext4",))),
        physical_volumes=(*known.physical_volumes, second),
    )
    result = examine(settings(volume_disks=["/dev/vdz", other]), our_docker_ce_host(), storage)
    assert f"{other} (20.0 GiB) carries a signature: ext4" in result.findings[0].found


def test_group_of_root_is_extended_by_a_kernel_name_once_and_is_known_by_its_name_afterwards() -> None:
    wanted = settings(volume_group="ubuntu-vg", volume_disks=["/dev/vdb"], volume_group_extend=True)
    provisioned = with_disk(converged(shared_vg(), plan_of(bare_host(), shared_vg())))
    first = examine(wanted, our_docker_ce_host(), provisioned)
    assert first.plan
    assert first.plan.new_physical_volumes == ("/dev/vdb",)
    missing = settings(volume_group="ubuntu-vg", volume_disks=["/dev/vdz"], volume_group_extend=True)
    assert "there is no disk /dev/vdz" in finding(our_docker_ce_host(), provisioned, missing).found
    added = PhysicalVolume("/dev/vdb", "ubuntu-vg", 20 * GIB, 20 * GIB)
    extended = replace(provisioned, physical_volumes=(*provisioned.physical_volumes, added))
    for name in ("/dev/vda", "/dev/vdz"):
        again = examine(
            settings(volume_group="ubuntu-vg", volume_disks=[name], volume_group_extend=True),
            our_docker_ce_host(),
            extended,
        )
        assert again.plan
        assert again.plan.new_physical_volumes == ()
        assert f"{name} is not used" in again.warnings[0]


def test_further_kernel_name_that_leads_to_root_is_refused() -> None:
    wanted = settings(volume_disks=[SPARE, "/dev/vda"])
    assert "/dev/vda1 is mounted on /" in finding(our_docker_ce_host(), with_our_group_on_vdb(), wanted).found


def test_group_that_is_incomplete_or_without_our_volume_is_not_known_by_its_name() -> None:
    known = with_our_group_on_vdb()
    incomplete = replace(
        known, volume_groups=tuple(replace(g, missing_physical_volumes=1) for g in known.volume_groups)
    )
    for storage in (incomplete, with_tags(known, "docker-lv", "another"), with_group(spare_disk(), "docker-vg", SPARE)):
        assert (
            "there is no disk /dev/vdz"
            in examine(settings(volume_disks=["/dev/vdz"]), bare_host(), storage).findings[0].found
        )


# -- kinds of devices


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        (blank("/dev/loop0", type="loop"), "a loop device"),
        (blank("/dev/zram0"), "a compressed RAM disk"),
        (blank("/dev/nbd0"), "a network block device"),
        (blank("/dev/nbd0p1", type="part"), "a network block device"),
        (blank("/dev/sdb", removable=True), "a removable device"),
        (blank("/dev/sr0", type="rom"), "an optical drive"),
        (blank("/dev/dm-7", type="lvm"), "a logical volume"),
    ],
)
def test_device_that_does_not_stay_is_refused_and_never_suggested(device: BlockDevice, kind: str) -> None:
    found = finding(bare_host(), beside_root(device), settings(volume_disks=[device.path]))
    assert_says(
        found,
        found_has=f"{device.path} (20.0 GiB) is {kind}",
        needed="after every boot",
        action="there is none: attach one",
    )
    assert "there is none: attach one" in finding(bare_host(), beside_root(device)).action


def test_ram_disk_which_lsblk_does_not_list_is_refused_as_one() -> None:
    found = finding(bare_host(), spare_disk(), settings(volume_disks=["/dev/ram0"]))
    assert_says(found, found_has="/dev/ram0 is a RAM disk", needed="after every boot", action=SPARE)


def test_device_on_one_that_does_not_stay_is_refused_too() -> None:
    stick = blank("/dev/sdb", removable=True, children=("/dev/dm-0",), signatures=("crypto_LUKS",))
    opened = blank("/dev/dm-0", type="crypt", aliases=("/dev/mapper/stick",))
    found = finding(bare_host(), beside_root(stick, opened), settings(volume_disks=["/dev/mapper/stick"]))
    assert "/dev/mapper/stick (20.0 GiB) is a removable device" in found.found


EPHEMERAL = {
    "EC2": blank("/dev/nvme1n1", model="Amazon EC2 NVMe Instance Storage"),
    "EC2 by its link": blank("/dev/nvme1n1", aliases=("/dev/disk/by-id/nvme-Amazon_EC2_NVMe_Instance_Storage_AWS1",)),
    "Compute Engine, NVMe": blank("/dev/nvme0n1", model="nvme_card"),
    "Compute Engine, third generation": blank("/dev/nvme1n1", model="nvme_card1"),
    "Compute Engine, SCSI": blank("/dev/sdb", model="EphemeralDisk"),
    "Compute Engine by its link": blank("/dev/nvme0n1", aliases=("/dev/disk/by-id/google-local-nvme-ssd-0",)),
    "Azure, local NVMe": blank("/dev/nvme1n1", model="Microsoft NVMe Direct Disk v2"),
    "Azure, local NVMe by its link": blank("/dev/nvme1n1", aliases=("/dev/disk/azure/local/by-serial/1",)),
    "Azure, temporary disk": blank("/dev/sdb", model="Virtual Disk", aliases=("/dev/disk/cloud/azure_resource",)),
    "Azure, temporary disk by its label": blank("/dev/sdb", aliases=(r"/dev/disk/by-label/Temporary\x20Storage",)),
}


@pytest.mark.parametrize("device", EPHEMERAL.values(), ids=EPHEMERAL)
def test_ephemeral_disk_needs_consent_and_is_never_suggested(device: BlockDevice) -> None:
    storage, wanted = beside_root(device), {"volume_disks": [device.path]}
    found = finding(bare_host(), storage, settings(**wanted))
    assert_says(
        found, found_has="is an ephemeral disk", needed="keeps its content", action="allow_ephemeral_disks = True"
    )
    assert "there is none: attach one" in finding(bare_host(), storage).action
    result = examine(settings(**wanted, allow_ephemeral_disks=True), bare_host(), storage)
    assert result.plan
    assert result.warnings[-1] == (
        f"{device.path} is an ephemeral disk: Docker's data is lost when the machine is stopped or moved"
    )


@pytest.mark.parametrize(
    "model",
    ["Amazon Elastic Block Store", "nvme_card-pd", "PersistentDisk", "Virtual Disk", "MSFT NVMe Accelerator v1.0"],
)
def test_clouds_disk_that_keeps_its_content_is_suggested(model: str) -> None:
    storage = beside_root(blank("/dev/sdb", model=model))
    assert "there is /dev/sdb (20.0 GiB)" in finding(bare_host(), storage).action
    assert plan_of(bare_host(), storage, settings(volume_disks=["/dev/sdb"])).new_physical_volumes == ("/dev/sdb",)


def test_partition_of_an_ephemeral_disk_is_ephemeral() -> None:
    whole = disk(
        "/dev/nvme1n1", "disk", "/dev/nvme1n1p1", signatures=("gpt",), model="Amazon EC2 NVMe Instance Storage"
    )
    storage = beside_root(whole, blank("/dev/nvme1n1p1", type="part"))
    found = finding(bare_host(), storage, settings(volume_disks=["/dev/nvme1n1p1"]))
    assert "is an ephemeral disk" in found.found


def test_disk_that_lvm_ignores_is_refused_by_the_pattern() -> None:
    ignoring = replace(spare_disk(), lvm_config=LvmConfig(filters=(("a|/dev/vda|", "r|.*|"),)))
    assert_says(
        finding(bare_host(), ignoring, ON_SPARE),
        found_has=f"LVM ignores {SPARE} (20.0 GiB): r|.*| in a filter of lvm.conf rejects it",
        needed="a disk that LVM uses",
        action=f'put "a|^{SPARE}$|" before that pattern',
    )
    by_another_name = LvmConfig(filters=(("a|^/dev/vdb$|", "r|.*|"),))
    assert plan_of(bare_host(), replace(ignoring, lvm_config=by_another_name), ON_SPARE).new_physical_volumes == (
        SPARE,
    )
