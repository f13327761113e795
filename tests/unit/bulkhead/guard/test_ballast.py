"""The ballast takes space on the volume, and gives it back."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from bulkhead import names
from bulkhead.config import Config
from bulkhead.guard import ballast

from ..configs import config

M = 2**20


@pytest.fixture(autouse=True)
def volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a volume of 1000 MiB."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=1000, f_frsize=M))


def of(path: Path, size: int = 4 * M) -> Config:
    return config(volume_mount=str(path), guard_ballast=size)


def test_ballast_takes_its_space_and_only_root_reads_it(tmp_path: Path) -> None:
    assert ballast.take(of(tmp_path))
    assert ballast.held(of(tmp_path)) >= 4 * M
    assert (tmp_path / ".bulkhead-ballast").stat().st_mode & 0o777 == 0o600


def test_existing_ballast_is_not_taken_again(tmp_path: Path) -> None:
    ballast.take(of(tmp_path))
    assert not ballast.take(of(tmp_path))


def test_ballast_that_a_power_cut_left_short_is_taken_again(tmp_path: Path) -> None:
    (tmp_path / names.BALLAST).write_bytes(b"")
    assert ballast.take(of(tmp_path))
    assert ballast.held(of(tmp_path)) >= 4 * M


@pytest.mark.parametrize(
    ("blocks", "size", "held", "taken"),
    [(8192, 4 * M, 4 * M, False), (8191, 4 * M, 4 * M - 512, True), (8192, 3 * M, 4 * M, True)],
    ids=["whole", "with-a-hole", "shorter-than-its-blocks"],
)
def test_ballast_is_what_its_blocks_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, size: int, held: int, taken: bool
) -> None:
    (tmp_path / names.BALLAST).touch()
    monkeypatch.setattr(os, "lstat", lambda _: SimpleNamespace(st_blocks=blocks, st_size=size))
    assert ballast.held(of(tmp_path)) == held
    assert ballast.take(of(tmp_path)) == taken


def test_ballast_takes_at_most_two_percent_of_the_volume(tmp_path: Path) -> None:
    assert ballast.size(of(tmp_path, 900 * M)) == 20 * M


@pytest.mark.parametrize("before", [2 * M, 8 * M])
def test_ballast_of_another_size_is_taken_anew(tmp_path: Path, before: int) -> None:
    ballast.take(of(tmp_path, before))
    assert ballast.take(of(tmp_path))
    assert (tmp_path / names.BALLAST).stat().st_size == 4 * M


def test_no_ballast_is_taken_if_the_settings_want_none(tmp_path: Path) -> None:
    assert not ballast.take(of(tmp_path, 0))
    assert not (tmp_path / names.BALLAST).exists()


def test_ballast_that_finds_no_space_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        ballast.take(of(tmp_path))
    assert not (tmp_path / names.BALLAST).exists()


def test_ballast_that_is_given_back_is_gone(tmp_path: Path) -> None:
    ballast.take(of(tmp_path))
    assert ballast.give_back(of(tmp_path)) >= 4 * M
    assert ballast.give_back(of(tmp_path)) == 0


def test_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "precious"
    other.write_text("kept")
    (tmp_path / names.BALLAST).symlink_to(other)
    ballast.take(of(tmp_path))
    assert other.read_text() == "kept"
