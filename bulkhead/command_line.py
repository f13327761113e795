"""The command line of bulkhead."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TypeAlias

from bulkhead import __version__
from bulkhead.config import Config
from bulkhead.errors import PROBLEMS
from bulkhead.names import DOCKER_STORE
from bulkhead.parser import Parser
from bulkhead.text import printable

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_UNKNOWN = 3  # the exit code of a check that cannot be made: 2 would be CRITICAL


def main(words: list[str]) -> int:
    """Run a command and return its exit code: 0 done, 1 not done, 2 wrong arguments. The exit code of `check` is a level."""
    parser = _parser()
    options, unknown = parser.parse_known_args(words)
    if unknown:
        hint = "; arguments for docker build come after --" if "arguments" in options else ""
        options.parser.error(f"it has no argument {' '.join(unknown)}{hint}")
    if missing := options.missing(options):
        options.parser.error(f"{missing} is missing")
    if not options.run:
        options.parser.print_help(sys.stderr)
        return int(options.parser.exit_code)
    if options.run == "check":
        from bulkhead.watch import check

        return check.start(options.threshold, options.verbose, options.json, not options.no_alert)
    module, _, function = options.run.partition(":")
    try:
        if options.needs_no_host:
            return int(getattr(importlib.import_module(f"bulkhead.{module}"), function)(options))
        config = Config.load()
        if os.geteuid() != 0 and not options.anybody:
            return _fail(f"`{options.parser.prog}` needs root: run it with sudo")
        return int(getattr(importlib.import_module(f"bulkhead.{module}"), function)(config, options))
    except PROBLEMS as error:
        return _fail(str(error), options.not_done)


def _fail(message: str, code: int = 1) -> int:
    print("bulkhead:", "\n".join(map(printable, message.split("\n"))), file=sys.stderr)
    return code


def _parser() -> Parser:
    parser = Parser(
        "bulkhead",
        description="Keep a full Docker disk from taking down this host. Part of docker-bulkhead.",
        epilog="`bulkhead COMMAND --help` explains a command. Exit codes: 0 done, 1 not done, 2 wrong arguments, 141 done, but "
        "nobody read the output. check, build, preflight, context, review and gate have their own.",
    )
    parser.add_argument("--version", action="version", version=f"bulkhead {__version__}")
    parser.set_defaults(anybody=False, needs_no_host=False, not_done=1, run="", parser=parser, missing=lambda _: "")
    commands = parser.add_subparsers(metavar="COMMAND")
    _add_watching(commands)
    _add_reclaiming(commands)
    _add_building(commands)
    _add_images(commands)
    _add_saving(commands)
    _add_moving(commands)
    return parser


def _add(commands: Commands, name: str, help: str, description: str, epilog: str = "") -> Parser:  # noqa: A002 # argparse's
    command = commands.add_parser(name, help=help, description=description, epilog=epilog)
    command.set_defaults(parser=command)
    return command


def _add_watching(commands: Commands) -> None:
    status = _add(
        commands,
        "status",
        help="show disks, what fills Docker's volume, forecasts, runs and open alerts",
        description="Show the disks, what fills Docker's volume and when it will be full, where Docker's data is, what "
        "the last prune freed, what runs next, and which alerts are open.",
    )
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run="status.commands:run", anybody=True)

    check = _add(
        commands,
        "check",
        help="check the disks and Docker, and print one line for monitoring systems",
        description="Check every local filesystem (use, inodes, read-only), the volume group's reserve, snapshots, mirrors, "
        "the guard, the prune, Docker, and that its data is on its volume. Print one line with performance data. As root and with the threshold "
        "of the settings, also record the use for forecasts, write metrics, and alert when a level changes. Exit codes: "
        "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; 3 also if the arguments are wrong or the line cannot be printed.",
    )
    check.add_argument(
        "threshold", nargs="?", type=_percent, metavar="THRESHOLD", help="percent in use (default: check_threshold)"
    )
    check.add_argument("-v", "--verbose", action="store_true", help="print a line for each result")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_argument("--no-alert", action="store_true", help="record nothing and alert nobody")
    check.set_defaults(run="check")
    check.exit_code = _UNKNOWN

    alert = _add(
        commands,
        "alert",
        help="test the receivers of alerts",
        description="Send what is queued, or test the receivers. `bulkhead check` queues alerts for each receiver, and "
        "bulkhead-alert.service sends them. If an alert cannot be sent, it is tried again after the next check.",
    )
    what = alert.add_mutually_exclusive_group(required=True)
    what.add_argument("--test", action="store_true", help="send each receiver a message, and print which got it")
    what.add_argument("--deliver", action="store_true", help="send what is queued (bulkhead-alert.service runs this)")
    alert.set_defaults(run="watch.alert:run")


def _add_reclaiming(commands: Commands) -> None:
    prune = _add(
        commands,
        "prune",
        help="remove what Docker has not used for a while",
        description="Remove, in this order: build cache that was not used for a while, containers that stopped a while "
        "ago, dangling images, images that no container has used for a while (if the settings say so), unused networks, and "
        "anonymous volumes that no container has (if the settings say so). Only time that the host is up counts, and nothing "
        "is removed in the first 3 hours after a boot. Keep volumes with a name, everything with the label bulkhead.keep or "
        "a name on the keep list, and everything that a running build or a remaining container needs. Remove nothing while a "
        "move of Docker's data is unfinished.",
    )
    prune.add_argument(
        "--nightly",
        action="store_true",
        help="while something is in the way, such as a build, try again every 15 minutes for 6 hours (docker-prune.service "
        "runs this)",
    )
    prune.set_defaults(run="prune.commands:run")
    reclaim = _add(
        commands,
        "reclaim",
        help="free space on Docker's volume until a given amount is free",
        description="Show what has to go until enough is free on Docker's volume, and ask. Then remove what `bulkhead prune` "
        "removes, step by step. If that is not enough, remove idle build cache, then images without a container, the least "
        "recently used first. Remove no more than needed, and nothing at all if more is needed than can be had. Exit code 0: "
        "that much is free now.",
    )
    reclaim.add_argument("--need", type=_size, metavar="SIZE", help="free space needed, such as 10G")
    reclaim.add_argument(
        "--volumes",
        action="store_true",
        help="last, also remove anonymous volumes that no container has, with their data; without --need only these",
    )
    reclaim.add_argument("--yes", action="store_true", help="do not ask")
    reclaim.set_defaults(
        run="prune.commands:reclaim", missing=lambda options: "" if options.need or options.volumes else "--need"
    )
    for command in (prune, reclaim):
        command.add_argument(
            "--dry-run", action="store_true", help="list what would be removed, with sizes; remove nothing"
        )
        command.add_argument("--json", action="store_true", help="print JSON")


def _add_building(commands: Commands) -> None:
    build = _add(
        commands,
        "build",
        help="check that a build fits, reserve its space, then run docker build",
        description="Check that Docker's volume has room for the build beside the running builds. If there is not enough room, "
        "remove idle build cache (only as root). Then reserve the space and run `docker build` with the arguments, show how the volume "
        "fills, and remember the peak for the next build. A command that begins with `docker` runs unchanged: "
        "`bulkhead build -- docker compose build`, `bulkhead build -- docker buildx bake`.",
        epilog="Exit codes: those of docker; 3: not started, with the reason; 4: the guard stopped the build before the volume "
        "was full; 5: the guard stopped the build because it passed its --limit.",
    )
    build.add_argument("--snapshot", action="store_true", help="first take a snapshot of the volume (as root)")
    build.add_argument(
        "--wait",
        nargs="?",
        type=_duration,
        const=3600.0,
        default=0.0,
        metavar="TIME",
        help="wait for room, in the order of arrival, for at most TIME, such as 90s, 30m or 2h (default: 1h)",
    )
    known = build.add_mutually_exclusive_group()
    known.add_argument("--list", action="store_true", help="list what earlier builds took, and build nothing")
    known.add_argument(
        "--forget",
        nargs="?",
        type=_name,
        const=True,
        metavar="BUILD",
        help="forget what earlier builds took, and build nothing: those of a line of --list, of the arguments, or all",
    )
    known.add_argument(
        "--bill",
        action=_Bill,
        nargs=0,
        help="measure the build, and show what it took: peak, image, layers, wasted bytes, cache, context, and what each "
        "instruction wrote. Works without the deploy too, then without checks. `bulkhead bill` shows it again",
    )
    build.add_argument(
        "--save",
        choices=("auto", "always", "never"),
        default="auto",
        help="with --bill: read the image with docker save, for wasted bytes and models (default: if there is room)",
    )
    build.set_defaults(run="build.commands:run", anybody=True)
    preflight = _add(
        commands,
        "preflight",
        help="go through a checklist before a build or a deploy: this host, the Dockerfile, the limits",
        description="Make the checks of `bulkhead build`, and build nothing. Then check the ballast, the last check, the prune, "
        "who is alerted, and what else `bulkhead check` finds. Of a `docker build`, also review the Dockerfile, measure the "
        "context, and compare the last bill with the limits of ./.bulkhead.ini.",
        epilog="Exit codes: 0: nothing has failed; 1: the configuration cannot be read; 2: wrong arguments; 3: a check has failed, "
        "with the reason. A warning does not count.",
    )
    preflight.set_defaults(run="preflight.commands:run", anybody=True)
    for command in (build, preflight):
        command.add_argument(
            "--need",
            type=_size,
            metavar="SIZE",
            help="space that the build needs at its peak, such as 25G (default: what earlier builds needed, or an estimate)",
        )
        command.add_argument(
            "--limit",
            type=_size,
            default=0,
            metavar="SIZE",
            help="end the build when its steps have written so much, such as 20G, whatever is free"
            if command is build
            else "also check that the guard can hold the build to this limit, such as 20G",
        )
        command.add_argument(
            "--json", action="store_true", help="print JSON" + (" (with --list)" if command is build else "")
        )
        command.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="arguments for docker build")


def _add_images(commands: Commands) -> None:
    bill = _add(
        commands,
        "bill",
        help="show what builds took, and compare two of them",
        description="Show the bill of a build that `bulkhead build --bill` measured: the latest one, or that of an image or a "
        "number, or one in a file. `bulkhead bill compare A B` compares two. Works on any machine, and needs no Docker.",
        epilog="Exit codes: 0: done; 1: there is no such bill; 2: wrong arguments.",
    )
    bill.add_argument(
        "bills", nargs="*", metavar="BILL", help="a number, an image, a file of --json; or compare and two of these"
    )
    bill.add_argument("--list", action="store_true", help="list the bills, or those of an image")
    bill.add_argument("--svg", default="", metavar="FILE", help="with compare: also draw a picture")
    bill.add_argument("--json", action="store_true", help="print JSON")
    bill.set_defaults(run="bill.commands:run", needs_no_host=True)
    _add_gate(commands)
    context = _add(
        commands,
        "context",
        help="show what a build sends to Docker, and propose a .dockerignore",
        description="Show what a build sends to Docker: bytes, files, the largest directories and kinds of files; what "
        ".dockerignore takes out, and which of its lines do nothing. Propose lines that take out more, and nothing that the "
        "Dockerfile copies by name. Works on any machine, deployed or not, and needs no Docker but for --prove.",
        epilog="Exit codes: 0: done; 1: not done, such as for a Dockerfile that Docker refuses; 2: wrong arguments; 3: --prove "
        "found other differences, or the image cannot be built with the proposed lines.",
    )
    _add_dockerfile(context)
    context.add_argument("--all", action="store_true", help="also propose what the image may need, such as models")
    context.add_argument(
        "--prove", action="store_true", help="build the image with and without the proposed lines, and compare the two"
    )
    how = context.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument(
        "--write", action="store_true", help="add the proposed lines to .dockerignore; ask first if there is one"
    )
    context.add_argument("--yes", action="store_true", help="do not ask")
    context.set_defaults(run="context.commands:run", needs_no_host=True)

    review = _add(
        commands,
        "review",
        help="find what makes an image large or unsafe in a Dockerfile, and what to write instead",
        description="Find what makes an image large or unsafe: toolchains and caches that stay in it, models that the build "
        "downloads, files that a later layer removes, what COPY brings, secrets, base images without a version. Each finding has "
        "its line, its size where it is known, and what to write instead. Only what ends up in the target counts. If hadolint is "
        "installed, its findings are among them. A comment before an instruction allows a finding: "
        "`# bulkhead: allow=RULE reason`. Works on any machine, deployed or not, and needs no Docker.",
        epilog="Exit codes: 0: no finding of the level of --fail-on or above; 1: there is one; 2: wrong arguments, or a file that "
        "cannot be read or that Docker refuses.",
    )
    _add_dockerfile(review)
    review.add_argument(
        "--fail-on",
        choices=("error", "warning", "info", "never"),
        default="warning",
        metavar="LEVEL",
        help="the lowest level that gives exit code 1: error, warning, info, or never (default: warning)",
    )
    review.add_argument(
        "--no-hadolint", dest="hadolint", action="store_false", help="leave hadolint out, even if it is installed"
    )
    review.add_argument(
        "--sarif", default="", metavar="FILE", help="also write SARIF 2.1.0; with - print it, and nothing else"
    )
    review.add_argument("--json", action="store_true", help="print JSON")
    review.set_defaults(
        run="review.commands:run",
        needs_no_host=True,
        not_done=2,
        missing=lambda options: "a FILE for --sarif" if options.json and options.sarif == "-" else "",
    )


def _add_dockerfile(command: Parser) -> None:
    """Add the arguments of commands about one Dockerfile."""
    command.add_argument(
        "path", nargs="?", default=".", metavar="PATH", help="the build context (default: this directory)"
    )
    command.add_argument(
        "-f",
        "--file",
        default="",
        metavar="FILE",
        help="the Dockerfile, or - for standard input (default: PATH/Dockerfile)",
    )
    command.add_argument("--target", default="", metavar="STAGE", help="the stage to build (default: the last one)")
    command.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as for docker build")
    command.add_argument("--build-context", action="append", default=[], metavar="NAME=DIR", help="as for docker build")
    command.add_argument("--platform", default="", metavar="PLATFORM", help="as for docker build")


def _add_gate(commands: Commands) -> None:
    gate = _add(
        commands,
        "gate",
        help="check what a build took against limits, for CI",
        description="Check the bill of a build against limits. Without BILL, it takes the latest. Limits are in section [gate] of "
        "./.bulkhead.ini; an option of the same name overrides it. Works on any machine, and needs no Docker.",
        epilog="Exit codes: 0: within the limits; 1: over a limit; 2: wrong arguments; 3: the gate cannot decide: there is no bill or "
        "no limit, the build has failed, a file is damaged, or a figure with a limit was not measured.",
    )
    gate.add_argument(
        "bill", nargs="?", default="", metavar="BILL", help="a number, an image, or a file of `bill --json`"
    )
    for name, help in (  # noqa: A001 # argparse's
        ("peak", "what the build takes on disk at its peak"),
        ("image", "the image's files, unpacked"),
        ("compressed", "the image's layers as they are pushed"),
        ("context", "the context that docker can send"),
        ("wasted", "what a later layer removes or overwrites, or a percentage of the image"),
        ("models", "model files in the image"),
        ("increase", "the image's increase since the last build that has passed, or a percentage of that"),
    ):
        gate.add_argument(f"--{name}", metavar="SIZE", help=f"limit for {help}")
    gate.add_argument("--layers", metavar="NUMBER", help="limit for the number of the image's layers")
    gate.add_argument(
        "--file", default="", metavar="FILE", help="the file with limits (default: .bulkhead.ini, if there is one)"
    )
    gate.add_argument(
        "--against", default="", metavar="BILL", help="compare with this one (default: the last that has passed)"
    )
    gate.add_argument("--junit", default="", metavar="FILE", help="also write the verdicts as JUnit's XML")
    gate.add_argument("--json", action="store_true", help="print JSON")
    gate.set_defaults(run="gate.commands:run", needs_no_host=True, not_done=3)


def _add_saving(commands: Commands) -> None:
    snapshot = _add(
        commands,
        "snapshot",
        help="take a snapshot of Docker's volume, or go back to it",
        description="Take a snapshot of Docker's volume, or go back to it. Only one can exist at a time. While it exists, it "
        "takes space in the volume group for whatever is overwritten on the volume. The guard drops the snapshot before it "
        "is full, or when it is snapshot_max_hours old.",
    )
    actions = snapshot.add_subparsers(metavar="ACTION", dest="action")
    create = _add(actions, "create", help="take a snapshot", description="Take a snapshot of Docker's volume.")
    create.add_argument(
        "--size",
        type=_size,
        metavar="SIZE",
        help="size of the snapshot, such as 10G (default: enough for everything that can be written)",
    )
    shown = _add(actions, "list", help="list the snapshots", description="List the snapshots of Docker's volume.")
    shown.add_argument("--json", action="store_true", help="print JSON")
    rollback = _add(
        actions,
        "rollback",
        help="put Docker's volume back to its snapshot",
        description="Show what was written since the snapshot and would be lost, and ask. Then stop Docker, put the volume "
        "back, and start Docker. The rollback goes on if the connection is lost. After a power cut the volume is "
        "either as before or back at the snapshot.",
    )
    rollback.add_argument("--yes", action="store_true", help="do not ask")
    rollback.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)
    _add(
        actions,
        "drop",
        help="remove the snapshot",
        description="Remove the snapshot. After that there is no way back to it.",
    )
    for action in actions.choices.values():
        action.set_defaults(run="snapshot.commands:run")

    rescue = _add(
        commands,
        "rescue",
        help="bring back a Docker that a full volume has stopped",
        description="Take these steps until Docker answers and the guard's floors are free: give back the guard's ballast; "
        "start Docker; remove idle build cache and dangling images; grow the volume by what is free in its group (if "
        "a snapshot that bulkhead took prevents that, drop it). Exit code 0: Docker answers, and both floors are free.",
    )
    rescue.add_argument("--dry-run", action="store_true", help="print the steps, and take none")
    rescue.set_defaults(run="guard.rescue:run")

    guard = _add(
        commands,
        "guard",
        help="keep builds from filling the volume (docker-guard.service runs this)",
        description="Sample Docker's volume a few times a second. Before the free space falls below the guard's floor, "
        "remove idle build cache, and then stop builds, the fastest-growing first. Stop nothing but builds.",
    )
    guard.set_defaults(run="guard.loop:run")


def _add_moving(commands: Commands) -> None:
    relocate = _add(
        commands,
        "relocate",
        help="move data onto its volume",
        description="Move the directories of extra volumes and Docker's /var/lib/docker and /var/lib/containerd onto "
        "their volumes. Docker's data is copied while Docker runs; then Docker and its containers stop while the "
        "changes are copied. The old data stays until `bulkhead finalize`. The move goes on if the connection is "
        "lost; the same command follows it again.",
    )
    relocate.add_argument(
        "directories",
        nargs="*",
        metavar="DIRECTORY",
        help=f"{DOCKER_STORE}, or the directory of an extra volume (default: all)",
    )
    how = relocate.add_mutually_exclusive_group()
    how.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)  # in bulkhead-relocate.service
    how.add_argument("--join", action="store_true", help="follow a running move, and start none")
    how.add_argument("--recover", action="store_true", help="finish or undo an interrupted move (runs at boot)")
    relocate.set_defaults(run="move.commands:relocate")

    rollback = _add(
        commands,
        "rollback",
        help="go back to the data from before a move",
        description="Put Docker, or the directory of an extra volume, back on the data from before the move. What was "
        "written since stays hidden on the volume: in docker.left-1 and containerd.left-1, or in .bulkhead-left/1. The "
        "rollback goes on if the connection is lost.",
    )
    rollback.add_argument(
        "directory",
        nargs="?",
        metavar="DIRECTORY",
        default=DOCKER_STORE,
        help=f"{DOCKER_STORE}, or the directory of an extra volume (default: {DOCKER_STORE})",
    )
    rollback.add_argument("--yes", action="store_true", help="do not ask")
    rollback.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)
    rollback.set_defaults(run="move.commands:rollback")

    finalize = _add(
        commands,
        "finalize",
        help="remove the old data that moves have left on the root disk",
        description="Remove the old data that moves have left beneath the mounts of the volumes. After that there is no way "
        "back. In home directories, a copy of authorized_keys stays, so that logins work without the volume.",
    )
    finalize.add_argument(
        "directories",
        nargs="*",
        metavar="DIRECTORY",
        help=f"{DOCKER_STORE}, or the directory of an extra volume (default: all)",
    )
    finalize.add_argument("--yes", action="store_true", help="do not ask")
    finalize.add_argument(
        "--force", action="store_true", help="also remove what was written to the old data since the move"
    )
    finalize.set_defaults(run="move.commands:finalize")


# -- types of arguments


class _Bill(argparse.Action):
    """Measure the build: with the deploy or without it."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, *_: object) -> None:
        namespace.run, namespace.needs_no_host = "bill.commands:build", True


def _percent(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 99):
        raise argparse.ArgumentTypeError(f"must be a whole percentage from 1 to 99, not {text!r}")
    return int(text)


def _size(text: str) -> int:
    from bulkhead.sizes import Size

    try:
        size = Size.parse(text).bytes
    except ValueError:
        size = 0
    if not size:
        raise argparse.ArgumentTypeError(f"must be a size such as 512M, 10G or 1.5T, not {text!r}")
    return size


def _name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty: without a name, all builds are forgotten")
    return text


def _duration(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if not (number.isdecimal() and int(number) and unit in _SECONDS):
        raise argparse.ArgumentTypeError(f"must be a duration such as 90s, 30m or 2h, not {text!r}")
    return float(int(number) * _SECONDS[unit])
