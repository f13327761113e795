"""The fact StorageLayout parses the output of real hosts. The tests of HostFacts are in tasks/preflight.

The fixtures were recorded on machines of the lab. After a change of the command, record them again.
The section of signatures was put together by hand, from what wipefs printed for each device.
lsblk's columns RM and MODEL were put in by hand, as lsblk prints them for virtio disks: false and null. So were vgs' vg_uuid,
pvs' pe_start (LVM's default), and the count of inodes (mke2fs's default). lvs' lv_health_status is not in them.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import FactProcessError
from pyinfra_testing.facts import make_fact_tests

from pyinfra_lvm.facts import WHOLE_DISKS, ZEROS, StorageLayout
from pyinfra_lvm.model import Directory, Filesystem, LogicalVolume, LoopDevice, LvmConfig, Storage

from ..tasks.operations import calls, noting, shell, stand_in

HERE = Path(__file__).parent

TestStorageLayout = make_fact_tests("pyinfra_lvm", "facts.StorageLayout", HERE / "facts")


def answered(command: str, programs: Path) -> subprocess.CompletedProcess[str]:
    """Run the fact's command on a machine that has no LVM but that of a test."""
    for name in ("lvmconfig", "lvs", "pvs", "vgs"):
        if not (programs / name).exists():
            stand_in(programs, name, "echo '{}'")
    return shell(command, programs)


def test_snapshot_that_is_being_merged_is_known_by_its_brackets() -> None:
    row = '{"lv_name":"%s","vg_name":"vg","lv_size":"4","lv_active":"active","segtype":"linear","origin":"%s","lv_tags":""}'
    rows = ", ".join(row % names for names in (("lv", ""), ("[gone]", "lv"), ("kept", "lv"), ("[lvol0_pmspare]", "")))
    found = StorageLayout().process(["##STORAGE## lvs", f'{{"report": [{{"lv": [{rows}]}}]}}'])
    assert [(volume.name, volume.merging) for volume in found.logical_volumes] == [
        ("lv", False),
        ("gone", True),
        ("kept", False),
        ("lvol0_pmspare", False),
    ]


@pytest.mark.parametrize(
    ("section", "output"),
    [
        ("lsblk", {"blockdevices": [{"name": "/dev/sdb", "kname": "/dev/sdb", "type": "disk", "size": None}]}),
        ("findmnt", {"filesystems": [{"target": "/", "source": "/dev/sda1", "maj:min": None}]}),
    ],
)
def test_value_that_is_missing_fails_this_host_alone(section: str, output: dict[str, Any]) -> None:
    """As of a disk that is pulled out meanwhile."""
    with pytest.raises(FactProcessError, match="cannot be read"):
        StorageLayout().process([f"##STORAGE## {section}", json.dumps(output)])


def test_mirror_is_one_volume_with_the_health_that_lvs_shows() -> None:
    rows = (
        ("docker-lv", "raid1", "partial"),
        ("[docker-lv_rimage_0]", "linear", ""),
        ("[docker-lv_rimage_1]", "linear", "partial"),
        ("[docker-lv_rmeta_0]", "linear", ""),
        ("docker-lv_rmeta_1", "linear", "partial"),  # as a cut in lvcreate leaves it: LVM has not hidden it yet
    )
    same = {"vg_name": "docker-vg", "lv_size": "4", "lv_active": "active", "origin": "", "lv_tags": "docker-bulkhead"}
    volumes = [{"lv_name": name, **same, "segtype": kind, "lv_health_status": health} for name, kind, health in rows]
    found = StorageLayout().process(["##STORAGE## lvs", json.dumps({"report": [{"lv": volumes}]})])
    (volume,) = found.logical_volumes
    assert (volume.name, volume.is_mirror, volume.health) == ("docker-lv", True, "partial")


