"""`bulkhead build`: check that a build fits, then run `docker build`. `bulkhead preflight`: only check.

The input and the output of docker build stay its own; ours goes to standard error. On a terminal, BuildKit redraws its
lines by moving the cursor back over them. A line of ours, or a region kept free for one, would spoil them; so the volume's
use goes into the terminal's title (OSC 2), which moves no cursor. Without a terminal, or with --progress=plain, it is a line
every few seconds.

Exit codes: those of docker build (128 plus the number of the signal that ended it), but
3: not started, with the reason;
4: the guard stopped the build.
The classic builder passes on the exit code of a failed step, which can be 3 or 4 as well.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.build import estimate, history
from bulkhead.build.arguments import Arguments
from bulkhead.build.checklist import (
    FAILED,
    OK,
    Checklist,
    Item,
    guard_is_alive,
    has_image,
    is_root,
    size_of,
)
from bulkhead.build.outcome import NOT_STARTED, BuildOutcome, outcome_lines
from bulkhead.build.progress import ENDING, Display, Gauge, kind_of_display, run_watched, say
from bulkhead.errors import PROBLEMS, in_words
from bulkhead.guard import reporter
from bulkhead.sizes import human

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from bulkhead.build.estimate import Need
    from bulkhead.config import Config


def _snapshot(config: Config, need: Need, arguments: Arguments) -> Item:
    if not is_root():
        return Item("snapshot", FAILED, "only root can take one")
    from bulkhead.snapshot import snapshots

    try:
        snapshots.create(config, writes=need.bytes, note=f"before a build of {arguments.tag or arguments.context}")
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


def preflight(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead preflight`: return 3 if the build would not be started."""
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    checklist = Checklist(config, Arguments.of(options.arguments), options.need, say)
    checklist.inspect(makes_room=False)
    if options.json:
        values = {
            "fits": not checklist.failed,
            "need": checklist.need.bytes,
            "source": checklist.need.source,
            "free": checklist.free,
            "floor": checklist.floor,
            "checks": [item._asdict() for item in checklist.items],
        }
        print(json.dumps(values, indent=4))
    return NOT_STARTED if checklist.failed else 0


def run(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead build`: return its exit code."""
    arguments = Arguments.of(options.arguments)
    checklist = Checklist(config, arguments, options.need, say)
    checklist.inspect(makes_room=is_root())
    if options.snapshot and not checklist.failed:
        checklist.add(_snapshot(config, checklist.need, arguments))
    if checklist.failed:
        say(f"not started, because of: {', '.join(checklist.failed)}")
        return NOT_STARTED
    outcome = _build(config, options.arguments, arguments, checklist.floor)
    for line in outcome_lines(outcome, checklist.wanted):
        say(line)
    if options.snapshot:
        say(_of_snapshot(config))
    if arguments.key and outcome.is_representative:
        _remember(arguments, outcome)
    return outcome.exit_code


def _build(config: Config, words: Sequence[str], arguments: Arguments, floor: int) -> BuildOutcome:
    progress = arguments.progress or os.environ.get("BUILDKIT_PROGRESS", "")
    display = Display(kind_of_display(progress, sys.stderr.isatty()))
    began, gauge = time.time(), Gauge(config.volume_mount, floor)
    returned, is_interrupted = run_watched(["docker", "build", *words], gauge, display)
    is_short = returned != 0 and not is_interrupted and gauge.is_short()
    return BuildOutcome(
        code=returned if returned >= 0 else 128 - returned,  # as shells report it
        is_interrupted=is_interrupted,
        is_stopped=returned != 0 and not is_interrupted and _has_been_stopped(began, is_short),
        is_short=is_short,
        duration=time.time() - began,
        peak=gauge.peak,
        free=gauge.volume.available,
        size=size_of(arguments.tag) if arguments.tag and returned == 0 else None,
    )


def _has_been_stopped(began: float, is_short: bool) -> bool:
    """Return whether the guard has stopped this build, which has just ended. A build that it stopped earlier was another.

    Only root can read the guard's state, and it can be late. Then a volume that was about to be full is the sign.
    """
    noted = state.load(reporter.STATE).get("aborted", []) if is_root() else []
    return any(each["time"] >= max(began, time.time() - ENDING) for each in noted) or (is_short and guard_is_alive())


def _remember(arguments: Arguments, outcome: BuildOutcome) -> None:
    try:
        history.remember(arguments.key, outcome.peak, outcome.size)
    except OSError as error:
        say(f"the peak of this build could not be saved: {in_words(error)}")
        return
    if outcome.code == 0:
        need = estimate.need_of(None, arguments, history.load(), has_image)
        say(f"the next build should need {human(need.bytes)} ({need.source})")
