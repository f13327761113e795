"""The command `bulkhead snapshot`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.snapshot.snapshots import FULL, HOUR, LOST, NOTES, STATE, Snapshot, create, drop, ours, removable
from bulkhead.storage.space import space_of
from bulkhead.storage.volume import NO_LOGICAL_VOLUME

if TYPE_CHECKING:
    import argparse

    from bulkhead.config import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead snapshot`.

    Returns:
        The exit code.
    """
    commands = {"create": _create, "list": _list, "rollback": _rollback, "drop": _drop}
    return commands[options.action](config, options)


def _create(config: Config, options: argparse.Namespace) -> int:
    print("\n".join(created_lines(config, create(config, size=options.size))))
    return 0


def created_lines(config: Config, snapshot: Snapshot) -> list[str]:
    """Return what people should know of a snapshot that has just been taken."""
    from bulkhead.sizes import human

    room = (snapshot.size - snapshot.size // NOTES) * FULL // 100
    free = space_of(config.volume_mount).free_for_root
    less = f", less than is free there ({human(free)})" if room < free else ""
    return [
        f"snapshot {config.vg_name}/{snapshot.name} taken, {human(snapshot.size)}",
        f"{human(room)} can be written to {config.volume_mount} while the snapshot exists{less}. check-disk alerts when it fills. "
        + (
            f"The guard removes it when it is {FULL} % full, before it is lost, or {config.snapshot_max_hours} h old"
            if _is_guarded(config)
            else "Nothing removes it by itself: there is no guard"
        ),
        "The volume cannot grow until the snapshot is removed. Go back to it: `bulkhead snapshot rollback`. Remove it: "
        "`bulkhead snapshot drop`",
    ]


def _is_guarded(config: Config) -> bool:
    from bulkhead.names import GUARD_SERVICE

    return GUARD_SERVICE in config.watched_units


def _list(config: Config, options: argparse.Namespace) -> int:
    snapshots, now = ours(config), time.time()
    if options.json:
        note = state.load(STATE).get("note", "")
        life, guarded = config.snapshot_max_hours * HOUR, _is_guarded(config)
        more = [{"written": each.written, "goes": each.made + life if guarded else None} for each in snapshots]
        shown = [{**each._asdict(), **values, "note": note} for each, values in zip(snapshots, more, strict=True)]
        print(json.dumps(shown))
    elif not snapshots:
        print(_none(config))
    else:
        print("\n".join(describe(config, each, now) for each in snapshots))
    return 0


def _none(config: Config) -> str:
    return f"there is no snapshot of {config.vg_name}/{config.logical_volume}" if config.vg_name else NO_LOGICAL_VOLUME


def describe(config: Config, snapshot: Snapshot, now: float) -> str:
    """Describe a snapshot in one line.

    Args:
        now: seconds since the epoch.
    """
    from bulkhead.sizes import human
    from bulkhead.text import span

    age = max(now - snapshot.made, 0)
    left = config.snapshot_max_hours * HOUR - age
    name = f"{config.vg_name}/{snapshot.name}: taken {span(age)} ago"
    if snapshot.percent >= LOST:
        return f"{name}, lost: more was written than its {human(snapshot.size)}"
    filled = f"{name}, {int(snapshot.percent)} % of {human(snapshot.size)} full"
    if not _is_guarded(config):
        return f"{filled}; nothing removes it by itself: there is no guard"
    when = f"in {span(left)}" if left > 0 else "now"
    return f"{filled}; the guard removes it {when}, or when it is {FULL} % full"


def _drop(config: Config, options: argparse.Namespace) -> int:
    del options
    names = [volume.name for volume in removable(config)]
    if not names:
        print(_none(config))
    for name in names:
        drop(config, name, "a user asked for it")
        print(f"snapshot {config.vg_name}/{name} is removed; the volume is unchanged")
    return 0


def _rollback(config: Config, options: argparse.Namespace) -> int:
    from bulkhead.errors import Failed
    from bulkhead.outage import journal, prompt, unit
    from bulkhead.snapshot.rollback import Rollback, watch

    if options.foreground:
        failed = unit.in_the_unit(lambda: Rollback(config, unit.say).roll_back())
        watch(config, unit.say)  # without the lock: others may work meanwhile
        return failed
    if unit.is_under_way():
        raise Failed("another move or rollback is under way: `bulkhead relocate --join` watches it")
    rollback = Rollback(config, print)
    for line in rollback.losses(rollback.snapshot()):
        print(line)
    if not prompt.consents(options, rollback.stops):
        return 1
    asked = time.time()
    unit.begin("snapshot", "rollback", "--foreground")
    unit.follow()
    if unit.has_failed():
        return 1
    ended = Rollback(config, print).journal
    if ended.phase != journal.DONE or ended.since < asked:
        raise Failed("the volume did not return to its snapshot: another move began at the same moment")
    return 0
