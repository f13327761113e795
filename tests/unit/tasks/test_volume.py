"""The markers: on the volume before anything asserts them."""

from __future__ import annotations

import ast
from pathlib import Path

from bulkhead.names import MARKER
from tasks import fail_closed
from tasks.volume import VolumeContents, stores

from .example_hosts import MOUNT_POINTS, VOLUME_MOUNT, settings
from .operations import OperationHost, commands, shell, stand_in

DIRECTORIES = {"docker", "containerd"}
MARKERS = {MARKER, f"docker/{MARKER}", f"containerd/{MARKER}"}
TOP = Path(__file__).parents[3]


def test_volume_of_an_earlier_version_gets_the_markers_that_it_lacks(tmp_path: Path) -> None:
    stand_in(tmp_path, "mountpoint", "exit 0")
    volume = tmp_path / "volume"
    (volume / "docker").mkdir(parents=True)
    (volume / MARKER).touch()
    (command,) = commands(stores, OperationHost({VolumeContents: {*DIRECTORIES, MARKER}}), volume=str(volume))
    done = shell(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert all((volume / name).read_text().startswith("The volume of docker-bulkhead.") for name in MARKERS)


def test_nothing_is_made_where_the_volume_is_not_mounted(tmp_path: Path) -> None:
    stand_in(tmp_path, "mountpoint", "exit 1")
    (command,) = commands(stores, OperationHost({VolumeContents: set()}), volume=str(tmp_path))
    assert shell(command, tmp_path).returncode == 1
    assert not (tmp_path / "docker").exists()


def test_whole_volume_is_left_as_it_is() -> None:
    assert commands(stores, OperationHost({VolumeContents: DIRECTORIES | MARKERS}), volume=VOLUME_MOUNT) == []


def test_units_assert_each_mount_point_and_its_marker() -> None:
    for content in fail_closed.drop_ins(settings()).values():
        asserted = {line.partition("=")[2] for line in content.splitlines() if line.startswith("AssertPathExists=")}
        assert asserted == {f"{path}/{MARKER}" for path in MOUNT_POINTS}
        assert content.count("AssertPathIsMountPoint=") == len(MOUNT_POINTS)


def test_deploy_makes_the_markers_before_anything_asserts_them() -> None:
    calls = [
        ast.unparse(call.func)
        for call in ast.walk(ast.parse((TOP / "deploy.py").read_text()))
        if isinstance(call, ast.Call)
    ]
    assert calls.index("volume.provision") < calls.index("fail_closed.refuse_to_start_without_the_volume")
