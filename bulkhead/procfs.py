"""The one reader of /proc: processes, logins, control groups."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = "/proc"


# -- /proc


def processes() -> Iterator[int]:
    return (int(name) for name in os.listdir(PROC) if name.isdecimal())


def children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"{PROC}/{pid}/task")
    except OSError:
        return []
    found = " ".join(read_or_empty(f"{PROC}/{pid}/task/{thread}/children") for thread in threads)
    return [int(child) for child in found.split()]


def parent(pid: int) -> int:
    return int((stat(pid) or ["", "0"])[1])


def started(pid: int) -> int:
    return int((stat(pid) or ["0"])[-1])


def stat(pid: int) -> list[str]:
    """From the state to the time of the start (proc_pid_stat(5)); empty: it has ended."""
    return read_or_empty(f"{PROC}/{pid}/stat").rpartition(")")[2].split()[:20]


def words(pid: int) -> list[str]:
    text = read_or_empty(f"{PROC}/{pid}/cmdline")
    return text.rstrip("\0").split("\0") if text else []


def members(cgroup: str) -> list[int]:
    found = " ".join(read_or_empty(f"{directory}/cgroup.procs") for directory, _, _ in os.walk(cgroup))
    return [int(pid) for pid in found.split()]


def read_or_empty(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read().strip("\n")
    except OSError:  # it has ended meanwhile
        return ""


def booted() -> float:
    """When this boot began, in seconds since the epoch."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


# -- who uses a directory


@dataclass(frozen=True)
class User:
    """A process that has something of a directory open."""

    pid: int
    name: str
    writes: bool  # has a file open for writing; else it reads, runs a program or stands there
    devices: frozenset[int] = frozenset()  # numbers of the filesystems (st_dev) that what it uses is on

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def users_of(directories: Iterable[str]) -> list[User]:
    """Processes that have files of these directories open, run programs of them, or have them as their directory.

    Those of containers are none: a path is named there from another root (what they have bound, `bound_elsewhere` tells).
    """
    roots = tuple(directories)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            is_contained = os.readlink(process / "root") == "/" and not os.path.samefile(process / "root", "/")
            if not is_contained and (uses := list(_uses(process, roots))):
                pid = int(process.name)
                devices = frozenset(device for _, device in uses)
                found.append(User(pid, comm(pid), any(writes for writes, _ in uses), devices))
    return sorted(found, key=lambda user: user.pid)


def _uses(process: Path, roots: tuple[str, ...]) -> Iterator[tuple[bool, int]]:
    """For each use of one of the directories by a process: whether it writes, and the filesystem's number."""
    for name in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):
            if is_within(os.readlink(process / name), roots):
                yield False, os.stat(process / name).st_dev
    for link in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if is_within(os.readlink(link), roots):
                yield _is_writing(process / "fdinfo" / link.name), os.stat(link).st_dev
    with contextlib.suppress(OSError):
        for line in (process / "maps").read_text(errors="surrogateescape").split("\n"):
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and is_within(fields[5], roots):
                major, minor = (int(number, 16) for number in fields[3].split(":"))
                # What is written to a shared mapping reaches the file.
                yield "w" in fields[1] and "s" in fields[1], os.makedev(major, minor)


@dataclass(frozen=True)
class Login:
    """One login: the processes of a connection, or of a session of systemd's.

    Args:
        anchor: the process that all of the connection descend from: its sshd, or what the terminal's began with.
        cgroup: control group, as /proc/PID/cgroup has it. Where pam_systemd is, it is the session's.
    """

    anchor: int
    cgroup: str

    @classmethod
    def own(cls) -> Login:
        """The login that this process belongs to."""
        line = list(ancestors(os.getpid()))
        return cls(next((pid for pid in line if comm(pid).startswith("sshd")), line[-1]), _cgroup(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> Login:
        anchor, _, cgroup = text.partition(" ")
        return cls(int(anchor), cgroup)

    def __str__(self) -> str:
        return f"{self.anchor} {self.cgroup}"

    def includes(self, pid: int) -> bool:
        """Whether a process belongs to it; a user's own systemd, which came with the session, does."""
        if self.anchor in ancestors(pid) or pid in ancestors(self.anchor):
            return True
        group = _cgroup(pid)
        slice_, _, unit = self.cgroup.rpartition("/")
        return unit.startswith("session-") and (group == self.cgroup or group.startswith(f"{slice_}/user@"))


def ancestors(pid: int) -> Iterator[int]:
    """A process and those that it descends from, but for PID 1."""
    while pid > 1:
        yield pid
        try:
            status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        except OSError:  # it has ended meanwhile
            return
        pid = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))


def comm(pid: int) -> str:
    return read(f"/proc/{pid}/comm")


def _cgroup(pid: int) -> str:
    return read(f"/proc/{pid}/cgroup")


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def is_within(path: str, directories: Iterable[str]) -> bool:
    return any(path == directory or path.startswith(directory + "/") for directory in directories)


def _is_writing(info: Path) -> bool:
    flags = next(line.split()[1] for line in info.read_text().splitlines() if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
