"""Judge the logical volume that the settings name, where there is one already. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bulkhead.names import BALLAST, MARKER, PROGRAM_RUN, SNAPSHOT_TAG
from bulkhead.sizes import human
from pyinfra_lvm.model import Filesystem, LogicalVolume, Storage, mapper_path
from pyinfra_lvm.operations import UNFINISHED_TAG, fstab_entries_of
from settings.model import Settings
from tasks.preflight.finding import Finding
from tasks.support.paths import STORES, TAG

_OTHER_DRIVERS = ("aufs", "btrfs", "devicemapper", "fuse-overlayfs", "vfs", "zfs")


@dataclass(frozen=True)
class WantedVolume:
    """A logical volume as the settings want it."""

    name: str
    filesystem: str
    mount_points: tuple[str, ...]
    adopt: bool
    other_name: str  # what the owner does to give it another name


def docker_volume(settings: Settings) -> WantedVolume:
    """Return Docker's volume as the settings want it."""
    return WantedVolume(
        settings.logical_volume,
        settings.filesystem,
        (settings.volume_mount, *STORES.values()),
        settings.adopt_volume,
        "set logical_volume to a name that is free",
    )


def judge_volume(wanted: WantedVolume, storage: Storage, group: str, size: int = 0) -> Iterator[Finding]:
    """Yield why the volume of that name cannot be used: somebody else's, of another shape, or unable to grow.

    Args:
        group: name of the volume group.
        size: bytes that the volume is going to have; 0 where no size could be planned.
    """
    volume = storage.logical_volume(group, wanted.name)
    if volume is None:
        yield from _judge_lines_elsewhere(wanted, storage, group, "is not there")
        return
    ours = TAG in volume.tags
    filesystem = storage.filesystem(volume.mapper_path)
    if not ours:
        yield from _judge_foreign(wanted, storage, volume, filesystem)
        if not wanted.adopt:
            return  # it stays with its owner, whatever is on it
    elif UNFINISHED_TAG not in volume.tags:
        yield from _judge_place(wanted, storage, volume)
    if not volume.active:
        name = _name(volume)
        # LVM activates it only once it is complete, not even when told to (LV_ACTIVATION_SKIP, lv_extend in lv_manip.c).
        is_half_made = (
            ours
            and volume.is_mirror
            and UNFINISHED_TAG in volume.tags
            and not fstab_entries_of(storage, volume.mapper_path)
        )
        yield Finding(
            f"the logical volume {name} is not active" + (", and no run has finished it" if is_half_made else ""),
            "an active volume, which can be read",
            f"if a power cut has ended the run that made it, nothing is on it: `lvremove {name}` on the host, and run again"
            if is_half_made
            else f"`lvchange --activate y {name}`",
        )
    elif ours and is_empty(storage, volume) and not storage.mounts_of(volume.path):
        yield from _judge_lines_elsewhere(wanted, storage, group, "has no filesystem yet")
        return  # it is made now
    elif UNFINISHED_TAG in volume.tags:
        use = _use(storage, volume, filesystem) if ours else "was not made by this project"
        if not use:
            return  # its filesystem is made anew
        yield _wrongly_tagged(volume, use)
        if filesystem:
            yield from _judge_filesystem(wanted, volume, filesystem)
    else:
        yield from _judge_filesystem(wanted, volume, filesystem)
    yield from _judge_growth(storage, volume, size)


def is_empty(storage: Storage, volume: LogicalVolume) -> bool:
    """Return whether a run has made a volume, and nothing on it yet."""
    device = storage.device(volume.mapper_path)
    return UNFINISHED_TAG in volume.tags and device is not None and not device.signatures


def _judge_lines_elsewhere(wanted: WantedVolume, storage: Storage, group: str, lacks: str) -> Iterator[Finding]:
    """Yield each line of fstab that mounts a volume on another place before it has a filesystem.

    Such a line is from an older volume of the name. The next filesystem is made only on a volume that fstab does not list.
    """
    for entry in fstab_entries_of(storage, mapper_path(group, wanted.name)):
        if entry.target not in wanted.mount_points:
            yield Finding(
                f"fstab mounts {entry.source} on {entry.target}, and the logical volume {group}/{wanted.name} {lacks}",
                f"no line for it but that for {wanted.mount_points[0]}: otherwise the new volume would be mounted there too",
                f"if an older volume of that name is gone for good, take that line out of /etc/fstab; or {wanted.other_name}",
            )


