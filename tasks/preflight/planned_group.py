"""The volume group that Docker's volume is or will be in, together with the disks that it gets. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra_lvm.model import EXTENT, LogicalVolume, Storage, VolumeGroup, usable
from settings.model import Settings
from tasks.preflight.disks import is_whole

# Bytes of metadata that LVM keeps for each copy of a mirror: two superblocks, and a bit for each of at most 2^21 regions
# (_raid_rmeta_extents and raid_ensure_min_region_size in its raid_manip.c).
_COPY_METADATA = 2 * 4096 + 2**21 // 8


@dataclass(frozen=True)
class Capacity:
    """The room in a volume group, in bytes."""

    size: int
    free: int
    extent_size: int


@dataclass(frozen=True)
class PlannedDisk:
    """A physical volume of a group, or a disk that becomes one."""

    path: str
    size: int  # bytes
    free: int  # bytes


@dataclass(frozen=True)
class PlannedGroup:
    """A volume group with the disks that it gets: how Docker's volume lies in it, and the room for that volume.

    Args:
        name: of the group. There may be none of that name yet.
        new_disks: the named disks that are not in the group yet.
    """

    settings: Settings
    storage: Storage
    name: str
    new_disks: tuple[str, ...] = ()

    @property
    def group(self) -> VolumeGroup | None:
        """The group that is there."""
        return self.storage.volume_group(self.name)

    @property
    def all_of_its_name(self) -> tuple[VolumeGroup, ...]:
        """Every group of the name: more than one where a disk that was lost has come back."""
        return tuple(group for group in self.storage.volume_groups if group.name == self.name)

    @property
    def volume(self) -> LogicalVolume | None:
        """Docker's volume that is there."""
        return self.storage.logical_volume(self.name, self.settings.logical_volume)

    @property
    def physical_volumes(self) -> tuple[str, ...]:
        """The devices of the group that is there."""
        return tuple(volume.path for volume in self.storage.physical_volumes_of(self.name))

    @property
    def is_own(self) -> bool:
        """Whether the group is Docker's own: made of volume_disks, with no volume of others.

        A snapshot does not stay, and does not make a group a shared one.
        """
        ours = {self.settings.logical_volume, *self.settings.extra_volumes}
        volumes = [volume for volume in self.storage.logical_volumes if volume.volume_group == self.name]
        return bool(self.settings.volume_disks) and all({volume.name, volume.origin} & ours for volume in volumes)

    @property
    def is_mirrored(self) -> bool:
        """Whether Docker's volume is a mirror, or becomes one."""
        return self.volume.is_mirror if self.volume else self.settings.volume_raid == "raid1"

    @property
    def is_degraded(self) -> bool:
        """Whether Docker's volume is a mirror that is not whole."""
        volume = self.volume
        return volume is not None and volume.is_mirror and volume.health not in ("", "mismatches exist")

    @property
    def stripes(self) -> int:
        """Over how many disks Docker's volume is striped, or becomes it: over all; 1 where it is not."""
        if self.volume:
            return len(self.physical_volumes) if self.volume.segment_type == "striped" else 1
        return len(self.physical_volumes) + len(self.new_disks) if self.settings.volume_raid == "raid0" else 1

    @property
    def capacity(self) -> Capacity:
        """The room in the group, for all of its volumes."""
        devices = filter(None, map(self.storage.device, self.new_disks))
        added = sum(usable(device.size, self._extent_size) for device in devices)
        size, free = (self.group.size, self.group.free) if self.group else (0, 0)
        return Capacity(size + added, free + added, self._extent_size)

    @property
    def room(self) -> Capacity:
        """The room for Docker's volume: for one copy of a mirror, or all stripes."""
        extent = self._extent_size
        if self.stripes > 1:  # each of them has as many extents of it: the smallest decides
            size, free = _smallest(self._disks)
            return Capacity(self.stripes * size, self.stripes * free, self.stripes * extent)
        if not self.is_mirrored:
            return self.capacity
        size, free = _smallest(self.mirror_disks)
        return Capacity(
            max(size - self.copy_metadata, 0), max(free - (0 if self.volume else self.copy_metadata), 0), extent
        )

    @property
    def copy_metadata(self) -> int:
        """The bytes of metadata that LVM keeps for each copy of a mirror, in whole extents."""
        return -(-_COPY_METADATA // self._extent_size) * self._extent_size

    @property
    def mirror_disks(self) -> tuple[PlannedDisk, ...]:
        """The two disks that the copies of a mirror are on; for a new one, the two with the most room that share no whole disk.

        There are none where all of the group is on one disk. A mirror that exists stays where it is.
        """
        mirror = self.volume if self.volume and self.volume.is_mirror else None
        copies = self.storage.copies_of(mirror) if mirror else ()
        if len(copies) == 2:
            largest = (max(copy, key=lambda volume: volume.free) for copy in copies)
            return tuple(PlannedDisk(volume.path, volume.size, volume.free) for volume in largest)
        pairs = (
            (one, other)
            for one, other in itertools.combinations(self._disks, 2)
            if mirror or not self._whole_disks(one.path) & self._whole_disks(other.path)
        )
        return max(pairs, key=lambda pair: (min(p.free for p in pair), min(p.size for p in pair)), default=())

    @property
    def named_for_mirror(self) -> tuple[str, ...]:
        """The disks that LVM must be told: with a third one, it may put both copies on one disk (before 2.03.22)."""
        if not self.is_mirrored or len(self.physical_volumes) + len(self.new_disks) <= 2:
            return ()
        return tuple(disk.path for disk in self.mirror_disks)

    def has_room_for_copy(self, size: int) -> bool:
        """Return whether a disk of the group has room for a second copy, beside another one that the first may be on.

        Args:
            size: bytes of the first copy.
        """
        pairs = itertools.permutations(self.storage.physical_volumes_of(self.name), 2)
        return any(
            first.size - first.free >= size
            and second.free >= size + self.copy_metadata
            and not self._whole_disks(first.path) & self._whole_disks(second.path)
            for first, second in pairs
        )

    @property
    def _extent_size(self) -> int:
        return self.group.extent_size if self.group else EXTENT

    @property
    def _disks(self) -> list[PlannedDisk]:
        """The physical volumes of the group once it has its new disks."""
        sizes = {
            path: usable(device.size, self._extent_size)
            for path in self.new_disks
            if (device := self.storage.device(path))
        }
        return [
            *(PlannedDisk(each.path, each.size, each.free) for each in self.storage.physical_volumes_of(self.name)),
            *(PlannedDisk(path, size, size) for path, size in sizes.items()),
        ]

    def _whole_disks(self, path: str) -> set[str]:
        """Return the disks that a device is on."""
        device = self.storage.device(path)
        below = self.storage.ancestors(device) if device else ()
        return {each.path for each in below if is_whole(each)} or {each.path for each in below} or {path}


def _smallest(disks: Iterable[PlannedDisk]) -> tuple[int, int]:
    """Return the smallest size and the smallest free space of some disks, in bytes; 0 where there are none."""
    sizes = [(disk.size, disk.free) for disk in disks]
    return min((size for size, _ in sizes), default=0), min((free for _, free in sizes), default=0)
