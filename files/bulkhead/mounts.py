"""What is mounted, from the kernel's tables."""

from __future__ import annotations

import re
from typing import NamedTuple

MOUNTINFO = "/proc/{}/mountinfo"  # of a process

# How the kernel shows that it writes to a filesystem no more. Since 6.12 an ext4 that had an error is no longer called
# "ro"; from 6.15 on it has a word of its own (ext4_emergency_ro in the kernel's fs/ext4/super.c).
_CLOSED = {"ro", "emergency_ro", "shutdown"}


class Mount(NamedTuple):
    """A line of /proc/PID/mountinfo (proc(5))."""

    device: str  # numbers: 252:1
    root: str  # directory of the filesystem that is mounted
    target: str
    fstype: str
    writable: bool  # by this mount
    closed: bool  # the filesystem itself takes nothing, wherever it is mounted: asked for, or after an error
    private: bool  # what is mounted in its place elsewhere does not appear here (mount_namespaces(7))


def mounts_of(process: int | str = "self") -> list[Mount]:
    """The mounts that a process sees, in the order of mounting.

    Raises:
        OSError: there is no such process any more.
    """
    with open(MOUNTINFO.format(process), encoding="utf-8", errors="surrogateescape") as file:
        return [_mount(line) for line in file.read().split("\n")[:-1]]


def _mount(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    _, _, device, root, target, options, *tags = before.split(" ")
    fstype, _, of_filesystem = after.split(" ", 2)
    return Mount(
        device,
        unescaped(root),
        unescaped(target),
        fstype,
        writable="rw" in options.split(","),
        closed=not _CLOSED.isdisjoint(of_filesystem.rpartition(" ")[2].split(",")),
        private=not any(tag.startswith(("shared:", "master:")) for tag in tags),
    )


def unescaped(field: str) -> str:
    """A path as the kernel's tables write it: white space and backslashes as three octal digits (proc(5)).

    >>> unescaped("/srv/a\\\\040b")
    '/srv/a b'
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
