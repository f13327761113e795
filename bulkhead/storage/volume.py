"""Docker's volume: whether it is there, and its floor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bulkhead.errors import Problem
from bulkhead.files import replace_file
from bulkhead.names import FLOOR_AT_MOST, MARKER, MARKER_TEXT
from bulkhead.storage import lvm

if TYPE_CHECKING:
    from bulkhead.config import Config
    from bulkhead.sizes import Size


NO_LOGICAL_VOLUME = (
    "This host's Docker volume is no logical volume: it is a filesystem that was adopted. It has no snapshots, no reserve and "
    "no growth by bulkhead (docs/adopt.md)"
)

# The floor "auto": a twentieth of the volume, but no less and no more than these bytes. The guard stops builds before the
# floor, by what is written while it reacts, so a large volume needs no larger floor.
_FLOOR_PERCENT, _FLOOR_LEAST, _FLOOR_MOST = 5, 2 * 2**30, 50 * 2**30
_INODES_LEAST, _INODES_MOST = 50_000, 1_000_000


def floor_of(floor: Size | None, size: int) -> int:
    """Return the bytes that the guard keeps free on a volume: at most a quarter of it.

    Args:
        floor: the setting guard_floor; None is "auto".
        size: bytes of the volume.

    >>> from bulkhead.sizes import Size
    >>> floor_of(None, 100 * 2**30) // 2**30, floor_of(None, 6 * 2**30) / 2**30, floor_of(Size.parse("5%"), 6000)
    (5, 1.5, 300)
    """
    wanted = floor.bytes_of(size) if floor else _clamped(size, _FLOOR_LEAST, _FLOOR_MOST)
    return min(wanted, size * FLOOR_AT_MOST // 100)


def inode_floor_of(inodes: int) -> int:
    """Return how many inodes the guard keeps free on a volume.

    Args:
        inodes: of the volume; 0: it does not limit them.

    >>> inode_floor_of(0), inode_floor_of(100_000), inode_floor_of(6_000_000), inode_floor_of(300_000_000)
    (0, 25000, 300000, 1000000)
    """
    return min(_clamped(inodes, _INODES_LEAST, _INODES_MOST), inodes * FLOOR_AT_MOST // 100)


def _clamped(whole: int, least: int, most: int) -> int:
    return min(max(whole * _FLOOR_PERCENT // 100, least), most)


def is_mounted(volume: str) -> bool:
    """Tell whether Docker's volume is mounted at a path. The directory beneath the mount does not count."""
    try:
        is_own = os.stat(volume).st_dev != os.stat(os.path.dirname(volume)).st_dev
    except OSError:
        return False
    return is_own and os.path.exists(f"{volume}/{MARKER}")


def mark(directory: str) -> None:
    """Put the marker into a store's directory on the volume, if it is not there.

    Raises:
        OSError: it cannot be written.
    """
    if not os.path.exists(path := f"{directory}/{MARKER}"):
        replace_file(path, MARKER_TEXT)


def docker_volume(config: Config) -> lvm.VolumeRecord:
    """Return the record of Docker's logical volume.

    Raises:
        Problem: there is none, it is not mounted where it should be, or it does not hold Docker's data.
        OSError: LVM does not answer.
    """
    if not config.vg_name:
        raise Problem(NO_LOGICAL_VOLUME)
    name = f"{config.vg_name}/{config.logical_volume}"
    volume = next((volume for volume in lvm.list_volumes(config.vg_name) if volume.name == config.logical_volume), None)
    if not volume:
        raise Problem(f"there is no logical volume {name}")
    if volume.is_merging:
        raise Problem(
            f"{name} is being merged with its snapshot: `lvs -a {config.vg_name}` shows how much is left. If 0 % is left, "
            f"`lvchange --poll y {name}` finishes the merge"
        )
    if os.stat(config.volume_mount).st_dev != os.stat(f"/dev/{name}").st_rdev:
        raise Problem(f"{name} is not mounted on {config.volume_mount}")
    for path in config.stores.values():
        if os.stat(path).st_dev != os.stat(config.volume_mount).st_dev:
            raise Problem(f"{path} is not on {config.volume_mount}: Docker's data is elsewhere")
    return volume
