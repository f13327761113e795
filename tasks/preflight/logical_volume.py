"""Docker's logical volume: the one that is there, or the one to make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bulkhead.names import BALLAST, MARKER, SNAPSHOT_TAG
from bulkhead.sizes import human
from pyinfra_lvm.model import LogicalVolume, Storage
from pyinfra_lvm.operations import UNFINISHED, is_in_fstab
from settings.model import Settings
from tasks.preflight.finding import Finding, refused
from tasks.support.paths import STORES, TAG

_OTHER_DRIVERS = ("aufs", "btrfs", "devicemapper", "fuse-overlayfs", "vfs", "zfs")


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
            raise refused(
                f"the logical volume {name} is mounted on {', '.join(elsewhere)}",
                "a volume of Docker's own",
                other_name,
            )
        if not wanted.adopt:
            raise refused(
                f"there is a logical volume {name} that is not ours, with {kind} on it",
                "a free name, or a volume that may be taken over",
                f"{other_name}, or adopt_volume = True to take it over with what is on it",
            )
        if volume.segment_type != "linear" or volume.origin:
            raise refused(
                f"the logical volume {name} is of the type {volume.segment_type}",
                "a linear volume, which grows in whatever is free; a thin pool or a snapshot that runs full damages it",
                other_name,
            )
    if not volume.active:
        raise refused(
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
            raise refused(
                f"the logical volume {name} carries the tag {UNFINISHED}, and {state if ours else 'is not ours'}",
                "a volume whose tag says the truth: the next run would make its filesystem anew",
                f"look at what is on it; `lvchange --deltag {UNFINISHED} {name}` keeps it",
            )
        return
    if filesystem is None or filesystem.type != wanted.filesystem:
        raise refused(
            f"the logical volume {name} holds {kind}",
            f"{wanted.filesystem}, as the setting filesystem says",
            f'set filesystem to "{filesystem.type}": what is there is never replaced'
            if filesystem
            else f"look at what is on it; {other_name}, or remove it yourself (`lvremove {name}`)",
        )
    if filesystem.size > volume.size:
        raise refused(
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
        raise refused(
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
