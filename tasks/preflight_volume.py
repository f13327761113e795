"""What preflight judges of disks, volume groups, the logical volume and mounts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyinfra_lvm.model import BlockDevice, LogicalVolume, Storage, VolumeGroup
from pyinfra_lvm.operations import UNFINISHED, is_in_fstab, not_blank
from settings import Settings
from sizes import MINIMUM, DoesNotFit, PlannedSize, human, plan_size
from tasks.finding import Finding
from tasks.paths import BALLAST, MARKER, SNAPSHOT_TAG, STORES, TAG

OWN_GROUP = "docker-vg"

# LVM's defaults for a group that is yet to be made: metadata takes the first MiB of a disk, the rest is whole extents
# (pvcreate(8), vgcreate(8)).
_METADATA = 2**20
_EXTENT = 4 * 2**20


_OTHER_DRIVERS = ("aufs", "btrfs", "devicemapper", "fuse-overlayfs", "vfs", "zfs")


class Refused(Exception):
    """There is no volume to be had on this host."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings


def _refused(found: str, needed: str, action: str) -> Refused:
    return Refused(Finding(found, needed, action))


@dataclass(frozen=True)
class Wanted:
    """A logical volume as the settings want it."""

    name: str
    filesystem: str
    mount_points: tuple[str, ...]
    adopt: bool
    other_name: str  # what to do to have another name


