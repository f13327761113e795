"""Copies are exact, and what is not is found: with rsync itself, on trees made for it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bulkhead.move import rsync

from ...processes import may_mount

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


def test_layer_that_is_removed_meanwhile_hides_no_other(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listings = source / "image/overlay2/layerdb/sha256"
    shutil.copytree(listings / "cd", listings / "ef")
    read, asked = Path.read_text, list[Path]()

    def read_text(path: Path) -> str:
        asked.append(path)
        if len(asked) == 1:
            raise FileNotFoundError
        return read(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert rsync.immutable_layers(str(source)) == {f"overlay2/{LAYER}/diff"}


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


def test_change_within_the_second_of_the_copy_is_copied_and_found(source: Path, target: Path) -> None:
    file, copied = (tree / "overlay2/container/file" for tree in (source, target))
    for time_ns, text in ((1_000_000_000, "of a container"), (1_000_000_001, "OF A CONTAINER")):
        file.write_text(text)
        os.utime(file, ns=(0, time_ns))
        with pytest.raises(rsync.CopyError, match=r"differs in .* places"):
            check(source, target, [])
        copy(source, target)
        assert copied.read_text() == text
        check(source, target, [])


# An access list that lets user 7 read, as the kernel keeps it: tag, permissions, user or group.
ANYBODY = 2**32 - 1
ENTRIES = [(0x01, 7, ANYBODY), (0x02, 5, 7), (0x04, 5, ANYBODY), (0x10, 5, ANYBODY), (0x20, 0, ANYBODY)]
ACCESS_LIST = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)


def opaque(path: Path) -> str:
    """Return the attribute with which overlay2 marks a directory here. Only a machine's own root may set that in trusted."""
    try:
        os.setxattr(path, "trusted.overlay.opaque", b"y")
    except PermissionError:
        return "user.overlay.opaque"  # a tmpfs has these since Linux 6.6
    os.removexattr(path, "trusted.overlay.opaque")
    return "trusted.overlay.opaque"


@pytest.mark.parametrize(("name", "value"), [("opaque", b"y"), ("system.posix_acl_access", ACCESS_LIST)])
def test_attributes_are_copied_and_verified(source: Path, target: Path, name: str, value: bytes) -> None:
    name = opaque(source) if name == "opaque" else name
    copy(source, target)
    os.setxattr(source / "overlay2", name, value)
    with pytest.raises(rsync.CopyError, match=r"differs in 1 places: .* overlay2/"):
        check(source, target, [])
    copy(source, target)
    assert os.getxattr(target / "overlay2", name) == value
    check(source, target, [])


def test_hard_link_that_became_a_file_of_its_own_is_found(source: Path, target: Path) -> None:
    os.link(source / "overlay2/container/file", source / "hard")
    copy(source, target)
    times = [(path, path.stat()) for path in (target / "hard", target)]
    (target / "hard").unlink()
    (target / "hard").write_text("of a container")
    for path, before in times:
        path.chmod(before.st_mode)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(rsync.CopyError, match="differs in 1 places: hf"):
        check(source, target, [])
    assert (target / "hard").stat().st_nlink == 1, "the verification has changed the copy"


@pytest.fixture
def mounted(source: Path) -> Iterator[Path]:
    """Another filesystem in the tree, as an overlay of a running container is."""
    if not may_mount():
        pytest.skip("a mount needs root")
    (source / "merged").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=755", "none", source / "merged"], check=True)
    (source / "merged/file").touch()
    try:
        yield source / "merged"
    finally:
        subprocess.run(["umount", source / "merged"], check=True)


def test_filesystem_that_is_mounted_in_the_tree_is_left_out(mounted: Path, target: Path) -> None:
    source, size = mounted.parent, rsync.size_of(str(mounted.parent))
    copy(source, target)
    assert list((target / "merged").iterdir()) == []
    assert rsync.compare(str(source), str(target)) == set()
    check(source, target, [])
    (mounted / "file").write_bytes(b"x" * 8192)
    assert rsync.size_of(str(source)) == size


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


