"""Files are replaced whole, also on a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from bulkhead import files


def test_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "file"
    files.replace_file(str(path), "old")
    files.replace_file(str(path), "new \udcff", mode=0o600)
    assert path.read_bytes() == b"new \xff"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["file"]


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
