"""Docker's volume is told from whatever else may be in its place."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.errors import Problem
from bulkhead.names import MARKER, MARKER_TEXT
from bulkhead.sizes import Size
from bulkhead.storage import lvm, volume

from ..configs import config
from ..disk import LossyDisk
from ..fake_lvm import FakeGroup

G = 2**30


@pytest.mark.parametrize(
    ("device", "is_marked", "mounted"),
    [(8, True, True), (8, False, False), (7, True, False)],
    ids=["mounted", "a-filesystem-of-somebody-else", "the-directory-beneath"],
)
def test_volume_is_a_filesystem_with_a_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: int, is_marked: bool, mounted: bool
) -> None:
    there, place = os.stat, tmp_path / "volume"
    place.mkdir()
    if is_marked:
        (place / MARKER).touch()
    devices = {str(place): SimpleNamespace(st_dev=device), str(tmp_path): SimpleNamespace(st_dev=7)}

    def stat(path: Any, **how: Any) -> Any:
        return devices.get(path) or there(path, **how)

    monkeypatch.setattr(os, "stat", stat)
    assert volume.is_mounted(str(place)) == mounted
    assert not volume.is_mounted(f"{tmp_path}/none")


def test_marker_is_made_once_and_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = LossyDisk(monkeypatch)
    volume.mark(str(tmp_path))
    disk.lose_power()
    assert (tmp_path / MARKER).read_text() == MARKER_TEXT
    disk.events.clear()
    volume.mark(str(tmp_path))
    assert disk.events == []


@pytest.mark.parametrize(
    ("setting", "size", "floor"),
    [
        (None, 100 * G, 5 * G),
        (None, 20 * G, 2 * G),
        (None, 4 * G, G),
        (None, 1000 * G, 50 * G),
        (None, 1020 * G, 50 * G),
        (Size.parse("3G"), 60 * G, 3 * G),
        (Size.parse("30G"), 60 * G, 15 * G),
        (Size.parse("10%"), 60 * G, 6 * G),
    ],
)
def test_floor_follows_the_setting_and_the_volume(setting: Size | None, size: int, floor: int) -> None:
    assert volume.floor_of(setting, size) == floor


@pytest.mark.parametrize(
    ("inodes", "floor"),
    [(0, 0), (100_003, 25_000), (400_000, 50_000), (6_000_000, 300_000), (20_000_000, 1_000_000), (10**9, 1_000_000)],
)
def test_floor_of_inodes_follows_the_volume(inodes: int, floor: int) -> None:
    assert volume.inode_floor_of(inodes) == floor


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> FakeGroup:
    group = FakeGroup()
    group.add()
    monkeypatch.setattr(lvm, "output_of", group.output_of)
    return group


def mount_devices(monkeypatch: pytest.MonkeyPatch, **changed: int) -> None:
    """Have each path on the volume's device, number 7, but for those that are named."""
    on_it = {"/srv/docker-volume": 7, "/var/lib/docker": 7, "/var/lib/containerd": 7} | changed
    numbers = {path: SimpleNamespace(st_dev=number) for path, number in on_it.items()}
    numbers["/dev/ubuntu-vg/docker-lv"] = SimpleNamespace(st_rdev=7)
    there = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: numbers.get(path) or there(path, **how))


def test_volume_in_its_place_is_found(group: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    del group
    mount_devices(monkeypatch)
    found = volume.docker_volume(config())
    assert (found.name, found.size) == ("docker-lv", 60 * G)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/srv/docker-volume", "ubuntu-vg/docker-lv is not mounted on /srv/docker-volume"),
        ("/var/lib/docker", "/var/lib/docker is not on /srv/docker-volume: Docker's data is elsewhere"),
        ("/var/lib/containerd", "/var/lib/containerd is not on /srv/docker-volume: Docker's data is elsewhere"),
    ],
)
def test_filesystem_of_somebody_else_in_its_place_is_refused(
    group: FakeGroup, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    del group
    mount_devices(monkeypatch, **{path: 8})
    with pytest.raises(Problem, match=f"^{message}$"):
        volume.docker_volume(config())


def test_volume_that_is_missing_or_merged_is_refused(group: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    mount_devices(monkeypatch)
    group.run("lvconvert", "--merge", "ubuntu-vg/docker-lv-snapshot")
    with pytest.raises(Problem, match=r"^ubuntu-vg/docker-lv is being merged with its snapshot: .*`lvchange --poll y"):
        volume.docker_volume(config())
    del group.volumes["docker-lv"]
    with pytest.raises(Problem, match=r"^there is no logical volume ubuntu-vg/docker-lv$"):
        volume.docker_volume(config())