def _judge_place(wanted: WantedVolume, storage: Storage, volume: LogicalVolume) -> Iterator[Finding]:
    """Yield where a volume of ours is mounted, or is going to be, if that is another place alone: it has another use."""
    mounted = [m.target for m in storage.mounts_of(volume.mapper_path) if not m.target.startswith(f"{PROGRAM_RUN}/")]
    listed = [entry.target for entry in fstab_entries_of(storage, volume.mapper_path)]
    places = mounted or listed
    if places and not {*places} & {*wanted.mount_points}:
        yield Finding(
            f"the logical volume {_name(volume)} is {'mounted' if mounted else 'in fstab for a mount'} on {', '.join(places)}",
            f"the volume for {wanted.mount_points[0]}",
            f"{wanted.other_name}; or, if it is the volume for {wanted.mount_points[0]}, unmount it and take its line out "
            "of /etc/fstab",
        )


def _name(volume: LogicalVolume) -> str:
    return f"{volume.volume_group}/{volume.name}"


def _kind(filesystem: Filesystem | None) -> str:
    return filesystem.type if filesystem else "no ext4 or xfs"


def _judge_foreign(
    wanted: WantedVolume, storage: Storage, volume: LogicalVolume, filesystem: Filesystem | None
) -> Iterator[Finding]:
    name = _name(volume)
    mounted = [mount.target for mount in storage.mounts_of(volume.mapper_path)]
    if elsewhere := [target for target in mounted if target not in wanted.mount_points]:
        yield Finding(
            f"the logical volume {name} is mounted on {', '.join(elsewhere)}",
            "a volume of Docker's own",
            wanted.other_name,
        )
    if not wanted.adopt:
        yield Finding(
            f"the logical volume {name} exists, with {_kind(filesystem)} on it, and this project did not make it",
            "a free name, or permission to take the volume over",
            f"{wanted.other_name}; or set adopt_volume = True, which takes it over with what is on it",
        )
    elif volume.segment_type != "linear" or volume.origin:
        yield Finding(
            f"the logical volume {name} is of the type {volume.segment_type}",
            "a linear volume, which can grow into any free space; a thin pool or a snapshot that runs full damages it",
            wanted.other_name,
        )


def _use(storage: Storage, volume: LogicalVolume, filesystem: Filesystem | None) -> str:
    """Return how an unfinished volume is used; empty for one that nothing has used, which is ours to make anew."""
    if mounted := [mount.target for mount in storage.mounts_of(volume.mapper_path)]:
        return f"is mounted on {', '.join(mounted)}"
    if listed := fstab_entries_of(storage, volume.mapper_path):
        return f"is in fstab ({', '.join(f'{entry.source} on {entry.target}' for entry in listed)})"
    return "has been mounted" if filesystem and filesystem.used else ""


def _wrongly_tagged(volume: LogicalVolume, use: str) -> Finding:
    name = _name(volume)
    return Finding(
        f"the logical volume {name} carries the tag {UNFINISHED_TAG}, and {use}",
        "a volume that is either unfinished or in use, not both: the next run would make its filesystem anew",
        f"check what is on it; to keep that, `lvchange --deltag {UNFINISHED_TAG} {name}`",
    )


def _judge_filesystem(wanted: WantedVolume, volume: LogicalVolume, filesystem: Filesystem | None) -> Iterator[Finding]:
    name = _name(volume)
    if filesystem is None or filesystem.type != wanted.filesystem:
        yield Finding(
            f"the logical volume {name} holds {_kind(filesystem)}",
            f"{wanted.filesystem}, as the setting filesystem says",
            f'set filesystem to "{filesystem.type}": an existing filesystem is never replaced'
            if filesystem
            else f"check what is on it (`wipefs --no-act {volume.mapper_path}`), and repair it if it is yours; or "
            f"{wanted.other_name}: this volume then stays as it is",
        )
    if filesystem and filesystem.size > volume.size:
        yield Finding(
            f"the logical volume {name} has {human(volume.size)}, its filesystem {human(filesystem.size)}",
            "a volume at least as large as its filesystem",
            f"somebody has shrunk it: `lvextend --size {filesystem.size}b {name}` before anything is written there",
        )


