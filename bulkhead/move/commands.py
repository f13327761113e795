"""The commands that move data, and go back: `bulkhead relocate`, `rollback`, `finalize`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from bulkhead.errors import PROBLEMS, Failed, in_words
from bulkhead.login import Login
from bulkhead.move.directory import DirectoryMove
from bulkhead.move.relocation import Relocation
from bulkhead.outage import journal, lock, unit
from bulkhead.outage.prompt import consents
from bulkhead.outage.unit import in_the_unit
from bulkhead.sizes import human
from bulkhead.snapshot.rollback import Rollback
from bulkhead.snapshot.snapshots import LEFT, drop, leftovers, ours
from bulkhead.storage import lvm

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bulkhead.config import Config
    from bulkhead.move.move import Move


def moves(config: Config, say: Callable[[str], None]) -> list[Move]:
    """Return all moves of the host: the extra volumes' first, because they need no outage, and Docker's as the last."""
    login = Login.parse(os.environ[unit.LOGIN]) if unit.LOGIN in os.environ else Login.own()
    return [*(DirectoryMove(entry, say, login) for entry in config.extra_fstab), Relocation(config, say)]


def _chosen(config: Config, directories: list[str], say: Callable[[str], None]) -> list[Move]:
    """Return the moves of these directories; of all, if there are none.

    Raises:
        Failed: one of the directories has no move.
    """
    known = {move.path: move for move in moves(config, say)}
    paths = [os.path.abspath(directory) for directory in directories]
    if unknown := [path for path in paths if path not in known]:
        raise Failed(f"there is no volume for {unknown[0]}. There is one for {', '.join(known)}")
    return [move for path, move in known.items() if path in paths or not paths]


def _refuse_snapshot(config: Config, move: Move) -> None:
    """Refuse to move Docker's data while a snapshot exists: a rollback to it would lose what is moved.

    Raises:
        Failed: there is a snapshot.
        OSError: LVM does not answer.
    """
    if not isinstance(move, Relocation):
        return
    groups = lvm.list_groups()[0]
    if config.vg_name not in [group.name for group in groups]:
        return  # the volume is lost, and its snapshot with it: a rollback of the move may be all that is left
    if snapshots := ours(config):
        raise Failed(
            f"the snapshot {config.vg_name}/{snapshots[0].name} is older than the move: a rollback to it would lose what is "
            "moved. Remove it with `bulkhead snapshot drop`"
        )


# -- relocate


def relocate(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead relocate`, and return its exit code."""
    if options.recover:
        return _recover(config)
    if options.foreground:
        return in_the_unit(lambda: _move(config, options.directories))
    if not options.join:
        unit.begin("relocate", "--foreground", *map(os.path.abspath, options.directories))  # the unit works in /
    unit.follow()
    pending = [move for move in _chosen(config, options.directories, print) if move.is_pending]
    for move in pending:
        print("bulkhead:", f"{move.journal.reason}. {move.outcome()}".removeprefix(". "), file=sys.stderr)
    return int(bool(pending) or unit.has_failed())


def _move(config: Config, directories: list[str]) -> None:
    for move in _chosen(config, directories, unit.say):
        if move.is_pending:
            try:
                _refuse_snapshot(config, move)
            except PROBLEMS as error:
                move.keep_reason(in_words(error))
                raise
            move.relocate()


def _recover(config: Config) -> int:
    if unit.is_under_way(unit.UNIT) and not os.environ.get("SERVICE_RESULT"):  # the unit recovers itself when it ends
        return 0
    failed = False
    with lock.lock(wait=True):
        *extra, docker = moves(config, unit.say)
        rollback = Rollback(config, unit.say)
        is_rollback = rollback.is_pending  # then it has stopped Docker, and no move of Docker's data is unfinished
        for move in [rollback if is_rollback else docker, *reversed(extra)]:  # Docker first
            try:
                move.recover()
            except PROBLEMS as error:
                unit.say(f"{move.path} could not be recovered: {error}. `bulkhead relocate --recover` tries again")
                failed = True
        if is_rollback:
            unit.say(rollback.outcome())
    if is_rollback:
        with contextlib.suppress(*PROBLEMS):  # if this fails, the guard or the next snapshot removes them
            for name in leftovers(config):
                drop(config, name, LEFT)
    return int(failed)


# -- rollback


def rollback(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead rollback`, and return its exit code."""
    if options.foreground:
        return in_the_unit(lambda: _roll_back(config, options.directory))
    (move,) = _chosen(config, [options.directory], print)
    move.refuse_impossible_rollback()
    _refuse_snapshot(config, move)
    for line in move.written_since():
        print(line)
    if not consents(options, move.stops):
        return 1
    unit.begin("rollback", "--foreground", move.path)  # the unit works in /
    unit.follow()
    (move,) = _chosen(config, [options.directory], print)
    print(move.outcome())
    return 0 if move.journal.phase == journal.ROLLED_BACK else 1


def _roll_back(config: Config, directory: str) -> None:
    (move,) = _chosen(config, [directory], unit.say)
    _refuse_snapshot(config, move)
    move.roll_back()


# -- finalize


def finalize(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead finalize`, and return its exit code."""
    chosen = _chosen(config, options.directories, print)
    if not options.directories:
        chosen = [move for move in chosen if move.journal.phase in (journal.DONE, journal.FINALIZING)]
    for move in chosen:
        for path, size in move.journal.old.items():
            print(f"the old data of {path} takes {human(size)} of the root disk")
    if not chosen:
        print("there is no old data to remove")
    elif not consents(options, "The old data is removed. After that there is no way back to it."):
        return 1
    with lock.lock():
        asked_for = {move.path for move in chosen}
        for move in moves(config, print):  # read again, now that no other command changes them
            if move.path in asked_for:
                move.finalize(force=options.force)
    return 0