def test_copies_of_a_mirror_are_on_the_disks_that_pvs_shows() -> None:
    disks = [
        {"pv_name": name, "vg_name": "docker-vg", "pv_size": "8", "pv_free": "4", "pv_missing": "", "pe_start": "1"}
        for name in ("/dev/vdb", "/dev/vdc", "/dev/vdd")
    ]
    parts = (
        ("vdb", "[docker-lv_rimage_0]"),
        ("vdd", "[docker-lv_rimage_1]"),
        ("vdd", "[docker-lv_rmeta_1]"),
        ("vdc", ""),
    )
    rows = [{"pv_name": f"/dev/{disk}", "vg_name": "docker-vg", "lv_name": part} for disk, part in parts]
    output = ["##STORAGE## pvs", json.dumps({"report": [{"pv": disks}]})]
    found = StorageLayout().process([*output, "##STORAGE## parts", json.dumps({"report": [{"pvseg": rows}]})])
    mirror = LogicalVolume("docker-lv", "docker-vg", 4, True, "raid1", "")
    assert [[disk.path for disk in copy] for copy in found.copies_of(mirror)] == [["/dev/vdb"], ["/dev/vdd"]]


# -- the command itself, with stand-ins for the programs that it asks


def device(path: str, kind: str, *children: dict[str, object]) -> dict[str, object]:
    """A device as lsblk prints it."""
    empty = dict.fromkeys(("fssize", "fsavail", "model"))
    row = {"name": path, "kname": path, "type": kind, "size": 9, "ro": False, "rm": False, "maj:min": "1:0"}
    return {**row, **empty, "mountpoints": [None], "children": list(children)}


def machine(programs: Path, wipefs: str) -> None:
    """A machine with a disk, an empty card reader, and two volumes, of which one is on two disks."""
    first, second = device("/dev/dm-0", "lvm"), device("/dev/dm-10", "lvm")
    tree = [
        device("/dev/vda", "disk", first, second),
        device("/dev/vdb", "disk", second),
        device("/dev/mmcblk0", "disk"),
        device("/dev/sr0", "rom"),
    ]
    rows = "vda disk,dm-0 lvm,dm-10 lvm,vdb disk,dm-10 lvm,mmcblk0 disk,sr0 rom,loop0 loop".split(",")
    listed = " ".join(f"'/dev/{row}'" for row in rows)
    answers = {
        "lsblk": f"case $* in *--json*) echo '{json.dumps({'blockdevices': tree})}' ;; *) printf '%s\\n' {listed} ;; esac",
        "wipefs": wipefs,
        "dumpe2fs": "printf 'Filesystem volume name:   ##x\\nMount count:  2\\nBlock count:   5\\nBlock size:  4096\\n'",
        "findmnt": "echo '{}'",
    }
    for name, answer in answers.items():
        stand_in(programs, name, noting(programs, name) + answer)


def storage_of(programs: Path, *paths: str) -> Storage:
    command = StorageLayout().command(paths=list(paths))
    return StorageLayout().process(answered(command, programs).stdout.splitlines())


SIGNATURES = "'vda LVM2_member' 'vdb LVM2_member' 'dm-0     ext4  6f0a-1' 'dm-10  xfs  7b'"


def test_all_devices_are_asked_for_their_signatures_at_once_and_each_volume_for_its_filesystem(tmp_path: Path) -> None:
    machine(tmp_path, f"printf '%s\\n' {SIGNATURES}")
    found = storage_of(tmp_path)
    asked = [call for call in calls(tmp_path) if call.split()[0] in ("wipefs", "dumpe2fs")]
    every = "/dev/vda /dev/dm-0 /dev/dm-10 /dev/vdb /dev/mmcblk0"
    assert asked == [f"wipefs --no-act --noheadings --output DEVICE,TYPE,UUID {every}", "dumpe2fs -h /dev/dm-0"]
    assert found.filesystems[0] == Filesystem("/dev/dm-0", "ext4", 5 * 4096, used=True)
    assert {one.path: one.uuids for one in found.devices if one.uuids} == {
        "/dev/dm-0": ("6f0a-1",),
        "/dev/dm-10": ("7b",),
    }
    assert {one.path: one.signatures for one in found.devices} == {
        "/dev/vda": ("LVM2_member",),
        "/dev/vdb": ("LVM2_member",),
        "/dev/dm-0": ("ext4",),
        "/dev/dm-10": ("xfs",),
        "/dev/mmcblk0": (),
        "/dev/sr0": (),
    }


