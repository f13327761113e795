"""What moves need of the system: commands, fstab, who uses a directory, and what is beneath a mount."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bulkhead import Problem, journal
from bulkhead.mounts import Mount, mounts_of, unescaped

FSTAB = "/etc/fstab"

# What is told without a traceback.
PROBLEMS = (Problem, OSError, ValueError, subprocess.SubprocessError)


class Failed(Problem):
    """Something did not come about; the message says what, and what the host is on now."""


def run(*command: str, timeout: float | None = None) -> str:
    """What a command prints.

    Args:
        timeout: seconds that it may take.

    Raises:
        Failed: it did not succeed; with what it said.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="surrogateescape", check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"`{' '.join(command[:3])}` did not end within {timeout:.0f} s") from None
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


def is_mounted(path: str) -> bool:
    """Whether something is mounted there. (os.path.ismount does not know a directory that is bound to itself.)"""
    return any(mount.target == path for mount in mounts_of())


def mounts_within(directories: Iterable[str]) -> list[Mount]:
    """What is mounted below these directories, the last mount first."""
    roots = tuple(f"{directory}/" for directory in directories)
    return [mount for mount in reversed(mounts_of()) if mount.target.startswith(roots)]


def bound_elsewhere(directory: str, *, readers: bool = False, but_of: tuple[str, ...] = ()) -> list[str]:
    """Where a directory, or a part of it, is mounted beside its own place, in words.

    In every mount namespace: a container that has it bound goes on with the old tree when another is mounted in its
    place; so does one that has a directory above it, where the new mount does not appear.

    Args:
        readers: count those that can only read, too.
        but_of: leave out what descends from programs of these names.
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
            is_ours = namespace == os.readlink("/proc/self/ns/mnt")
            bound = [
                mount.target
                for mount in mounts_of(process.name)
                if mount.device == holder.device
                and _goes_on(mount, inside, directory, readers)
                and not (is_ours and mount.target == holder.target)
            ]
            if bound and but_of and any(_comm(pid).startswith(but_of) for pid in _ancestors(int(process.name))):
                bound = []
            who = "" if is_ours else f" by {_comm(int(process.name))} (process {process.name})"
            found[namespace] = [f"bound to {target}{who}" for target in bound]
    return [words for bounds in found.values() for words in bounds]


def _goes_on(mount: Mount, inside: str, directory: str, readers: bool) -> bool:
    """Whether what a mount shows of a directory stays the old tree when another is mounted there."""
    if is_within(mount.root, [inside]):
        # In its own place it is covered there too: systemd's namespaces follow the host's mounts.
        return (mount.writable or readers) and not is_within(mount.target, [directory])
    return mount.private and mount.writable and is_within(inside, [mount.root.rstrip("/")])


def kernel_uses(directory: str) -> list[str]:
    """What the kernel itself has of a directory, which no process shows, in words: swap, loop devices, NFS exports."""
    swaps = [unescaped(line.split(" ")[0]) for line in _read("/proc/swaps").split("\n")[1:]]
    loops = [_read(str(file)) for file in Path("/sys/block").glob("loop*/loop/backing_file")]
    # v4root: what NFSv4 shows on the way to an export, and no file of it.
    exports = [
        unescaped(line.split("\t")[0])
        for line in _read("/proc/fs/nfsd/exports").split("\n")
        if line.startswith("/") and "v4root" not in line
    ]
    return [
        *(f"{file}, which is swap" for file in swaps if is_within(file, [directory])),
        *(f"{file}, which is a loop device" for file in loops if is_within(file, [directory])),
        # What is exported above it is, with crossmnt, exported as well.
        *(
            f"{path}, which NFS exports"
            for path in exports
            if is_within(path, [directory]) or is_within(directory, [path.rstrip("/")])
        ),
    ]


def mount_by_fstab(*paths: str) -> None:
    """Mount what fstab has for these paths, through systemd, so that unit and mount agree.

    Raises:
        Failed: it could not be mounted.
    """
    run("systemctl", "daemon-reload")
    run("systemctl", "start", *run("systemd-escape", "--path", "--suffix=mount", *paths).split())
    for path in paths:
        if not is_mounted(path):  # systemd may still believe in a mount that was undone a moment ago
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


# Beneath a mount: in a mount namespace of its own, through a bind mount of the parent, where nothing is mounted.
_BENEATH = r"""
parent=$1 beneath=/mnt/$2; shift 2
mount --bind "$parent" /mnt
if mountpoint -q "$beneath"; then echo "something is mounted on $beneath" >&2; exit 1; fi
"""

# $1: a time in seconds since the epoch.
_CHANGED_BENEATH = f"""{_BENEATH}
find "$beneath" -xdev -newerct "@$1" -printf '%P\\0'
"""

# $1 …: paths beneath it that stay. What is immutable there is what an earlier call has left, or of no use here.
_EMPTY_BENEATH = f"""{_BENEATH}
for kept; do
    set -- "$@" ! -path "$kept"
    shift
done
chattr -f -i "$beneath" || :
find "$beneath" -mindepth 1 -xdev ! -type d "$@" -delete 2>/dev/null || {{
    chattr -R -f -i "$beneath" || :
    find "$beneath" -mindepth 1 -xdev ! -type d "$@" -delete
}}
find "$beneath" -mindepth 1 -xdev -depth -type d -empty -delete
chattr -R +i "$beneath"
sync -f "$beneath"
"""


def changed_beneath(path: str, since: float) -> list[str]:
    """What has been changed beneath a mount after a moment, by the ctime, relative to it.

    Args:
        path: where something is mounted.
        since: seconds since the epoch.

    Raises:
        Failed: it cannot be seen.
    """
    found = _beneath(path, _CHANGED_BENEATH, f"{since:.6f}")
    return [name or "." for name in found.split("\0")[:-1]]


def refuse_changed(path: str, since: float) -> None:
    """See that nobody has used an old tree since the move.

    Raises:
        Failed: somebody has.
    """
    if changed := changed_beneath(path, since):
        parent, name = os.path.split(path)
        raise Failed(
            f"the old files beneath {path} have been changed since the move: {', '.join(changed[:5])}. "
            f"`mount --bind {parent} /mnt` shows them in /mnt/{name}. `bulkhead finalize --force` removes them all the same"
        )


def empty_beneath(path: str, keep: Sequence[str] = ()) -> None:
    """Remove what is beneath a mount, and make what is left immutable: not even root writes there any more.

    Args:
        path: where something is mounted.
        keep: files, as they are named without the mount, that stay, with the directories that lead to them.

    Raises:
        Failed: it could not be removed.
    """
    escaped = [
        re.sub(r"([\\*?\[\]])", r"\\\1", file.removeprefix(path)) for file in keep
    ]  # find takes it for a pattern
    _beneath(path, _EMPTY_BENEATH, *(f"/mnt/{os.path.basename(path)}{file}" for file in escaped))


def _beneath(path: str, script: str, *arguments: str) -> str:
    parent, name = os.path.split(path)
    try:
        return run(
            *("unshare", "--mount", "--propagation", "private"), *("sh", "-ec", script, "sh"), parent, name, *arguments
        )
    except Failed as failed:
        raise Failed(f"beneath {path} (`mount --bind {parent} /mnt` shows it): {failed}") from failed


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
                found.append(User(pid, _comm(pid), any(writes for writes, _ in uses), devices))
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
