"""What is looked up in a host's storage is what bears the name, and not what stands before or after it."""

from __future__ import annotations

import pytest

from pyinfra_lvm.model import (
    EXTENT,
    BlockDevice,
    Directory,
    Filesystem,
    LogicalVolume,
    LvmConfig,
    Mount,
    PhysicalVolume,
    Storage,
    VolumeGroup,
    names_in,
    usable,
)

ORDER = ("c", "a", "b", "d")  # of what a host has: "b" has others on both sides, by place and by name


def device(name: str, *children: str) -> BlockDevice:
    aliases = (f"/dev/disk/by-label/{name}", f"/dev/mapper/{name}")
    return BlockDevice(f"/dev/{name}", "disk", 9, False, aliases, (), tuple(f"/dev/{child}" for child in children), ())


def mount(target: str, name: str = "a", root: str = "/") -> Mount:
    return Mount(target, f"/dev/mapper/{name}", f"/dev/{name}", root, "ext4", (), "private")


STORAGE = Storage(
    devices=tuple(device(name) for name in ORDER),
    physical_volumes=tuple(PhysicalVolume(f"/dev/{name}", f"{name}-vg", 9, 9) for name in ORDER),
    volume_groups=tuple(VolumeGroup(f"{name}-vg", 9, 9, 1, 0) for name in ORDER),
    logical_volumes=tuple(
        LogicalVolume(f"{name}-lv", f"{group}-vg", 9, True, "linear", "") for group in ORDER for name in ORDER
    ),
    filesystems=tuple(Filesystem(f"/dev/{name}", "ext4", 9) for name in ORDER),
    mounts=tuple(mount(f"/srv/{name}", name) for name in ORDER),
    directories=tuple(Directory(f"/srv/{name}", "directory") for name in ORDER),
)


@pytest.mark.parametrize("path", ["/dev/b", "/dev/mapper/b", "LABEL=b", 'LABEL="b"'])
def test_device_has_the_name_in_every_form(path: str) -> None:
    assert STORAGE.device(path) == device("b")
    assert STORAGE.group_of(path) == "b-vg"
    assert STORAGE.filesystem(path) == Filesystem("/dev/b", "ext4", 9)
    assert STORAGE.mounts_of(path) == (mount("/srv/b", "b"),)


def test_group_volume_mount_and_directory_have_the_name() -> None:
    group, volume = STORAGE.volume_group("b-vg"), STORAGE.logical_volume("b-vg", "b-lv")
    assert group
    assert group.name == "b-vg"
    assert volume
    assert volume.path == "/dev/b-vg/b-lv"
    assert volume.mapper_path == "/dev/mapper/b--vg-b--lv"
    assert [one.path for one in STORAGE.physical_volumes_of("b-vg")] == ["/dev/b"]
    assert STORAGE.mount("/srv/b") == mount("/srv/b", "b")
    assert STORAGE.directory("/srv/b") == Directory("/srv/b", "directory")


def test_what_no_host_has_is_not_found() -> None:
    assert [STORAGE.device(path) for path in ("/dev/bb", "UUID=b", "LABEL=")] == [None, None, None]
    assert (STORAGE.volume_group("bb"), STORAGE.logical_volume("b-vg", "bb"), STORAGE.mount("/srv/bb")) == (None,) * 3
    assert (STORAGE.directory("/srv/bb"), STORAGE.group_of("/dev/bb"), STORAGE.filesystem("/dev/bb")) == (None,) * 3
    assert STORAGE.mounts_of("/dev/bb") == ()


def test_physical_volume_without_its_device_is_known_by_its_path() -> None:
    assert Storage(physical_volumes=STORAGE.physical_volumes).group_of("/dev/b") == "b-vg"


def test_last_mount_on_a_path_hides_the_others() -> None:
    over = Storage(mounts=(mount("/srv/b", "a"), mount("/srv/b", "b"), mount("/srv/c", "c")))
    assert over.mount("/srv/b") == over.mount_containing("/srv/b/file") == mount("/srv/b", "b")


@pytest.mark.parametrize(
    ("path", "target"),
    [("/srv", "/srv"), ("/srv/file", "/srv"), ("/srv/b/c", "/srv/b"), ("/srv/bb", "/srv"), ("/", "/"), ("/etc", "/")],
)
def test_path_lies_on_the_nearest_mount_above_it(path: str, target: str) -> None:
    others = ("/boot/efi", "/srv/b", "/", "/srv", "/srv-archive/of/years", "/var/lib/docker")
    found = Storage(mounts=tuple(map(mount, others))).mount_containing(path)
    assert found
    assert found.target == target
    assert Storage(mounts=(mount("/srv/b"),)).mount_containing("/srv") is None


def test_devices_on_a_device_and_beneath_it_are_known_each_once() -> None:
    disk, part, other, volume = device("disk", "part", "gone"), device("part", "lv"), device("x", "lv"), device("lv")
    storage = Storage(devices=(disk, part, other, volume))
    assert storage.descendants(disk) == (disk, part, volume)
    assert storage.ancestors(volume) == (disk, part, other, volume)


@pytest.mark.parametrize("path", ["/dev/mapper/ubuntu--vg-docker--lv", "/dev/ubuntu-vg/docker-lv"])
def test_names_of_a_logical_volume_are_in_its_path(path: str) -> None:
    assert names_in(path) == ("ubuntu-vg", "docker-lv")


@pytest.mark.parametrize("path", ["/dev/disk/by-uuid/1234", "/dev/mapper/luks", "/dev/vda", "UUID=1234"])
def test_path_of_another_kind_has_none(path: str) -> None:
    assert names_in(path) is None


DISK = ("/dev/sdb", "/dev/disk/by-id/wwn-0x5", "/dev/disk/by-path/pci-1")


@pytest.mark.parametrize(
    ("filters", "rejecting"),
    [
        ((), ""),
        ((("r|/dev/loop|",),), ""),  # what nothing matches is used
        ((("r|/dev/sd|",),), "r|/dev/sd|"),
        ((("a|/dev/sdb$|", "r|.*|"),), ""),  # one accepted name is enough
        ((("r|.*|", "a|/dev/sdb$|"),), "r|.*|"),  # the first pattern decides
        ((("a|wwn-0x5|", "r|/dev/sdb|"),), ""),
        ((("a{^/dev/sda[0-9]*$}", "r/.*/"),), "r/.*/"),
        ((("a|.*|",), ("r|/dev/sdb|", "a|/dev/sda|")), "r|/dev/sdb|"),  # both filters count
        ((("r|(|", "a|.*|"),), ""),  # no expression
    ],
)
def test_device_that_lvm_ignores_is_known_by_the_pattern(filters: tuple[tuple[str, ...], ...], rejecting: str) -> None:
    assert LvmConfig(filters=filters).rejecting(DISK) == rejecting


def test_new_group_has_what_vgcreate_makes_of_a_disk() -> None:
    """Its first MiB is for the metadata, and the rest is extents of 4 MiB."""
    assert [usable(size * 2**20, EXTENT) for size in (4, 5, 8, 9)] == [0, 4 * 2**20, 4 * 2**20, 8 * 2**20]
