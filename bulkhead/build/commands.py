"""`bulkhead build`: check that a build fits, then run docker. `bulkhead preflight` makes the same checks, and more.

The input and the output of docker stay its own; ours goes to standard error. On a terminal, BuildKit redraws its
lines by moving the cursor back over them. A line of ours, or a region kept free for one, would spoil them; so the volume's
use goes into the terminal's title (OSC 2), which moves no cursor. Without a terminal, or with --progress=plain, it is a line
every few seconds.

Exit codes: those of docker (128 plus the number of the signal that ended it), but
3: not started, with the reason;
4: the guard stopped the build before the volume was full;
5: the guard stopped the build, which had passed its own limit.
The classic builder passes on the exit code of a failed step, which can be 3, 4 or 5 as well.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from bulkhead.build import estimate, history
from bulkhead.build.arguments import of_options
from bulkhead.build.checklist import (
    FAILED,
    OK,
    Checklist,
    Item,
    advice,
    guard_is_alive,
    has_image,
    is_root,
    other_builds,
    size_of,
)
from bulkhead.build.outcome import CERTAINLY, LEAST, MAYBE, NOT, NOT_STARTED, BuildOutcome, outcome_lines
from bulkhead.build.progress import ENDING, Display, Gauge, kind_of_display, run_watched, say
from bulkhead.build.queue import BuildQueue
from bulkhead.errors import PROBLEMS, in_words
from bulkhead.guard.reservations import Account, Accounts, is_alive
from bulkhead.sizes import human
from bulkhead.text import count, span

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bulkhead.build.arguments import Arguments
    from bulkhead.build.estimate import Need
    from bulkhead.build.progress import BuildRecorder
    from bulkhead.config import Config


def _snapshot(config: Config, need: Need, arguments: Arguments) -> Item:
    if not is_root():
        return Item("snapshot", FAILED, "only root can take one")
    from bulkhead.snapshot import snapshots

    try:
        snapshots.create(config, writes=need.bytes, note=f"before a build of {arguments.name}")
    except PROBLEMS as error:
        return Item("snapshot", FAILED, in_words(error))
    return Item("snapshot", OK, "taken; `bulkhead snapshot rollback` goes back to it")


def _of_snapshot(config: Config) -> str:
    """Return what has become of the snapshot."""
    from bulkhead.snapshot import commands, snapshots

    try:
        standing = snapshots.ours(config)
    except OSError as error:
        return f"cannot tell whether the snapshot still exists: {in_words(error)}"
    if not standing:
        return "the snapshot is gone: more was written than it could hold, or it was too old"
    return f"the snapshot: {commands.describe(config, standing[0], time.time())}"


def preflight(
    config: Config, options: argparse.Namespace, add_others: Callable[[Checklist], None] = lambda _: None
) -> int:
    """Print the checks of a build, and return 3 if one has failed.

    Args:
        add_others: adds what else is checked.
    """
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    checklist = Checklist(config, of_options(options), options.need, options.limit, say)
    checklist.inspect()
    checklist.check_room()
    add_others(checklist)
    if options.json:
        values = {
            "fits": not checklist.failed,
            "need": checklist.need.bytes,
            "source": checklist.need.source,
            "free": checklist.free,
            "floor": checklist.floor,
            "reserved": checklist.reserved,
            "checks": [item._asdict() for item in checklist.items],
        }
        print(json.dumps(values, indent=4))
    return NOT_STARTED if checklist.failed else 0


def run(config: Config, options: argparse.Namespace, recorder: BuildRecorder | None = None) -> int:
    """`bulkhead build`: return its exit code.

    Args:
        recorder: measures the build.
    """
    if options.list:
        return _list(options)
    if options.json:
        options.parser.error("--json needs --list")
    if options.forget is not None:
        return _forget(options)
    arguments = of_options(options)
    checklist = Checklist(config, arguments, options.need, options.limit, say)
    queue = BuildQueue(checklist, arguments.name, options.limit)
    try:
        return _run(config, options, arguments, checklist, queue, recorder)
    finally:
        queue.leave()


def _run(
    config: Config,
    options: argparse.Namespace,
    arguments: Arguments,
    checklist: Checklist,
    queue: BuildQueue,
    recorder: BuildRecorder | None,
) -> int:
    checklist.inspect()
    if checklist.failed:
        checklist.check_room()
    else:
        queue.enter(options.wait)
    if options.snapshot and not checklist.failed:
        checklist.add(_snapshot(config, checklist.need, arguments))
    if checklist.failed:
        say(f"not started, because of: {', '.join(checklist.failed)}")
        return NOT_STARTED
    outcome = _build(config, arguments, checklist.floor, options.limit, queue, recorder)
    for line in outcome_lines(outcome, checklist.need.bytes, checklist.floor, lambda wanted: advice(wanted, config)):
        say(line)
    if options.snapshot:
        say(_of_snapshot(config))
    if arguments.key and outcome.is_representative:
        _remember(arguments, outcome)
    return outcome.exit_code


def _build(
    config: Config,
    arguments: Arguments,
    floor: int,
    limit: int,
    queue: BuildQueue,
    recorder: BuildRecorder | None,
) -> BuildOutcome:
    progress = arguments.progress or os.environ.get("BUILDKIT_PROGRESS", "")
    display = Display(kind_of_display(progress, sys.stderr.isatty()))
    began, gauge = time.time(), Gauge(config.volume_mount, floor, other_builds)
    returned, is_interrupted = _run_docker(arguments, gauge, display, queue, recorder)
    ended, has_failed = time.time(), returned != 0 and not is_interrupted
    is_worth_asking = (has_failed or gauge.peak >= LEAST) and guard_is_alive()
    accounts = queue.accounts() if is_worth_asking else Accounts()
    counted = accounts.builds.get(queue.process)  # none where nothing could be reserved, so the guard knew of no build
    account = counted or Account()
    is_disturbed = gauge.is_disturbed or account.is_disturbed
    has_passed = has_failed and account.has_passed_limit
    if recorder:
        recorder.steps_written = counted.steps if counted and not counted.is_disturbed else None
        recorder.is_disturbed = is_disturbed
    return BuildOutcome(
        code=returned if returned >= 0 else 128 - returned,  # as shells report it
        is_interrupted=is_interrupted,
        stopped=_stopped(accounts, queue.client, max(began, ended - ENDING)) if has_failed and not has_passed else NOT,
        is_short=has_failed and gauge.is_short(),
        passed_limit=limit if has_passed else 0,
        written=account.steps,
        is_disturbed=is_disturbed,
        duration=ended - began,
        # What neighbours wrote is not this build's. While other builds run, the guard cannot tell what Docker wrote for whom.
        peak=min(gauge.peak, account.total + gauge.early) if account.total and not is_disturbed else gauge.peak,
        free=gauge.volume.available,
        size=size_of(arguments.tag) if arguments.tag and returned == 0 else None,
    )


def _run_docker(
    arguments: Arguments, gauge: Gauge, display: Display, queue: BuildQueue, recorder: BuildRecorder | None
) -> tuple[int, bool]:
    """Run docker, and return what `run_watched` does."""
    if recorder is None:
        return run_watched(arguments.command, gauge, display, queue.begin)

    def begin(client: int) -> None:
        recorder.started()
        queue.begin(client)

    recorder.begin()
    try:
        return run_watched(arguments.command, gauge, display, begin, recorder.streams)
    finally:
        recorder.ended()


def _stopped(accounts: Accounts, client: str, since: float) -> int:
    """Return whether the guard has stopped this build, which has failed.

    Args:
        client: this build's.
        since: a build that was stopped before this time, in seconds since the epoch, was another.
    """
    stopped = NOT
    for stop in accounts.stops:
        if client not in stop.clients or stop.time < since:
            continue
        others = [each for each in stop.clients if each != client]
        # One of them was stopped. A stopped build has ended soon after: those that still run then were not.
        while others and all(map(is_alive, others)) and time.time() < stop.time + ENDING:
            time.sleep(0.2)
        if all(map(is_alive, others)):
            return CERTAINLY
        stopped = MAYBE
    return stopped


def _remember(arguments: Arguments, outcome: BuildOutcome) -> None:
    try:
        history.remember(arguments.key, outcome.peak, outcome.size, disturbed=outcome.is_disturbed)
    except OSError as error:
        say(f"the peak of this build could not be saved: {in_words(error)}")
        return
    if outcome.code == 0:
        need = estimate.need_of(None, arguments, history.load(), has_image)
        say(f"the next build should need {human(need.bytes)} ({need.source})")


# -- what is remembered


def _list(options: argparse.Namespace) -> int:
    """Print what is remembered of earlier builds."""
    known = {
        key: {
            "need": estimate.need_of_earlier(builds).bytes,
            "builds": len(builds),
            "disturbed": len([build for build in builds if build.get("disturbed")]),
            "last": builds[-1]["time"],
        }
        for key, builds in sorted(history.load().items())
    }
    if options.json:
        print(json.dumps(known, indent=4))
        return 0
    if not known:
        print("no build is remembered")
        return 0
    print(f"{'NEED':>10}  {'BUILDS':>6}  {'DISTURBED':>9}  {'LAST':>6}  BUILD")
    for key, each in known.items():
        age = span(time.time() - each["last"])
        print(f"{human(each['need']):>10}  {each['builds']:>6}  {each['disturbed']:>9}  {age:>6}  {key}")
    return 0


def _forget(options: argparse.Namespace) -> int:
    """Forget the builds of the key that was given, or of the arguments; of neither, all of them."""
    key = "" if options.forget is True else options.forget
    if not key and options.arguments and not (key := of_options(options).key):
        say("builds without a tag and a context are not remembered")
        return 1
    gone = history.forget(key)
    if key and not gone:
        say(f"no build of {key} is remembered; `bulkhead build --list` lists what is")
        return 1
    print(f"{count(len(gone), 'image')} forgotten: {', '.join(gone)}" if gone else "no build is remembered")
    return 0
