"""Which filesystems matter, and how full they are."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkhead.names import MARKER
from bulkhead.storage import fstab as fstab_module
from bulkhead.storage.filesystems import FilesystemUsage, chosen, out_of_place, unmarked, watched
from bulkhead.storage.mounts import mounts_of

from ...fake_proc import FakeProc
from ...processes import may_mount
from ..configs import config

ROOT = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw"
VOLUME = "30 22 254:2 / /srv/docker-volume rw - ext4 /dev/mapper/vg-docker--lv rw"
DOCKER = "31 22 254:2 /docker /var/lib/docker rw - ext4 /dev/mapper/vg-docker--lv rw"
CONTAINERD = "32 22 254:2 /containerd /var/lib/containerd rw - ext4 /dev/mapper/vg-docker--lv rw"


@pytest.fixture(autouse=True)
def fstab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fstab"
    path.write_text("")
    monkeypatch.setattr(fstab_module, "FSTAB", str(path))
    return path


@pytest.fixture
def mounted(proc: FakeProc) -> Path:
    proc.become(1)
    return proc.path / "1" / "mountinfo"


def chosen_of(mounted: Path, *lines: str) -> list[str]:
    mounted.write_text("\n".join(lines) + "\n")
    return [mount.target for mount in chosen(mounts_of(), config())]


def test_each_filesystem_on_a_disk_is_chosen_once(mounted: Path) -> None:
    assert chosen_of(
        mounted,
        ROOT,
        "23 22 0:5 / /proc rw - proc proc rw",
        "24 22 0:6 / /run rw - tmpfs tmpfs rw",
        "25 22 254:3 / /boot rw - ext4 /dev/vda2 rw",
        "26 25 254:4 / /boot/efi rw - vfat /dev/vda1 rw",
        "27 22 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro",
        "28 22 0:7 / /net/data rw - nfs4 server:/data rw",
        "29 22 254:1 /home/me/www /srv/www rw - ext4 /dev/root rw",
        VOLUME,
        DOCKER,
        CONTAINERD,
        "33 31 0:8 / /var/lib/docker/overlay2/1/merged rw - overlay overlay rw",
        "34 31 254:9 / /var/lib/docker/volumes/v/_data rw - xfs /dev/vdz rw",
    ) == ["/", "/boot", "/boot/efi", "/srv/docker-volume"]


def test_shorter_place_of_dockers_volume_is_not_its_name(mounted: Path) -> None:
    assert chosen_of(mounted, "29 22 254:2 / /mnt rw - ext4 /dev/mapper/vg-docker--lv rw", VOLUME) == [
        "/srv/docker-volume"
    ]


@pytest.mark.parametrize(
    ("of_filesystem", "target"), [("rw", "/srv/data"), ("ro", "/ro")], ids=["writable", "read-only-itself"]
)
def test_read_only_view_of_a_writable_filesystem_does_not_hide_it(
    mounted: Path, of_filesystem: str, target: str
) -> None:
    data = f"25 22 254:3 / /srv/data rw - ext4 /dev/vdb {of_filesystem}"
    view = f"26 22 254:3 / /ro ro - ext4 /dev/vdb {of_filesystem}"
    assert chosen_of(mounted, data, view) == [target]


def test_subvolumes_are_one_filesystem(mounted: Path) -> None:
    assert chosen_of(
        mounted,
        "22 1 0:30 /@ / rw - btrfs /dev/vda1 rw,subvol=/@",
        "23 22 0:30 /@home /home rw - btrfs /dev/vda1 rw,subvol=/@home",
    ) == ["/"]


def test_what_another_mount_hides_is_not_chosen(mounted: Path) -> None:
    assert (
        chosen_of(mounted, "25 22 254:3 / /data rw - ext4 /dev/vdb rw", "26 22 0:9 / /data rw - tmpfs tmpfs rw") == []
    )


def test_kernels_escapes_are_undone(mounted: Path) -> None:
    assert chosen_of(mounted, r"25 22 254:3 / /srv/a\040b rw - ext4 /dev/vdb rw") == ["/srv/a b"]


def test_percentages_are_dfs() -> None:
    # A tenth of it is root's alone.
    filesystem = FilesystemUsage("/", size=100, used=45, available=45, inodes=200, inodes_free=150, read_only=False)
    assert filesystem.percent == 50
    assert filesystem.inodes_percent == 25


def test_without_a_limit_of_inodes_none_are_used() -> None:
    assert FilesystemUsage("/", 100, 45, 45, inodes=0, inodes_free=0, read_only=False).inodes_percent == 0


def test_figures_are_those_of_df(mounted: Path, tmp_path: Path) -> None:
    mounted.write_text(f"25 22 254:3 / {tmp_path} rw - ext4 /dev/vdb rw\n")
    (found,) = watched(config())
    df = subprocess.run(
        ["df", "--block-size=1", "--output=size,itotal", tmp_path], capture_output=True, text=True, check=True
    )
    assert [found.size, found.inodes] == [int(number) for number in df.stdout.split()[-2:]]


@pytest.fixture
def disk(tmp_path: Path, mounted: Path) -> Iterator[Path]:
    """A filesystem that can be filled; the mount table calls it an ext4."""
    if not may_mount():
        pytest.skip("a mount needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=20", "none", place], check=True)
    mounted.write_text(f"25 22 254:3 / {place} rw - ext4 /dev/vdb rw\n")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_exhausted_inodes_are_reported(disk: Path) -> None:
    with contextlib.suppress(OSError):
        for number in range(100):
            (disk / str(number)).touch()
    (found,) = watched(config())
    assert found.inodes_percent == 100
    assert found.percent < 50


def test_full_filesystem_is_reported(disk: Path) -> None:
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x" * 65536)
    (found,) = watched(config())
    assert found.percent == 100


@pytest.mark.parametrize(
    ("options", "in_fstab", "found"),
    [
        ("rw - ext4 /dev/vdb rw,errors=remount-ro", "", [False]),
        ("rw - ext4 /dev/vdb ro,errors=remount-ro", "", [True]),
        ("rw - ext4 /dev/vdb rw,emergency_ro", "", [True]),
        ("ro - ext4 /dev/vdb ro", "UUID=1 {} ext4 defaults 0 2", [True]),
        ("ro - ext4 /dev/vdb ro", "UUID=1 {} ext4 nofail,ro 0 2", []),
        ("ro - ext4 /dev/vdb ro", "UUID=1 /other ext4 defaults 0 2", []),
    ],
    ids="writable closed-by-an-error closed-by-a-newer-kernel remounted by-fstab mounted-by-hand".split(),
)
def test_read_only_is_told_from_what_is_meant_to_be(
    mounted: Path, tmp_path: Path, fstab: Path, options: str, in_fstab: str, found: list[bool]
) -> None:
    mounted.write_text(f"25 22 254:3 / {tmp_path} {options}\n")
    fstab.write_text(in_fstab.format(tmp_path) + "\n")
    assert [filesystem.read_only for filesystem in watched(config())] == found


def test_root_without_a_line_in_fstab_is_meant_to_be_written_to(mounted: Path) -> None:
    mounted.write_text("22 1 254:1 / / ro - ext4 /dev/root ro\n")
    assert [filesystem.read_only for filesystem in watched(config())] == [True]


def test_dead_device_is_reported(mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted.write_text(f"25 22 254:3 / {tmp_path} rw - xfs /dev/vdb rw\n")

    def dead(path: str) -> os.statvfs_result:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(os, "statvfs", dead)
    assert watched(config()) == [FilesystemUsage(str(tmp_path), 0, 0, 0, 0, 0, read_only=True)]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([ROOT, VOLUME, DOCKER, CONTAINERD], []),
        ([ROOT], ["/srv/docker-volume is not mounted"]),
        ([ROOT, VOLUME, DOCKER], ["/var/lib/containerd is not on /srv/docker-volume"]),
        (
            [ROOT, VOLUME, DOCKER.replace("254:2 /docker", "254:1 /elsewhere"), CONTAINERD],
            ["/var/lib/docker is not on /srv/docker-volume"],
        ),
        (
            [ROOT, VOLUME.replace("254:2 /", "254:1 /srv/docker-volume"), DOCKER, CONTAINERD],
            ["/srv/docker-volume is on the root filesystem"],
        ),
        (
            [ROOT, VOLUME, DOCKER.replace("/docker /var", "/docker.left-1 /var"), CONTAINERD],
            ["/var/lib/docker is another directory of /srv/docker-volume than docker"],
        ),
    ],
    ids="isolated volume-not-mounted store-not-mounted store-on-root volume-on-root another-directory".split(),
)
def test_lost_isolation_is_reported(mounted: Path, lines: list[str], found: list[str]) -> None:
    mounted.write_text("\n".join(lines) + "\n")
    assert out_of_place(mounts_of(), config()) == found


def test_marker_that_is_missing_on_the_volume_is_reported(tmp_path: Path) -> None:
    wanted = config(volume_mount=str(tmp_path))
    for name in ("", "docker/", "containerd/"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / f"{name}{MARKER}").touch()
    assert unmarked(wanted) == []
    (tmp_path / "docker" / MARKER).unlink()
    assert unmarked(wanted) == [f"Docker will not start again without {tmp_path}/docker/{MARKER}: run the deploy again"]
