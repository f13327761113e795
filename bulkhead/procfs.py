"""The one reader of /proc."""

# A check imports this module: pathlib and dataclasses alone would double what its start costs.

from __future__ import annotations

import contextlib
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = "/proc"
_LINKS = 200  # parts of a path with all of its links; the kernel follows 40 links


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


def environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with.

    Raises:
        OSError: the process has ended, or is another user's.
    """
    with open(path(pid, "environ"), encoding="utf-8", errors="surrogateescape") as file:
        pairs = (entry.partition("=") for entry in file.read().split("\0"))
        return {name: value for name, equals, value in pairs if equals}


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


def hides_others() -> bool:
    """Return whether /proc shows this user no process of others: its mount option hidepid (proc(5)). Root sees them all."""
    return not read(path(1, "stat"))


def is_hidden(pid: int) -> bool:
    """Return whether a process lives that /proc does not show to this user."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # it is another user's
        return not _stat(pid)
    except (OSError, OverflowError):
        return False
    return False


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


def sockets(pid: int) -> set[int]:
    """Return the inode numbers of the sockets that a process has open.

    Raises:
        OSError: the process has ended, or is another user's.
    """
    found = set()
    for descriptor in os.listdir(path(pid, "fd")):
        with contextlib.suppress(OSError):  # closed meanwhile
            link = os.readlink(path(pid, f"fd/{descriptor}"))
            if link.startswith("socket:["):
                found.add(int(link[8:-1]))
    return found


def seen_by(pid: int, path_there: str) -> str:
    """Return a path that leads to the file that a process means by a path of its own.

    Links of a container lead from the container's root. The kernel would follow them from ours.

    Args:
        path_there: absolute.

    Raises:
        OSError: too many links.
    """
    root, found = path(pid, "root"), ""
    parts = path_there.split("/")[::-1]
    for _ in range(_LINKS):
        if not parts:
            return root + found
        if (part := parts.pop()) == "..":
            found = os.path.dirname(found).rstrip("/")
        elif part not in ("", "."):
            found = f"{found}/{part}"
            with contextlib.suppress(OSError):  # no link
                link = os.readlink(root + found)
                parts += link.split("/")[::-1]
                found = "" if link.startswith("/") else os.path.dirname(found).rstrip("/")
    raise OSError(f"{path_there}: too many links")


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


def boot_id() -> str:
    """Return what the kernel calls this boot: no two have the same (random(4))."""
    return read(f"{PROC}/sys/kernel/random/boot_id")
