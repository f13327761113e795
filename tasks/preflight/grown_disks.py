"""Find disks that have grown, as a cloud's volume can, and the room that they bring. Pure.

A group of Docker's own takes the room by itself. One that others share takes it only with the setting volume_group_grow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bulkhead.sizes import human
from pyinfra_lvm.model import BlockDevice, PhysicalVolume, Storage
from settings.model import Settings
from tasks.preflight.disks import stable_name
from tasks.preflight.planned_group import PlannedGroup
from tasks.support.paths import VOLUME_FILE_DEVICE

_WORTH_A_WORD = 2**30  # bytes beyond the last partition of a disk: alignment leaves less


@dataclass(frozen=True)
class GrownDisk:
    """A disk that is larger than the physical volume on it."""

    name: str
    group: str
    before: int  # bytes
    size: int  # bytes
    gain: int  # bytes that the group gets
    is_taken: bool  # the run has the group take them

    @property
    def description(self) -> str:
        return f"the disk {self.name} has grown from {human(self.before)} to {human(self.size)}"


def grown_disks(settings: Settings, storage: Storage) -> tuple[GrownDisk, ...]:
    """Return every disk of a volume group that has grown."""
    found = []
    for volume, device in _physical_volumes(storage):
        group = storage.volume_group(volume.volume_group)
        gain = storage.gain_of(volume)
        if group and gain:
            # The rest of the disk that it was is less than an extent.
            before = volume.size + group.extent_size
            takes = _takes(settings, storage, group.name)
            found.append(GrownDisk(stable_name(device), group.name, before, device.size, gain, takes))
    return tuple(found)


def with_grown_disks(storage: Storage, disks: tuple[GrownDisk, ...]) -> Storage:
    """Return the facts of a host as they are once its groups have taken what the run has them take."""
    gains = [(disk.name, disk.group, disk.gain) for disk in disks if disk.is_taken]
    volumes, groups = storage.physical_volumes, storage.volume_groups
    for name, group, gain in gains:
        found = storage.physical_volume(name)
        volumes = tuple(replace(v, size=v.size + gain, free=v.free + gain) if v is found else v for v in volumes)
        groups = tuple(replace(g, size=g.size + gain, free=g.free + gain) if g.name == group else g for g in groups)
    return replace(storage, physical_volumes=volumes, volume_groups=groups)


def grown_notices(
    disks: tuple[GrownDisk, ...], group: str, before: int, after: int, *, mirrored: bool = False
) -> Iterator[str]:
    """Yield what the run does about each disk of Docker's group that has grown.

    Args:
        group: name of the volume group.
        before, after: bytes of Docker's volume.
        mirrored: it grows only where two disks have room.
    """
    kept = "until a second disk has as much room" if mirrored else "as volume_size says"
    for disk in disks:
        if disk.is_taken and disk.group == group:
            follows = (
                f"Docker's volume grows from {human(before)} to {human(after)}"
                if before < after
                else f"Docker's volume keeps its size, {kept}"
            )
            yield f"{disk.description}; the volume group {group} takes the new space, and {follows}"


def grown_warnings(settings: Settings, storage: Storage, disks: tuple[GrownDisk, ...], group: str) -> Iterator[str]:
    """Yield which room of its disks Docker's group does not take.

    Args:
        group: name of the volume group.
    """
    for disk in disks:
        if disk.group == group and not disk.is_taken:
            yield (
                f"{disk.description}; the volume group {group} leaves the new space unused, because others share it. "
                "volume_group_grow = True takes it"
            )
    for volume, device in _physical_volumes(storage):
        if volume.volume_group == group and _takes(settings, storage, group):
            yield from _beyond_partition(storage, device)


def _physical_volumes(storage: Storage) -> Iterator[tuple[PhysicalVolume, BlockDevice]]:
    """Yield each physical volume with its device. The file that is Docker's disk grows by its own setting."""
    for volume in storage.physical_volumes:
        device = storage.device(volume.path)
        if device and VOLUME_FILE_DEVICE not in device.aliases:
            yield volume, device


def _takes(settings: Settings, storage: Storage, group: str) -> bool:
    return settings.volume_group_grow or PlannedGroup(settings, storage, group).is_own


def _beyond_partition(storage: Storage, device: BlockDevice) -> Iterator[str]:
    """Yield that a disk has room beyond its last partition, where that is the physical volume."""
    number = re.search(r"\d+$", device.path)
    disk = next((d for d in storage.devices if device.type == "part" and device.path in d.children), None)
    if disk is None or number is None or disk.children[-1] != device.path:
        return
    parts = [part for part in map(storage.device, disk.children) if part]
    room = disk.size - sum(part.size for part in parts)
    if room >= _WORTH_A_WORD:
        yield (
            f"the disk {stable_name(disk)} has {human(room)} in no partition, and Docker's volume group is on its last one: a "
            f"partition table is never changed; `growpart {disk.path} {number[0]}` (package cloud-guest-utils) gives it the "
            "room, and the next run takes it"
        )
