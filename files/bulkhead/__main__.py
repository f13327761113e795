"""The command line of bulkhead."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from bulkhead import __version__, unit
from bulkhead import journal as phases
from bulkhead.config import PATH, Config
from bulkhead.copying import CopyError
from bulkhead.directory import DirectoryMove
from bulkhead.engine import EngineError
from bulkhead.relocation import Relocation
from bulkhead.system import Failed, Login
from sizes import human


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 not done, 2 a wrong command line."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files are any bytes
    if os.geteuid() != 0:
        print("bulkhead: needs root", file=sys.stderr)
        return 1
    try:
        config = Config.load()
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"bulkhead: {PATH} cannot be read: {error}. Run the deploy again: it writes it.", file=sys.stderr)
        return 1
    try:
        return int(options.run(config, options))
    except ERRORS as error:
        print(f"bulkhead: {error}", file=sys.stderr)
        return 1


ERRORS = (Failed, CopyError, EngineError, OSError, ValueError, subprocess.SubprocessError)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bulkhead", description="Docker's disk, kept apart: docker-bulkhead on this host.")
    parser.add_argument("--version", action="version", version=f"bulkhead {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    relocate = commands.add_parser(
        "relocate",
        help="move data onto its volume",
        description="Moves the directories of extra volumes and Docker's /var/lib/docker and /var/lib/containerd onto "
        "their volumes. Docker's are copied while it runs; then it and its containers are down for as long as the "
        "difference takes. The old data stays until `bulkhead finalize`. Goes on by itself when the connection is lost; "
        "the same command joins it again.",
    )
    relocate.add_argument(
        "directories", nargs="*", metavar="DIRECTORY", help=f"{DOCKER_STORE}, or an extra volume's; all without any"
    )
    how = relocate.add_mutually_exclusive_group()
    how.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)  # what the unit itself does
    how.add_argument("--join", action="store_true", help="only watch a move that is under way")
    how.add_argument("--recover", action="store_true", help="finish or undo a move that was cut (done at boot)")
    relocate.set_defaults(run=_relocate)

    rollback = commands.add_parser(
        "rollback",
        help="go back to the data from before a move",
        description="Puts Docker, or the directory of an extra volume, back on the data from before the move. What has been "
        "written since stays on the volume, out of sight: in docker.left-1 and containerd.left-1, or in .bulkhead-left/1. Goes on by itself when the connection is lost.",
    )
    rollback.add_argument(
        "directory", nargs="?", default=DOCKER_STORE, help=f"of an extra volume; by default {DOCKER_STORE}"
    )
    rollback.add_argument("--yes", action="store_true", help="do not ask")
    rollback.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)
    rollback.set_defaults(run=_rollback)

    finalize = commands.add_parser(
        "finalize",
        help="remove the old data that moves have left on the root disk",
        description="Removes what lies beneath the volumes' mounts since the moves. There is no way back after it. Of "
        "homes, the accounts' authorized_keys stay: a login works without the volume too.",
    )
    finalize.add_argument(
        "directories", nargs="*", metavar="DIRECTORY", help=f"{DOCKER_STORE}, or an extra volume's; all without any"
    )
    finalize.add_argument("--yes", action="store_true", help="do not ask")
    finalize.add_argument(
        "--force", action="store_true", help="also remove what was written to the old data since the move"
    )
    finalize.set_defaults(run=_finalize)

    status = commands.add_parser("status", help="where the data is")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)
    return parser


DOCKER_STORE = Relocation.path

Move = Relocation | DirectoryMove


def _moves(config: Config, say: Callable[[str], None]) -> list[Move]:
    """The extra volumes' first: they ask for no outage."""
    login = Login.parse(os.environ[unit.LOGIN]) if unit.LOGIN in os.environ else Login.own()
    return [*(DirectoryMove(entry, say, login) for entry in config.extra_volumes), Relocation(config, say)]


def _relocate(config: Config, options: argparse.Namespace) -> int:
    if options.recover:
        return _recover(config)
    if options.foreground:
        return _in_the_unit(lambda: _move(config, options.directories))
    if not options.join:
        unit.begin("relocate", "--foreground", *options.directories)
    unit.follow()
    pending = [move for move in _chosen(config, options.directories, print) if move.is_pending]
    for move in pending:
        print("bulkhead:", f"{move.journal.reason}. {move.outcome()}".removeprefix(". "), file=sys.stderr)
    return int(bool(pending) or unit.has_failed())


