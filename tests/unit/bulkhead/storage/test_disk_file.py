"""The file that is Docker's disk: what check-disk sees of it."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.storage import disk_file

MIB = 2**20


class DiskFile:
    """A file of 4 MiB, attached to loop3, and Docker's volume on device 254:7."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.sysfs, self.volume = top / "disk", top / "sys", top / "volume"
        self.path.write_bytes(b"x" * 4 * MIB)
        self.volume.mkdir()
        monkeypatch.setattr(disk_file, "VOLUME_FILE", str(self.path))
        monkeypatch.setattr(disk_file, "SYSFS", str(self.sysfs))
        monkeypatch.setattr(disk_file, "is_mounted", lambda _: self.mounted)
        self.mounted = True
        self.attach("loop3")
        self.discards("dev/block/254:7", "0")
        there = os.stat

        def stat(path: Any, **how: Any) -> Any:
            return SimpleNamespace(st_dev=os.makedev(254, 7)) if path == str(self.volume) else there(path, **how)

        monkeypatch.setattr(os, "stat", stat)

    def attach(self, name: str, file: str = "") -> None:
        self.write(f"block/{name}/loop/backing_file", f"{file or self.path}\n")
        self.discards(f"block/{name}", "0")

    def discards(self, device: str, limit: str) -> None:
        self.write(f"{device}/queue/discard_max_bytes", f"{limit}\n")

    def write(self, name: str, text: str) -> None:
        path = self.sysfs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def problems(self) -> str:
        return "; ".join(disk_file.problems(4 * MIB, str(self.volume)))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskFile:
    return DiskFile(tmp_path, monkeypatch)


def test_file_that_is_whole_and_attached_has_no_problem(disk: DiskFile) -> None:
    disk.attach("loop9", file="/var/lib/snapd/snaps/core.snap")
    assert disk.problems() == ""


def test_file_that_is_gone_is_reported_before_the_next_boot(disk: DiskFile) -> None:
    disk.path.rename(f"{disk.path}.moved")
    disk.attach("loop3", file=f"{disk.path}.moved")
    assert "is not there: Docker stays down from the next boot on. Move it back" in disk.problems()


def test_file_that_was_truncated_is_reported(disk: DiskFile) -> None:
    os.truncate(disk.path, 3 * MIB)
    assert "has 3.0M, and had 4.0M: somebody truncated it" in disk.problems()


def test_file_with_holes_is_reported_with_the_way_to_fill_them(disk: DiskFile) -> None:
    disk.path.unlink()
    disk.path.touch()
    os.truncate(disk.path, 4 * MIB)
    assert f"others can take 4.0M of its space. `fallocate --length {4 * MIB} {disk.path}`" in disk.problems()


def test_part_that_is_a_hole_is_measured(disk: DiskFile) -> None:
    disk.path.write_bytes(b"x" * MIB)
    os.truncate(disk.path, 4 * MIB)
    assert "others can take 3.0M of its space" in disk.problems()


def test_file_without_a_loop_device_or_with_two_is_reported(disk: DiskFile) -> None:
    disk.attach("loop4")
    assert "more than one loop device, which destroys its content: loop3, loop4" in disk.problems()
    for name in ("loop3", "loop4"):
        disk.attach(name, file="/other")
    assert "is not attached: `systemctl enable --now docker-disk.service`" in disk.problems()


@pytest.mark.parametrize(("device", "shown"), [("block/loop3", "/dev/loop3"), ("dev/block/254:7", "volume")])
def test_device_that_takes_discards_is_reported(disk: DiskFile, device: str, shown: str) -> None:
    disk.discards(device, "4294966784")
    assert f"{shown} takes discards, which punch holes" in disk.problems()


def test_volume_that_is_not_mounted_says_nothing_of_discards(disk: DiskFile) -> None:
    disk.discards("dev/block/254:7", "4096")
    disk.mounted = False
    assert disk.problems() == ""


def test_other_users_than_root_are_shown_nothing(disk: DiskFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def lstat(_: str) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "lstat", lstat)
    assert disk.problems() == ""


@pytest.mark.parametrize(
    ("answers", "shared"),
    [
        ([[(0, 0), (8, 0x2000)]], True),
        ([[(0, 0), (8, 1)]], False),
        ([[(0, 0)], [(8, 0x2001)]], True),  # in the second answer
        ([[(0, 0)], []], False),
        ([OSError()], False),
    ],
)
def test_extents_that_a_copy_shares_are_reported(
    disk: DiskFile, monkeypatch: pytest.MonkeyPatch, answers: list[Any], shared: bool
) -> None:
    """Each answer of the kernel is a list of extents: where they begin, and their flags."""
    starts = []

    def ioctl(_: object, request: int, answer: bytearray) -> None:
        assert request == 0xC020660B
        start, length, _, _, room = struct.unpack_from("=QQLLL", answer, 0)
        assert start + length == 2**64 - 1, "it does not ask for the rest of the file"
        assert len(answer) == 32 + room * 56, "the kernel would write beyond it"
        starts.append(start)
        extents = answers.pop(0)
        if isinstance(extents, OSError):
            raise extents
        struct.pack_into("=L", answer, 20, len(extents))
        for number, (logical, flags) in enumerate(extents):
            at = 32 + number * 56
            struct.pack_into("=QQQ", answer, at, logical, 0, 8)
            struct.pack_into("=L", answer, at + 40, flags)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert ("shares extents with a copy" in disk.problems()) == shared
    assert starts == sorted(set(starts))  # it goes on where the last answer ended
