"""Take, list and remove a snapshot of Docker's volume that a rollback can return to.

LVM copies what is overwritten on the volume into the snapshot's own space. When that space is full, the snapshot is lost,
not the volume. So a snapshot is removed before it is full, and after some hours. The guard checks this every few seconds:
a module that only the commands need is imported where they need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bulkhead import state
from bulkhead.docker.inventory import in_both, record
from bulkhead.errors import Problem
from bulkhead.names import SNAPSHOT_TAG
from bulkhead.storage import lvm
from bulkhead.storage.space import space_of
from bulkhead.storage.volume import docker_volume

if TYPE_CHECKING:
    from bulkhead.config import Config

FULL = 90  # percent of its space at which a snapshot is removed
LOST = 100
LEFT = "a power cut has left it half removed"
STATE = "snapshot"  # what Docker held when it was taken
HOUR = 3600
_OWN_WRITES = 32  # the filesystem itself, its journal above all, writes 1/32 of the volume
NOTES = 100  # LVM needs 1/100 of a snapshot for its own notes
_LEAST, _LEAST_PERCENT = 2**30, 2  # a smaller snapshot is no use: bytes, or percent of a small volume


class Snapshot(NamedTuple):
    """A snapshot of Docker's volume that bulkhead has taken."""

    name: str
    size: int  # bytes
    percent: float  # of its space in use; 100: it is lost
    made: int  # seconds since the epoch

    @property
    def written(self) -> int:
        """Bytes of the volume that have been overwritten since."""
        return int(self.size * self.percent / 100)


def ours(config: Config) -> list[Snapshot]:
    """Return the snapshot of Docker's volume that bulkhead has taken, if there is one. One that is being merged does not count.

    Raises:
        OSError: LVM does not answer.
    """
    return [
        Snapshot(volume.name, volume.size, volume.percent or 0, volume.made)
        for volume in removable(config)
        if volume.origin
    ]


def leftovers(config: Config) -> list[str]:
    """Return the volumes that are left of a snapshot of ours after a power cut while LVM merged or removed it.

    LVM does both in two steps, and never returns to the second (vg_remove_snapshot in its snapshot_manip.c).

    Raises:
        OSError: LVM does not answer.
    """
    return [volume.name for volume in removable(config) if not volume.origin]


def removable(config: Config) -> list[lvm.VolumeRecord]:
    """Return our snapshots, and what is left of one: a closed volume with its name and without an origin.

    A snapshot that is being merged does not count.

    Raises:
        OSError: LVM does not answer.
    """

    if not config.vg_name:
        return []

    def is_leftover(volume: lvm.VolumeRecord) -> bool:
        return volume.name == config.snapshot and not volume.origin and not volume.is_open

    return [
        volume
        for volume in lvm.list_volumes(config.vg_name)
        if SNAPSHOT_TAG in volume.tags
        and not volume.is_merging
        and (volume.origin == config.logical_volume or is_leftover(volume))
    ]


def due(config: Config, snapshots: list[Snapshot], now: float) -> list[tuple[str, str]]:
    """Return the snapshots that must be removed now: name, and why.

    Args:
        now: seconds since the epoch.
    """
    found = []
    for snapshot in snapshots:
        if snapshot.percent >= LOST:
            found.append((snapshot.name, "it is lost: more was written to the volume than it could hold"))
        elif snapshot.percent >= FULL:
            found.append((snapshot.name, f"it is {int(snapshot.percent)} % full, and would soon be lost"))
        elif now - snapshot.made >= config.snapshot_max_hours * HOUR:
            found.append((snapshot.name, f"it is more than {config.snapshot_max_hours} h old"))
    return found


def drop(config: Config, name: str, why: str) -> None:
    """Remove a snapshot of ours, and write why to the system's log. To alert people is up to the caller.

    Raises:
        Problem: a move or a rollback, which may need it, is under way or unfinished; it is not ours; or LVM refuses.
        OSError: LVM does not answer, or has not removed it.
    """
    import syslog

    from bulkhead.outage import lock

    with lock.alone():  # without its snapshot, an interrupted rollback would look like a finished one
        remove(config, name)
    syslog.syslog(syslog.LOG_WARNING, f"snapshot {config.vg_name}/{name} was removed: {why}")