def docker_volume(settings: Settings) -> Wanted:
    return Wanted(
        settings.logical_volume,
        settings.filesystem,
        (settings.volume_mount, *STORES.values()),
        settings.adopt_volume,
        "set logical_volume to a name that is free",
    )


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
    new_disks = _new_disks(settings, storage, name)
    group = storage.volume_group(name)
    warnings: tuple[str, ...] = ()
    if group:
        _check_group(settings, storage, group, new_disks)
        if settings.volume_group_extend and new_disks:
            warnings = (_extension_warning(storage, name, new_disks),)
    elif not new_disks or settings.volume_group_extend:
        raise _refused(
            f"no volume group {name}; there is: {', '.join(g.name for g in storage.volume_groups) or 'none'}",
            "the group that volume_group names",
            f"correct volume_group, or {_another_disk(settings, storage)}",
        )
    try:
        planned = _plan_size(settings, storage, name, new_disks)
    except DoesNotFit as error:
        raise Refused(_no_room(settings, storage, name, new_disks, error)) from None
    check_volume(docker_volume(settings), storage, name, planned.bytes)
    in_bytes = settings.volume_size and settings.volume_size.bytes
    reserve = 0 if in_bytes else settings.volume_reserve.bytes_of(capacity(storage, name, new_disks).size)
    return VolumePlan(name, new_disks, planned.bytes, reserve, (*warnings, *planned.warnings))


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
        raise _refused(
            f"no volume group{'' if storage.lvm_installed else ' (LVM is not installed)'}; {_root(storage)}",
            "a volume group with room for Docker's volume, or a blank disk for one",
            f"{_another_disk(settings, storage)}: a filesystem that has taken the whole disk is never shrunk here",
        )
    fitting = [name for name in groups if len(groups) == 1 or _has_room(settings, storage, name)]
    if len(fitting) != 1:
        listed = ", ".join(f"{g.name} ({human(g.free)} free)" for g in storage.volume_groups if g.name in groups)
        raise _refused(
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
        raise _refused(
            f"the volume group {group.name} misses {group.missing_physical_volumes} of its physical volumes",
            "a complete group",
            "bring the disk back, or repair the group (`vgs`, `pvs`, vgreduce(8))",
        )
    named = {device.path for device in map(storage.device, settings.volume_disks) if device}
    present = [storage.device(volume.path) for volume in storage.physical_volumes_of(group.name)]
    others = [device.path for device in present if device and device.path not in named]
    if new_disks and others and not settings.volume_group_extend:
        raise _refused(
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
        f"set a smaller volume_size, or {_another_disk(settings, storage)}; a filesystem that has taken the whole disk is never "
        "shrunk here"
    )


def _another_disk(settings: Settings, storage: Storage) -> str:
    blank = (
        device
        for device in storage.devices
        if device.type == "disk"
        and device.size > MINIMUM
        and not not_blank(device)
        and not {device.path, *device.aliases} & {*settings.volume_disks}
    )
    listed = ", ".join(f"{_stable_name(device)} ({human(device.size)})" for device in blank)
    return f"name a blank disk in volume_disks ({f'there is {listed}' if listed else 'there is none: attach one'})"


def _stable_name(device: BlockDevice) -> str:
    return next((alias for alias in device.aliases if alias.startswith("/dev/disk/by-id/")), device.path)


def _root_volume(storage: Storage) -> tuple[str, str] | None:
    """Group and name of the logical volume that root is on."""
    mount = storage.mount("/")
    device = storage.device(mount.device) if mount else None
    names = {volume.mapper_path: (volume.volume_group, volume.name) for volume in storage.logical_volumes}
    return next((names[alias] for alias in device.aliases if alias in names), None) if device else None


def _root(storage: Storage) -> str:
    mount = storage.mount("/")
    return f"root has {human(mount.size)} on {mount.source}" if mount else "no root filesystem is known"


# -- disks


def _new_disks(settings: Settings, storage: Storage, group: str) -> tuple[str, ...]:
    """The named disks that are not in the group yet.

    Raises:
        Refused: any of them cannot be had, for each the reason.
    """
    new = []
    findings = []
    seen: dict[str, str] = {}
    for path in settings.volume_disks:
        device = storage.device(path)
        other = seen.setdefault(device.path, path) if device else path
        owner = storage.group_of(path)
        if device is None:
            disks = (f"{_stable_name(d)} ({human(d.size)})" for d in storage.devices if d.type == "disk")
            findings.append(
                Finding(
                    f"no disk {path}; there is: {', '.join(disks)}",
                    "every disk that volume_disks names",
                    "attach it, or correct volume_disks",
                )
            )
        elif other != path:
            findings.append(Finding(f"{other} and {path} are the same disk", "each disk once", "correct volume_disks"))
        elif owner == group:
            continue
        elif owner:
            findings.append(
                Finding(
                    f"{path} is in the volume group {owner}",
                    "a blank disk",
                    f"name another disk; if the free space of that group is meant, set volume_group to {owner} and "
                    "volume_disks to []",
                )
            )
        elif reason := _not_ours_to_take(device, owner):
            findings.append(
                Finding(
                    f"{path} ({human(device.size)}) {reason}",
                    "a blank disk: nothing that carries anything is ever overwritten",
                    "name another disk; only if you are sure that nobody needs what is on it, blank it yourself: "
                    f"`wipefs --all {path}`, and zeros over its first and last MiB",
                )
            )
        else:
            new.append(path)
    if findings:
        raise Refused(*findings)
    return tuple(new)


def _not_ours_to_take(device: BlockDevice, owner: str | None) -> str:
    """Why a disk that is in no group is not taken, in words; empty for a blank one."""
    if owner == "":
        # As a cut between pvcreate and vgcreate leaves it.
        made = "is a physical volume of no group, with traces of one, which `vgcfgrestore` may bring back"
        return "" if device.zeroed_beyond_header else made
    return not_blank(device) or ("could not be read" if device.zeroed is None else "")


# -- the logical volume


def check_volume(wanted: Wanted, storage: Storage, group: str, size: int) -> None:
    """Refuse a volume of that name that is somebody else's, or not of the right shape, or cannot grow.

    Args:
        group: name of the volume group.
        size: bytes that the volume is to have.

    Raises:
        Refused: it is.
    """
    volume = storage.logical_volume(group, wanted.name)
    if volume is None:
        return
    name = f"{volume.volume_group}/{volume.name}"
    filesystem = storage.filesystem(volume.mapper_path)
    mounted = [mount.target for mount in storage.mounts_of(volume.mapper_path)]
    ours = TAG in volume.tags
    kind = filesystem.type if filesystem else "no ext4 or xfs"
    other_name = wanted.other_name
    if not ours:
        elsewhere = [target for target in mounted if target not in wanted.mount_points]
        if elsewhere:
            raise _refused(
                f"the logical volume {name} is mounted on {', '.join(elsewhere)}",
                "a volume of Docker's own",
                other_name,
            )
        if not wanted.adopt:
            raise _refused(
                f"there is a logical volume {name} that is not ours, with {kind} on it",
                "a free name, or a volume that may be taken over",
                f"{other_name}, or adopt_volume = True to take it over with what is on it",
            )
        if volume.segment_type != "linear" or volume.origin:
            raise _refused(
                f"the logical volume {name} is of the type {volume.segment_type}",
                "a linear volume, which grows in whatever is free; a thin pool or a snapshot that runs full damages it",
                other_name,
            )
    if not volume.active:
        raise _refused(
            f"the logical volume {name} is not active", "one that can be read", f"`lvchange --activate y {name}`"
        )
    if UNFINISHED in volume.tags:
        # Only what we made and nothing has mounted is ours to make anew.
        listed = is_in_fstab(storage, volume.mapper_path)
        used = filesystem is not None and filesystem.used
        if not ours or mounted or listed or used:
            state = (
                f"is mounted on {', '.join(mounted)}" if mounted else "is in fstab" if listed else "has been mounted"
            )
            raise _refused(
                f"the logical volume {name} carries the tag {UNFINISHED}, and {state if ours else 'is not ours'}",
                "a volume whose tag says the truth: the next run would make its filesystem anew",
                f"look at what is on it; `lvchange --deltag {UNFINISHED} {name}` keeps it",
            )
        return
    if filesystem is None or filesystem.type != wanted.filesystem:
        raise _refused(
            f"the logical volume {name} holds {kind}",
            f"{wanted.filesystem}, as the setting filesystem says",
            f'set filesystem to "{filesystem.type}": what is there is never replaced'
            if filesystem
            else f"look at what is on it; {other_name}, or remove it yourself (`lvremove {name}`)",
        )
    if filesystem.size > volume.size:
        raise _refused(
            f"the logical volume {name} has {human(volume.size)}, its filesystem {human(filesystem.size)}",
            "a volume at least as large as its filesystem",
            f"somebody has shrunk it: `lvextend --size {filesystem.size}b {name}` before anything is written there",
        )
    snapshots = [v for v in storage.logical_volumes if (v.volume_group, v.origin) == (group, volume.name)]
    if size > volume.size and snapshots:
        drop = (
            "bulkhead snapshot drop" if SNAPSHOT_TAG in snapshots[0].tags else f"lvremove {group}/{snapshots[0].name}"
        )
        action = (
            "wait: LVM is still merging it (`lvs -a` on the host)"
            if snapshots[0].merging
            else f"`{drop}` on the host if nobody needs it"
        )
        raise _refused(
            f"{name} has a snapshot, {', '.join(s.name for s in snapshots)}, and is to grow to {human(size)}",
            "no snapshot of it: LVM does not grow a volume that has one",
            f"{action}, or set its size to {human(volume.size)} for now",
        )


def to_be_adopted(settings: Settings, storage: Storage) -> list[LogicalVolume]:
    """Volumes of the name of the settings that are not ours, and that the settings let us take over."""
    named = [volume for volume in storage.logical_volumes if volume.name == settings.logical_volume]
    return [volume for volume in named if settings.adopt_volume and volume.active and TAG not in volume.tags]


def adopted_contents(settings: Settings, names: Sequence[str]) -> Iterator[Finding]:
    """What lies on a volume that is to be taken over and has no place there.

    Args:
        names: of what is at its root, and in its ``docker/``.
    """
    at_root = {name for name in names if not name.startswith("docker/")}
    if others := sorted(at_root - {*STORES, BALLAST, MARKER, "lost+found"}):
        yield Finding(
            f"the volume {settings.logical_volume}, which is to be taken over, holds {', '.join(others[:5])}",
            "docker/ and containerd/ at its root and nothing else: Docker would start empty beside it",
            "move what was mounted on /var/lib/docker into docker/ on the volume, and anything else away",
        )
    if drivers := sorted({f"docker/{name}" for name in _OTHER_DRIVERS} & {*names}):
        yield Finding(
            f"the volume {settings.logical_volume} holds data of another storage driver: {', '.join(drivers)}",
            "overlay2, or nothing: the change would hide every image and container",
            "save what you need, and remove it",
        )


# -- mounts


@dataclass(frozen=True)
class Place:
    """A mount point of ours, and what belongs there."""

    path: str
    source: str  # of the mount; empty where it cannot be told
    root: str  # directory of the filesystem that is mounted there
    own: str  # kernel name of the filesystem's device; empty where it is not there yet
    instead: str  # what else its owner can do
    is_store: bool = False
    may_hold: bool = False  # files, beneath the mount or before it


def mounts(settings: Settings, storage: Storage, device: str, *, old_trees: bool = False) -> Iterator[Finding]:
    """What stands on Docker's three mount points, or is listed for them in fstab, and is not ours.

    Args:
        device: mapper path of the logical volume; empty where there is none to be had.
        old_trees: the stores' old trees are kept beneath the mounts.
    """
    # Where the volume cannot be told, the one that is mounted in its place stands for it.
    volume, mounted = storage.device(device), storage.mount(settings.volume_mount)
    own = volume.path if volume else mounted.device if mounted and not device else ""
    another = "or set volume_mount to another directory"
    yield from judge_place(storage, Place(settings.volume_mount, device, "/", own, another))
    for name, path in STORES.items():
        may_hold = old_trees or storage.mount(path) is None
        source = f"{settings.volume_mount}/{name}"
        place = Place(path, source, f"/{name}", own, "or leave this host out", is_store=True, may_hold=may_hold)
        yield from judge_place(storage, place)


def judge_place(storage: Storage, place: Place) -> Iterator[Finding]:
    path, is_store = place.path, place.is_store
    found, beneath = storage.mount(path), storage.directory(path)
    listed = [e.source for e in storage.fstab if e.target == path and e.source != place.source]
    if found and not (place.own and (found.device, found.root) == (place.own, place.root)):
        what = found.source + (f"[{found.root}]" if found.root != "/" else "")
        yield Finding(
            f"{path} is on a filesystem of its own already: {what}" if is_store else f"{what} is mounted on {path}",
            f"{place.source or 'our volume'}, or nothing mounted there",
            "leave this host out; a logical volume that has nothing but docker/ and containerd/ on it can be taken "
            "over: unmount it, take its line out of fstab, set logical_volume and adopt_volume = True"
            if is_store
            else f"unmount it, {place.instead}",
        )
    elif listed and place.source:
        yield Finding(
            f"fstab mounts {', '.join(listed)} on {path}",
            f"{place.source}, or no line for it",
            f"take that line out of /etc/fstab, {place.instead}",
        )
    if beneath and beneath.kind in ("symlink", "other"):
        yield Finding(
            f"{path} is {'a symbolic link' if beneath.kind == 'symlink' else 'no directory'}",
            "a directory to mount on, or nothing",
            f"stop Docker and move what it leads to back to this place, {place.instead}"
            if is_store
            else f"remove it, {place.instead}",
        )
    elif beneath and not beneath.empty and not place.may_hold:
        yield Finding(
            f"the directory {path} is not empty" + (" beneath what is mounted on it" if found else ""),
            "an empty directory to mount on, or none",
            "look at what is there (`mount --bind / /mnt`) and move it away" if found else f"empty it, {place.instead}",
        )


def skeletons(storage: Storage) -> tuple[str, ...]:
    """The stores that an engine made in their place. They hold no data, or the host is refused."""
    unmounted = [storage.directory(path) for path in STORES.values() if storage.mount(path) is None]
    return tuple(d.path for d in unmounted if d and d.kind == "directory" and not d.empty)
