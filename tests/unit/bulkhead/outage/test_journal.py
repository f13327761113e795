"""The journal is replaced whole, and read as it was written."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from bulkhead import files
from bulkhead.files import replace_file
from bulkhead.names import move_journal
from bulkhead.outage.journal import COPYING, STOPPING, SWITCHING, Journal
from bulkhead.procfs import boot_id

from ..disk import LossyDisk


def test_there_is_an_empty_one_before_the_first_move(tmp_path: Path) -> None:
    path = f"{tmp_path}/none"
    nothing: dict[str, object] = {"phase": "", "since": 0, "boot": "", "reason": "", "asked": False, "lived": False}
    nothing |= {"path": path, "ran": [], "before": {}, "switched": 0, "old": {}, "volume": "", "fstab": []}
    nothing |= {"set_aside": ""}
    assert vars(Journal.load(path)) == nothing


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = f"{tmp_path}/new/journal.json"
    written = Journal(
        path, COPYING, 12.5, ran=["c1"], before={"images": {"sha256:1": ["a:1"]}}, old={"/var/lib/docker": 5}
    )
    written.save()
    assert Journal.load(path) == written
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["journal.json"]


def test_phase_is_on_the_disk_when_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = LossyDisk(monkeypatch)
    monkeypatch.setattr(time, "time", lambda: 12.5)
    journal = Journal(f"{tmp_path}/journal.json")
    journal.enter(STOPPING, ran=["web"])
    journal.enter(SWITCHING, lived=True)
    disk.lose_power()
    expected = Journal(journal.path, SWITCHING, 12.5, boot_id(), ran=["web"], lived=True)
    assert Journal.load(journal.path) == expected == journal


def test_cleared_journal_stays_on_the_disk_until_the_next_phase(tmp_path: Path) -> None:
    journal = Journal(f"{tmp_path}/journal.json")
    journal.enter(STOPPING, ran=["web"], asked=True, before={"images": {}})
    journal.clear()
    assert journal == Journal(journal.path)
    assert (Journal.load(journal.path).phase, Journal.load(journal.path).ran) == (STOPPING, ["web"])


def test_journal_of_another_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text('{"phase": "done", "of": "a later version"}')
    assert Journal.load(f"{tmp_path}/journal.json") == Journal(f"{tmp_path}/journal.json", "done")


@pytest.mark.parametrize("text", ["", "{", "7"])
def test_what_is_no_journal_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "journal.json").write_text(text)
    with pytest.raises(ValueError, match=r"journal.json is not a journal of a move"):
        Journal.load(f"{tmp_path}/journal.json")


def test_file_keeps_its_old_content_until_the_new_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "fstab"
    path.write_text("old")
    with pytest.raises(TypeError):
        replace_file(str(path), None)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    replace_file(str(path), "byte \udce9 by byte\n", mode=0o600)
    assert path.read_bytes() == b"byte \xe9 by byte\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_is_replaced_on_a_full_disk_by_giving_up_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reserve, fsync = tmp_path / "fstab", tmp_path / "reserve", os.fsync

    def fsync_on_a_full_disk(descriptor: int) -> None:
        if reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(files, "RESERVE", str(reserve))
    files.hold_reserve()
    assert reserve.stat().st_blocks > 0
    monkeypatch.setattr(os, "fsync", fsync_on_a_full_disk)
    replace_file(str(path), "new")
    assert path.read_text() == "new"
    assert not reserve.exists()


def test_deploy_and_program_mean_the_same_journals() -> None:
    directories = [
        "/home",
        "/srv/ml-models",
        "/srv/ml/models",
        "/srv/ml-/models",
        "/srv/ml/-models",
        "/srv/ml%2dmodels",
    ]
    assert len({move_journal(directory) for directory in directories}) == len(directories)
