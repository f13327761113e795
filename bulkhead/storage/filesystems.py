"""The local filesystems that matter, and how full they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.storage.mounts import MountInfo, mounts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bulkhead.config import Config

FSTAB = "/etc/fstab"
DAEMON = "/etc/docker/daemon.json"
CONTAINERD = "/etc/containerd/config.toml"
_ON_DISKS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "f2fs", "zfs")


class FilesystemUsage(NamedTuple):
    mount: str
    size: int  # bytes, as df counts them
    used: int
    available: int  # to others than root
    inodes: int  # 0: it has no limit of them
    inodes_free: int
    read_only: bool  # and should not be

    @property
    def percent(self) -> float:
        """As df has it: what only root may fill counts as neither used nor available."""
        return 100 * self.used / ((self.used + self.available) or 1)

    @property
    def inodes_percent(self) -> float:
        return 100 * (self.inodes - self.inodes_free) / (self.inodes or 1)


def watched(config: Config, mounted: Sequence[MountInfo] | None = None) -> list[FilesystemUsage]:
    """Every filesystem on a disk, once each. One that is read-only on purpose cannot fill, and is left out.

    Args:
        mounted: what is mounted, if that is known already.
    """
    found = []
    for mount in chosen(mounts_of() if mounted is None else mounted, config):
        if mount.writable or not _is_meant_read_only(mount.target, config):
            try:
                found.append(_measured(mount))
            except (FileNotFoundError, PermissionError):
                pass  # another mount hides it, or it is not this user's to see
            except OSError:  # its device is gone
                found.append(FilesystemUsage(mount.target, 0, 0, 0, 0, 0, read_only=True))
    return found


def chosen(mounted: Sequence[MountInfo], config: Config) -> list[MountInfo]:
    """Of each device's mounts the one to look at. Docker's own, below its stores, are none."""
    below_stores = tuple(f"{store}/" for store in config.stores.values())

    def rank(mount: MountInfo) -> tuple[bool, bool, bool, int]:
        is_bound = mount.root != "/" and mount.fstype != "btrfs"  # whose subvolumes are mounted by their paths
        is_view = not (mount.writable or mount.closed)  # it is written to elsewhere
        return mount.target != config.volume_mount, is_view, is_bound, len(mount.target)

    best: dict[str, MountInfo] = {}
    for mount in _visible(mounted).values():
        if mount.fstype in _ON_DISKS and not mount.target.startswith(below_stores):
            best[mount.device] = min(best.get(mount.device, mount), mount, key=rank)
    return sorted(best.values(), key=lambda mount: mount.target)


def out_of_place(mounted: Sequence[MountInfo], config: Config) -> list[str]:
    """Why Docker's data is not apart from root, in words; empty: it is."""
    visible = _visible(mounted)
    volume, root = visible.get(config.volume_mount), visible.get("/")
    if volume is None:
        return [f"{config.volume_mount} is not mounted"]
    if root and volume.device == root.device:
        return [f"{config.volume_mount} is on the root filesystem"]
    return [
        f"{store} is not on {config.volume_mount}"
        for store in config.stores.values()
        if store not in visible or visible[store].device != volume.device
    ]


def put_elsewhere(config: Config) -> list[str]:
    """Where Docker and containerd are told to keep their data, if that is not on the volume, in words."""
    places = tuple(f"{place}/" for place in (config.volume_mount, *config.stores.values()))
    return [
        f"{file} puts data into {root}"
        for file, root in (*_roots_of_docker(), *_roots_of_containerd())
        if not f"{os.path.normpath(root)}/".startswith(places)
    ]


def _roots_of_docker() -> list[tuple[str, str]]:
    import json

    try:
        with open(DAEMON, encoding="utf-8") as file:
            values = json.load(file)
        return [(DAEMON, values[name]) for name in ("data-root", "graph") if values.get(name)]
    except (OSError, ValueError, AttributeError):
        return []  # whether Docker can read it is seen by whether it runs


def _roots_of_containerd() -> list[tuple[str, str]]:
    found = []
    try:
        with open(CONTAINERD, encoding="utf-8") as file:
            for line in file:
                if line.lstrip().startswith("["):  # a table begins: a `root` in it is something else
                    break
                name, _, value = line.partition("=")
                if name.strip() == "root" and (root := value.partition("#")[0].strip(" \t\n\"'")):
                    found.append((CONTAINERD, root))
    except (OSError, ValueError):
        pass
    return found


def _visible(mounted: Sequence[MountInfo]) -> dict[str, MountInfo]:
    return {mount.target: mount for mount in mounted}  # what is mounted later hides what was mounted there before


def _measured(mount: MountInfo) -> FilesystemUsage:
    counts = os.statvfs(mount.target)
    return FilesystemUsage(
        mount.target,
        size=counts.f_blocks * counts.f_frsize,
        used=(counts.f_blocks - counts.f_bfree) * counts.f_frsize,
        available=counts.f_bavail * counts.f_frsize,
        inodes=counts.f_files,
        inodes_free=counts.f_ffree,
        read_only=mount.closed or not mount.writable,
    )


def _is_meant_read_only(target: str, config: Config) -> bool:
    from pyinfra_lvm.fstab import parse_fstab

    with open(FSTAB, encoding="utf-8", errors="surrogateescape") as file:
        options = [entry.options for entry in parse_fstab(file.read()) if entry.target == target]
    return "ro" in options[-1] if options else target not in ("/", config.volume_mount)
