"""A disk that keeps only what was synced when its power fails."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from functools import cache

import pytest

_FSYNC, _RENAME = os.fsync, os.rename


class LossyDisk:
    """Stands between the program and its files: records each fsync and rename, and knows what a power cut would undo.

    A file has to be synced before it is renamed: otherwise it is empty after a power cut. A rename is on the disk once
    the directory is synced: otherwise a power cut undoes it. What a fake writes by itself counts as synced.

    Args:
        before: is called before each rename.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: Callable[[], object] = lambda: None) -> None:
        self.events: list[str] = []
        self._before = before
        self._synced: dict[int, bytes] = {}  # inode → its content
        self._empty: set[str] = set()  # files that were renamed before they were synced
        self._pending: list[
            tuple[set[str], Callable[[], None]]
        ] = []  # directories to be synced, and what undoes a rename
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(os, "rename", self._rename)

    def _fsync(self, descriptor: int) -> None:
        path, found = os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
        self.record("fsync", path)
        if stat.S_ISDIR(found.st_mode):
            self._pending = [(left, undo) for at, undo in self._pending if (left := at - {path})]
        else:
            self._synced[found.st_ino] = _content(path)

    def _rename(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> None:
        self._before()
        # Within their directories: a rename follows no link.
        old, new = (f"{_real(os.path.dirname(path))}/{os.path.basename(path)}" for path in (old, new))
        self.record("rename", old, new)
        undo = _undo(old, new)
        self._empty -= {old, new}
        if os.path.isfile(old) and self._synced.get(os.stat(old).st_ino) != _content(old):
            self._empty.add(new)
        _RENAME(old, new)
        self._pending.append(({os.path.dirname(old), os.path.dirname(new)}, undo))

    def record(self, what: str, *paths: str) -> None:
        """Record what happens to files, or something else that happens between."""
        self.events.append(" ".join([what, *map(os.path.basename, paths)]))

    def lose_power(self) -> None:
        """Undo what is not on the disk."""
        for path in self._empty:
            if os.path.exists(path):
                os.truncate(path, 0)
        for _, undo in reversed(self._pending):
            undo()
        self._pending, self._empty = [], set()

    def remember(self, top: str) -> Callable[[], None]:
        """Return what brings back everything beneath a directory as it is now, and what of it a power cut would undo."""
        pending, empty = [*self._pending], {*self._empty}
        kept = [(*found, self._synced.get(inode)) for inode, *found in read_tree(top)]

        def bring_back() -> None:
            shutil.rmtree(top)
            os.mkdir(top)
            self._synced, self._pending, self._empty = {}, [*pending], {*empty}
            for path, mode, content, synced in kept:
                if isinstance(content, str):
                    os.symlink(content, path)
                    continue
                if content is None:
                    os.mkdir(path)
                else:
                    _write(path, content)
                os.chmod(path, mode)
                if synced is not None:
                    self._synced[os.stat(path).st_ino] = synced

        return bring_back


@cache
def _real(directory: str) -> str:
    return os.path.realpath(directory)


# By the system's calls: Python's own files take several times as long, and there are tens of thousands.
def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    content = b"".join(iter(lambda: os.read(descriptor, 2**16), b""))
    os.close(descriptor)
    return content


def _write(path: str, content: bytes, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, mode)
    assert os.write(descriptor, content) == len(content)
    os.close(descriptor)


def read_tree(top: str) -> Iterator[tuple[int, str, int, bytes | str | None]]:
    """Yield inode, path and mode of everything beneath a directory, with a file's content, a link's target or None."""
    with os.scandir(top) as entries:
        for entry in entries:
            mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
            if entry.is_symlink():
                yield entry.inode(), entry.path, mode, os.readlink(entry.path)
            elif entry.is_dir():
                yield entry.inode(), entry.path, mode, None
                yield from read_tree(entry.path)
            else:
                yield entry.inode(), entry.path, mode, _content(entry.path)


def _undo(old: str, new: str) -> Callable[[], None]:
    """Return what undoes a rename that is about to happen."""
    if not os.path.lexists(new):
        return lambda: _RENAME(new, old)
    mode = os.stat(new).st_mode & 0o7777
    content = None if os.path.isdir(new) else _content(new)

    def undo() -> None:
        _RENAME(new, old)
        if content is None:
            os.mkdir(new, mode)
        else:
            _write(new, content, mode)

    return undo
