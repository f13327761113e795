"""What moves need of the system: commands, fstab, who uses a directory, and what is beneath a mount."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bulkhead import journal

FSTAB = "/etc/fstab"


class Failed(Exception):
    """Something did not come about; the message says what, and what the host is on now."""


def run(*command: str) -> str:
    """What a command prints.

    Raises:
        Failed: it did not succeed; with what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=False)
    if done.returncode:
        raise Failed(f"`{' '.join(command[:3])}` failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def in_words(error: BaseException) -> str:
    return str(error).rstrip(".") or repr(error)


def count(number: int, noun: str) -> str:
    """
    >>> count(1, "file"), count(2, "file")
    ('1 file', '2 files')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


# -- mounts


@dataclass(frozen=True)
class Mount:
    """A line of /proc/PID/mountinfo (proc(5))."""

    device: str  # numbers: 252:1
    root: str  # directory of the filesystem that is mounted
    target: str
    writable: bool
    fstype: str


def mounts_of(process: int | str = "self") -> list[Mount]:
    """The mounts that a process sees, in the order of mounting."""
    found = []
    for line in Path(f"/proc/{process}/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        _, _, device, root, target, options, *_ = before.split()
        writable = "rw" in options.split(",")
        found.append(Mount(device, unescaped(root), unescaped(target), writable, after.split()[0]))
    return found


def mounts_within(directories: Iterable[str]) -> list[Mount]:
    """What is mounted below these directories, the last mount first."""
    roots = tuple(f"{directory}/" for directory in directories)
    return [mount for mount in reversed(mounts_of()) if mount.target.startswith(roots)]


def bound_elsewhere(directory: str) -> list[str]:
    """Where a directory, or a part of it, is mounted for writing beside its own place, in words.

    In every mount namespace: a container that has it bound goes on with the old tree when another is mounted in its place.
    """
    holding = [mount for mount in mounts_of() if is_within(directory, [mount.target.rstrip("/")])]
    holder = max(enumerate(holding), key=lambda pair: (len(pair[1].target), pair[0]))[1]
    inside = holder.root.rstrip("/") + directory[len(holder.target.rstrip("/")) :]
    found = {}
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            namespace = os.readlink(process / "ns/mnt")
            if namespace in found:
                continue
            bound = [
                mount.target
                for mount in mounts_of(process.name)
                if mount.device == holder.device
                and mount.writable
                and is_within(mount.root, [inside])
                # In its own place it is covered there too: systemd's namespaces follow the host's mounts.
                and not is_within(mount.target, [directory])
            ]
            who = (
                ""
                if namespace == os.readlink("/proc/self/ns/mnt")
                else f" by {_comm(int(process.name))} (process {process.name})"
            )
            found[namespace] = [f"bound to {target}{who}" for target in bound]
    return [words for bounds in found.values() for words in bounds]


def unescaped(field: str) -> str:
    """A path as the kernel's tables write it: white space and backslashes as three octal digits (proc(5)).

    >>> unescaped("/srv/a\\\\040b")
    '/srv/a b'
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def mount_by_fstab(path: str) -> None:
    """Mount what fstab has for a path, through systemd, so that unit and mount agree.

    Raises:
        Failed: it could not be mounted.
    """
    run("systemctl", "daemon-reload")
    run("systemctl", "start", run("systemd-escape", "--path", "--suffix=mount", path).strip())
    if not os.path.ismount(path):  # systemd may still believe in a mount that was undone a moment ago
        run("mount", path)


def read_fstab() -> str:
    return Path(FSTAB).read_text(encoding="utf-8", errors="surrogateescape")


def replace_fstab(change: Callable[[str], str]) -> None:
    """Replace fstab as a whole, checked and on disk.

    Args:
        change: makes the new text of the old.

    Raises:
        Failed: the new one would have errors that the old one has not.
    """
    old = read_fstab()
    new = change(old)
    if new == old:
        return
    aside = f"{FSTAB}.checked"
    journal.replace_file(aside, new)
    try:
        if _fstab_errors(aside) > _fstab_errors(FSTAB):
            raise Failed("the new fstab has errors (findmnt --verify); the old one was not touched")
    finally:
        Path(aside).unlink()
    journal.replace_file(FSTAB, new, mode=os.stat(FSTAB).st_mode & 0o7777)


def _fstab_errors(path: str) -> int:
    done = subprocess.run(["findmnt", "--verify", "--tab-file", path], capture_output=True, text=True, check=False)
    return sum("[E]" in line or "parse error at" in line for line in (done.stdout + done.stderr).splitlines())


# $1: the parent of a mount point, $2: its name, $3 …: files beneath it that stay, as they are seen there. In a mount
# namespace of its own, through a bind mount of the parent: what is mounted on it stays out of reach.
_EMPTY_BENEATH = r"""
parent=$1 beneath=/mnt/$2; shift 2
mount --bind "$parent" /mnt
! mountpoint -q "$beneath"
! lsattr -d "$beneath" | cut -d" " -f1 | grep -q i || exit 0
kept=; for path in "$@"; do kept="$kept ! -path $path"; done
find "$beneath" -mindepth 1 -xdev ! -type d $kept -delete
find "$beneath" -mindepth 1 -xdev -depth -type d -empty -delete
chattr -R +i "$beneath"
sync -f "$beneath"
"""


def empty_beneath(path: str, keep: Sequence[str] = ()) -> None:
    """Remove what is beneath a mount, and make what is left immutable: not even root writes there any more.

    Args:
        path: where something is mounted.
        keep: files, as they are named without the mount, that stay, with the directories that lead to them.

    Raises:
        Failed: it could not be removed.
    """
    parent, name = os.path.split(path)
    kept = [f"/mnt/{name}{file.removeprefix(path)}" for file in keep]
    run("unshare", "--mount", "--propagation", "private", "sh", "-ec", _EMPTY_BENEATH, "sh", parent, name, *kept)


# -- who uses a directory


@dataclass(frozen=True)
class User:
    """A process that has something of a directory open."""

    pid: int
    name: str
    writes: bool  # has a file open for writing; else it reads, runs a program or stands there

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def users_of(directories: Iterable[str]) -> list[User]:
    """Processes that have files of these directories open, run programs of them, or have them as their directory."""
    roots = tuple(directories)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if uses := list(_uses(process, roots)):
                pid = int(process.name)
                found.append(User(pid, _comm(pid), writes=any(uses)))
    return sorted(found, key=lambda user: user.pid)


def _uses(process: Path, roots: tuple[str, ...]) -> Iterator[bool]:
    """For each use of one of the directories by a process: whether it writes."""
    for name in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):
            if is_within(os.readlink(process / name), roots):
                yield False
    for link in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if is_within(os.readlink(link), roots):
                yield _is_writing(process / "fdinfo" / link.name)
    with contextlib.suppress(OSError):
        for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and is_within(fields[5], roots):
                yield "w" in fields[1] and "s" in fields[1]  # what is written there reaches the file


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
        line = list(_ancestors(os.getpid()))
        return cls(next((pid for pid in line if _comm(pid).startswith("sshd")), line[-1]), _cgroup(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> Login:
        anchor, _, cgroup = text.partition(" ")
        return cls(int(anchor), cgroup)

    def __str__(self) -> str:
        return f"{self.anchor} {self.cgroup}"

    def includes(self, pid: int) -> bool:
        """Whether a process belongs to it; a user's own systemd, which came with the session, does."""
        if self.anchor in _ancestors(pid) or pid in _ancestors(self.anchor):
            return True
        group = _cgroup(pid)
        slice_, _, unit = self.cgroup.rpartition("/")
        return unit.startswith("session-") and (group == self.cgroup or group.startswith(f"{slice_}/user@"))


def _ancestors(pid: int) -> Iterator[int]:
    """A process and those that it descends from, but for PID 1."""
    while pid > 1:
        yield pid
        try:
            status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        except OSError:  # it has ended meanwhile
            return
        pid = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))


def _comm(pid: int) -> str:
    return _read(f"/proc/{pid}/comm")


def _cgroup(pid: int) -> str:
    return _read(f"/proc/{pid}/cgroup")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def is_within(path: str, directories: Iterable[str]) -> bool:
    return any(path == directory or path.startswith(directory + "/") for directory in directories)


def _is_writing(info: Path) -> bool:
    flags = next(line.split()[1] for line in info.read_text().splitlines() if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
