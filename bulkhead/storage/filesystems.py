"""The local filesystems that matter, and how full they are."""

from __future__ import annotations

import os

from bulkhead.names import MARKER
from bulkhead.storage.mounts import MountInfo, mounts_of
from bulkhead.storage.space import inodes_percent_used, percent_used, space_of
from pyinfra_lvm.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from bulkhead.config import Config

_ON_DISKS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "f2fs", "zfs")


class FilesystemUsage(NamedTuple):
    """How full a filesystem is. Sizes are bytes, as df counts them."""

    mount: str
    size: int  # 0: its device is gone
    used: int
    available: int  # to users other than root
    inodes: int  # 0: the filesystem does not limit them
    inodes_free: int
    read_only: bool  # and should not be

    @property
    def percent(self) -> float:
        return percent_used(self.used, self.available)

    @property
    def inodes_percent(self) -> float:
        return inodes_percent_used(self.inodes, self.inodes_free)


def watched(config: Config, mounted: Sequence[MountInfo] | None = None) -> list[FilesystemUsage]:
    """Return every filesystem on a disk once. One that is read-only on purpose cannot fill, and is left out.

    Args:
        mounted: all mounts, if the caller has read them already.
    """
    found = []
    for mount in chosen(mounts_of() if mounted is None else mounted, config):
        if mount.writable or not _is_meant_read_only(mount.target, config):
            try:
                found.append(_measure(mount))
            except (FileNotFoundError, PermissionError):
                pass  # another mount hides it, or this user may not see it
            except OSError:  # its device is gone
                found.append(FilesystemUsage(mount.target, 0, 0, 0, 0, 0, read_only=True))
    return found


def chosen(mounted: Sequence[MountInfo], config: Config) -> list[MountInfo]:
    """Choose one mount of each device to measure. Docker's own mounts, below its stores, are left out."""
    below_stores = tuple(f"{store}/" for store in config.stores.values())

    def rank(mount: MountInfo) -> tuple[bool, bool, bool, int]:
        is_bound = mount.root != "/" and mount.fstype != "btrfs"  # whose subvolumes are mounted by their paths
        is_view = not (mount.writable or mount.closed)  # the filesystem is written through another mount
        return mount.target != config.volume_mount, is_view, is_bound, len(mount.target)

    best: dict[str, MountInfo] = {}
    for mount in _visible(mounted).values():
        if mount.fstype in _ON_DISKS and not mount.target.startswith(below_stores):
            best[mount.device] = min(best.get(mount.device, mount), mount, key=rank)
    return sorted(best.values(), key=lambda mount: mount.target)


def out_of_place(mounted: Sequence[MountInfo], config: Config) -> list[str]:
    """Return why Docker's data is not apart from the root filesystem, as sentences; none if it is apart."""
    visible = _visible(mounted)
    volume, root = visible.get(config.volume_mount), visible.get("/")
    if volume is None:
        return [f"{config.volume_mount} is not mounted"]
    if root and volume.device == root.device:
        return [f"{config.volume_mount} is on the root filesystem"]
    found = []
    for name, store in config.stores.items():
        mount = visible.get(store)
        if mount is None or mount.device != volume.device:
            found.append(f"{store} is not on {config.volume_mount}")
        elif mount.root != f"{volume.root.rstrip('/')}/{name}":
            found.append(f"{store} is another directory of {config.volume_mount} than {name}")
    return found


def unmarked(config: Config) -> list[str]:
    """Return, in at most one sentence, which markers are missing on the volume. Docker does not start without them."""
    volume = config.volume_mount
    markers = [f"{place}/{MARKER}" for place in (volume, *(f"{volume}/{name}" for name in config.stores))]
    missing = " and ".join(filter(_is_missing, markers))
    return [f"Docker will not start again without {missing}: run the deploy again"] if missing else []


def _is_missing(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:  # this user may not see it, or the device is gone
        pass
    return False


def _visible(mounted: Sequence[MountInfo]) -> dict[str, MountInfo]:
    return {mount.target: mount for mount in mounted}  # a later mount hides an earlier one in the same place


def _measure(mount: MountInfo) -> FilesystemUsage:
    space = space_of(mount.target)
    return FilesystemUsage(
        mount.target,
        space.size,
        space.used,
        space.available,
        space.inodes,
        space.inodes_free,
        read_only=mount.closed or not mount.writable,
    )


def _is_meant_read_only(target: str, config: Config) -> bool:
    from bulkhead.storage.fstab import read_entries  # rarely needed, and a check is in a hurry

    options = [entry.options for entry in read_entries() if entry.target == target]
    return "ro" in options[-1] if options else target not in ("/", config.volume_mount)
