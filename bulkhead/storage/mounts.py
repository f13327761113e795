"""What is mounted, from the kernel's tables."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.command import run
from bulkhead.procfs import ancestors, comm, is_within, read

if TYPE_CHECKING:
    from collections.abc import Iterable

MOUNTINFO = "/proc/{}/mountinfo"  # of a process

# How the kernel shows that it writes to a filesystem no more. Since 6.12 an ext4 that had an error is no longer called
# "ro"; from 6.15 on it has a word of its own (ext4_emergency_ro in the kernel's fs/ext4/super.c).
_CLOSED = {"ro", "emergency_ro", "shutdown"}


class MountInfo(NamedTuple):
    """A line of /proc/PID/mountinfo (proc(5))."""

    device: str  # numbers: 252:1
    root: str  # directory of the filesystem that is mounted
    target: str
    fstype: str
    writable: bool  # by this mount
    closed: bool  # the filesystem itself takes nothing, wherever it is mounted: asked for, or after an error
    private: bool  # what is mounted in its place elsewhere does not appear here (mount_namespaces(7))


def mounts_of(process: int | str = "self") -> list[MountInfo]:
    """The mounts that a process sees, in the order of mounting.

    Raises:
        OSError: there is no such process any more.
    """
    with open(MOUNTINFO.format(process), encoding="utf-8", errors="surrogateescape") as file:
        return [_mount(line) for line in file.read().split("\n")[:-1]]


def _mount(line: str) -> MountInfo:
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
    """A path as the kernel's tables write it: white space and backslashes as three octal digits (proc(5)).

    >>> unescaped("/srv/a\\\\040b")
    '/srv/a b'
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def mounted_elsewhere(*devices: int) -> list[str]:
    """Where devices are mounted, in any mount namespace, in words."""
    numbers = [f"{os.major(device)}:{os.minor(device)}" for device in devices]
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            namespace = os.readlink(process / "ns/mnt")
            for mount in mounts_of(process.name) if namespace not in found else []:
                if mount.device in numbers:
                    name = (process / "comm").read_text().strip()
                    found[namespace] = f"{name} (process {process.name}), which has it on {mount.target}"
    return [*found.values()]


# -- mounts


def is_mounted(path: str) -> bool:
    """Whether something is mounted there. (os.path.ismount does not know a directory that is bound to itself.)"""
    return any(mount.target == path for mount in mounts_of())


def mounts_within(directories: Iterable[str]) -> list[MountInfo]:
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
            if bound and but_of and any(comm(pid).startswith(but_of) for pid in ancestors(int(process.name))):
                bound = []
            who = "" if is_ours else f" by {comm(int(process.name))} (process {process.name})"
            found[namespace] = [f"bound to {target}{who}" for target in bound]
    return [words for bounds in found.values() for words in bounds]


def _goes_on(mount: MountInfo, inside: str, directory: str, readers: bool) -> bool:
    """Whether what a mount shows of a directory stays the old tree when another is mounted there."""
    if is_within(mount.root, [inside]):
        # In its own place it is covered there too: systemd's namespaces follow the host's mounts.
        return (mount.writable or readers) and not is_within(mount.target, [directory])
    return mount.private and mount.writable and is_within(inside, [mount.root.rstrip("/")])


def kernel_uses(directory: str) -> list[str]:
    """What the kernel itself has of a directory, which no process shows, in words: swap, loop devices, NFS exports."""
    swaps = [unescaped(line.split(" ")[0]) for line in read("/proc/swaps").split("\n")[1:]]
    loops = [read(str(file)) for file in Path("/sys/block").glob("loop*/loop/backing_file")]
    # v4root: what NFSv4 shows on the way to an export, and no file of it.
    exports = [
        unescaped(line.split("\t")[0])
        for line in read("/proc/fs/nfsd/exports").split("\n")
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
