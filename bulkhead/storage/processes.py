"""The processes that use a directory."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from bulkhead import procfs
from bulkhead.files import is_within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Process(NamedTuple):
    """A process, and how it uses the directories that were asked about."""

    pid: int
    name: str
    # Whether it can write to a file there. If not, it reads a file, runs a program or has its working directory there.
    writes: bool = False
    devices: frozenset[int] = frozenset()  # numbers (st_dev) of the filesystems that hold what it uses

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def users_of(directories: Iterable[str]) -> list[Process]:
    """Return the processes that have files of these directories open, run programs there, or work there.

    A container's processes are left out: they name their paths from another root. `bound_elsewhere` finds what
    containers have of a directory.
    """
    roots = tuple(directories)
    found = []
    for pid in procfs.process_ids():
        with contextlib.suppress(OSError):  # the process has ended
            root = procfs.path(pid, "root")
            is_contained = os.readlink(root) == "/" and not os.path.samefile(root, "/")
            if not is_contained and (uses := list(_uses(pid, roots))):
                devices = frozenset(device for _, device in uses)
                found.append(Process(pid, procfs.name(pid), any(writes for writes, _ in uses), devices))
    return found


def _uses(pid: int, roots: tuple[str, ...]) -> Iterator[tuple[bool, int]]:
    """Yield each use that a process makes of the directories: whether it writes, and the filesystem's number (st_dev)."""
    for entry in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):
            if is_within(os.readlink(procfs.path(pid, entry)), roots):
                yield False, os.stat(procfs.path(pid, entry)).st_dev
    for descriptor in os.listdir(procfs.path(pid, "fd")):
        with contextlib.suppress(OSError):
            link = procfs.path(pid, f"fd/{descriptor}")
            if is_within(os.readlink(link), roots):
                yield procfs.is_open_for_writing(pid, int(descriptor)), os.stat(link).st_dev
    with (
        contextlib.suppress(OSError),
        open(procfs.path(pid, "maps"), encoding="utf-8", errors="surrogateescape") as maps,
    ):
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and is_within(fields[5], roots):
                major, minor = (int(number, 16) for number in fields[3].split(":"))
                # What is written to a shared mapping reaches the file.
                yield "w" in fields[1] and "s" in fields[1], os.makedev(major, minor)
