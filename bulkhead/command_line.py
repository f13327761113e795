"""The command line of bulkhead."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from typing import TypeAlias

from bulkhead import __version__
from bulkhead.config import Config
from bulkhead.errors import PROBLEMS
from bulkhead.names import DOCKER_STORE

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(words: list[str]) -> int:
    """Run a command; the exit code: 0 done, 1 not done, 2 a wrong command line. That of `check` is a level."""
    parser = _parser()
    options, unknown = parser.parse_known_args(words)
    if unknown:
        hint = ". What is for docker build comes after a --" if "arguments" in options else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files are any bytes
    if options.run == "check":
        from bulkhead.watch import check

        return check.start(options.threshold, options.verbose, options.json, not options.no_alert)
    if os.geteuid() != 0 and not options.anybody:
        return _fail("needs root")
    module, _, function = options.run.partition(":")
    try:
        config = Config.load()
        return int(getattr(importlib.import_module(f"bulkhead.{module}"), function)(config, options))
    except PROBLEMS as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130


def _fail(message: str) -> int:
    print(f"bulkhead: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bulkhead", description="Docker's disk, kept apart: docker-bulkhead on this host.")
    parser.add_argument("--version", action="version", version=f"bulkhead {__version__}")
    parser.set_defaults(anybody=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _watching(commands)
    _reclaiming(commands)
    _building(commands)
    _saving(commands)
    _moving(commands)
    return parser


def _watching(commands: Commands) -> None:
    status = commands.add_parser(
        "status",
        help="the disks, what fills Docker's, forecasts, runs and open alerts, at a glance",
        description="Shows the disks, what fills Docker's volume, how fast and until when, where Docker's data is, what "
        "the last prune freed, what runs next, and which alerts are open.",
    )
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run="status.commands:run", anybody=True)

    check = commands.add_parser(
        "check",
        help="the state of the disks in one line, as monitoring plugins say it",
        description="Looks at every local filesystem (use, inodes, read-only), at the volume group's reserve, at "
        "snapshots, at Docker and its isolation. Prints one line with performance data; exit code 0 OK, 1 WARNING, "
        "2 CRITICAL, 3 UNKNOWN. As root and at the threshold of the settings it also keeps the history that tells "
        "rates, writes metrics, and alerts when a level changes; otherwise it only looks.",
    )
    check.add_argument("threshold", nargs="?", type=_percent, metavar="THRESHOLD", help="percent; default: the setting")
    check.add_argument("-v", "--verbose", action="store_true", help="a line for everything that was looked at")
    check.add_argument("--json", action="store_true", help="for programs")
    check.add_argument("--no-alert", action="store_true", help="only look")
    check.set_defaults(run="check")

    alert = commands.add_parser(
        "alert",
        help="try the receivers of alerts",
        description="Alerts are queued by `bulkhead check` and sent by bulkhead-alert.service, each receiver from a "
        "queue of its own: what cannot be sent now is sent after the next check.",
    )
    what = alert.add_mutually_exclusive_group(required=True)
    what.add_argument("--test", action="store_true", help="send each receiver a message, and say which got it")
    what.add_argument("--deliver", action="store_true", help="send what is queued (what the unit does)")
    alert.set_defaults(run="watch.alert:run")


def _reclaiming(commands: Commands) -> None:
    prune = commands.add_parser(
        "prune",
        help="remove what Docker has not needed for a while",
        description="Removes, in this order: build cache that was unused for a while, containers that stopped a while "
        "ago, dangling images, images that no container has had for a while (if the settings say so), unused networks. "
        "Never a volume, nothing with a label bulkhead.keep or a name on the keep list, nothing that a running build or "
        "a container that stays needs, and nothing at all while a move of Docker's data is unfinished.",
    )
    prune.set_defaults(run="prune.commands:run")
    reclaim = commands.add_parser(
        "reclaim",
        help="make room: free at least so much on Docker's volume",
        description="Removes what `bulkhead prune` does, step by step, until enough is free on Docker's volume. If that "
        "is not enough: idle build cache, then images that no container has, the least recently used first, and no more "
        "than it takes. Exit code 0: so much is free now.",
    )
    reclaim.add_argument("--need", type=_size, required=True, metavar="SIZE", help="10G: what shall be free")
    reclaim.set_defaults(run="prune.commands:reclaim")
    for command in (prune, reclaim):
        command.add_argument("--dry-run", action="store_true", help="list it, with sizes, and remove nothing")
        command.add_argument("--json", action="store_true", help="for programs")


def _building(commands: Commands) -> None:
    build = commands.add_parser(
        "build",
        help="docker build, after a look at whether it fits",
        usage="bulkhead build [-h] [--need SIZE] [--snapshot] -- ARGUMENT [ARGUMENT ...]",
        description="Looks first whether Docker's volume has room for the build and makes some if it has not; then runs "
        "`docker build` with the arguments and shows how the volume fills; remembers the peak for the next time.",
        epilog="Exit codes: that of docker build; 3: not begun, with the reason; 4: the guard has stopped it.",
    )
    build.add_argument("--snapshot", action="store_true", help="take a snapshot of the volume first (root)")
    build.set_defaults(run="build.commands:run", anybody=True)
    preflight = commands.add_parser(
        "preflight",
        help="whether a build would fit: the checklist alone",
        usage="bulkhead preflight [-h] [--need SIZE] [--json] [-- ARGUMENT ...]",
        description="The checklist that `bulkhead build` begins with. Exit code 0: a build with these arguments may "
        "begin; 3: it would not, with the reason.",
    )
    preflight.add_argument("--json", action="store_true", help="for programs")
    preflight.set_defaults(run="build.commands:preflight", anybody=True)
    for command in (build, preflight):
        command.add_argument(
            "--need",
            type=_size,
            metavar="SIZE",
            help="25G: what the build takes at its peak; by default what it took before, else an estimate",
        )
        command.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="of docker build, after --")


def _saving(commands: Commands) -> None:
    snapshot = commands.add_parser(
        "snapshot",
        help="a snapshot of Docker's volume, to go back to",
        description="One at a time. What is written to the volume while it stands is paid from the volume group twice; "
        "the guard removes it after a while, and before it is full.",
    )
    actions = snapshot.add_subparsers(metavar="ACTION", required=True, dest="action")
    create = actions.add_parser("create", help="take one")
    create.add_argument(
        "--size",
        type=_size,
        metavar="SIZE",
        help="10G: its own space; default: enough for all that can be written",
    )
    shown = actions.add_parser("list", help="what there is")
    shown.add_argument("--json", action="store_true", help="for programs")
    rollback = actions.add_parser(
        "rollback",
        help="put Docker back to it",
        description="Says what has been written since and would be lost, and asks; then stops Docker, puts the volume "
        "back and starts Docker. Goes on by itself when the connection is lost; a power cut ends in one state or the other.",
    )
    rollback.add_argument("--yes", action="store_true", help="do not ask")
    rollback.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)
    actions.add_parser("drop", help="remove it: there is no way back to it then")
    snapshot.set_defaults(run="snapshot.commands:run")

    rescue = commands.add_parser(
        "rescue",
        help="bring back a Docker that a full volume has stopped",
        description="As far as it takes, in this order: gives back the guard's ballast, starts Docker, removes idle build "
        "cache and dangling images; then grows the volume by what is free in its group, without a snapshot of ours that "
        "stands in the way. Exit code 0: Docker answers, and the guard's floor is free.",
    )
    rescue.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    rescue.set_defaults(run="guard.rescue:run")

    guard = commands.add_parser(
        "guard",
        help="keep the volume from filling (what docker-guard.service runs)",
        description="Samples Docker's volume a few times a second. Before its floor is reached it removes idle build "
        "cache, and then stops builds, the fastest-growing first. It stops nothing but builds.",
    )
    guard.set_defaults(run="guard.loop:run")


def _percent(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 99):
        raise argparse.ArgumentTypeError("a percentage, from 1 to 99")
    return int(text)


def _size(text: str) -> int:
    from bulkhead.sizes import Size

    try:
        size = Size.parse(text).bytes
    except ValueError:
        size = 0
    if not size:
        raise argparse.ArgumentTypeError("a size such as 10G")
    return size


def _moving(commands: Commands) -> None:
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
    relocate.set_defaults(run="move.commands:relocate")

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
    rollback.set_defaults(run="move.commands:rollback")

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
    finalize.set_defaults(run="move.commands:finalize")
