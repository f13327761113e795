"""Copies are exact, and what is not is found: with rsync itself, on trees made for it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bulkhead.move import rsync

LAYER = "ab" * 32


@pytest.fixture
def source(tmp_path: Path) -> Path:
    store = tmp_path / "source"
    layer = store / "overlay2" / LAYER
    (layer / "diff").mkdir(parents=True)
    (layer / "diff" / "file").write_text("of a layer")
    (store / "overlay2" / "container").mkdir()
    (store / "overlay2" / "container" / "file").write_text("of a container")
    listed = store / "image/overlay2/layerdb/sha256/cd"
    listed.mkdir(parents=True)
    (listed / "cache-id").write_text(LAYER)
    return store


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def copy(source: Path, target: Path, exclude: set[str] | None = None) -> None:
    rsync.copy(str(source), str(target), lambda *_: None, exclude or set())


def check(source: Path, target: Path, files: list[str], exclude: set[str] | None = None) -> None:
    rsync.verify(str(source), str(target), files, exclude or set())


def test_layers_that_docker_lists_and_has_are_immutable(source: Path) -> None:
    removed = source / "image/overlay2/layerdb/sha256/ef"
    removed.mkdir()
    (removed / "cache-id").write_text("12" * 32)
    assert rsync.immutable_layers(str(source)) == {f"overlay2/{LAYER}/diff"}
    assert rsync.immutable_layers(f"{source}/none") == set()


def test_copy_is_equal(source: Path, target: Path) -> None:
    os.link(source / "overlay2/container/file", source / "hard")
    (source / "link").symlink_to("nowhere")
    os.mkfifo(source / "pipe")
    (source / "line\nbreak").write_text("x")
    with (source / "sparse").open("wb") as file:
        file.truncate(10**7)
    (target / "of before").write_text("goes")
    copy(source, target)
    check(source, target, ["overlay2/container/file", "line\nbreak"])
    assert not (target / "of before").exists()
    assert (target / "hard").stat().st_ino == (target / "overlay2/container/file").stat().st_ino
    assert (target / "sparse").stat().st_blocks < 1000


def test_change_of_the_same_size_and_time_is_found_by_its_ctime(source: Path, target: Path) -> None:
    began = time.time()
    copy(source, target)
    file = source / "overlay2/container/file"
    before = file.stat()
    file.write_text("OF A CONTAINER")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    files = rsync.changed_files(str(source), began, set())
    assert "overlay2/container/file" in files
    with pytest.raises(rsync.CopyError, match=r"differs in 1 places: overlay2/container/file"):
        check(source, target, files)
    rsync.distrust(str(target), files)
    copy(source, target)
    check(source, target, files)


def test_files_of_before_and_of_verified_layers_are_not_looked_at(source: Path) -> None:
    assert rsync.changed_files(str(source), time.time() + 60, set()) == []
    changed = rsync.changed_files(str(source), time.time() - 60, {f"overlay2/{LAYER}/diff"})
    assert set(changed) == {"overlay2/container/file", "image/overlay2/layerdb/sha256/cd/cache-id"}


def test_layer_that_is_left_out_is_neither_copied_nor_removed_again(source: Path, target: Path) -> None:
    copy(source, target)
    layers = {f"overlay2/{LAYER}/diff"}
    (target / f"overlay2/{LAYER}/diff/file").write_text("stays")
    (source / f"overlay2/{LAYER}/committed").touch()
    copy(source, target, layers)
    assert (target / f"overlay2/{LAYER}/committed").exists()
    check(source, target, [], layers)
    assert (target / f"overlay2/{LAYER}/diff/file").read_text() == "stays"


def test_comparison_of_equal_trees_finds_nothing(source: Path, target: Path) -> None:
    os.mkfifo(source / "pipe")
    (source / "link").symlink_to("nowhere")
    copy(source, target)
    assert rsync.compare(str(source), str(target)) == set()


def test_copy_that_is_damaged_is_found_and_put_right(source: Path, target: Path) -> None:
    odd = "line\nbreak \udce9 \\#012"
    (source / odd).write_text("odd")
    copy(source, target)
    for name in (f"overlay2/{LAYER}/diff/file", odd):
        times = (target / name).stat()
        (target / name).write_text((target / name).read_text().upper())
        os.utime(target / name, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert rsync.compare(str(source), str(target)) == {f"overlay2/{LAYER}/diff/file", odd}
    assert (target / f"overlay2/{LAYER}/diff/file").read_text() == "of a layer"
    assert (target / odd).read_text() == "odd"


def test_what_differed_is_verified_again_unless_it_is_gone(source: Path) -> None:
    (source / "link").symlink_to("nowhere")
    suspects = {"overlay2/container/file", "gone", "link"}
    assert rsync.to_be_verified(str(source), time.time() + 60, suspects) == ["overlay2/container/file"]


def test_move_tells_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0, 12.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    reported: list[str] = []
    report = rsync.progress(reported.append, 4 * 2**30)
    for done in (2**20, 2**30, 2**30):
        report(done, "100MB/s")
    assert reported == ["  1.0 GiB of about 4.0 GiB, 100MB/s, about 0:00:30 left"]


def test_copy_that_fails_says_why(tmp_path: Path, target: Path) -> None:
    with pytest.raises(rsync.CopyError, match=r"rsync from .*none ended with 23: .*No such file or directory"):
        copy(tmp_path / "none", target)


def test_size_counts_what_the_disk_holds(source: Path) -> None:
    assert rsync.size_of(str(source)) >= 4096
    assert rsync.size_of(f"{source}/none") == 0