def test_device_that_cannot_be_opened_hides_no_signature_of_another(tmp_path: Path) -> None:
    alone = "case $5 in */vda) echo vda gpt ;; */dm-0) echo dm-0 ext4 ;; *mmcblk0) exit 1 ;; esac"
    machine(tmp_path, f"[ $# = 5 ] || exit 1; {alone}")
    found = storage_of(tmp_path)
    signed = {one.path: one.signatures for one in found.devices if one.signatures}
    assert signed == {"/dev/vda": ("gpt",), "/dev/dm-0": ("ext4",)}
    assert [one.device for one in found.filesystems] == ["/dev/dm-0"]


def probed(top: Path, *asked: str) -> dict[str, bool | None]:
    """What the fact says of the ends of three disks: one blank, with two names; one used; one with a name like the first."""
    programs, disks = top / "bin", top / "disks"
    for path in (programs, disks):
        path.mkdir()
    for name in ("vda", "vdb", "vdc"):
        (disks / name).write_bytes(bytes(3 * 2**20) if name != "vdb" else b"x" * 3 * 2**20)
    for link, name in {"virtio-a": "vda", "virtio-again": "vda", "virtio-b": "vdb", "scsi-c": "vdc"}.items():
        (disks / link).symlink_to(disks / name)
    names = [f"{disks}/{name}" for name in ("vda", "vdb", "vdc")]
    rows = " ".join(f"'{name} {kind}'" for name, kind in zip(names, ("disk", "raid1", "mpath"), strict=True))
    tree = json.dumps({"blockdevices": [device(name, "disk") for name in names]})
    stand_in(
        programs, "lsblk", f"case $* in *--json*) echo '{tree}' ;; *) printf '%s\\n' {rows} '/dev/loop0 loop' ;; esac"
    )
    stand_in(programs, "blockdev", 'stat -c %s "$2"')
    stand_in(programs, "findmnt", "echo '{}'")
    stand_in(programs, "wipefs", "")
    command = StorageLayout().command(probe=[name.replace("DISKS", str(disks)) for name in asked])
    assert '[ -b "$device" ]' in command
    done = answered(command.replace('[ -b "$device" ]', '[ -f "$device" ]'), programs)
    return {Path(one.path).name: one.zeroed for one in StorageLayout().process(done.stdout.splitlines()).devices}


def test_ends_of_every_whole_disk_are_read_where_all_are_asked_for(tmp_path: Path) -> None:
    assert probed(tmp_path, WHOLE_DISKS, "/dev/none") == {"vda": True, "vdb": False, "vdc": True}


@pytest.mark.parametrize("asked", [["DISKS/virtio-*"], ["DISKS/vda", "DISKS/virtio-b", "DISKS/virtio-again"]])
def test_ends_of_a_disk_with_several_names_are_read_once(tmp_path: Path, asked: list[str]) -> None:
    assert probed(tmp_path, *asked) == {"vda": True, "vdb": False, "vdc": None}


@pytest.mark.parametrize("at", [2**20, 17 * 2**20 - 1, 20 * 2**20, 40 * 2**20, 60 * 2**20, 80 * 2**20 - 1])
def test_disk_with_anything_at_its_ends_or_its_quarters_is_not_blank(tmp_path: Path, at: int) -> None:
    disk = tmp_path / "disk"
    stand_in(tmp_path, "blockdev", 'stat -c %s "$2"')
    with disk.open("wb") as file:
        file.truncate(80 * 2**20)
    is_blank = f'{ZEROS}zeros_from "{disk}" 0'
    assert shell(is_blank, tmp_path).returncode == 0
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(b"x")
    assert shell(is_blank, tmp_path).returncode == 1


@pytest.mark.parametrize("is_old", [True, False])
def test_groups_show_whose_they_are_also_where_lvm_knows_no_autoactivation(tmp_path: Path, is_old: bool) -> None:
    machine(tmp_path, "")
    row = {
        "vg_name": "vg",
        "vg_size": "9",
        "vg_free": "9",
        "vg_extent_size": "1",
        "vg_missing_pv_count": "0",
        "vg_tags": "",
    }
    row |= {"vg_permissions": "read-only", "vg_exported": "", "vg_clustered": "", "vg_shared": "shared"}
    row |= {"vg_lock_type": "dlm"} | ({} if is_old else {"vg_autoactivation": ""})
    stand_in(tmp_path, "lvs", "echo '{}'")
    stand_in(tmp_path, "pvs", "echo '{}'")
    fails = "case $* in *vg_autoactivation*) exit 3 ;; esac; " if is_old else ""
    stand_in(tmp_path, "vgs", f"{fails}echo '{json.dumps({'report': [{'vg': [row]}]})}'")
    stand_in(tmp_path, "lvmconfig", "exit 5")
    (group,) = storage_of(tmp_path).volume_groups
    assert (group.kinds, group.read_only, group.lock_type, group.autoactivated) == (("shared",), True, "dlm", is_old)