# -- what is on the disk, and when


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in order: the programs that run, the files that are dropped from memory, and those that are read."""
    done: list[str] = []
    start, is_same = subprocess.Popen.__init__, rsync._is_same

    def popen(process: Any, words: list[str], *more: Any, **how: Any) -> None:
        done.append(" ".join([*[word for word in words if word in ("rsync", "--dry-run", "sync")], *words[-1:]]))
        start(process, words, *more, **how)

    def forget(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        done.append(f"forget {os.readlink(f'/proc/self/fd/{descriptor}')}")

    def compare(one: str, other: str) -> bool:
        done.append(f"read {other}")
        return is_same(one, other)

    monkeypatch.setattr(subprocess.Popen, "__init__", popen)
    monkeypatch.setattr(os, "posix_fadvise", forget)
    monkeypatch.setattr(rsync, "_is_same", compare)
    return done


def test_copy_is_on_the_disk_when_it_is_made(source: Path, target: Path, steps: list[str]) -> None:
    copy(source, target)
    assert steps == [f"rsync {target}/", f"sync {target}"]


def test_comparison_reads_the_copy_from_the_disk_and_puts_what_it_mends_there(
    source: Path, target: Path, steps: list[str]
) -> None:
    copy(source, target)
    os.mkfifo(target / "pipe")  # to open it would wait for ever
    steps.clear()
    rsync.compare(str(source), str(target))
    files = [f"forget {path}" for path in target.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert sorted(steps[:3]) == sorted(files)
    assert steps[3:] == [f"rsync {target}/", f"sync {target}"]


def test_verification_reads_the_copy_from_the_disk(source: Path, target: Path, steps: list[str]) -> None:
    copy(source, target)
    steps.clear()
    file = f"{target}/overlay2/container/file"
    check(source, target, ["overlay2/container/file"])
    assert steps == [f"rsync --dry-run {target}/", f"forget {file}", f"read {file}"]


# -- what differs


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("", "", True),
        ("abcdef", "abcdef", True),
        ("abcd", "abcde", False),
        ("abcde", "abcd", False),
        ("ab", "ac", False),
    ],
)
def test_files_are_compared_to_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, other: str, same: bool
) -> None:
    monkeypatch.setattr(rsync, "_BLOCK", 4)
    (tmp_path / "one").write_text(one)
    (tmp_path / "other").write_text(other)
    assert rsync._is_same(f"{tmp_path}/one", f"{tmp_path}/other") == same
    assert not rsync._is_same(f"{tmp_path}/one", f"{tmp_path}/none")


def test_damage_is_named_and_not_mended(source: Path, target: Path) -> None:
    copy(source, target)
    names = [f"file{number}" for number in range(7)]
    for name in names:
        (source / name).write_text("x")
    with pytest.raises(rsync.CopyError, match=r"^the copy of .*source differs in 8 places: ") as failed:
        check(source, target, [])
    assert str(failed.value).count("; ") == 4, "the message names five"
    assert not (target / "file1").exists()


def test_file_of_which_a_path_leads_out_of_the_copy_is_left_alone(tmp_path: Path, target: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for path in (tmp_path / "theirs/file", target / "file"):
        path.touch()
        os.utime(path, (9, 9))
    (target / "was-a-link").symlink_to(tmp_path / "theirs")
    (target / "link").symlink_to(tmp_path / "theirs/file")
    rsync.distrust(str(target), ["was-a-link/file", "link", "file", "none"])
    assert (tmp_path / "theirs/file").stat().st_mtime == 9
    assert (target / "file").stat().st_mtime == 0


def test_everything_that_changed_or_vanished_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kept", "gone", "left-out/inner"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    scandir = os.scandir

    def scan(path: Any) -> Any:
        entries = list(scandir(path))
        if path == str(tmp_path) and (tmp_path / "gone").exists():
            (tmp_path / "gone/file").unlink()
            (tmp_path / "gone").rmdir()
        return entries

    monkeypatch.setattr(os, "scandir", scan)
    late = time.time() + 60
    assert {entry.name for entry in rsync.changed(str(tmp_path), late, ["left-out"])} == {"gone"}
    found = sorted(
        os.path.relpath(entry.path, tmp_path) for entry in rsync.changed(str(tmp_path), 0, ["left-out/inner"])
    )
    assert found == ["kept", "kept/file", "left-out"]
    with pytest.raises(FileNotFoundError):
        list(rsync.changed(f"{tmp_path}/none", 0))


def test_ctime_of_the_moment_itself_counts_as_changed(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = (source / "overlay2/container/file").stat().st_ctime
    assert "overlay2/container/file" in rsync.changed_files(str(source), changed)
    monkeypatch.setattr(time, "time", lambda: 100.0)
    assert rsync.moment() == 99, "a filesystem's clock lags behind"


# -- rsync's answers


@pytest.mark.parametrize(
    ("codes", "polite", "fails"),
    [
        ([0], True, False),
        ([24], True, False),  # files vanish in a tree that is in use
        ([23, 23, 0], True, False),  # a file was truncated while it was read
        ([23, 23, 23], True, True),
        ([12], True, True),
        ([24], False, True),
        ([23], False, True),
        ([0], False, False),
    ],
)
def test_copy_of_a_tree_in_use_may_meet_changes(
    monkeypatch: pytest.MonkeyPatch, codes: list[int], polite: bool, fails: bool
) -> None:
    synced: list[Any] = []
    monkeypatch.setattr(rsync, "_rsync", lambda *_, **__: (codes.pop(0), [*"abcdefg"]))
    monkeypatch.setattr(subprocess, "run", lambda words, **_: synced.append(words))
    last = codes[-1]
    if fails:
        with pytest.raises(rsync.CopyError, match=f"^rsync from /a ended with {last}: c; d; e; f; g$"):
            rsync.copy("/a", "/b", lambda *_: None, polite=polite)
    else:
        rsync.copy("/a", "/b", lambda *_: None, polite=polite)
    assert (codes, bool(synced)) == ([], not fails)


@pytest.mark.parametrize("code", [1, 23, 24])
def test_comparison_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, code, "", "no \n"))
    if code != 24:
        with pytest.raises(rsync.CopyError, match=f"^rsync ended with {code}: no$"):
            rsync.compare("/none", "/none")
    with pytest.raises(rsync.CopyError, match=f"^rsync ended with {code}: no$"):
        rsync.verify("/none", "/none", [], [])


def test_copy_reports_the_bytes(source: Path, target: Path) -> None:
    reported: list[tuple[int, str]] = []
    (source / "large").write_bytes(b"x" * 5000)
    rsync.copy(str(source), str(target), lambda done, rate: reported.append((done, rate)))
    assert reported[-1][0] == sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    assert reported[-1][1].endswith("B/s")


def test_time_that_is_left_is_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    reported: list[str] = []
    report = rsync.progress(reported.append, 2**30)
    report(0, "0.00kB/s")
    report(2**31, "1MB/s")
    assert reported == ["  2.0 GiB of about 1.0 GiB, 1MB/s, about 0:00:00 left"]