def remove(config: Config, name: str) -> None:
    """Remove a snapshot of ours. The caller holds the lock of moves and rollbacks.

    Raises:
        Problem: it is not ours, or LVM refuses.
        OSError: LVM does not answer, or has not removed it.
    """
    from bulkhead.command import run

    origins = {volume.name: volume.origin or '""' for volume in removable(config)}
    if name not in origins:
        raise Problem(f"{config.vg_name}/{name} is not a snapshot of {config.logical_volume} that bulkhead has taken")
    # LVM checks again, with the group locked: if nothing matches, it removes nothing. There is no time limit: if LVM were
    # killed, the volume could stay suspended.
    match = f"lv_tags={{{SNAPSHOT_TAG}}} && origin={origins[name]}"
    printed = run("lvremove", "--yes", "--select", match, f"{config.vg_name}/{name}")
    if name in [volume.name for volume in removable(config)]:
        raise OSError(f"{config.vg_name}/{name} could not be removed: {' '.join(printed.split())}")
    state.save(STATE, {})


def to_hold(writes: int, volume: int) -> int:
    """Return the bytes that a snapshot needs so that so much can be written to the volume before it must be removed.

    Args:
        writes: bytes that will be written.
        volume: bytes of the volume.
    """
    needed = min((writes + volume // _OWN_WRITES) * 100 // FULL, volume)
    return needed + needed // NOTES


def size_for(asked: int | None, *, group: str, volume: int, free: int, group_free: int) -> int:
    """Return the bytes that a new snapshot gets.

    Args:
        asked: bytes that the user asks for; None: enough for everything that can be written, or else all that the group has.
        group: the volume group's name, with the disk that the space is on if it must be on one.
        volume: bytes of the volume.
        free: bytes that are free in the volume's filesystem.
        group_free: bytes that are free there.

    Raises:
        Problem: the group has too little space.
    """
    from bulkhead.sizes import human

    if asked is None:
        needed = to_hold(free, volume)
        size = min(needed, group_free)
        least = min(_LEAST, volume * _LEAST_PERCENT // 100)
        if size < min(least, needed):
            raise Problem(
                f"volume group {group} has {human(group_free)} free, and a snapshot of {human(volume)} should have "
                f"{human(needed)}, and must have {human(least)}. To take a smaller one, pass --size. Nothing was changed"
            )
    elif asked > group_free:
        raise Problem(
            f"there is no space for a snapshot of {human(asked)}: volume group {group} has {human(group_free)} free. "
            "Nothing was changed"
        )
    else:
        size = asked
    return size // 512 * 512  # LVM takes whole sectors only


def create(config: Config, *, size: int | None = None, writes: int | None = None, note: str = "") -> Snapshot:
    """Take a snapshot, and remember what Docker holds.

    Args:
        size: bytes; None: enough for `writes`, or else as `size_for` decides.
        writes: bytes that will be written to the volume; 0 or None: unknown.
        note: what the snapshot is for.

    Raises:
        Problem: there is a snapshot already, or too little space; the volume is not mounted in its place; or a move, a
            rollback or another change is under way.
        OSError: LVM does not answer.
    """
    from bulkhead.command import run
    from bulkhead.docker.engine import Engine
    from bulkhead.outage import lock

    name = config.snapshot
    with lock.alone():
        volume = docker_volume(config)
        if ours(config):
            raise Problem(f"{config.vg_name}/{name} exists already. Remove it first: `bulkhead snapshot drop`")
        for leftover in leftovers(config):
            remove(config, leftover)
        group = next(group for group in lvm.list_groups()[0] if group.name == config.vg_name)
        if size is None and writes:
            size = to_hold(writes, volume.size)
        free = space_of(config.volume_mount).free_for_root
        where, group_free = group.name, group.free
        disks: list[str] = []
        if volume.is_raid:
            # On one disk: the volume is not activated without its snapshot, which each further disk could lose.
            disk, group_free = lvm.largest_free(group.name)
            where, disks = f"{group.name}, on its disk {disk},", [disk]
        size = size_for(size, group=where, volume=volume.size, free=free, group_free=group_free)
        before = record(engine := Engine())
        state.save(STATE, before | {"note": note})
        command = ["lvcreate", "--yes", "--snapshot", "--name", name, "--addtag", SNAPSHOT_TAG, "--size", f"{size}b"]
        run(*command, f"{config.vg_name}/{volume.name}", *disks)
        state.save(STATE, in_both(before, record(engine)) | {"note": note})
        return next(snapshot for snapshot in ours(config) if snapshot.name == name)
