"""Files are replaced whole, also on a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from bulkhead import files

from .disk import LossyDisk


def test_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "file"
    files.replace_file(str(path), "old")
    assert path.stat().st_mode & 0o777 == 0o644
    files.replace_file(str(path), "new \udcff", mode=0o600)
    assert path.read_bytes() == b"new \xff"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_output_goes_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    files.write_output(f"{tmp_path}/link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def test_output_spares_the_users_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "report.new").write_text("mine")
    for _ in range(2):
        files.write_output(f"{tmp_path}/report", "theirs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "report.new"]
    assert (tmp_path / "report.new").read_text() == "mine"
    assert (tmp_path / "report").read_text() == "theirs"
    assert (tmp_path / "report").stat().st_mode & 0o777 == 0o644


def test_output_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        files.write_output(f"{tmp_path}/report", "new")
    assert list(tmp_path.iterdir()) == []


def test_output_goes_into_a_pipe_and_does_not_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"  # as /dev/null and /dev/stdout, which root could replace
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    files.write_output(str(path), "report")
    assert os.read(reader, 100) == b"report"
    os.close(reader)
    assert path.is_fifo()


def test_file_of_another_user_stays_that_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    owner = path.stat()
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: owner.st_uid + 1)  # as with sudo
    monkeypatch.setattr(os, "chown", lambda *words: given.append(words))
    files.write_output(str(path), "new")
    assert given == [(str(path), owner.st_uid, owner.st_gid)]


def test_new_content_is_on_the_disk_before_its_name_and_the_name_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = LossyDisk(monkeypatch)
    files.replace_file(f"{tmp_path}/file", "old")
    disk.events.clear()
    files.replace_file(f"{tmp_path}/file", "new", mode=0o600)
    assert disk.events == ["fsync file.new", "rename file.new file", f"fsync {tmp_path.name}"]
    disk.lose_power()
    assert (tmp_path / "file").read_text() == "new"


def test_nobody_else_can_read_a_secret_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: modes.append(os.fstat(descriptor).st_mode & 0o777))
    files.replace_file(f"{tmp_path}/file", "secret", mode=0o600)
    assert modes[0] == 0o600


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_nobody_else_can_open_a_file_before_it_has_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    before: list[int] = []
    fchmod = os.fchmod

    def spy(descriptor: int, wanted: int) -> None:
        before.append(os.fstat(descriptor).st_mode & 0o777)
        fchmod(descriptor, wanted)

    monkeypatch.setattr(os, "fchmod", spy)
    files.replace_file(f"{tmp_path}/file", "secret", mode)
    assert before == [0o600]
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_foreign_file_is_read_and_nothing_else_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("theirs")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert files.read_foreign(f"{tmp_path}/file", 3) == "the"
    for name in ("pipe", "link", ""):
        with pytest.raises(ValueError, match="is no regular file"):
            files.read_foreign(f"{tmp_path}/{name}", 3)
    with pytest.raises(FileNotFoundError):
        files.read_foreign(f"{tmp_path}/none", 3)


def test_time_of_a_file_that_is_missing_is_none(tmp_path: Path) -> None:
    assert files.changed_at(f"{tmp_path}/none") == 0
    (tmp_path / "file").touch()
    os.utime(tmp_path / "file", (7, 8))
    assert files.changed_at(f"{tmp_path}/file") == 8


@pytest.mark.parametrize(("number", "has_reserve"), [(errno.EIO, True), (errno.ENOSPC, False)])
def test_reserve_is_given_up_for_a_full_disk_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, has_reserve: bool
) -> None:
    monkeypatch.setattr(files, "RESERVE", f"{tmp_path}/reserve")
    if has_reserve:
        Path(files.RESERVE).touch()

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        files.replace_file(f"{tmp_path}/file", "new")
    assert os.path.exists(files.RESERVE) == has_reserve


def test_full_disk_costs_the_reserve_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RESERVE", f"{tmp_path}/reserve")
    files.hold_reserve()
    assert os.path.getsize(files.RESERVE) == 2**20
    sync = os.fsync

    def full(descriptor: int) -> None:
        if os.path.exists(files.RESERVE):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    files.replace_file(f"{tmp_path}/journal", "switching")
    assert (tmp_path / "journal").read_text() == "switching"
    assert not os.path.exists(files.RESERVE)


def test_file_that_cannot_be_written_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.replace_file(f"{tmp_path}/file", "old")

    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        files.replace_file(f"{tmp_path}/file", "new")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize(
    ("path", "directories", "is_within"),
    [
        ("/home", ["/home"], True),
        ("/home/me", ["/srv", "/home"], True),
        ("/home2", ["/home"], False),
        ("/home", ["/home/me"], False),
        ("/home", [], False),
        ("/srv", [""], True),  # "" is "/" without its last slash
    ],
)
def test_path_is_within_a_directory_but_not_beside_it(path: str, directories: list[str], is_within: bool) -> None:
    assert files.is_within(path, directories) == is_within
