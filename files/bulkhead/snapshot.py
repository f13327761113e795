"""A snapshot of Docker's volume, to go back to: `bulkhead snapshot`.

What is overwritten on the volume while it stands is kept in the snapshot's own space, and when that is full, the snapshot
is lost, not the volume. So it goes before it is full, and after a while. The guard asks for that every few seconds: what
only the commands need is imported where they need it.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from bulkhead import Problem, lvm, state

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from bulkhead.config import Config
    from bulkhead.engine import Engine, Inventory

TAG = "bulkhead-snapshot"  # in LVM, from the moment it is made: only what has it is ever removed
FULL = 90  # percent at which it goes
LOST = 100
LEFT = "it is what a power cut has left of one"
STATE = "snapshot"  # what Docker held when it was taken

_HOUR = 3600
_OWN_WRITES = 32  # one part of so many of the volume: what the filesystem itself writes, its journal above all
_NOTES = 100  # one part of so many of a snapshot: what LVM notes in it
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
        for volume in _removable(config)
        if volume.origin
    ]


def leftovers(config: Config) -> list[str]:
    """What was the space of a snapshot taken here, and is none any more: the power was cut while LVM merged or removed it.

    LVM does that in two steps, and does not come back to the second (vg_remove_snapshot in its snapshot_manip.c).

    Raises:
        OSError: LVM does not answer.
    """
    return [volume.name for volume in _removable(config) if not volume.origin]


def _removable(config: Config) -> list[lvm.Volume]:
    """Snapshots taken here, and what is left of one: a closed volume of its name, with no origin. None that is being merged."""

    def is_left(volume: lvm.Volume) -> bool:
        return volume.name == config.snapshot and not volume.origin and not volume.is_open

    return [
        volume
        for volume in lvm.volumes(config.group)
        if TAG in volume.tags and not volume.is_merging and (volume.origin == config.logical_volume or is_left(volume))
    ]


def due(config: Config, snapshots: list[Snapshot], now: float) -> list[tuple[str, str]]:
    """Those that must go: name, and why."""
    found = []
    for snapshot in snapshots:
        if snapshot.percent >= LOST:
            found.append((snapshot.name, "it is lost: more was written to the volume than it could hold"))
        elif snapshot.percent >= FULL:
            found.append((snapshot.name, f"it is {int(snapshot.percent)} % full, and would soon be lost"))
        elif now - snapshot.made >= config.snapshot_hours * _HOUR:
            found.append((snapshot.name, f"it is more than {config.snapshot_hours} h old"))
    return found


def drop(config: Config, name: str, why: str) -> None:
    """Remove a snapshot of ours. Whoever asks for it tells people.

    Raises:
        Problem: something is at work or unfinished that it may be needed for, it is none of ours, or LVM refuses.
        OSError: LVM does not answer, or has not removed it.
    """
    import syslog

    from bulkhead import unit

    with unit.alone():  # without its snapshot a rollback that was cut would pass for one that is done
        remove(config, name)
    syslog.syslog(syslog.LOG_WARNING, f"snapshot {config.group}/{name} was removed: {why}")


def remove(config: Config, name: str) -> None:
    """The same, for who has the lock."""
    from bulkhead.system import run

    origins = {volume.name: volume.origin or '""' for volume in _removable(config)}
    if name not in origins:
        raise Problem(f"{config.group}/{name} is no snapshot of {config.logical_volume} that bulkhead has taken")
    # LVM looks again, with the group locked: without a match it removes nothing. It has all the time that it wants: were
    # it killed, the volume could stay suspended.
    match = f"lv_tags={{{TAG}}} && origin={origins[name]}"
    said = run("lvremove", "--yes", "--select", match, f"{config.group}/{name}")
    if name in [volume.name for volume in _removable(config)]:
        raise OSError(f"{config.group}/{name} could not be removed: {' '.join(said.split())}")
    state.save(STATE, {})


def to_hold(writes: int, volume: int) -> int:
    """Bytes of a snapshot that is not yet as full as one that goes when so much has been written to the volume.

    Args:
        writes: bytes.
        volume: bytes that it has.
    """
    needed = min((writes + volume // _OWN_WRITES) * 100 // FULL, volume)
    return needed + needed // _NOTES


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
    from sizes import human

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
    from bulkhead import unit
    from bulkhead.engine import Engine
    from bulkhead.system import run

    name = config.snapshot
    with unit.alone():
        volume = docker_volume(config)
        if ours(config):
            raise Problem(f"{config.group}/{name} stands already: `bulkhead snapshot drop` removes it")
        for left in leftovers(config):
            remove(config, left)
        group = next(group for group in lvm.look()[0] if group.name == config.group)
        inside = os.statvfs(config.volume)
        if size is None and writes:
            size = to_hold(writes, volume.size)
        free = inside.f_bfree * inside.f_frsize
        size = size_for(size, group=group.name, volume=volume.size, free=free, group_free=group.free)
        before = held(engine := Engine())
        state.save(STATE, before | {"note": note})
        command = ["lvcreate", "--yes", "--snapshot", "--name", name, "--addtag", TAG, "--size", f"{size}b"]
        run(*command, f"{config.group}/{volume.name}")
        state.save(STATE, _common(before, held(engine)) | {"note": note})
        return next(snapshot for snapshot in ours(config) if snapshot.name == name)


def docker_volume(config: Config) -> lvm.Volume:
    """Docker's volume, which is mounted in its place, with Docker's data on it.

    Raises:
        Problem: it is not.
        OSError: LVM does not answer.
    """
    name = f"{config.group}/{config.logical_volume}"
    volume = next((volume for volume in lvm.volumes(config.group) if volume.name == config.logical_volume), None)
    if not volume:
        raise Problem(f"there is no logical volume {name}")
    if volume.is_merging:
        raise Problem(
            f"{name} is going back to its snapshot: `lvs -a {config.group}` shows what is left of it, and "
            f"`lvchange --poll y {name}` ends it where that is 0"
        )
    if os.stat(config.volume).st_dev != os.stat(f"/dev/{name}").st_rdev:
        raise Problem(f"{name} is not mounted on {config.volume}")
    for path in config.stores.values():
        if os.stat(path).st_dev != os.stat(config.volume).st_dev:
            raise Problem(f"{path} is not on {config.volume}: Docker's data is elsewhere")
    return volume


def held(engine: Engine) -> dict[str, Any]:
    """What Docker holds ("before"), and what runs ("ran"); empty where it does not answer."""
    from bulkhead.engine import EngineError
    from bulkhead.prune import docker_runs

    try:
        if not docker_runs():
            return {}
        passing = [container for container in engine.containers() if container["HostConfig"].get("AutoRemove")]
        before = without(engine.inventory(), passing)
        return {"before": before, "ran": [key for key in engine.running() if key in before["containers"]]}
    except EngineError:
        return {}


def without(inventory: Inventory, passing: list[dict[str, Any]]) -> Inventory:
    """What Docker holds, but for what it removes itself when it is started.

    Args:
        passing: the --rm containers, inspected. They go, with their volumes that have no name but Docker's.
    """
    gone = {container["Id"] for container in passing}
    volumes = {mount.get("Name", "") for container in passing for mount in container["Mounts"]}
    gone |= {name for name in volumes if len(name) == 64}
    return {kind: {k: v for k, v in there.items() if k not in gone} for kind, there in inventory.items()}


def _common(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What was there before and after: the snapshot has it for sure."""
    if not one or not other:
        return {}
    after = other["before"]
    before = {
        kind: {key: value for key, value in there.items() if after[kind].get(key) == value}
        for kind, there in one["before"].items()
    }
    running = [key for key in one["ran"] if key in other["ran"] and key in before["containers"]]
    return {"before": before, "ran": running}