def test_lvmconfig_is_asked_once_and_prints_only_what_is_set(tmp_path: Path) -> None:
    machine(tmp_path, "")
    for name in ("lvs", "pvs", "vgs"):
        stand_in(tmp_path, name, "echo '{}'")
    lines = r"""auto_activation_volume_list=[]
volume_list=["vg1","@tag"]
event_activation=0
filter="a|.*|"
global_filter=["r|/dev/loop|","a|x\\.y|"]"""
    (tmp_path / "lines").write_text(lines)
    stand_in(tmp_path, "lvmconfig", noting(tmp_path, "lvmconfig") + f"cat {tmp_path}/lines; exit 5")
    found = storage_of(tmp_path).lvm_config
    assert sum(call.startswith("lvmconfig") for call in calls(tmp_path)) == 1
    assert found == LvmConfig((), ("vg1", "@tag"), False, (("a|.*|",), ("r|/dev/loop|", r"a|x\.y|")))
    assert StorageLayout().process([]).lvm_config == LvmConfig()


def volume(*lines: str) -> Storage:
    """A volume that wipefs calls an xfs, with the lines of its own section."""
    tree = json.dumps({"blockdevices": [device("/dev/dm-0", "lvm")]})
    before = ["##STORAGE## lsblk", tree, "##STORAGE## signatures", "dm-0 xfs", "##STORAGE## device /dev/dm-0"]
    return StorageLayout().process([*before, *lines])


def test_signatures_come_from_wipefs_alone() -> None:
    assert volume("xfs-superblock").devices[0].signatures == ("xfs",)


def test_xfs_whose_superblock_cannot_be_read_counts_as_used() -> None:
    assert volume("xfs-superblock ").filesystems == (Filesystem("/dev/dm-0", "xfs", 0, used=True),)


@pytest.mark.parametrize(("allocated", "used"), [(67, True), (66, False)])
def test_xfs_that_only_its_superblock_tells_of_is_known(allocated: int, used: bool) -> None:
    """xfs_info is not there. The superblock was read from byte 4 on."""
    numbers = {4: (4096, 4), 8: (3 * 2**18, 8), 128: (allocated, 8), 136: (63, 8)}
    superblock = bytearray(144)
    for offset, (number, length) in numbers.items():
        superblock[offset : offset + length] = number.to_bytes(length, "big")
    found = volume("xfs-superblock " + " ".join(map(str, superblock[4:])))
    assert found.filesystems == (Filesystem("/dev/dm-0", "xfs", 3 * 2**30, used=used),)


def images_of(programs: Path, *paths: Path) -> Storage:
    command = StorageLayout().command(images=list(map(str, paths)))
    return StorageLayout().process(answered(command, programs).stdout.splitlines())


def image_machine(tmp_path: Path, loops: str = "", signature: str = "") -> Path:
    """A machine with a file of 3 MiB, of which 1 MiB is allocated."""
    programs, image = tmp_path / "bin", tmp_path / "disk"
    programs.mkdir()
    machine(programs, f"case $* in *{image}) printf '{signature}' ;; esac")
    with image.open("wb") as file:
        file.write(bytes(2**20))
        file.truncate(3 * 2**20)
    image.chmod(0o600)
    stand_in(programs, "losetup", f"printf '{loops}'")
    stand_in(programs, "blockdev", "echo 4096")
    stand_in(
        programs, "cat", 'case $1 in */loop7/*) echo 0 ;; */loop8/*) echo 4294966784 ;; *) exec /bin/cat "$@" ;; esac'
    )
    stand_in(programs, "uname", "echo 6.1.0-39-cloud-amd64")
    return image


