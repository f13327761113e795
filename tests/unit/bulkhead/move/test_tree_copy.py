"""A tree that is in use is copied, and what changes meanwhile is copied again and verified."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bulkhead.move import rsync
from bulkhead.move.tree_copy import TreeCopy

GIB = 2**30


def test_directory_in_which_a_file_differed_is_not_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsync, "copy", lambda *_, **__: None)
    monkeypatch.setattr(rsync, "compare", lambda *_: {"overlay2/ab/diff/file"})
    reported: list[str] = []
    copy = TreeCopy(str(tmp_path), "/target", reported.append)
    copy.copy_bulk(GIB, note=", while Docker runs")
    assert reported == [f"copying {tmp_path}, 1.0 GiB, while Docker runs", f"verifying {tmp_path} on the disk"]
    assert not copy.is_verified("overlay2/ab/diff")
    assert copy.is_verified("overlay2/a")


def test_steps_are_taken_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Any] = []

    def step(name: str, returned: object = None) -> Callable[..., object]:
        return lambda *given, **how: steps.append((name, *given, *how.items())) or returned

    monkeypatch.setattr(rsync, "moment", step("moment", 7.5))
    monkeypatch.setattr(rsync, "progress", lambda *_: "progress")
    for name, returned in {
        "copy": None,
        "compare": {"differed"},
        "to_be_verified": ["changed", "differed"],
        "distrust": None,
        "verify": None,
    }.items():
        monkeypatch.setattr(rsync, name, step(name, returned))
    reported: list[str] = []
    copy = TreeCopy("/source", "/target", reported.append)
    copy.copy_bulk(GIB, ["mounted"])
    copy.copy_difference({"layer"})
    at_last = steps.pop(5)
    assert steps == [
        ("moment",),
        ("copy", "/source", "/target", "progress", ["mounted"], ("polite", True)),
        ("compare", "/source", "/target", ["mounted"]),
        ("to_be_verified", "/source", 7.5, {"differed"}, {"layer"}),
        ("distrust", "/target", ["changed", "differed"]),
        ("verify", "/source", "/target", ["changed", "differed"], {"layer"}),
    ]
    assert (at_last[:3], at_last[4:]) == (("copy", "/source", "/target"), ({"layer"},)), "the last copy makes no way"
    assert reported[-1] == "copying the difference in /source: 2 files"


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "file").write_text("before")
    return tmp_path / "source" / "file", tmp_path / "target" / "file"


def test_change_during_the_copy_is_copied_whatever_its_size_and_time(
    tree: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, copied = tree
    compare = rsync.compare

    def change(*trees: Any) -> set[str]:
        found = compare(*trees)
        times = file.stat()
        file.write_text("BEFORE")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        return found

    monkeypatch.setattr(rsync, "compare", change)
    copy = TreeCopy(str(file.parent), str(copied.parent), lambda _: None)
    copy.copy_bulk(1)
    assert copied.read_text() == "before"
    copy.copy_difference(())
    assert copied.read_text() == "BEFORE"


def test_write_after_everybody_should_have_stopped_is_found(
    tree: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, copied = tree
    verify = rsync.verify

    def write(*trees: Any) -> None:
        file.write_text("too late")
        verify(*trees)

    monkeypatch.setattr(rsync, "verify", write)
    copy = TreeCopy(str(file.parent), str(copied.parent), lambda _: None)
    copy.copy_bulk(1)
    with pytest.raises(rsync.CopyError, match=r"the copy of .* differs in \d places: .*file"):
        copy.copy_difference(())
