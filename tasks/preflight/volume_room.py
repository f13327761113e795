"""Plan the size of Docker's volume by the room in its group, and say what helps where there is none. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bulkhead.sizes import BESIDE_OTHERS, human, setting_of
from pyinfra_lvm.model import Storage
from settings.model import ExtraVolume, Settings
from tasks.preflight.disks import another_disk
from tasks.preflight.finding import Finding
from tasks.preflight.planned_group import Capacity, PlannedGroup
from tasks.preflight.volume_file import offer
from tasks.preflight.volume_size import DoesNotFit, PlannedSize, plan_size


def plan_docker_size(group: PlannedGroup) -> PlannedSize:
    """Plan the size of Docker's volume in a group.

    Raises:
        DoesNotFit: the group has no room for it.
    """
    settings, room, volume = group.settings, group.room, group.volume
    if volume and group.is_degraded:
        return PlannedSize(volume.size, largest=volume.size)
    claimed = _claimed(group, room, settings.extra_volumes)
    present = volume.size if volume else 0
    # Where Docker's volume takes what is there, it still leaves the extra volumes their space.
    takes_the_rest = group.is_own or (settings.volume_size is None and _claims_do_not_fit(group, room, claimed))
    return plan_size(
        settings.volume_size,
        group_size=room.size,
        group_free=room.free - (claimed if takes_the_rest else 0),
        extent_size=room.extent_size,
        reserve=settings.volume_reserve,
        own_group=group.is_own,
        existing=present,
        promised=promised(group, room, settings.extra_volumes) - (claimed if takes_the_rest else 0),
    )


def lack_of_room(group: PlannedGroup) -> DoesNotFit | None:
    """Return why a group has no room for Docker's volume; None for one that has it."""
    try:
        plan_docker_size(group)
    except DoesNotFit as error:
        return error
    return None


def _claims_do_not_fit(group: PlannedGroup, room: Capacity, claimed: int) -> bool:
    """Return whether the extra volumes do not fit beside all of the default."""
    reserve = _reserve_of(group, room, group.settings.extra_volumes)
    whole = BESIDE_OTHERS.bytes_of(room.size) // room.extent_size * room.extent_size
    return whole + claimed + reserve > room.free + (group.volume.size if group.volume else 0)


def promised(group: PlannedGroup, room: Capacity, extra: Mapping[str, ExtraVolume]) -> int:
    """Return how many bytes of the free space others cannot have, because extra volumes get them or leave them free.

    Args:
        room: in the group.
        extra: the volumes, by their names.
    """
    return _claimed(group, room, extra) + _reserve_of(group, room, extra)


def _reserve_of(group: PlannedGroup, room: Capacity, extra: Mapping[str, ExtraVolume]) -> int:
    """Return how many bytes extra volumes leave free. Sizes in bytes may use up the reserve."""
    return group.settings.volume_reserve.bytes_of(room.size) if any(one.size.percent for one in extra.values()) else 0


def _claimed(group: PlannedGroup, room: Capacity, extra: Mapping[str, ExtraVolume]) -> int:
    """Return how many bytes of the free space extra volumes have yet to get."""
    present = {v.name: v.size for v in group.storage.logical_volumes if v.volume_group == group.name}
    return sum(max(volume.size.bytes_of(room.size) - present.get(name, 0), 0) for name, volume in extra.items())


def refuse_size(group: PlannedGroup, error: DoesNotFit) -> Finding:
    """Return that Docker's volume does not fit into a group, and what helps."""
    settings, storage, room = group.settings, group.storage, group.room
    disks = "" if group.group else f", made of {', '.join(group.new_disks)},"
    taken = f"; {root_of(storage)}" if root_group(storage) == group.name else ""
    claimed = _claimed(group, room, settings.extra_volumes)
    mirror = ", which is a mirror, on each of two disks" if group.is_mirrored else ""
    beside = f", beside the {human(claimed)} of extra_volumes" if claimed and error.available < room.free else ""
    within = f", of which extra_volumes get {human(claimed)}" if claimed and not beside else ""
    return Finding(
        f"volume group {group.name}{disks} has {human(max(error.available, 0))} for Docker's "
        f"volume{mirror}{beside}{within}{taken}",
        f"{human(error.needed)}, for volume_size {settings.volume_size or 'auto'} and volume_reserve {settings.volume_reserve}",
        choices(settings, storage, error.largest),
    )


def choices(settings: Settings, storage: Storage, largest: int) -> str:
    """Return the advice where a group has no room.

    Args:
        largest: the largest size in bytes that fits; 0 where none does.
    """
    smaller = f'set a smaller volume_size (at most "{setting_of(largest)}" fits), or ' if largest else ""
    others = f"{another_disk(settings, storage)}{offer(settings, storage)}"
    return f"{smaller}{others}; a filesystem that takes the whole disk is never shrunk"


def root_group(storage: Storage) -> str:
    """Return the volume group that root is in; empty where root is on no logical volume."""
    mount = storage.mount("/")
    device = storage.device(mount.device) if mount else None
    volume = storage.logical_volume_on(device) if device else None
    return volume.volume_group if volume else ""


def root_of(storage: Storage) -> str:
    """Return in words where root is, and how large."""
    mount = storage.mount("/")
    if mount is None:
        return "no root filesystem is known"
    # lsblk knows no sizes of ZFS.
    return (
        f"root has {human(mount.size)} on {mount.source}"
        if mount.size
        else f"root is on {mount.source}, {mount.fstype}"
    )
