"""Replace files whole and durably."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from bulkhead.names import PROGRAM_STATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Given up when the disk is full: a move must be able to write its journal, and to restore fstab, on a full root disk too.
RESERVE = f"{PROGRAM_STATE}/reserve"
_RESERVE_SIZE = 2**20  # bytes


def hold_reserve() -> None:
    """Take the space that `replace_file` falls back on.

    Raises:
        OSError: the disk has no room for it.
    """
    replace_file(RESERVE, "\0" * _RESERVE_SIZE)


def replace_file(
    path: str, content: str, mode: int = 0o644, *, takes_reserve: bool = True, in_memory: bool = False
) -> None:
    """Replace a file as a whole. When this returns, the new file is on disk.

    Args:
        takes_reserve: give up the reserve for it if the disk is full.
        in_memory: it is on a filesystem in memory, where there is nothing to wait for.

    Raises:
        OSError: the new file cannot be written; the old one is unchanged.
    """
    try:
        _replace_file(path, content, mode, in_memory)
    except OSError as error:
        if not takes_reserve or error.errno != errno.ENOSPC or not os.path.exists(RESERVE):
            raise
        os.unlink(RESERVE)
        _replace_file(path, content, mode, in_memory)


def _replace_file(path: str, content: str, mode: int, in_memory: bool) -> None:
    directory = os.path.dirname(path) or "."
    os.makedirs(directory, exist_ok=True)
    new_file = f"{path}.new"
    # Until it has its mode, nobody else may open it: whoever has it open reads what is written later.
    descriptor = os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    _put_in_place(descriptor, new_file, path, content, mode, in_memory=in_memory)


def _put_in_place(descriptor: int, new_file: str, path: str, content: str, mode: int, *, in_memory: bool) -> None:
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        if not in_memory:
            os.fsync(descriptor)
    os.rename(new_file, path)
    if not in_memory:
        sync_directory(os.path.dirname(path) or ".")


def write_output(path: str, content: str) -> None:
    """Write a file that the user has named. A link stays a link, and a pipe or a device gets the content.

    A file that is there is replaced, and keeps its mode and its owner.

    Raises:
        OSError, ValueError: it cannot be written.
    """
    try:
        former = os.stat(path)
    except FileNotFoundError:
        former = None
    if former and not stat.S_ISREG(former.st_mode):  # root could replace even /dev/null
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
        return
    import tempfile  # slow to import, and a check has no use for it

    path = os.path.realpath(path)
    directory, name = os.path.split(path)
    os.makedirs(directory, exist_ok=True)
    descriptor, new_file = tempfile.mkstemp(prefix=f"{name}.", dir=directory)  # NAME.new may be a file of the user's
    try:
        mode = stat.S_IMODE(former.st_mode) if former else 0o644
        _put_in_place(descriptor, new_file, path, content, mode, in_memory=False)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new_file)
        raise
    if former and former.st_uid != os.geteuid():
        with contextlib.suppress(PermissionError):  # only root may give a file away
            os.chown(path, former.st_uid, former.st_gid)


def sync_directory(path: str) -> None:
    """Put a directory's renames and removals on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_foreign(path: str, most: int) -> str:
    """Return the text of a file that anybody may have put there. Open no device, follow no link, wait for no pipe.

    Args:
        path: where the last part is no link.
        most: characters that are read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or no text.
    """
    # O_PATH holds the file without opening it: to open a device can start what it does. So what is read is what was examined.
    held = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise ValueError(f"{path} is no regular file")
        with open(f"/proc/self/fd/{held}", encoding="utf-8") as file:
            return file.read(most)
    finally:
        os.close(held)


def changed_at(path: str) -> float:
    """Return when a file was last changed, in seconds since the epoch; 0: there is none."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def is_within(path: str, directories: Iterable[str]) -> bool:
    """Return whether a path is one of the directories or below one of them.

    >>> is_within("/home/me", ["/home"]), is_within("/home2", ["/home"]), is_within("/srv", [""])
    (True, False, True)
    """
    return any(path == directory or path.startswith(directory + "/") for directory in directories)
