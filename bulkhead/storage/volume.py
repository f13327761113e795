"""Docker's volume: whether it is there, its space, its floor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.errors import Problem
from bulkhead.names import FLOOR_AT_MOST, MARKER
from bulkhead.storage import lvm
from bulkhead.storage.space import space_of

if TYPE_CHECKING:
    from bulkhead.config import Config
    from bulkhead.sizes import Size


class VolumeSpace(NamedTuple):
    """Bytes, as df counts them."""

    size: int
    used: int
    free: int  # to others than root, as `bulkhead reclaim` and the guard have it

    @classmethod
    def of(cls, path: str) -> VolumeSpace:
        space = space_of(path)
        return cls(space.size, space.used, space.available)

    @property
    def percent(self) -> float:
        return 100 * self.used / ((self.used + self.free) or 1)


_FLOOR_PERCENT, _FLOOR_LEAST = 5, 2 * 2**30


def floor_of(floor: Size | None, size: int) -> int:
    """Return the bytes that the guard keeps free on a volume: at most a quarter of it.

    Args:
        floor: the setting guard_floor; None is "auto".
        size: bytes of the volume.

    >>> from bulkhead.sizes import Size
    >>> floor_of(None, 100 * 2**30) // 2**30, floor_of(None, 6 * 2**30) / 2**30, floor_of(Size.parse("5%"), 6000)
    (5, 1.5, 300)
    """
    wanted = floor.bytes_of(size) if floor else max(size * _FLOOR_PERCENT // 100, _FLOOR_LEAST)
    return min(wanted, size * FLOOR_AT_MOST // 100)


def is_mounted(volume: str) -> bool:
    """Whether Docker's volume is there, and not the empty directory beneath it."""
    try:
        is_own = os.stat(volume).st_dev != os.stat(os.path.dirname(volume)).st_dev
    except OSError:
        return False
    return is_own and os.path.exists(f"{volume}/{MARKER}")


def docker_volume(config: Config) -> lvm.VolumeRecord:
    """Docker's volume, which is mounted in its place, with Docker's data on it.

    Raises:
        Problem: it is not.
        OSError: LVM does not answer.
    """
    name = f"{config.vg_name}/{config.logical_volume}"
    volume = next((volume for volume in lvm.list_volumes(config.vg_name) if volume.name == config.logical_volume), None)
    if not volume:
        raise Problem(f"there is no logical volume {name}")
    if volume.is_merging:
        raise Problem(
            f"{name} is going back to its snapshot: `lvs -a {config.vg_name}` shows what is left of it, and "
            f"`lvchange --poll y {name}` ends it where that is 0"
        )
    if os.stat(config.volume_mount).st_dev != os.stat(f"/dev/{name}").st_rdev:
        raise Problem(f"{name} is not mounted on {config.volume_mount}")
    for path in config.stores.values():
        if os.stat(path).st_dev != os.stat(config.volume_mount).st_dev:
            raise Problem(f"{path} is not on {config.volume_mount}: Docker's data is elsewhere")
    return volume
