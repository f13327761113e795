"""Replace files whole and durably."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bulkhead.names import PROGRAM_STATE

# Given up when the disk is full: a move must be able to note where it is, and to put fstab back, on a full root disk too.
RESERVE = f"{PROGRAM_STATE}/reserve"
_RESERVE_SIZE = 2**20  # bytes


def hold_reserve() -> None:
    """Take the space that ``replace_file`` falls back on."""
    replace_file(RESERVE, "\0" * _RESERVE_SIZE)


def replace_file(path: str, content: str, mode: int = 0o644) -> None:
    """Replace a file as a whole; what this returns after is on disk.

    Raises:
        OSError: it cannot be written; the old one is there as it was.
    """
    try:
        _replace_file(path, content, mode)
    except OSError as error:
        if error.errno != errno.ENOSPC or not os.path.exists(RESERVE):
            raise
        os.unlink(RESERVE)
        _replace_file(path, content, mode)


def _replace_file(path: str, content: str, mode: int) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(f"{path}.new")
    with aside.open("w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(target)
    sync_directory(str(target.parent))


def sync_directory(path: str) -> None:
    """What was renamed or removed in a directory is on disk after this."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def changed_at(path: str) -> float:
    """Return when a file was last changed, in seconds since the epoch; 0: there is none."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