def _judge_growth(storage: Storage, volume: LogicalVolume, size: int) -> Iterator[Finding]:
    name = _name(volume)
    snapshots = [v for v in storage.logical_volumes if (v.volume_group, v.origin) == (volume.volume_group, volume.name)]
    if size <= volume.size or not snapshots:
        return
    first = snapshots[0]
    if first.merging:
        action = "wait until LVM has merged it (`lvs -a` on the host no longer shows it)"
    elif SNAPSHOT_TAG in first.tags:
        action = "`bulkhead snapshot drop` on the host if nobody needs it"
    else:
        action = f"ask whoever made {_name(first)} to remove it"
    yield Finding(
        f"{name} has to grow to {human(size)}, and it has a snapshot: {', '.join(s.name for s in snapshots)}",
        "no snapshot of it: LVM does not grow a volume that has one",
        f"{action}, or set its size to {human(volume.size)} for now",
    )


def bytes_per_inode(settings: Settings, storage: Storage, device: str) -> int:
    """Return how many bytes Docker's volume has, or will have, for each inode; 0 for mke2fs's choice.

    Args:
        device: of the volume.
    """
    present = _finished_filesystem(storage, device)
    return (present.bytes_per_inode if present else 0) or settings.volume_bytes_per_inode or 0


def inode_warnings(settings: Settings, storage: Storage, device: str) -> Iterator[str]:
    """Yield that the filesystem of Docker's volume has been made with other bytes per inode than the settings have.

    Args:
        device: of the volume.
    """
    present, wanted = _finished_filesystem(storage, device), settings.volume_bytes_per_inode
    if present is None or not present.inodes or not wanted:
        return
    expected = present.size // wanted
    # mke2fs rounds up to whole blocks of inodes in each group of 128 MiB (ext4: 16 of 256 bytes in 4 KiB).
    tolerance = expected // 10 + 16 * (present.size // (128 * 2**20) + 1)
    if abs(present.inodes - expected) > tolerance:
        yield (
            f"the filesystem of {device} has an inode for each {present.bytes_per_inode} bytes, and volume_bytes_per_inode is "
            f"{wanted}: it applies when a filesystem is made, and this one stays as it is"
        )


def _finished_filesystem(storage: Storage, device: str) -> Filesystem | None:
    """Return the filesystem on a volume; None where there is none, or where it is made anew."""
    volume = next((volume for volume in storage.logical_volumes if volume.mapper_path == device), None)
    return storage.filesystem(device) if volume and UNFINISHED_TAG not in volume.tags else None


def to_be_adopted(settings: Settings, storage: Storage) -> list[LogicalVolume]:
    """Return the volumes of the name of the settings that this project did not make and is allowed to take over."""
    named = [volume for volume in storage.logical_volumes if volume.name == settings.logical_volume]
    return [volume for volume in named if settings.adopt_volume and volume.active and TAG not in volume.tags]


def judge_adopted_contents(settings: Settings, names: Sequence[str]) -> Iterator[Finding]:
    """Yield what lies on a volume to be taken over and has no place there.

    Args:
        names: of the entries at its root, and in its ``docker/``.
    """
    at_root = {name for name in names if not name.startswith("docker/")}
    if others := sorted(at_root - {*STORES, BALLAST, MARKER, "lost+found"}):
        yield Finding(
            f"the volume {settings.logical_volume}, which adopt_volume takes over, holds {', '.join(others[:5])}",
            "docker/ and containerd/ at its root and nothing else: Docker would start empty beside it",
            "move what was mounted on /var/lib/docker into docker/ on the volume, and anything else off the volume",
        )
    if drivers := sorted({f"docker/{name}" for name in _OTHER_DRIVERS} & {*names}):
        yield Finding(
            f"the volume {settings.logical_volume} holds data of another storage driver: {', '.join(drivers)}",
            "overlay2, or nothing: a change of the driver would hide every image and container",
            "save what you need, and remove it",
        )
