"""What is remembered comes back, whatever became of the disk."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkhead import files, state

from ..processes import may_mount
from .disk import LossyDisk


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PERSISTENT", f"{tmp_path}/lib")
    monkeypatch.setattr(state, "VOLATILE", f"{tmp_path}/run")


def test_there_is_nothing_before_the_first_time() -> None:
    assert state.load("check") == {}


def test_it_is_read_as_it_was_saved(tmp_path: Path) -> None:
    state.save("check", {"mount": "/srv/\udce9 |"})
    assert state.load("check") == {"mount": "/srv/\udce9 |"}
    assert [path.name for path in (tmp_path / "lib").iterdir()] == ["check.json"]


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    state.save("check", {})
    assert (tmp_path / "lib/check.json").stat().st_mode & 0o777 == 0o600


def test_what_was_saved_is_on_the_disk_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot is taken after what Docker held was saved: a power cut must not leave it with another's."""
    disk = LossyDisk(monkeypatch)
    state.save("snapshot", {"note": "of an earlier one"})
    disk.events.clear()
    state.save("snapshot", {"note": "of this one"})
    assert disk.events == ["fsync snapshot.json.new", "rename snapshot.json.new snapshot.json", "fsync lib"]
    disk.lose_power()
    assert state.load("snapshot") == {"note": "of this one"}


def test_what_is_remembered_in_memory_waits_for_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard does so all day."""
    disk = LossyDisk(monkeypatch)
    state.save_volatile("guard", {"free": 1})
    assert disk.events == ["rename guard.json.new guard.json"]
    assert state.load("guard") == {"free": 1}


@pytest.mark.parametrize("mode", [None, 0o755], ids=["it-was-not-there", "somebody-else-made-it"])
def test_nobody_else_can_hold_a_lock(tmp_path: Path, mode: int | None) -> None:
    if mode:
        (tmp_path / "run").mkdir()
        (tmp_path / "run").chmod(mode)
    with state.locked("check", 0):
        assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"", b'{"samples": {', b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_file_counts_as_none_and_is_set_aside(tmp_path: Path, content: bytes) -> None:
    state.save("check", {"a": 1})
    (tmp_path / "lib/check.json").write_bytes(content)
    assert state.load("check") == {}
    assert (tmp_path / "lib/check.json.damaged").read_bytes() == content
    state.save("check", {"a": 2})
    assert state.load("check") == {"a": 2}


def test_file_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "lib/check.json").mkdir(parents=True)
    assert state.load("check") == {}


def test_it_survives_where_the_persistent_directory_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("in the way")
    state.save("check", {"a": 1})
    assert state.load("check") == {"a": 1}


def test_it_raises_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("in the way")
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(FileExistsError):
        state.save("check", {"a": 1})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of its own for the persistent directory, with what was known before."""
    if not may_mount():
        pytest.skip("a mount needs root")
    place = tmp_path / "lib"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", place], check=True)
    try:
        state.save("check", {"at": "first"})
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_on_a_full_disk_the_newest_is_remembered(disk: Path) -> None:
    (disk / "filler").write_bytes(b"x" * 8192)
    state.save("check", {"at": "full", "long": "x" * 8192})
    assert state.load("check")["at"] == "full"


def test_full_disk_keeps_the_reserve_of_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RESERVE", f"{tmp_path}/lib/reserve")
    files.hold_reserve()
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if "/lib/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    state.save("check", {"at": "full"})
    assert state.load("check") == {"at": "full"}
    assert os.path.exists(files.RESERVE)
    assert (tmp_path / "run/check.json").exists()


def test_on_a_read_only_disk_the_newest_is_remembered(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    state.save("check", {"at": "read-only"})
    assert state.load("check") == {"at": "read-only"}


def test_when_the_disk_takes_files_again_they_are_there_again(disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    state.save("check", {"at": "read-only"})
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    state.save("check", {"at": "last"})
    assert state.load("check") == {"at": "last"}
    assert list((tmp_path / "run").iterdir()) == [], "a reboot must lose nothing"


def test_second_one_waits_and_gives_up_when_that_takes_too_long() -> None:
    began = time.monotonic()
    with (
        state.locked("check", 0),
        pytest.raises(TimeoutError, match="another `bulkhead check` has been at work for 0 s"),
        state.locked("check", 0.02),
    ):
        pass
    assert 0.02 <= time.monotonic() - began < 5
    with state.locked("check", 0):
        pass


def test_those_of_other_names_do_not_wait() -> None:
    with state.locked("check", 0), state.locked("prune", 0):
        pass
