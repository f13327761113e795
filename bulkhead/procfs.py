"""The one reader of /proc: processes, the logins that they belong to, and the directories that they use."""

# A check imports this module: pathlib and dataclasses alone would double what its start costs.

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.files import is_within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = "/proc"


# -- one process


def process_ids() -> list[int]:
    """Return the IDs of all processes, in ascending order."""
    return sorted(int(entry) for entry in os.listdir(PROC) if entry.isdecimal())


def name(pid: int) -> str:
    """Return a process's name, which the kernel cuts at 15 bytes; empty if the process has ended."""
    return read(path(pid, "comm"))


def command_line(pid: int) -> list[str]:
    """Return the words of a process's command line; none if it has ended, or is the kernel's own."""
    text = read(path(pid, "cmdline"))
    return text.rstrip("\0").split("\0") if text else []


def parent(pid: int) -> int:
    """Return the ID of a process's parent; 0 if the process has ended."""
    return int((_stat(pid) or ["", "0"])[1])


def ancestors(pid: int) -> Iterator[int]:
    """Yield a process, its parent, and so on up to, but without, PID 1."""
    while pid > 1:
        yield pid
        pid = parent(pid)


def children(pid: int) -> list[int]:
    """Return the IDs of the processes that a process has started."""
    try:
        threads = os.listdir(path(pid, "task"))
    except OSError:
        return []
    found = " ".join(read(path(pid, f"task/{thread}/children")) for thread in threads)
    return [int(child) for child in found.split()]


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks after the boot; 0 if it has ended."""
    return int((_stat(pid) or ["0"])[-1])


def age(pid: int) -> float:
    """Return how long ago a process started, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start_time(pid) / os.sysconf("SC_CLK_TCK")


def cgroup(pid: int) -> str:
    """Return a process's control group as /proc/PID/cgroup has it: `0::/system.slice/ssh.service`."""
    return read(path(pid, "cgroup"))


def bytes_written(pid: int) -> int:
    """Return the bytes that a process has written to disks."""
    for line in read(path(pid, "io")).splitlines():
        if line.startswith("write_bytes: "):
            return int(line.partition(" ")[2])
    return 0


def namespace(pid: int | str, kind: str) -> str:
    """Return the namespace that a process is in.

    Args:
        pid: "self" for this process.
        kind: "mnt", "pid", … (namespaces(7)).

    Raises:
        OSError: the process has ended.
    """
    return os.readlink(path(pid, f"ns/{kind}"))


def is_open_for_writing(pid: int, descriptor: int) -> bool:
    """Return whether a process may write through one of its file descriptors."""
    flags = [
        line.split()[1] for line in read(path(pid, f"fdinfo/{descriptor}")).splitlines() if line.startswith("flags:")
    ]
    return bool(flags) and int(flags[0], 8) & os.O_ACCMODE != os.O_RDONLY


def path(pid: int | str, entry: str) -> str:
    """Return the path of an entry of a process's directory."""
    return f"{PROC}/{pid}/{entry}"


def read(path: str) -> str:
    """Return the text of a file in /proc or /sys; empty if it cannot be read: the process has ended."""
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read().strip("\n")
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """Return the fields from the state to the start time (proc_pid_stat(5)); none if the process has ended."""
    return read(path(pid, "stat")).rpartition(")")[2].split()[:20]


def boot_time() -> float:
    """Return when the kernel booted, in seconds since the epoch."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


# -- logins


class Login(NamedTuple):
    """One login: the processes of a connection, or of a session of systemd's.

    The shell of tasks/preflight/facts.py decides the same; tests/unit/cases.py holds the cases for both.
    """

    anchor: int  # the process that all others of the connection descend from: its sshd, or the terminal's first process
    cgroup: str  # as /proc/PID/cgroup has it. Where pam_systemd is in use, it is the session's

    @classmethod
    def of(cls, pid: int) -> Login:
        """Return the login that a process belongs to."""
        line = list(ancestors(pid))
        return cls(next((each for each in line if name(each).startswith("sshd")), line[-1]), cgroup(pid))

    @classmethod
    def own(cls) -> Login:
        """Return the login that this process belongs to."""
        return cls.of(os.getpid())

    @classmethod
    def parse(cls, text: str) -> Login:
        """Return the login that `str` wrote."""
        anchor, _, group = text.partition(" ")
        return cls(int(anchor), group)

    def __str__(self) -> str:
        return f"{self.anchor} {self.cgroup}"

    def includes(self, pid: int) -> bool:
        """Return whether a process belongs to this login. A user's own systemd does: it came with the session."""
        if self.anchor in ancestors(pid) or pid in ancestors(self.anchor):
            return True
        group = cgroup(pid)
        slice_, _, unit = self.cgroup.rpartition("/")
        return unit.startswith("session-") and (group == self.cgroup or group.startswith(f"{slice_}/user@"))


# -- who uses a directory


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
    for pid in process_ids():
        with contextlib.suppress(OSError):  # the process has ended
            root = path(pid, "root")
            is_contained = os.readlink(root) == "/" and not os.path.samefile(root, "/")
            if not is_contained and (uses := list(_uses(pid, roots))):
                devices = frozenset(device for _, device in uses)
                found.append(Process(pid, name(pid), any(writes for writes, _ in uses), devices))
    return found


def _uses(pid: int, roots: tuple[str, ...]) -> Iterator[tuple[bool, int]]:
    """Yield each use that a process makes of the directories: whether it writes, and the filesystem's number (st_dev)."""
    for entry in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):
            if is_within(os.readlink(path(pid, entry)), roots):
                yield False, os.stat(path(pid, entry)).st_dev
    for descriptor in os.listdir(path(pid, "fd")):
        with contextlib.suppress(OSError):
            link = path(pid, f"fd/{descriptor}")
            if is_within(os.readlink(link), roots):
                yield is_open_for_writing(pid, int(descriptor)), os.stat(link).st_dev
    with contextlib.suppress(OSError), open(path(pid, "maps"), encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and is_within(fields[5], roots):
                major, minor = (int(number, 16) for number in fields[3].split(":"))
                # What is written to a shared mapping reaches the file.
                yield "w" in fields[1] and "s" in fields[1], os.makedev(major, minor)
