"""fstab is read, and replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bulkhead.errors import Failed
from bulkhead.storage import fstab
from pyinfra_lvm.fstab import FstabEntry

from ..disk import LossyDisk
from ..programs import program

STORE = FstabEntry.of("/srv/docker-volume/docker", "/var/lib/docker", "none", ["bind"])


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fstab"
    path.write_text("# mine\n/dev/vda1 / ext4 defaults 0 1\n")
    path.chmod(0o641)
    monkeypatch.setattr(fstab, "FSTAB", str(path))
    return path


def findmnt(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (directory / "bin").mkdir()
    program(directory / "bin/findmnt", script)
    monkeypatch.setenv("PATH", str(directory / "bin"), prepend=os.pathsep)


@pytest.mark.usefixtures("path")
def test_entries_are_read() -> None:
    assert [entry.target for entry in fstab.read_entries()] == ["/"]


def test_it_is_replaced_with_its_mode_and_nothing_is_left_beside_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findmnt(tmp_path, monkeypatch, "exit 0")
    fstab.replace_fstab(lambda text: fstab.with_entries(text, [STORE]))
    assert [entry.target for entry in fstab.read_entries()] == ["/", "/var/lib/docker"]
    assert path.stat().st_mode & 0o7777 == 0o641
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bin", "fstab"]
    fstab.replace_fstab(lambda text: fstab.without_entries(text, [STORE]))
    assert path.read_text() == "# mine\n/dev/vda1 / ext4 defaults 0 1\n"


def test_new_text_is_on_the_disk_when_it_takes_the_place_of_the_old(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = LossyDisk(monkeypatch)
    monkeypatch.setattr(fstab, "_count_errors", lambda file: disk.record("verify", file) or 0)
    fstab.replace_fstab(lambda text: fstab.with_entries(text, [STORE]))
    whole = ["fsync {0}.new", "rename {0}.new {0}", f"fsync {path.parent.name}"]
    assert disk.events == [
        *(line.format("fstab.checked") for line in whole),
        "verify fstab.checked",
        "verify fstab",
        *(line.format("fstab") for line in whole),
    ]
    disk.lose_power()
    assert [entry.target for entry in fstab.read_entries()] == ["/", "/var/lib/docker"]


def test_text_that_does_not_change_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = LossyDisk(monkeypatch)
    fstab.replace_fstab(lambda text: text)
    assert disk.events == []
    assert path.exists()


def test_file_that_findmnt_cannot_read_has_errors(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findmnt(tmp_path, monkeypatch, 'case $3 in *.checked) echo "x: parse error at line 2 -- ignored" >&2 ;; esac')
    with pytest.raises(Failed, match="has errors"):
        fstab.replace_fstab(lambda text: fstab.with_entries(text, [STORE]))
    assert "/var/lib/docker" not in path.read_text()


def test_new_text_with_errors_is_refused(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findmnt(tmp_path, monkeypatch, 'case $3 in *.checked) echo "   [E] target is not a directory" ;; esac')
    before = path.read_text()
    with pytest.raises(Failed, match=r"has errors \(findmnt --verify\); the old one is unchanged"):
        fstab.replace_fstab(lambda text: fstab.with_entries(text, [STORE]))
    assert path.read_text() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bin", "fstab"]


def test_errors_that_it_had_before_do_not_matter(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findmnt(tmp_path, monkeypatch, 'echo "   [E] unreachable source"')
    fstab.replace_fstab(lambda text: fstab.with_entries(text, [STORE]))
    assert "/var/lib/docker" in path.read_text()