def test_file_that_is_a_disk_shows_what_it_was_given_and_who_has_it(tmp_path: Path) -> None:
    image = image_machine(tmp_path, loops="/dev/loop7\n/dev/loop8\n", signature="disk LVM2_member\n")
    found = images_of(tmp_path / "bin", image)
    (disk,) = found.images
    assert found.kernel == (6, 1)
    assert (disk.path, disk.kind, disk.mode[-4:], disk.links) == (str(image), "regular", ":600", 1)
    assert disk.size == 3 * 2**20
    assert 2**20 <= disk.allocated < 2 * 2**20
    assert disk.loops == (LoopDevice("/dev/loop7", 4096, False), LoopDevice("/dev/loop8", 4096, True))
    assert disk.signatures == ()  # it is attached: LVM knows


def test_file_that_no_loop_device_has_shows_its_signatures(tmp_path: Path) -> None:
    image = image_machine(tmp_path, signature="disk LVM2_member\n")
    (disk,) = images_of(tmp_path / "bin", image).images
    assert (disk.signatures, disk.loops, disk.shared) == (("LVM2_member",), (), False)


def test_only_a_file_itself_is_a_disk(tmp_path: Path) -> None:
    image = image_machine(tmp_path)
    (tmp_path / "link").symlink_to(image)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    paths = [tmp_path / name for name in ("link", "dangling", "none", "bin")]
    found = images_of(tmp_path / "bin", *paths).images
    assert [one.kind for one in found] == ["other", "other", "absent", "other"]


@pytest.mark.parametrize(
    ("fstype", "flags", "shared"),
    [("xfs", "last,shared,eof", True), ("xfs", "last,eof", False), ("ext2/ext3", "shared", False)],
)
def test_extents_that_a_copy_shares_are_seen_on_xfs(tmp_path: Path, fstype: str, flags: str, shared: bool) -> None:
    image = image_machine(tmp_path)
    stand_in(tmp_path / "bin", "stat", f'case $1 in -f) echo {fstype} ;; *) exec /usr/bin/stat "$@" ;; esac')
    stand_in(tmp_path / "bin", "filefrag", f"echo '   0: 0.. 2: 83.. 86: 3: {flags}'")
    (disk,) = images_of(tmp_path / "bin", image).images
    assert disk.shared == shared


@pytest.mark.parametrize("is_mounted", [True, False])
def test_directories_are_seen_beneath_the_mounts_on_them(tmp_path: Path, is_mounted: bool) -> None:
    programs, top = tmp_path / "bin", tmp_path / "top"
    for path in (programs, top / "full", top / "empty", top / "hidden"):
        path.mkdir(parents=True)
    (top / "full/file").touch()
    (top / "hidden/.file").touch()
    (top / "file").touch()
    (top / "link").symlink_to(top / "full")
    (tmp_path / "through").symlink_to(top)
    machine(programs, "")
    for name in ("mount", "umount", "lsattr"):
        stand_in(
            programs, name, noting(programs, name) + ("[ $1 != -d ] || echo ----i--- x" if is_mounted else "exit 1")
        )
    # `mount --bind PARENT /mnt` is played by looking into the directory itself.
    stand_in(programs, "unshare", 'shift 5; script=$1; shift 2; exec sh -c "$script" sh "$@"')
    names = ("full", "empty", "hidden", "file", "link", "none")
    paths = [*(f"{top}/{name}" for name in names), f"{tmp_path}/through/full"]
    command = StorageLayout().command(paths=paths).replace("/mnt/", f"{top}/")
    found = StorageLayout().process(answered(command, programs).stdout.splitlines()).directories
    bound = [call for call in calls(programs) if "mount" in call.split()[0]]
    assert bound[:1] == [f"mount --bind {top} /mnt"]
    if not is_mounted:
        assert {one.kind for one in found} == {"absent"}
        return
    assert bound[1:] == ["umount /mnt", f"mount --bind {tmp_path}/through /mnt"]
    assert found == (
        Directory(paths[0], "directory", empty=False, immutable=True),
        Directory(paths[1], "directory", empty=True, immutable=True),
        Directory(paths[2], "directory", empty=False, immutable=True),
        Directory(paths[3], "other", empty=False),
        Directory(paths[4], "symlink", empty=False),
        Directory(paths[5], "absent"),
        Directory(paths[6], "symlink", empty=False),
    )
