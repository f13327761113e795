"""The one reader of the kernel's tables of mounts, and what mounts by fstab."""

from __future__ import annotations

import contextlib
import os
import re

from bulkhead import procfs
from bulkhead.command import run
from bulkhead.files import is_within
from pyinfra_lvm.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# How the kernel shows that it no longer writes to a filesystem. Since 6.12 an ext4 that had an error is no longer called
# "ro"; from 6.15 on it has a word of its own (ext4_emergency_ro in the kernel's fs/ext4/super.c).
_CLOSED = {"ro", "emergency_ro", "shutdown"}


class MountInfo(NamedTuple):
    """A line of /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

    device: str  # numbers: 252:1
    root: str  # the directory of the filesystem that is mounted
    target: str
    fstype: str
    writable: bool  # through this mount
    closed: bool  # nothing can write to the filesystem, wherever it is mounted: by request, or after an error
    private: bool  # what is mounted in its place elsewhere does not appear here (mount_namespaces(7))


def mounts_of(process: int | str = "self") -> list[MountInfo]:
    """Return the mounts that a process sees, in the order of mounting.

    Raises:
        OSError: the process has ended.
    """
    with open(procfs.path(process, "mountinfo"), encoding="utf-8", errors="surrogateescape") as file:
        return [_parse(line) for line in file.read().split("\n")[:-1]]


def _parse(line: str) -> MountInfo:
    before, _, after = line.partition(" - ")
    _, _, device, root, target, options, *tags = before.split(" ")
    fstype, _, of_filesystem = after.split(" ", 2)
    return MountInfo(
        device,
        unescaped(root),
        unescaped(target),
        fstype,
        writable="rw" in options.split(","),
        closed=not _CLOSED.isdisjoint(of_filesystem.rpartition(" ")[2].split(",")),
        private=not any(tag.startswith(("shared:", "master:")) for tag in tags),
    )


def unescaped(field: str) -> str:
    """Return a path that the kernel's tables write with three octal digits for white space and backslashes.

    >>> unescaped("/srv/a\\\\040b")
    '/srv/a b'
    """
    if "\\" not in field:  # hardly any has one: a check does not even compile the pattern
        return field
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def is_mounted(path: str) -> bool:
    """Return whether something is mounted on a path. (os.path.ismount misses a directory that is bound to itself.)"""
    return any(mount.target == path for mount in mounts_of())


def mounts_within(directories: Iterable[str]) -> list[MountInfo]:
    """Return the mounts below these directories, the last mount first."""
    roots = tuple(f"{directory}/" for directory in directories)
    return [mount for mount in reversed(mounts_of()) if mount.target.startswith(roots)]


def mounted_elsewhere(*devices: int) -> list[str]:
    """Describe where devices are mounted, in every mount namespace: a process of each, and the mount point."""
    numbers = [f"{os.major(device)}:{os.minor(device)}" for device in devices]
    found = {}
    for pid in procfs.process_ids():
        with contextlib.suppress(OSError):  # the process has ended
            namespace = procfs.namespace(pid, "mnt")
            for mount in mounts_of(pid) if namespace not in found else []:
                if mount.device in numbers:
                    found[namespace] = f"{procfs.name(pid)} (process {pid}), which has it on {mount.target}"
    return [*found.values()]


def bound_elsewhere(directory: str, *, readers: bool = False, but_of: tuple[str, ...] = ()) -> list[str]:
    """Describe where a directory, or a part of it, is mounted in another place too, in every mount namespace.

    When another filesystem is mounted on the directory, a container that has the directory bound goes on with the old
    tree. So does a container that has a directory above it bound, if new mounts do not appear there.

    tasks/preflight/host_script/bound_elsewhere.sh decides the same; tests/unit/cases.py holds the cases for both.

    Args:
        readers: whether to count mounts that can only be read.
        but_of: leave out processes that descend from programs of these names.
    """
    holding = [mount for mount in mounts_of() if is_within(directory, [mount.target.rstrip("/")])]
    holder = max(enumerate(holding), key=lambda pair: (len(pair[1].target), pair[0]))[1]
    inside = holder.root.rstrip("/") + directory[len(holder.target.rstrip("/")) :]
    own = procfs.namespace("self", "mnt")
    found: dict[str, list[str]] = {}
    for pid in procfs.process_ids():
        with contextlib.suppress(OSError):  # the process has ended
            namespace = procfs.namespace(pid, "mnt")
            if namespace in found:
                continue
            bound = [
                mount.target
                for mount in mounts_of(pid)
                if mount.device == holder.device
                and _keeps_old_tree(mount, inside, directory, readers)
                and not (namespace == own and mount.target == holder.target)
            ]
            if bound and but_of and any(procfs.name(each).startswith(but_of) for each in procfs.ancestors(pid)):
                bound = []
            who = "" if namespace == own else f" by {procfs.name(pid)} (process {pid})"
            found[namespace] = [f"bound to {target}{who}" for target in bound]
    return [bind for binds in found.values() for bind in binds]


def _keeps_old_tree(mount: MountInfo, inside: str, directory: str, readers: bool) -> bool:
    """Return whether a mount still shows the old tree after another filesystem is mounted on the directory."""
    if is_within(mount.root, [inside]):
        # A mount in the directory's own place is covered too: systemd's namespaces follow the host's mounts.
        return (mount.writable or readers) and not is_within(mount.target, [directory])
    return mount.private and mount.writable and is_within(inside, [mount.root.rstrip("/")])


def kernel_uses(directory: str) -> list[str]:
    """Describe what the kernel itself uses of a directory, which no process shows: swap, loop devices, NFS exports."""
    import glob

    swaps = [unescaped(line.split(" ")[0]) for line in procfs.read(f"{procfs.PROC}/swaps").split("\n")[1:]]
    loops = [procfs.read(file) for file in glob.glob("/sys/block/loop*/loop/backing_file")]
    # v4root: NFSv4 shows it on the way to an export; it is no export of files.
    exports = [
        unescaped(line.split("\t")[0])
        for line in procfs.read(f"{procfs.PROC}/fs/nfsd/exports").split("\n")
        if line.startswith("/") and "v4root" not in line
    ]
    return [
        *(f"{file}, which is swap" for file in swaps if is_within(file, [directory])),
        *(f"{file}, which is a loop device" for file in loops if is_within(file, [directory])),
        # An export of a directory above, with crossmnt, exports this one as well.
        *(
            f"{path}, which NFS exports"
            for path in exports
            if is_within(path, [directory]) or is_within(directory, [path.rstrip("/")])
        ),
    ]


def mount_by_fstab(*paths: str) -> None:
    """Mount what fstab has for these paths, through systemd, so that its units agree with the mounts.

    Raises:
        Failed: something could not be mounted.
    """
    run("systemctl", "daemon-reload")
    run("systemctl", "start", *run("systemd-escape", "--path", "--suffix=mount", *paths).split())
    for path in paths:
        if not is_mounted(path):  # systemd may still believe in a mount that was undone a moment ago
            run("mount", path)
