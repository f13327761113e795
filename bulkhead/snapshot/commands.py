"""The command `bulkhead snapshot`."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.snapshot.snapshots import FULL, HOUR, LOST, NOTES, STATE, Snapshot, create, drop, ours, removable

if TYPE_CHECKING:
    import argparse

    from bulkhead.config import Config

# -- the commands


def run(config: Config, options: argparse.Namespace) -> int:
    commands = {"create": _create, "list": _list, "rollback": _rollback, "drop": _drop}
    return commands[options.action](config, options)


def _create(config: Config, options: argparse.Namespace) -> int:
    print("\n".join(created_lines(config, create(config, size=options.size))))
    return 0


def created_lines(config: Config, snapshot: Snapshot) -> list[str]:
    """What is to be known of a snapshot that has been taken."""
    from bulkhead.sizes import human

    room = (snapshot.size - snapshot.size // NOTES) * FULL // 100
    inside = os.statvfs(config.volume_mount)
    free = inside.f_bfree * inside.f_frsize
    short = f", less than is free there ({human(free)})" if room < free else ""
    return [
        f"snapshot {config.vg_name}/{snapshot.name} taken, {human(snapshot.size)}",
        f"{human(room)} may be written to {config.volume_mount} while it stands{short}. check-disk alerts when it fills; "
        + (
            f"the guard removes it when it is {FULL} % full, before it is lost, or {config.snapshot_max_hours} h old"
            if _is_guarded(config)
            else "nobody removes it: there is no guard"
        ),
        "while it stands, the volume cannot grow. Back to it: `bulkhead snapshot rollback`; done with it: "
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
        print(f"there is no snapshot of {config.vg_name}/{config.logical_volume}")
    else:
        print("\n".join(describe(config, each, now) for each in snapshots))
    return 0


def describe(config: Config, snapshot: Snapshot, now: float) -> str:
    from bulkhead.sizes import human
    from bulkhead.text import span

    age = max(now - snapshot.made, 0)
    left = config.snapshot_max_hours * HOUR - age
    name = f"{config.vg_name}/{snapshot.name}: taken {span(age)} ago"
    if snapshot.percent >= LOST:
        return f"{name}, lost: more was written than its {human(snapshot.size)}"
    filled = f"{name}, {int(snapshot.percent)} % of {human(snapshot.size)} full"
    if not _is_guarded(config):
        return f"{filled}; nobody removes it: there is no guard"
    goes = f"goes in {span(left)}" if left > 0 else "goes now"
    return f"{filled}, {goes} or when it is {FULL} % full"


def _drop(config: Config, options: argparse.Namespace) -> int:
    del options
    names = [volume.name for volume in removable(config)]
    if not names:
        print(f"there is no snapshot of {config.vg_name}/{config.logical_volume}")
    for name in names:
        drop(config, name, "it was asked for")
        print(f"snapshot {config.vg_name}/{name} is gone; the volume is as it was")
    return 0


def _rollback(config: Config, options: argparse.Namespace) -> int:
    from bulkhead.errors import Failed
    from bulkhead.outage import journal, prompt, unit
    from bulkhead.snapshot.rollback import Rollback, watch

    if options.foreground:
        failed = unit.in_the_unit(lambda: Rollback(config, unit.say).roll_back())
        watch(config, unit.say)  # others may work meanwhile
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
        raise Failed("the volume did not go back to its snapshot: another move began at the same moment")
    return 0
