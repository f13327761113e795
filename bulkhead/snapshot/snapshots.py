"""A snapshot of Docker's volume, to go back to: `bulkhead snapshot`.

What is overwritten on the volume while it stands is kept in the snapshot's own space, and when that is full, the snapshot
is lost, not the volume. So it goes before it is full, and after a while. The guard asks for that every few seconds: what
only the commands need is imported where they need it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from bulkhead import state
from bulkhead.docker.inventory import common_names, held
from bulkhead.errors import Problem
from bulkhead.names import SNAPSHOT_TAG
from bulkhead.storage import lvm
from bulkhead.storage.volume import docker_volume

if TYPE_CHECKING:
    from bulkhead.config import Config

FULL = 90  # percent at which it goes
LOST = 100
LEFT = "it is what a power cut has left of one"
STATE = "snapshot"  # what Docker held when it was taken
HOUR = 3600
_OWN_WRITES = 32  # one part of so many of the volume: what the filesystem itself writes, its journal above all
NOTES = 100  # one part of so many of a snapshot: what LVM notes in it
_LEAST, _LEAST_PERCENT = 2**30, 2  # less is no use: bytes, of a small volume so much of it


class Snapshot(NamedTuple):
    name: str
    size: int  # bytes
    percent: float  # of them in use; 100: it is lost
    made: int  # seconds since the epoch

    @property
    def written(self) -> int:
        """Bytes of the volume that are not what they were."""
        return int(self.size * self.percent / 100)


def ours(config: Config) -> list[Snapshot]:
    """The snapshot of Docker's volume that was taken here, if there is one. One that is being merged is none any more.

    Raises:
        OSError: LVM does not answer.
    """
    return [
        Snapshot(volume.name, volume.size, volume.percent or 0, volume.made)
        for volume in removable(config)
        if volume.origin
    ]


def leftovers(config: Config) -> list[str]:
    """What was the space of a snapshot taken here, and is none any more: the power was cut while LVM merged or removed it.

    LVM does that in two steps, and does not come back to the second (vg_remove_snapshot in its snapshot_manip.c).

    Raises:
        OSError: LVM does not answer.
    """
    return [volume.name for volume in removable(config) if not volume.origin]


def removable(config: Config) -> list[lvm.VolumeRecord]:
    """Snapshots taken here, and what is left of one: a closed volume of its name, with no origin. None that is being merged."""

    def is_left(volume: lvm.VolumeRecord) -> bool:
        return volume.name == config.snapshot and not volume.origin and not volume.is_open

    return [
        volume
        for volume in lvm.volumes(config.vg_name)
        if SNAPSHOT_TAG in volume.tags
        and not volume.is_merging
        and (volume.origin == config.logical_volume or is_left(volume))
    ]


def due(config: Config, snapshots: list[Snapshot], now: float) -> list[tuple[str, str]]:
    """Those that must go: name, and why."""
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
    """Remove a snapshot of ours. Whoever asks for it tells people.

    Raises:
        Problem: something is at work or unfinished that it may be needed for, it is none of ours, or LVM refuses.
        OSError: LVM does not answer, or has not removed it.
    """
    import syslog

    from bulkhead.outage import lock

    with lock.alone():  # without its snapshot a rollback that was cut would pass for one that is done
        remove(config, name)
    syslog.syslog(syslog.LOG_WARNING, f"snapshot {config.vg_name}/{name} was removed: {why}")


def remove(config: Config, name: str) -> None:
    """The same, for who has the lock."""
    from bulkhead.command import run

    origins = {volume.name: volume.origin or '""' for volume in removable(config)}
    if name not in origins:
        raise Problem(f"{config.vg_name}/{name} is no snapshot of {config.logical_volume} that bulkhead has taken")
    # LVM looks again, with the group locked: without a match it removes nothing. It has all the time that it wants: were
    # it killed, the volume could stay suspended.
    match = f"lv_tags={{{SNAPSHOT_TAG}}} && origin={origins[name]}"
    said = run("lvremove", "--yes", "--select", match, f"{config.vg_name}/{name}")
    if name in [volume.name for volume in removable(config)]:
        raise OSError(f"{config.vg_name}/{name} could not be removed: {' '.join(said.split())}")
    state.save(STATE, {})


def to_hold(writes: int, volume: int) -> int:
    """Bytes of a snapshot that is not yet as full as one that goes when so much has been written to the volume.

    Args:
        writes: bytes.
        volume: bytes that it has.
    """
    needed = min((writes + volume // _OWN_WRITES) * 100 // FULL, volume)
    return needed + needed // NOTES


def size_for(asked: int | None, *, group: str, volume: int, free: int, group_free: int) -> int:
    """Bytes that a snapshot shall have.

    Args:
        asked: for; None: enough for all that can be written, or what there is.
        volume: bytes that it has.
        free: of those.
        group_free: bytes of the volume group.

    Raises:
        Problem: the group has no room for it.
    """
    from bulkhead.sizes import human

    if asked is None:
        needed = to_hold(free, volume)
        size = min(needed, group_free)
        least = min(_LEAST, volume * _LEAST_PERCENT // 100)
        if size < min(least, needed):
            raise Problem(
                f"volume group {group} has {human(group_free)} free, and a snapshot of {human(volume)} should have "
                f"{human(needed)}, {human(least)} at the least. `--size` takes less all the same. Nothing was changed"
            )
    elif asked > group_free:
        raise Problem(
            f"a snapshot of {human(asked)} has no room: volume group {group} has {human(group_free)} free. Nothing was changed"
        )
    else:
        size = asked
    return size // 512 * 512  # LVM takes nothing between


def create(config: Config, *, size: int | None = None, writes: int | None = None, note: str = "") -> Snapshot:
    """Take a snapshot, and keep with it what Docker holds.

    Args:
        size: bytes; None: enough for `writes`, or else for all that can be written, or what there is.
        writes: bytes that will be written to the volume; 0 or None: nobody knows.
        note: what it is for.

    Raises:
        Problem: one stands already, there is no room, the volume is not in its place, or something is at work.
        OSError: LVM does not answer.
    """
    from bulkhead.command import run
    from bulkhead.docker.engine import Engine
    from bulkhead.outage import lock

    name = config.snapshot
    with lock.alone():
        volume = docker_volume(config)
        if ours(config):
            raise Problem(f"{config.vg_name}/{name} stands already: `bulkhead snapshot drop` removes it")
        for left in leftovers(config):
            remove(config, left)
        group = next(group for group in lvm.usage()[0] if group.name == config.vg_name)
        inside = os.statvfs(config.volume_mount)
        if size is None and writes:
            size = to_hold(writes, volume.size)
        free = inside.f_bfree * inside.f_frsize
        size = size_for(size, group=group.name, volume=volume.size, free=free, group_free=group.free)
        before = held(engine := Engine())
        state.save(STATE, before | {"note": note})
        command = ["lvcreate", "--yes", "--snapshot", "--name", name, "--addtag", SNAPSHOT_TAG, "--size", f"{size}b"]
        run(*command, f"{config.vg_name}/{volume.name}")
        state.save(STATE, common_names(before, held(engine)) | {"note": note})
        return next(snapshot for snapshot in ours(config) if snapshot.name == name)
