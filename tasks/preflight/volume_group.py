"""What preflight judges of disks, volume groups, the logical volume and mounts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bulkhead.sizes import human
from pyinfra_lvm.model import Storage, VolumeGroup
from settings.model import Settings
from tasks.preflight.disks import another_disk, new_disks
from tasks.preflight.finding import Finding, Refused, refused
from tasks.preflight.logical_volume import check_volume, docker_volume
from tasks.preflight.volume_size import DoesNotFit, PlannedSize, plan_size
from tasks.support.paths import TAG

OWN_GROUP = "docker-vg"

# LVM's defaults for a group that is yet to be made: metadata takes the first MiB of a disk, the rest is whole extents
# (pvcreate(8), vgcreate(8)).
_METADATA = 2**20
_EXTENT = 4 * 2**20


@dataclass(frozen=True)
class VolumePlan:
    group: str
    new_disks: tuple[str, ...]  # named disks that are not in the group yet
    size: int  # bytes
    reserve: int  # bytes of the group that stay free; 0 where a size in bytes may use it up
    warnings: tuple[str, ...]


def plan_volume(settings: Settings, storage: Storage) -> VolumePlan:
    """Where the logical volume is or will be, and how large.

    Raises:
        Refused: it can be had nowhere without touching what is somebody's.
    """
    name = volume_group_name(settings, storage)
    disks = new_disks(settings, storage, name)
    group = storage.volume_group(name)
    warnings: tuple[str, ...] = ()
    if group:
        _check_group(settings, storage, group, disks)
        if settings.volume_group_extend and disks:
            warnings = (_extension_warning(storage, name, disks),)
    elif not disks or settings.volume_group_extend:
        raise refused(
            f"no volume group {name}; there is: {', '.join(g.name for g in storage.volume_groups) or 'none'}",
            "the group that volume_group names",
            f"correct volume_group, or {another_disk(settings, storage)}",
        )
    try:
        planned = _plan_size(settings, storage, name, disks)
    except DoesNotFit as error:
        raise Refused(_no_room(settings, storage, name, disks, error)) from None
    check_volume(docker_volume(settings), storage, name, planned.bytes)
    in_bytes = settings.volume_size and settings.volume_size.bytes
    reserve = 0 if in_bytes else settings.volume_reserve.bytes_of(capacity(storage, name, disks).size)
    return VolumePlan(name, disks, planned.bytes, reserve, (*warnings, *planned.warnings))


# -- the volume group


def volume_group_name(settings: Settings, storage: Storage) -> str:
    """The volume group by the settings. "auto": the one that has the volume, or else the only one with room for it.

    Raises:
        Refused: no group, or more than one, comes into question.
    """
    if settings.volume_group != "auto":
        return settings.volume_group
    if settings.volume_disks:
        return OWN_GROUP
    volumes = [volume for volume in storage.logical_volumes if volume.name == settings.logical_volume]
    ours = [volume for volume in volumes if TAG in volume.tags]
    groups = {volume.volume_group for volume in ours or volumes} or {group.name for group in storage.volume_groups}
    if not groups:
        raise refused(
            f"no volume group{'' if storage.lvm_installed else ' (LVM is not installed)'}; {_root(storage)}",
            "a volume group with room for Docker's volume, or a blank disk for one",
            f"{another_disk(settings, storage)}: a filesystem that has taken the whole disk is never shrunk here",
        )
    fitting = [name for name in groups if len(groups) == 1 or _has_room(settings, storage, name)]
    if len(fitting) != 1:
        listed = ", ".join(f"{g.name} ({human(g.free)} free)" for g in storage.volume_groups if g.name in groups)
        raise refused(
            f"{len(fitting) or 'no'} volume groups with room for the volume: {listed}",
            "one to choose",
            "set volume_group to the one that Docker shall have" if fitting else _choices(settings, storage),
        )
    return fitting[0]


def _has_room(settings: Settings, storage: Storage, group: str) -> bool:
    try:
        _plan_size(settings, storage, group, ())
    except DoesNotFit:
        return False
    return True


@dataclass(frozen=True)
class Capacity:
    """Of a volume group, in bytes."""

    size: int
    free: int
    extent_size: int


def capacity(storage: Storage, name: str, new_disks: Sequence[str]) -> Capacity:
    """What a group has, with the disks that it is going to get."""
    group = storage.volume_group(name)
    extent = group.extent_size if group else _EXTENT
    devices = filter(None, map(storage.device, new_disks))
    added = sum((device.size - _METADATA) // extent * extent for device in devices)
    return Capacity((group.size if group else 0) + added, (group.free if group else 0) + added, extent)


def _plan_size(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> PlannedSize:
    """The volume's size in a group, with the disks that the group is going to get.

    Raises:
        DoesNotFit: there is no room for it.
    """
    room = capacity(storage, name, new_disks)
    existing = storage.logical_volume(name, settings.logical_volume)
    ours = (settings.logical_volume, *settings.extra_volumes)
    # A snapshot is there for a while only, and makes no group one that is shared.
    others = any(v.volume_group == name and not {v.name, v.origin} & {*ours} for v in storage.logical_volumes)
    own_group = bool(settings.volume_disks) and not others
    # "Nearly all of it" leaves the extra volumes what they need.
    claimed = (
        sum(_claim(settings, storage, name, extra, room.size) for extra in settings.extra_volumes) if own_group else 0
    )
    return plan_size(
        settings.volume_size,
        group_size=room.size,
        group_free=room.free - claimed,
        extent_size=room.extent_size,
        reserve=settings.volume_reserve,
        own_group=own_group,
        existing=existing.size if existing else 0,
    )


def _claim(settings: Settings, storage: Storage, group: str, name: str, group_size: int) -> int:
    """Bytes of the free space that an extra volume is yet to get."""
    existing = storage.logical_volume(group, name)
    return max(settings.extra_volumes[name].size.bytes_of(group_size) - (existing.size if existing else 0), 0)


def _check_group(settings: Settings, storage: Storage, group: VolumeGroup, new_disks: Sequence[str]) -> None:
    if group.missing_physical_volumes:
        raise refused(
            f"the volume group {group.name} misses {group.missing_physical_volumes} of its physical volumes",
            "a complete group",
            "bring the disk back, or repair the group (`vgs`, `pvs`, vgreduce(8))",
        )
    named = {device.path for device in map(storage.device, settings.volume_disks) if device}
    present = [storage.device(volume.path) for volume in storage.physical_volumes_of(group.name)]
    others = [device.path for device in present if device and device.path not in named]
    if new_disks and others and not settings.volume_group_extend:
        raise refused(
            f"the volume group {group.name} exists, on {', '.join(others)}, and without {', '.join(new_disks)}",
            "a group of Docker's own for volume_disks",
            'leave volume_group at "auto" or set it to a new name; volume_group_extend = True adds the disks to '
            f"{group.name}, but a group that misses a disk is not activated: if it is root's, the host does not boot",
        )


def _extension_warning(storage: Storage, name: str, new_disks: Sequence[str]) -> str:
    root = _root_volume(storage)
    lost = "the host does not boot" if root and root[0] == name else "it is not activated"
    return f"the volume group {name} is extended by {', '.join(new_disks)}: when one of its disks is lost, {lost}"


def _no_room(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str], error: DoesNotFit) -> Finding:
    disks = "" if storage.volume_group(name) else f", made of {', '.join(new_disks)},"
    root = _root_volume(storage)
    taken = f"; {_root(storage)}" if root and root[0] == name else ""
    size = settings.volume_size or "auto"
    return Finding(
        f"volume group {name}{disks} has {human(max(error.available, 0))} for Docker's volume{taken}",
        f"{human(error.needed)}, for volume_size {size} and volume_reserve {settings.volume_reserve}",
        _choices(settings, storage),
    )


def _choices(settings: Settings, storage: Storage) -> str:
    return (
        f"set a smaller volume_size, or {another_disk(settings, storage)}; a filesystem that has taken the whole disk is never "
        "shrunk here"
    )


def _root_volume(storage: Storage) -> tuple[str, str] | None:
    """Group and name of the logical volume that root is on."""
    mount = storage.mount("/")
    device = storage.device(mount.device) if mount else None
    names = {volume.mapper_path: (volume.volume_group, volume.name) for volume in storage.logical_volumes}
    return next((names[alias] for alias in device.aliases if alias in names), None) if device else None


def _root(storage: Storage) -> str:
    mount = storage.mount("/")
    return f"root has {human(mount.size)} on {mount.source}" if mount else "no root filesystem is known"
