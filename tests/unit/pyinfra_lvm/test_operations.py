"""The operations' commands, from what a host has: created, grown, left alone, refused."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import OperationValueError, StringCommand
from pyinfra.context import ctx_host
from pyinfra_testing.util import get_command_string

from pyinfra_lvm import operations as lvm
from pyinfra_lvm.facts import parse_storage
from pyinfra_lvm.fstab import fstab_with, parse_fstab
from pyinfra_lvm.model import (
    BlockDevice,
    Directory,
    Filesystem,
    FstabEntry,
    LogicalVolume,
    Mount,
    PhysicalVolume,
    Storage,
    VolumeGroup,
)

from ..tasks.operations import calls, noted, shell

G = 2**30
DEVICE = "/dev/mapper/vg-data"
BLANK = BlockDevice("/dev/vdb", "disk", 20 * G, False, ("/dev/disk/by-id/virtio-spare",), (), (), (), zeroed=True)
GROUP = VolumeGroup("vg", 100 * G, 70 * G, 4 * 2**20, 0)
VOLUME = LogicalVolume("data", "vg", 10 * G, True, "linear", "")
MAPPED = BlockDevice("/dev/dm-1", "lvm", 10 * G, False, (DEVICE, "/dev/vg/data"), ("ext4",), (), ())
MADE = Storage(
    devices=(MAPPED,),
    volume_groups=(GROUP,),
    logical_volumes=(VOLUME,),
    filesystems=(Filesystem("/dev/dm-1", "ext4", 10 * G),),
)
ROOT = Mount("/", "/dev/vda", "/dev/vda", "/", "ext4", (), "shared")
MOUNTED = replace(
    MADE,
    mounts=(ROOT, Mount("/srv/data", DEVICE, "/dev/dm-1", "/", "ext4", (), "private")),
    fstab=(FstabEntry(DEVICE, "/srv/data", "ext4", ("nofail",), 0, 2),),
    fstab_text=f"# mine\n{DEVICE} /srv/data ext4 nofail 0 2\n",
    directories=(Directory("/srv/data", "directory", True, True),),
)
EXTENDED = f"lvextend --quiet --size {20 * G}b vg/data </dev/null"
UNFINISHED = replace(MADE, logical_volumes=(replace(VOLUME, tags=("pyinfra-unfinished",)),))


@dataclass(eq=False)
class StorageHost:
    """As much of a host as an operation sees."""

    storage: Storage
    noops: list[str] = field(default_factory=list)
    state: Any = field(default_factory=lambda: SimpleNamespace(is_executing=True))

    def get_fact(self, *_: Any, **__: Any) -> Storage:
        return self.storage

    def noop(self, description: str) -> None:
        self.noops.append(description)


def performed(operation: Callable[..., Any], storage: Storage, **arguments: Any) -> list[StringCommand]:
    host = StorageHost(storage)
    with ctx_host.use(host):
        found = list(operation._inner(**arguments))  # type: ignore[attr-defined]
    assert bool(found) != bool(host.noops), "an operation either does something or says why not"
    return found


def commands(operation: Callable[..., Any], storage: Storage, **arguments: Any) -> list[str]:
    return [get_command_string(command) for command in performed(operation, storage, **arguments)]


def refused(operation: Callable[..., Any], storage: Storage, **arguments: Any) -> str:
    (command,) = commands(operation, storage, **arguments)
    assert command.startswith("printf ")
    assert command.endswith(">&2; exit 1")
    return str(command)


# -- physical volumes


def on_disk(of_disk: int, **changes: Any) -> Storage:
    """A group of 20 GiB on a disk of this size."""
    volume = replace(PhysicalVolume("/dev/vdb", "vg", 20 * G - 4 * 2**20, 0), **changes)
    return Storage(devices=(replace(BLANK, size=of_disk),), physical_volumes=(volume,), volume_groups=(GROUP,))


def test_physical_volume_takes_the_new_space_of_its_device() -> None:
    name = "/dev/disk/by-id/virtio-spare"
    (command,) = commands(lvm.grown_physical_volume, on_disk(40 * G), device=name)
    assert command.endswith(f"pvresize --quiet {name} </dev/null")


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        (20 * G, {}),
        (20 * G + 4 * 2**20, {}),
        (10 * G, {}),
        (40 * G, {"size": 40 * G - 4 * 2**20}),
        (20 * G + 8 * 2**20, {"start": 5 * 2**20}),
        (40 * G, {"volume_group": ""}),
        (40 * G, {"missing": True}),
    ],
)
def test_physical_volume_whose_device_has_not_grown_stays(size: int, changes: dict[str, Any]) -> None:
    assert commands(lvm.grown_physical_volume, on_disk(size, **changes), device="/dev/vdb") == []


def test_device_that_is_no_physical_volume_is_not_grown() -> None:
    assert "is no physical volume" in refused(lvm.grown_physical_volume, Storage(devices=(BLANK,)), device="/dev/vdb")


def test_physical_volume_is_made_on_a_blank_device_that_is_checked_once_more() -> None:
    (command,) = commands(lvm.physical_volume, Storage(devices=(BLANK,)), device="/dev/vdb")
    assert command.endswith("pvcreate --quiet /dev/vdb </dev/null")
    assert command.index("wipefs --no-act") < command.index("pvcreate")
    assert "--force" not in command
    assert "--yes" not in command


def test_physical_volume_that_is_there_stays() -> None:
    made = replace(BLANK, signatures=("LVM2_member",), zeroed=False, zeroed_beyond_header=True)
    storage = Storage(devices=(made,), physical_volumes=(PhysicalVolume("/dev/vdb", "", G, G),))
    assert commands(lvm.physical_volume, storage, device="/dev/disk/by-id/virtio-spare") == []
    left = replace(storage, devices=(replace(made, zeroed_beyond_header=False),))
    assert "LVM2_member" in refused(lvm.physical_volume, left, device="/dev/vdb")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signatures": ("xfs",)}, "carries a signature: xfs"),
        ({"children": ("/dev/vdb1",)}, "is in use by /dev/vdb1"),
        ({"mount_points": ("/data",)}, "is mounted or in use: /data"),
        ({"mount_points": ("[SWAP]",)}, "is mounted or in use: [SWAP]"),
        ({"zeroed": False}, "holds data"),
        ({"read_only": True}, "is read-only"),
    ],
)
def test_physical_volume_is_refused_on_what_is_not_blank(changes: dict[str, Any], reason: str) -> None:
    output = refused(lvm.physical_volume, Storage(devices=(replace(BLANK, **changes),)), device="/dev/vdb")
    assert reason in output
    assert "nothing was written to it" in output


def test_device_that_the_fact_did_not_read_is_left_to_the_command_that_reads_it() -> None:
    (command,) = commands(lvm.physical_volume, Storage(devices=(replace(BLANK, zeroed=None),)), device="/dev/vdb")
    assert command.index('zeros_from "$device" 0 ||') < command.index("pvcreate")


def test_physical_volume_on_a_device_that_is_not_there_is_refused() -> None:
    assert "no such device" in refused(lvm.physical_volume, Storage(), device="/dev/vdz")


@pytest.mark.parametrize("device", ["-f", "", "/dev/v db"])
def test_value_that_could_be_an_option_is_an_error(device: str) -> None:
    with pytest.raises(OperationValueError):
        commands(lvm.physical_volume, Storage(), device=device)


# -- volume groups


def test_volume_group_is_made_of_physical_volumes_that_are_looked_at_once_more() -> None:
    (command,) = commands(lvm.volume_group, Storage(devices=(BLANK,)), group="vg", devices=["/dev/vdb"])
    assert "for device in /dev/vdb; do found=$(pvs " in command
    assert command.endswith("; done; vgcreate --quiet vg /dev/vdb </dev/null")


IN_GROUP = Storage(devices=(BLANK,), physical_volumes=(PhysicalVolume("/dev/vdb", "vg", G, G),), volume_groups=(GROUP,))


def test_volume_group_that_is_there_stays() -> None:
    assert commands(lvm.volume_group, IN_GROUP, group="vg", devices=["/dev/disk/by-id/virtio-spare"]) == []


def test_volume_group_is_extended_only_where_it_is_asked_for() -> None:
    more = {"group": "vg", "devices": ["/dev/vdb", "/dev/vdc"]}
    assert "exists without /dev/vdc" in refused(lvm.volume_group, IN_GROUP, **more)
    (command,) = commands(lvm.volume_group, IN_GROUP, **more, extend=True)
    assert "for device in /dev/vdc; do found=$(pvs " in command
    assert command.endswith("; done; vgextend --quiet vg /dev/vdc </dev/null")
    (command,) = commands(lvm.volume_group, IN_GROUP, **more, extend=True, mixed_sectors=True)
    assert command.endswith("vgextend --quiet --config devices/allow_mixed_block_sizes=1 vg /dev/vdc </dev/null")


def test_device_of_another_group_is_refused() -> None:
    assert "/dev/vdb (in vg) belongs" in refused(lvm.volume_group, IN_GROUP, group="other", devices=["/dev/vdb"])


# -- logical volumes


def test_logical_volume_is_made_of_whole_extents_and_tagged() -> None:
    bare = Storage(volume_groups=(GROUP,))
    assert commands(lvm.logical_volume, bare, volume="data", group="vg", size=10 * G + 5, tags=["mine"]) == [
        "lvcreate --quiet --yes --wipesignatures y --addtag pyinfra-unfinished --addtag mine "
        f"--name data --size {10 * G}b vg </dev/null"
    ]


def test_logical_volume_of_a_group_that_is_yet_to_be_made_has_its_size() -> None:
    (command,) = commands(lvm.logical_volume, Storage(), volume="data", group="vg", size=10 * G + 5)
    assert f" --size {10 * G + 5}b vg " in command


def test_mirror_is_made_with_two_copies() -> None:
    bare = Storage(volume_groups=(GROUP,))
    (command,) = commands(lvm.logical_volume, bare, volume="data", group="vg", size=10 * G, mirrored=True)
    assert command == (
        "lvcreate --quiet --yes --wipesignatures y --type raid1 --mirrors 1 --addtag pyinfra-unfinished "
        f"--name data --size {10 * G}b vg </dev/null"
    )


def test_volume_is_striped_over_disks_and_its_group_carries_tags() -> None:
    bare = replace(MADE, logical_volumes=())
    (command,) = commands(lvm.logical_volume, bare, volume="data", group="vg", size=10 * G, stripes=3)
    assert command == (
        "lvcreate --quiet --yes --wipesignatures y --type striped --stripes 3 --addtag pyinfra-unfinished "
        f"--name data --size {10 * G}b vg </dev/null"
    )
    made = lvm.make_volume_group("vg", '"$disk"', ["a", "b"])
    assert made.endswith('; done; vgcreate --quiet --addtag a --addtag b vg "$disk" </dev/null')


def test_volume_is_made_and_grows_on_the_disks_that_are_named() -> None:
    on = {"volume": "data", "group": "vg", "size": 20 * G, "mirrored": True, "disks": ["/dev/vdb", "/dev/vdc"]}
    (made,) = commands(lvm.logical_volume, Storage(volume_groups=(GROUP,)), **on)
    assert made.endswith(f" --size {20 * G}b vg /dev/vdb /dev/vdc </dev/null")
    mirror = replace(MADE, logical_volumes=(replace(VOLUME, segment_type="raid1"),))
    (grown,) = commands(lvm.logical_volume, mirror, **on)
    assert grown == f"lvextend --quiet --size {20 * G}b vg/data /dev/vdb /dev/vdc </dev/null"


@pytest.mark.parametrize("kind", ["raid1", "linear", "raid5", "raid0", "mirror"])
@pytest.mark.parametrize("size", [10 * G, 20 * G])
def test_volume_that_is_to_be_a_mirror_grows_only_if_it_is_one(kind: str, size: int) -> None:
    there = replace(MADE, logical_volumes=(replace(VOLUME, segment_type=kind),))
    wanted = {"volume": "data", "group": "vg", "size": size, "mirrored": True}
    if kind == "raid1":
        assert commands(lvm.logical_volume, there, **wanted) == [EXTENDED] * (size > 10 * G)
    else:
        message = refused(lvm.logical_volume, there, **wanted)
        assert f"vg/data is of the type {kind}, not a mirror; it was not touched" in message
        assert "`lvconvert --type raid1 --mirrors 1 vg/data` adds the second copy" in message


def test_mirror_that_is_not_asked_for_grows_like_any_volume() -> None:
    mirror = replace(MADE, logical_volumes=(replace(VOLUME, segment_type="raid1"),))
    assert commands(lvm.logical_volume, mirror, volume="data", group="vg", size=20 * G) == [EXTENDED]


def test_logical_volume_gets_the_tags_that_it_lacks() -> None:
    tagged = replace(MADE, logical_volumes=(replace(VOLUME, tags=("theirs", "mine")),))
    wanted = {"volume": "data", "group": "vg", "size": 10 * G, "tags": ["mine", "new"]}
    assert commands(lvm.logical_volume, tagged, **wanted) == ["lvchange --quiet --addtag new vg/data"]


def test_logical_volume_grows() -> None:
    assert commands(lvm.logical_volume, MADE, volume="data", group="vg", size=20 * G) == [EXTENDED]


@pytest.mark.parametrize("size", [10 * G, 10 * G + 1, 5 * G])
def test_logical_volume_is_never_shrunk(size: int) -> None:
    assert commands(lvm.logical_volume, MADE, volume="data", group="vg", size=size) == []


@pytest.mark.parametrize(
    ("changes", "kind"), [({"origin": "root"}, "a snapshot of root"), ({"segment_type": "thin-pool"}, "thin-pool")]
)
def test_name_of_a_volume_of_another_kind_is_refused(changes: dict[str, Any], kind: str) -> None:
    storage = replace(MADE, logical_volumes=(replace(VOLUME, **changes),))
    assert kind in refused(lvm.logical_volume, storage, volume="data", group="vg", size=20 * G)


# -- filesystems


def test_filesystem_is_made_on_an_unfinished_volume_whose_tag_is_read_again() -> None:
    (command,) = commands(lvm.filesystem, UNFINISHED, volume="data", group="vg")
    assert command.index("lv_tags") < command.index("mkfs.ext4 -q -F") < command.index("sync")
    assert command.endswith("lvchange --quiet --deltag pyinfra-unfinished vg/data")


def test_filesystem_on_a_volume_that_is_yet_to_be_made_is_predicted() -> None:
    (command,) = commands(lvm.filesystem, Storage(), volume="data", group="vg", fstype="xfs", options=["-L", "a b"])
    assert f"mkfs.xfs -q -f -L 'a b' {DEVICE} </dev/null" in command


def test_filesystem_that_is_there_stays() -> None:
    assert commands(lvm.filesystem, MADE, volume="data", group="vg") == []


@pytest.mark.parametrize(
    "storage",
    [
        replace(MADE, filesystems=()),
        replace(MADE, filesystems=(Filesystem("/dev/dm-1", "xfs", 10 * G),)),
        replace(MADE, filesystems=(Filesystem("/dev/dm-1", "ext3", 10 * G),)),
        replace(UNFINISHED, mounts=(Mount("/x", DEVICE, "/dev/dm-1", "/", "ext4", (), "shared"),)),
        replace(UNFINISHED, fstab=(FstabEntry("/dev/vg/data", "/x", "ext4", ()),)),
        replace(UNFINISHED, filesystems=(Filesystem("/dev/dm-1", "ext4", 10 * G, used=True),)),
    ],
    ids=[
        "unknown_content",
        "other_filesystem",
        "older_filesystem",
        "unfinished_and_mounted",
        "unfinished_and_in_fstab",
        "unfinished_and_used",
    ],
)
def test_filesystem_is_never_made_over_anything(storage: Storage) -> None:
    assert "nothing was written to it" in refused(lvm.filesystem, storage, volume="data", group="vg")


def test_filesystem_on_a_volume_that_is_not_active_is_refused_with_the_way_out() -> None:
    storage = replace(MADE, logical_volumes=(replace(VOLUME, active=False),), filesystems=())
    assert "lvchange --activate y vg/data" in refused(lvm.filesystem, storage, volume="data", group="vg")


@pytest.mark.parametrize(("short", "grows"), [(0, False), (32 * 2**20, False), (32 * 2**20 + 1, True)])
def test_filesystem_that_ends_less_than_a_block_group_short_is_whole(short: int, grows: bool) -> None:
    storage = replace(MADE, filesystems=(Filesystem("/dev/dm-1", "ext4", 10 * G - short),))
    assert bool(commands(lvm.filesystem, storage, volume="data", group="vg")) == grows


def test_filesystem_that_nobody_here_makes_is_an_error() -> None:
    for fstype in ("btrfs", "zfs"):
        with pytest.raises(OperationValueError, match=r"^fstype must be one of ext4, xfs: "):
            commands(lvm.filesystem, MADE, volume="data", group="vg", fstype=fstype)


def test_filesystem_grows_in_a_dry_run_that_has_not_grown_its_volume_yet() -> None:
    assert commands(lvm.filesystem, MADE, volume="data", group="vg", size=20 * G)[0].endswith(f"resize2fs {DEVICE}")


XFS = (Filesystem("/dev/dm-1", "xfs", 10 * G),)
GROWN = (replace(VOLUME, size=20 * G),)


@pytest.mark.parametrize(
    ("storage", "fstype", "command"),
    [
        (replace(MOUNTED, logical_volumes=GROWN), "ext4", f"resize2fs {DEVICE}"),
        (
            replace(MADE, logical_volumes=GROWN),
            "ext4",
            f"e2fsck -fp {DEVICE}; [ $? -le 1 ] && resize2fs {DEVICE}",
        ),
        (
            replace(MADE, logical_volumes=GROWN, filesystems=XFS),
            "xfs",
            f"unshare --mount --propagation private sh -c 'mount -t xfs {DEVICE} /mnt && xfs_growfs /mnt'",
        ),
        (replace(MOUNTED, logical_volumes=GROWN, filesystems=XFS), "xfs", "xfs_growfs /srv/data"),
    ],
)
def test_filesystem_grows_to_its_volume(storage: Storage, fstype: str, command: str) -> None:
    assert commands(lvm.filesystem, storage, volume="data", group="vg", fstype=fstype) == [command]


# -- mounts

HERE = {"path": "/srv/data", "device": DEVICE, "fstype": "ext4", "options": ["nofail"], "immutable_mount_point": True}
BOUND = {"path": "/var/lib/data", "device": "/srv/data/sub", "fstype": "none", "options": ["bind"]}


def test_mount_makes_the_directory_then_fstab_then_mounts() -> None:
    directory, fstab, mount = performed(lvm.mount, MADE, **HERE)
    assert "chattr +i" in str(directory)
    assert writes(fstab, "", f"{DEVICE} /srv/data ext4 nofail 0 2\n")
    assert "systemctl start" in str(mount)


def writes(command: StringCommand, old: str, new: str) -> bool:
    """Whether a command puts a new fstab in the place of the old one."""
    replacement = lvm.replace_fstab(old, new)
    return command == replacement and command.connector_arguments == replacement.connector_arguments


def test_mount_that_is_there_stays() -> None:
    assert commands(lvm.mount, MOUNTED, **HERE) == []


def test_mount_whose_line_is_lost_gets_it_back() -> None:
    fstab, mount = performed(lvm.mount, replace(MOUNTED, fstab=(), fstab_text="# mine\n"), **HERE)
    assert writes(fstab, "# mine\n", f"# mine\n{DEVICE} /srv/data ext4 nofail 0 2\n")
    assert "systemctl daemon-reload" in str(mount)


def test_propagation_that_the_user_of_a_mount_has_changed_is_let_be() -> None:
    shared = replace(MOUNTED, mounts=(ROOT, replace(MOUNTED.mounts[1], propagation="shared")))
    listed = replace(shared, fstab=(FstabEntry(DEVICE, "/srv/data", "ext4", ("private",), 0, 2),))
    assert commands(lvm.mount, listed, **HERE | {"options": ["private"]}) == []


def test_host_that_was_provisioned_and_runs_docker_needs_nothing() -> None:
    recorded = json.loads((Path(__file__).parent / "facts" / "debian_12_provisioned.json").read_text())
    storage = parse_storage(recorded["output"])
    names = {"volume": "docker-lv", "group": "ubuntu-vg"}
    (size,) = (volume.size for volume in storage.logical_volumes if volume.name == "docker-lv")
    assert commands(lvm.logical_volume, storage, **names, size=size) == []
    assert commands(lvm.filesystem, storage, **names, size=size) == []
    mounts = [entry for entry in storage.fstab if "docker" in entry.source]
    assert len(mounts) == 3
    for entry in mounts:
        arguments = {"device": entry.source, "fstype": entry.fstype, "options": list(entry.options)}
        assert commands(lvm.mount, storage, path=entry.target, **arguments, immutable_mount_point=True) == []


def test_mount_beside_others_is_let_be() -> None:
    """Others whose names come before and after it."""
    others = [Mount(f"/srv/{name}", f"/dev/{name}", f"/dev/{name}", "/", "xfs", (), "shared") for name in ("aa", "zz")]
    listed = [FstabEntry(f"/dev/{name}", f"/srv/{name}", "xfs", ()) for name in ("aa", "zz")]
    beneath = [Directory(f"/srv/{name}", "symlink") for name in ("aa", "zz")]
    beside = replace(
        MOUNTED,
        mounts=(*MOUNTED.mounts, *others),
        fstab=(*MOUNTED.fstab, *listed),
        directories=(*MOUNTED.directories, *beneath),
    )
    assert commands(lvm.mount, beside, **HERE) == []
    assert commands(lvm.mount, replace(beside, fstab=tuple(listed)), **HERE) != []


@pytest.mark.parametrize("root", ["/sub", "/"])
def test_mount_of_a_directory_of_the_device_is_not_the_one_of_the_device(root: str) -> None:
    mount = replace(MOUNTED.mounts[1], root=root)
    storage = replace(MOUNTED, mounts=(ROOT, mount))
    entry = FstabEntry.of(DEVICE, "/srv/data", "ext4", ())
    assert lvm.is_mount_of(storage, "/srv/data", entry) == (root == "/")
    assert not lvm.is_mount_of(storage, "/srv", entry)
    for device in ("/dev/dm-0", "/dev/dm-2"):
        other = replace(MOUNTED, mounts=(ROOT, replace(mount, device=device)))
        assert not lvm.is_mount_of(other, "/srv/data", entry)


def test_bind_mount_from_a_filesystem_that_is_itself_a_directory_of_another() -> None:
    holder = replace(MOUNTED.mounts[1], root="/deep")
    bound = Mount("/var/lib/data", DEVICE, "/dev/dm-1", "/deep/sub", "ext4", (), "private")
    entry = FstabEntry.of("/srv/data/sub", "/var/lib/data", "none", ("bind",))
    others = [replace(bound, root=root) for root in ("/sub", "/a")] + [
        replace(bound, device=device) for device in ("/dev/a", "/dev/z")
    ]
    for mount in (bound, *others):
        storage = replace(MOUNTED, mounts=(ROOT, holder, mount))
        assert lvm.is_mount_of(storage, "/var/lib/data", entry) == (mount is bound)
    assert not lvm.is_mount_of(replace(MOUNTED, mounts=(bound,)), "/var/lib/data", entry)


def test_directory_that_a_mount_lacks_is_made_and_one_that_is_there_is_not() -> None:
    absent = replace(MADE, directories=(Directory("/srv/data", "absent"),))
    there = replace(MADE, directories=(Directory("/srv/data", "directory"),))
    plain = HERE | {"immutable_mount_point": False}
    assert [len(commands(lvm.mount, storage, **plain)) for storage in (absent, there)] == [3, 2]
    assert "chattr" not in commands(lvm.mount, absent, **plain)[0]


def test_line_that_names_the_same_device_otherwise_is_replaced() -> None:
    listed = replace(MADE, fstab=(FstabEntry("/dev/vg/data", "/srv/data", "ext4", ()),))
    assert len(commands(lvm.mount, listed, **HERE)) == 3


def test_unfinished_volume_is_not_mounted() -> None:
    assert "it was not mounted" in refused(lvm.mount, UNFINISHED, **HERE)


def test_mount_of_a_device_that_is_mounted_elsewhere_is_made_all_the_same() -> None:
    elsewhere = replace(MADE, mounts=(ROOT, Mount("/mnt", DEVICE, "/dev/dm-1", "/", "ext4", (), "shared")))
    assert len(commands(lvm.mount, elsewhere, **HERE)) == 3


def test_bind_mount_is_told_from_another_directory_of_the_same_device() -> None:
    def bound(root: str, device: str = "/dev/dm-1") -> Storage:
        mount = Mount("/var/lib/data", DEVICE, device, root, "ext4", (), "private")
        return replace(
            MOUNTED,
            mounts=(*MOUNTED.mounts, mount),
            fstab=(*MOUNTED.fstab, FstabEntry("/srv/data/sub", "/var/lib/data", "none", ("bind",))),
            directories=(Directory("/var/lib/data", "directory"),),
        )

    assert commands(lvm.mount, bound("/sub"), **BOUND) == []
    assert "is a mount of" in refused(lvm.mount, bound("/other"), **BOUND)
    assert "is a mount of" in refused(lvm.mount, bound("/sub", device="/dev/dm-2"), **BOUND)


def test_mount_over_somebody_elses_is_refused() -> None:
    taken = replace(MADE, mounts=(ROOT, Mount("/srv/data", "/dev/vdc", "/dev/vdc", "/", "xfs", (), "shared")))
    assert "/srv/data is a mount of /dev/vdc" in refused(lvm.mount, taken, **HERE)


@pytest.mark.parametrize("before", [(), MOUNTED.fstab], ids=["alone", "beside_ours"])
def test_line_of_somebody_else_in_fstab_is_refused(before: tuple[FstabEntry, ...]) -> None:
    listed = replace(MADE, fstab=(*before, FstabEntry("/dev/vdc", "/srv/data", "xfs", ())))
    assert "fstab mounts /dev/vdc on /srv/data" in refused(lvm.mount, listed, **HERE)


@pytest.mark.parametrize("kind", [Directory("/srv/data", "directory", empty=False), Directory("/srv/data", "symlink")])
def test_mount_point_that_holds_something_is_not_made_immutable(kind: Directory) -> None:
    assert "it was not touched" in refused(lvm.mount, replace(MADE, directories=(kind,)), **HERE)


# -- the command that replaces fstab, run for real

OURS = "tmpfs /tmp tmpfs nofail 0 0\n"  # on a directory that every machine has: findmnt checks


def replace_in(folder: Path, old: str, new: str, **environment: str) -> subprocess.CompletedProcess[str]:
    replacement = lvm.replace_fstab(old, new)
    command = get_command_string(replacement)
    assert command.startswith("cd /etc && ")
    command = command.replace("cd /etc", f"cd {shlex.quote(str(folder))}", 1)
    stdin = replacement.connector_arguments["_stdin"]
    return shell(command, folder.parent / "bin", stdin=stdin, **environment)


@pytest.mark.parametrize(
    "before",
    [b"", b"# mine\n", b"# no newline", b"# \r\n#\x0c\n#  \n\n", "# Gerät\n".encode(), b"# Ger\xe4t\n", b"broken\n"],
)
def test_fstab_is_replaced_and_what_was_there_stays_byte_for_byte(tmp_path: Path, before: bytes) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_bytes(before)
    fstab.chmod(0o640)
    text = before.decode(errors="surrogateescape")
    run = replace_in(tmp_path, text, fstab_with(text, *parse_fstab(OURS)))
    assert run.returncode == 0, run.stderr
    assert fstab.read_bytes() == before + (b"\n" if before and not before.endswith(b"\n") else b"") + OURS.encode()
    assert fstab.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["fstab"]


@pytest.mark.parametrize(
    ("warned", "new", "reason"),
    [("# other\n", OURS, "has changed meanwhile"), ("# mine\n", "nonsense\n", "parse error at line 1")],
)
def test_fstab_stays_where_it_has_changed_or_the_new_one_is_broken(
    tmp_path: Path, warned: str, new: str, reason: str
) -> None:
    (tmp_path / "fstab").write_text("# mine\n")
    run = replace_in(tmp_path, warned, new)
    assert run.returncode == 1
    assert reason in run.stderr
    assert "not touched" in run.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"fstab": "# mine\n"}


def test_fstab_that_is_cut_at_any_step_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    directory, programs = tmp_path / "etc", tmp_path / "bin"
    for path in (directory, programs):
        path.mkdir()
    noted(programs, "touch", "sha256sum", "cp", "base64", "findmnt", "sync", "mv")
    fstab, steps = directory / "fstab", 0
    while True:
        fstab.write_text("# mine\n")
        run = replace_in(directory, "# mine\n", f"# mine\n{OURS}", CUT=str(steps + 1))
        done = calls(programs)
        if run.returncode != -9:
            break
        steps += 1
        is_new = done[-1] == "sync ."
        assert fstab.read_text() == f"# mine\n{OURS if is_new else ''}", done
    assert run.returncode == 0, run.stderr
    assert done[-3:] == ["sync fstab.new", "mv -f fstab.new fstab", "sync ."]
    assert steps == len(done)


def test_text_of_fstab_that_did_not_arrive_whole_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text("# mine\n")
    replacement = lvm.replace_fstab("# mine\n", f"# mine\n{OURS}")
    command = get_command_string(replacement).replace("cd /etc", f"cd {tmp_path}")
    run = shell(command, tmp_path, stdin=replacement.connector_arguments["_stdin"][:-9])
    assert run.returncode != 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"fstab": "# mine\n"}


def test_fstab_is_made_where_there_is_none(tmp_path: Path) -> None:
    run = replace_in(tmp_path, "", OURS)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "fstab").read_text() == OURS