def _move(config: Config, directories: list[str]) -> None:
    for move in _chosen(config, directories, unit.say):
        if move.is_pending:
            move.relocate()


def _recover(config: Config) -> int:
    if unit.is_under_way(unit.UNIT) and not os.environ.get("SERVICE_RESULT"):  # which has its own end for it
        return 0
    failed = False
    with unit.lock(wait=True):
        for move in reversed(_moves(config, unit.say)):  # Docker first
            try:
                move.recover()
            except ERRORS as error:
                unit.say(f"{move.path} could not be recovered: {error}. `bulkhead relocate --recover` tries again")
                failed = True
    return int(failed)


def _in_the_unit(work: Callable[[], None]) -> int:
    """Do it as the only one; what goes wrong is told to those who watch."""
    try:
        with unit.lock():
            work()
    except ERRORS as error:
        unit.say(f"failed: {error}")
        return 1
    return 0


def _rollback(config: Config, options: argparse.Namespace) -> int:
    if options.foreground:
        return _in_the_unit(lambda: _chosen(config, [options.directory], unit.say)[0].roll_back())
    (move,) = _chosen(config, [options.directory], print)
    if move.journal.phase != phases.DONE:
        raise Failed(f"there is no way back: {move.outcome()}")
    for line in move.written_since():
        print(line)
    if not _consents(options, f"{move.stops} What has been written since stays on the volume, out of sight."):
        return 1
    unit.begin("rollback", "--foreground", options.directory)
    unit.follow()
    (move,) = _chosen(config, [options.directory], print)
    print(move.outcome())
    return 0 if move.journal.phase == phases.ROLLED_BACK else 1


def _chosen(config: Config, directories: list[str], say: Callable[[str], None]) -> list[Move]:
    """The moves of these directories, or all of them.

    Raises:
        Failed: one of them is none that moves.
    """
    moves = {move.path: move for move in _moves(config, say)}
    paths = [os.path.abspath(directory) for directory in directories]
    if unknown := [path for path in paths if path not in moves]:
        raise Failed(f"{unknown[0]} has no volume of its own; there is one for {', '.join(moves)}")
    return [move for path, move in moves.items() if path in paths or not paths]


def _finalize(config: Config, options: argparse.Namespace) -> int:
    moves = _chosen(config, options.directories, print)
    if not options.directories:
        moves = [move for move in moves if move.journal.phase in (phases.DONE, phases.FINALIZING)]
    for move in moves:
        for path, size in move.journal.old.items():
            print(f"the old data of {path} takes {human(size)} of the root disk")
    if not moves:
        print("there is no old data to remove")
    elif not _consents(options, "It is removed, and with it the way back."):
        return 1
    with unit.lock():
        asked_for = {move.path for move in moves}
        for move in _moves(config, print):  # as they are now
            if move.path in asked_for:
                move.finalize(force=options.force)
    return 0


def _consents(options: argparse.Namespace, question: str) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise Failed("there is nobody to ask: --yes does it")
    return input(f"{question} Go on? [y/N] ").strip().lower() in ("y", "yes")


def _status(config: Config, options: argparse.Namespace) -> int:
    *directories, docker = _moves(config, print)
    if options.json:
        shown = _shown(docker) | {"under_way": unit.is_under_way()}
        shown["extra_volumes"] = {
            entry.target: _shown(move) for entry, move in zip(config.extra_volumes, directories, strict=True)
        }
        print(json.dumps(shown, indent=4))
        return 0
    for move in (docker, *directories):
        print(move.outcome())
        if move.journal.since:
            print(f"  since   {time.strftime('%F %T %Z', time.localtime(move.journal.since))}")
        for path, size in move.journal.old.items():
            print(f"  kept    {human(size)} beneath {path}; `bulkhead finalize` removes it")
        if move.journal.reason:
            print(f"  reason  {move.journal.reason}")
    return 0


def _shown(move: Move) -> dict[str, object]:
    journal = move.journal
    return {"phase": journal.phase, "since": journal.since, "reason": journal.reason, "old": journal.old}


if __name__ == "__main__":
    sys.exit(main())
