"""Write to the standard error of a process that is about to be stopped."""

from __future__ import annotations

import contextlib
import os
import stat

from bulkhead import procfs

_TERMINALS = (4, *range(136, 144))  # major numbers of consoles, and of the terminals of ssh and the like


def write_line(pid: int, text: str) -> None:
    """Write a line to a process's standard error, if that is a terminal, a pipe, or a file of the process's own user.

    A file that the process has open only for reading is left alone: its user may not be allowed to write to it.
    """
    with contextlib.suppress(OSError):
        # The user comes first: if the process changes its user after this, the file is judged by the old one.
        user = os.stat(procfs.path(pid, ".")).st_uid
        # O_PATH holds the file without opening it, which a device would notice. So the file that is written to is the
        # one that was examined, whatever the process does meanwhile.
        held = os.open(procfs.path(pid, "fd/2"), os.O_PATH)
        try:
            if _takes_lines(os.fstat(held), user) and procfs.is_open_for_writing(pid, 2):
                write_to(f"/proc/self/fd/{held}", f"\n{text}\n".encode(errors="replace"))
        finally:
            os.close(held)


def _takes_lines(file: os.stat_result, user: int) -> bool:
    is_terminal = stat.S_ISCHR(file.st_mode) and os.major(file.st_rdev) in _TERMINALS
    return stat.S_ISFIFO(file.st_mode) or is_terminal or (stat.S_ISREG(file.st_mode) and file.st_uid == user)


def write_to(path: str, content: bytes) -> None:
    """Write to a file without waiting for it.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
