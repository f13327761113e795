"""The operations' commands, run with stand-ins for the system's programs: what they check once more, and in what order they write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from pyinfra_lvm import operations as lvm
from pyinfra_lvm.model import Directory, PhysicalVolume, Storage

from ..tasks.operations import calls, noted, noting, shell, stand_in
from .test_operations import BLANK, DEVICE, GROUP, GROWN, HERE, MADE, MOUNTED, UNFINISHED, XFS, commands, on_disk

MIB = 2**20
SIZE = 3 * MIB
WRITES = (
    "pvcreate",
    "pvresize",
    "vgcreate",
    "vgextend",
    "mkfs.ext4",
    "mkfs.xfs",
    "resize2fs",
    "xfs_growfs",
    "lvchange",
    "chattr",
)


class StorageMachine:
    """A machine whose devices are files. Programs that would write to them note their call."""

    def __init__(self, top: Path) -> None:
        self.top, self.programs = top, top / "bin"
        self.programs.mkdir()
        (self.programs / "calls").touch()
        for name in WRITES:
            stand_in(self.programs, name, noting(self.programs, name))
        stand_in(self.programs, "blockdev", 'stat -c %s "$2"')
        noted(self.programs, "sync")

    def device(self, name: str = "device", size: int = SIZE) -> Path:
        """A blank device."""
        path = self.top / name
        with path.open("wb") as file:
            file.truncate(size)
        return path

    def program(self, name: str, script: str) -> None:
        stand_in(self.programs, name, script)

    def run(self, command: str, **replaced: Path) -> CompletedProcess[str]:
        for path in replaced.values():
            command = command.replace(DEVICE, str(path))
        return shell(command, self.programs)

    def calls(self) -> list[str]:
        return calls(self.programs)


@pytest.fixture
def machine(tmp_path: Path) -> StorageMachine:
    return StorageMachine(tmp_path)


def write(path: Path, at: int, content: bytes = b"x") -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


# -- a blank device


def made_physical(machine: StorageMachine, path: Path, is_block_device: bool = True) -> CompletedProcess[str]:
    """Run the command that makes a device a physical volume, with lsblk and wipefs as they were set up."""
    storage = Storage(devices=(replace(BLANK, path=str(path)),))
    (command,) = commands(lvm.physical_volume, storage, device=str(path))
    assert '[ -b "$device" ]' in command
    return machine.run(command.replace('[ -b "$device" ]', '[ -f "$device" ]') if is_block_device else command)


def with_lsblk(machine: StorageMachine, mounts: str = "", devices: int = 1) -> None:
    machine.program(
        "lsblk",
        f"""case "$*" in
            "--noheadings --output MOUNTPOINTS "*) printf '%s\\n' '{mounts}' '' ;;
            "--noheadings --list "*) for device in $(seq {devices}); do echo device; done ;;
        esac""",
    )
    machine.program("wipefs", "")


def test_physical_volume_is_made_on_a_device_that_is_still_blank(machine: StorageMachine) -> None:
    with_lsblk(machine)
    device = machine.device()
    done = made_physical(machine, device)
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.calls() == [f"pvcreate --quiet {device}"]


@pytest.mark.parametrize(("more", "code"), [(1, 0), (0, 1), (-1, 1)])
def test_physical_volume_never_shrinks(machine: StorageMachine, more: int, code: int) -> None:
    machine.program("pvs", "echo '  3145728'")
    (command,) = commands(lvm.grown_physical_volume, on_disk(40 * 2**30), device="/dev/vdb")
    device = machine.device(size=SIZE + more)
    done = machine.run(command.replace("/dev/vdb", str(device)))
    assert done.returncode == code
    assert machine.calls() == ([f"pvresize --quiet {device}"] if more > 0 else [])
    assert ("is not larger than its physical volume; nothing was changed" in done.stderr) == bool(code)


def test_physical_volume_whose_size_lvm_does_not_tell_stays(machine: StorageMachine) -> None:
    machine.program("pvs", "exit 5")
    (command,) = commands(lvm.grown_physical_volume, on_disk(40 * 2**30), device="/dev/vdb")
    assert machine.run(command.replace("/dev/vdb", str(machine.device()))).returncode == 1
    assert machine.calls() == []


SPOILT: dict[str, tuple[Callable[[StorageMachine, Path], None], str]] = {
    "mounted": (lambda machine, _: with_lsblk(machine, mounts="/data"), "is mounted or in use"),
    "partitions": (lambda machine, _: with_lsblk(machine, devices=2), "has partitions or is in use"),
    "signature": (lambda machine, _: machine.program("wipefs", "echo xfs"), "carries a signature: xfs"),
    "no answer": (lambda machine, _: machine.program("wipefs", "exit 1"), "cannot be examined"),
    "first byte": (lambda _, device: write(device, 0), "holds data, or cannot be read"),
    "end of the first MiB": (lambda _, device: write(device, MIB - 1), "holds data, or cannot be read"),
    "begin of the last MiB": (lambda _, device: write(device, SIZE - MIB), "holds data, or cannot be read"),
    "last byte": (lambda _, device: write(device, SIZE - 1), "holds data, or cannot be read"),
    "unreadable": (lambda machine, _: machine.program("cmp", "exit 2"), "holds data, or cannot be read"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_device_that_is_no_longer_blank_is_not_written_to(machine: StorageMachine, spoilt: str) -> None:
    with_lsblk(machine)
    device = machine.device()
    spoil, reason = SPOILT[spoilt]
    spoil(machine, device)
    done = made_physical(machine, device)
    assert done.returncode == 1
    assert done.stderr == f"refused: {device} {reason}; nothing was written to it\n"
    assert machine.calls() == []


@pytest.mark.parametrize("at", [2 * MIB, 40 * MIB])
def test_disk_whose_first_mebibyte_was_zeroed_is_not_written_to(machine: StorageMachine, at: int) -> None:
    with_lsblk(machine)
    device = machine.device(size=80 * MIB)
    write(device, at)
    done = made_physical(machine, device)
    assert (done.returncode, machine.calls()) == (1, [])
    assert "holds data, or cannot be read" in done.stderr


def test_path_that_is_no_device_is_not_written_to(machine: StorageMachine) -> None:
    with_lsblk(machine)
    done = made_physical(machine, machine.device(), is_block_device=False)
    assert done.returncode == 1
    assert "is no block device; nothing was written to it" in done.stderr
    assert machine.calls() == []


# -- a physical volume in no group


def grouped(machine: StorageMachine, *devices: Path, extend: bool = False) -> CompletedProcess[str]:
    """Run the command that puts devices into a group."""
    names = [str(path) for path in devices]
    storage = Storage(
        physical_volumes=tuple(PhysicalVolume(name, "", SIZE, SIZE) for name in names),
        volume_groups=(GROUP,) if extend else (),
    )
    (command,) = commands(lvm.volume_group, storage, group="vg", devices=names, extend=extend)
    return machine.run(command)


@pytest.mark.parametrize(("extend", "program"), [(False, "vgcreate"), (True, "vgextend")])
def test_group_is_made_of_physical_volumes_that_were_never_in_one(
    machine: StorageMachine, extend: bool, program: str
) -> None:
    machine.program("pvs", "echo '  '")
    devices = [machine.device("one"), machine.device("two")]
    for device in devices:
        write(device, 512, b"LABELONE")  # the header of a physical volume
        write(device, 4607)
    assert grouped(machine, *devices, extend=extend).returncode == 0
    assert machine.calls() == [f"{program} --quiet vg {devices[0]} {devices[1]}"]


FOREIGN: dict[str, Callable[[StorageMachine, Path], None]] = {
    "of another group": lambda machine, _: machine.program("pvs", 'case "$*" in *two) echo other-vg ;; esac'),
    "no physical volume": lambda machine, _: machine.program("pvs", 'case "$*" in *two) exit 5 ;; esac'),
    "with the text of a group": lambda _, device: write(device, 4608),
    "with data at the end of the first MiB": lambda _, device: write(device, MIB - 1),
    "with data in the last MiB": lambda _, device: write(device, SIZE - MIB),
    "with data at its end": lambda _, device: write(device, SIZE - 1),
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_group_takes_none_of_them_where_one_is_not_unused(machine: StorageMachine, foreign: str) -> None:
    machine.program("pvs", "echo '  '")
    devices = [machine.device("one"), machine.device("two")]
    FOREIGN[foreign](machine, devices[1])
    done = grouped(machine, *devices, extend=foreign != "no physical volume")
    assert done.returncode == 1
    assert done.stderr == f"refused: {devices[1]} is no unused physical volume; nothing was written to it\n"
    assert machine.calls() == []


# -- a filesystem on an unfinished volume


def made_filesystem(machine: StorageMachine, fstype: str = "ext4") -> CompletedProcess[str]:
    (command,) = commands(lvm.filesystem, UNFINISHED, volume="data", group="vg", fstype=fstype)
    return machine.run(command, device=machine.top / "device")


def with_volume(machine: StorageMachine, tags: str = "mine,pyinfra-unfinished", mounts: str = "") -> Path:
    machine.program("lvs", f"[ \"$*\" = '--noheadings --options lv_tags vg/data' ] && echo '  {tags}  '")
    machine.program("findmnt", "exit 1")
    machine.program("dumpe2fs", f"echo 'Mount count:              {mounts}'" if mounts else "exit 1")
    return machine.device()


def xfs_inodes(path: Path, allocated: int, free: int) -> None:
    write(path, 0, b"XFSB")
    write(path, 128, allocated.to_bytes(8, "big") + free.to_bytes(8, "big"))


@pytest.mark.parametrize(("fstype", "options"), [("ext4", "-q -F"), ("xfs", "-q -f")])
@pytest.mark.parametrize("mounts", ["", "0"])
def test_filesystem_is_on_disk_before_its_volume_counts_as_finished(
    machine: StorageMachine, fstype: str, options: str, mounts: str
) -> None:
    device = with_volume(machine, mounts=mounts)
    xfs_inodes(device, allocated=64, free=61)  # as mkfs.xfs leaves it, before a cut
    assert made_filesystem(machine, fstype).returncode == 0
    assert machine.calls() == [
        f"mkfs.{fstype} {options} {device}",
        "sync ",
        "lvchange --quiet --deltag pyinfra-unfinished vg/data",
    ]


USED: dict[str, Callable[[StorageMachine], None]] = {
    "finished": lambda machine: void(with_volume(machine, tags="mine")),
    "of a similar tag": lambda machine: void(with_volume(machine, tags="not-pyinfra-unfinished,pyinfra-unfinished2")),
    "gone": lambda machine: machine.program("lvs", "exit 5"),
    "mounted": lambda machine: machine.program("findmnt", f'[ "$*" = "--source {machine.top}/device" ]'),
    "ext4 that was mounted": lambda machine: void(with_volume(machine, mounts="1")),
    "ext4 that was mounted often": lambda machine: void(with_volume(machine, mounts="20")),
    "xfs with a file": lambda machine: xfs_inodes(machine.top / "device", allocated=64, free=60),
}


def void(_: object) -> None:
    """Ignore what a function returns."""


@pytest.mark.parametrize("used", USED)
def test_volume_that_has_come_into_use_meanwhile_is_not_written_to(machine: StorageMachine, used: str) -> None:
    device = with_volume(machine)
    USED[used](machine)
    done = made_filesystem(machine)
    assert done.returncode == 1
    assert done.stderr == f"refused: {device} is no unfinished volume; nothing was written to it\n"
    assert machine.calls() == []


@pytest.mark.parametrize("failing", ["mkfs.ext4", "sync"])
def test_volume_stays_unfinished_where_its_filesystem_is_not_complete(machine: StorageMachine, failing: str) -> None:
    with_volume(machine)
    machine.program(failing, "exit 1")
    assert made_filesystem(machine).returncode == 1
    assert "lvchange" not in " ".join(machine.calls())


@pytest.mark.parametrize(("code", "grows"), [(0, True), (1, True), (2, False), (4, False)])
def test_ext4_that_is_not_mounted_grows_only_after_a_check(machine: StorageMachine, code: int, grows: bool) -> None:
    (command,) = commands(lvm.filesystem, replace(MADE, logical_volumes=GROWN), volume="data", group="vg")
    machine.program("e2fsck", f'[ "$*" = "-fp {machine.top}/device" ] && exit {code}')
    done = machine.run(command, device=machine.top / "device")
    assert (done.returncode == 0) == grows
    assert machine.calls() == ([f"resize2fs {machine.top}/device"] if grows else [])


# -- beneath a mount: what `mount --bind` shows is a symbolic link here


def with_namespace(machine: StorageMachine) -> Path:
    """Stand-ins for a mount namespace, and where the parent of the mount point is then."""
    shown = machine.top / "shown"
    machine.program("unshare", '[ "$1 $2 $3" = "--mount --propagation private" ] && shift 3 && exec "$@"')
    machine.program("mount", f'case $1 in --bind) ln -s "$2" {shown} ;; *) {noting(machine.programs, "mount")} ;; esac')
    return shown


def pointed(machine: StorageMachine, path: Path, immutable: bool = True) -> CompletedProcess[str]:
    """Make the directory beneath a mount."""
    shown = with_namespace(machine)
    storage = replace(MADE, directories=(Directory(str(path), "absent"),))
    arguments: dict[str, Any] = HERE | {"path": str(path), "immutable_mount_point": immutable}
    command, *_ = commands(lvm.mount, storage, **arguments)
    return machine.run(command.replace("/mnt", str(shown)))


def test_mount_point_is_made_immutable_and_is_on_disk(machine: StorageMachine) -> None:
    path = machine.top / "new" / "data"
    assert pointed(machine, path).returncode == 0
    assert path.is_dir()
    assert machine.calls() == [f"chattr +i {machine.top}/shown/data", f"sync -f {machine.top}/shown/data"]


def test_mount_point_that_is_not_to_be_immutable_may_hold_files(machine: StorageMachine) -> None:
    path = machine.top / "data"
    path.mkdir()
    (path / "file").touch()
    assert pointed(machine, path, immutable=False).returncode == 0
    assert machine.calls() == [f"sync -f {machine.top}/shown/data"]


@pytest.mark.parametrize("name", ["file", ".hidden"])
def test_mount_point_that_has_got_a_file_meanwhile_is_not_touched(machine: StorageMachine, name: str) -> None:
    path = machine.top / "data"
    path.mkdir()
    (path / name).touch()
    done = pointed(machine, path)
    assert done.returncode == 1
    assert done.stderr == f"refused: {path} is not empty beneath the mount; it was not touched\n"
    assert machine.calls() == []


def test_xfs_that_is_not_mounted_grows_where_nobody_sees_it(machine: StorageMachine) -> None:
    with_namespace(machine)
    storage = replace(MADE, logical_volumes=GROWN, filesystems=XFS)
    (command,) = commands(lvm.filesystem, storage, volume="data", group="vg", fstype="xfs")
    assert machine.run(command, device=machine.top / "device").returncode == 0
    assert machine.calls() == [f"mount -t xfs {machine.top}/device /mnt", "xfs_growfs /mnt"]
    machine.program("mount", "exit 32")
    assert machine.run(command).returncode == 32
    assert not (machine.programs / "calls").exists(), "a filesystem of the host would have grown"


# -- the mount itself


def mounted(
    machine: StorageMachine, *, systemd: bool = True, before: bool = False, works: bool = True
) -> CompletedProcess[str]:
    """Run the command that mounts, on a machine where it is mounted before or not, and where mounting works or not."""
    is_mounted = machine.top / "mounted"
    (machine.top / "run").mkdir()
    if systemd:
        (machine.top / "run" / "systemd").mkdir()
    if before:
        is_mounted.touch()
    effect = f"touch {is_mounted}" if works else "true"
    machine.program("mountpoint", f'[ "$*" = "-q /srv/data" ] && [ -e {is_mounted} ]')
    machine.program("mount", f"{noting(machine.programs, 'mount')} {effect}")
    machine.program("systemctl", f"{noting(machine.programs, 'systemctl')} [ $1 != start ] || {effect}")
    machine.program("systemd-escape", '[ "$*" = "--path --suffix=mount /srv/data" ] && echo srv-data.mount')
    *_, command = commands(lvm.mount, replace(MOUNTED, fstab=(), fstab_text=""), **HERE)
    return machine.run(command.replace("/run/systemd/system", str(machine.top / "run" / "systemd")))


def test_mount_is_made_by_systemd_after_it_has_read_fstab(machine: StorageMachine) -> None:
    assert mounted(machine).returncode == 0
    assert machine.calls() == ["systemctl daemon-reload", "systemctl start srv-data.mount"]


def test_mount_that_is_there_is_kept_and_systemd_reads_its_line(machine: StorageMachine) -> None:
    assert mounted(machine, before=True).returncode == 0
    assert machine.calls() == ["systemctl daemon-reload"]


def test_mount_is_made_without_systemd(machine: StorageMachine) -> None:
    assert mounted(machine, systemd=False).returncode == 0
    assert machine.calls() == ["mount /srv/data"]


@pytest.mark.parametrize("systemd", [True, False])
def test_mount_that_does_not_come_about_fails_the_run(machine: StorageMachine, systemd: bool) -> None:
    """With nofail, mount(8) succeeds without the device."""
    done = mounted(machine, systemd=systemd, works=False)
    assert done.returncode == 1
    assert done.stderr == f"/srv/data could not be mounted: does {DEVICE} exist?\n"