# -- the commands


def run(config: Config, options: argparse.Namespace) -> int:
    commands = {"create": _create, "list": _list, "rollback": _rollback, "drop": _drop}
    return commands[options.action](config, options)


def _create(config: Config, options: argparse.Namespace) -> int:
    print("\n".join(told(config, create(config, size=options.size))))
    return 0


def told(config: Config, snapshot: Snapshot) -> list[str]:
    """What is to be known of a snapshot that has been taken."""
    from sizes import human

    room = (snapshot.size - snapshot.size // _NOTES) * FULL // 100
    inside = os.statvfs(config.volume)
    free = inside.f_bfree * inside.f_frsize
    short = f", less than is free there ({human(free)})" if room < free else ""
    return [
        f"snapshot {config.group}/{snapshot.name} taken, {human(snapshot.size)}",
        f"{human(room)} may be written to {config.volume} while it stands{short}. check-disk alerts when it fills; "
        + (
            f"the guard removes it when it is {FULL} % full, before it is lost, or {config.snapshot_hours} h old"
            if _is_guarded(config)
            else "nobody removes it: there is no guard"
        ),
        "while it stands, the volume cannot grow. Back to it: `bulkhead snapshot rollback`; done with it: "
        "`bulkhead snapshot drop`",
    ]


def _is_guarded(config: Config) -> bool:
    from bulkhead.check import GUARD

    return GUARD in config.units


def _list(config: Config, options: argparse.Namespace) -> int:
    snapshots, now = ours(config), time.time()
    if options.json:
        note = state.load(STATE).get("note", "")
        life, guarded = config.snapshot_hours * _HOUR, _is_guarded(config)
        more = [{"written": each.written, "goes": each.made + life if guarded else None} for each in snapshots]
        shown = [{**each._asdict(), **values, "note": note} for each, values in zip(snapshots, more, strict=True)]
        print(json.dumps(shown))
    elif not snapshots:
        print(f"there is no snapshot of {config.group}/{config.logical_volume}")
    else:
        print("\n".join(described(config, each, now) for each in snapshots))
    return 0


def described(config: Config, snapshot: Snapshot, now: float) -> str:
    from bulkhead.check import span
    from sizes import human

    age = max(now - snapshot.made, 0)
    left = config.snapshot_hours * _HOUR - age
    name = f"{config.group}/{snapshot.name}: taken {span(age)} ago"
    if snapshot.percent >= LOST:
        return f"{name}, lost: more was written than its {human(snapshot.size)}"
    filled = f"{name}, {int(snapshot.percent)} % of {human(snapshot.size)} full"
    if not _is_guarded(config):
        return f"{filled}; nobody removes it: there is no guard"
    goes = f"goes in {span(left)}" if left > 0 else "goes now"
    return f"{filled}, {goes} or when it is {FULL} % full"


def _drop(config: Config, options: argparse.Namespace) -> int:
    del options
    names = [volume.name for volume in _removable(config)]
    if not names:
        print(f"there is no snapshot of {config.group}/{config.logical_volume}")
    for name in names:
        drop(config, name, "it was asked for")
        print(f"snapshot {config.group}/{name} is gone; the volume is as it was")
    return 0


def _rollback(config: Config, options: argparse.Namespace) -> int:
    from bulkhead import journal, moving, unit
    from bulkhead.rollback import Rollback, watch
    from bulkhead.system import Failed

    if options.foreground:
        failed = moving.in_the_unit(lambda: Rollback(config, unit.say).roll_back())
        watch(config, unit.say)  # others may work meanwhile
        return failed
    if unit.is_under_way():
        raise Failed("another move or rollback is under way: `bulkhead relocate --join` watches it")
    rollback = Rollback(config, print)
    for line in rollback.losses(rollback.snapshot()):
        print(line)
    if not moving.consents(options, rollback.stops):
        return 1
    asked = time.time()
    unit.begin("snapshot", "rollback", "--foreground")
    unit.follow()
    if unit.has_failed():
        return 1
    ended = Rollback(config, print).journal
    if ended.phase != journal.DONE or ended.since < asked:
        raise Failed("the volume did not go back to its snapshot: another move began at the same moment")
    return 0
