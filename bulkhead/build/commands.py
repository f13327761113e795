"""`bulkhead build`: `docker build`, after a look at whether it fits; `bulkhead preflight`: the look alone.

What docker build prints and reads is its own, untouched. What is said here goes to standard error. How the volume fills is
shown in the terminal's title (OSC 2): on a terminal BuildKit redraws its lines by moving the cursor back over them, so that
any line of somebody else's, and any region set apart for one, would spoil them; a title moves no cursor, and one write is
one sequence. Where there is no terminal, or docker prints plain lines, it is a line every few seconds.

Exit codes: those of docker build (128 and the signal's number where one has ended it), but
3: not begun, the reason is told;
4: the guard has stopped it.
The builder before BuildKit passes on the code of a step that fails, which can be a 3 or a 4 as well.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from bulkhead import state
from bulkhead.build import estimate, history
from bulkhead.build.checklist import (
    FAILED,
    OK,
    Checklist,
    Item,
    guard_is_alive,
    has_image,
    is_root,
    reclaim_command,
    size_of,
)
from bulkhead.build.estimate import Arguments, Need
from bulkhead.build.progress import ENDING, Display, Gauge, attend, kind_of_display, say
from bulkhead.errors import PROBLEMS, in_words
from bulkhead.guard import loop
from bulkhead.sizes import human
from bulkhead.text import in_time

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from bulkhead.config import Config

NOT_BEGUN, STOPPED = 3, 4  # exit codes
_LEAST = 64 * 2**20  # bytes: with less, all came from the cache, or nothing was left here


def _snapshot(config: Config, need: Need, arguments: Arguments) -> Item:
    if not is_root():
        return Item("snapshot", FAILED, "only root can take one")
    from bulkhead.snapshot import snapshots

    try:
        snapshots.create(config, writes=need.bytes, note=f"before a build of {arguments.tag or arguments.context}")
    except PROBLEMS as error:
        return Item("snapshot", FAILED, in_words(error))
    return Item("snapshot", OK, "taken: `bulkhead snapshot rollback` goes back to it")


def _of_snapshot(config: Config) -> str:
    """What has become of it."""
    from bulkhead.snapshot import commands, snapshots

    try:
        standing = snapshots.ours(config)
    except OSError as error:
        return f"whether the snapshot still stands is not known: {in_words(error)}"
    if not standing:
        return "the snapshot no longer stands: more was written than it could hold, or it was too old"
    return f"the snapshot: {commands.describe(config, standing[0], time.time())}"


# -- the commands


def preflight(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead preflight`; the exit code: 3 where a build would not be begun."""
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    checklist = Checklist(config, Arguments.of(options.arguments), options.need, say)
    checklist.look(makes_room=False)
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
    return NOT_BEGUN if checklist.failed else 0


def run(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead build`; the exit code."""
    arguments = Arguments.of(options.arguments)
    checklist = Checklist(config, arguments, options.need, say)
    checklist.look(makes_room=is_root())
    if options.snapshot and not checklist.failed:
        checklist.add(_snapshot(config, checklist.need, arguments))
    if checklist.failed:
        say(f"not begun, because of: {', '.join(checklist.failed)}")
        return NOT_BEGUN
    outcome = _build(config, options.arguments, arguments, checklist.floor)
    for line in outcome_lines(outcome, checklist.wanted):
        say(line)
    if options.snapshot:
        say(_of_snapshot(config))
    if arguments.key and outcome.is_telling:
        _remember(arguments, outcome)
    return outcome.exit_code


class BuildOutcome(NamedTuple):
    """What a build came to."""

    code: int  # of docker build
    is_interrupted: bool = False
    is_stopped: bool = False  # by the guard
    is_short: bool = False  # the volume was about to be full when it ended
    duration: float = 0  # seconds
    peak: int = 0  # bytes above the start
    free: int = 0  # bytes, when it ended
    size: int | None = None  # of the image, if that is known

    @property
    def exit_code(self) -> int:
        return STOPPED if self.is_stopped else self.code

    @property
    def is_telling(self) -> bool:
        """Whether the next one can be expected to need as much: not if all came from the cache, or something else failed."""
        if self.code == 0:
            return self.peak >= max((self.size or 0) // 100, _LEAST)
        return self.is_stopped or self.is_short


def outcome_lines(outcome: BuildOutcome, wanted: int) -> list[str]:
    """What there is to say after a build.

    Args:
        wanted: bytes that should have been free before it.
    """
    how = "built" if outcome.code == 0 else "interrupted" if outcome.is_interrupted else "failed"
    code = f", exit code {outcome.code}" if outcome.code else ""
    image = f"; the image has {human(outcome.size)}" if outcome.size else ""
    took = f"took {human(outcome.peak)} at its peak{image}; {human(outcome.free)} are free now"
    lines = [f"{how} after {in_time(outcome.duration)}{code}: {took}"]
    if outcome.is_stopped or outcome.is_short:
        why = "the guard has stopped it" if outcome.is_stopped else "Docker's volume was nearly full when it failed"
        command = reclaim_command(wanted + outcome.peak)
        lines.append(f"{why}: it needs more than it found. {command} makes room, or a larger volume (volume_size)")
    return lines


def _build(config: Config, words: Sequence[str], arguments: Arguments, floor: int) -> BuildOutcome:
    progress = arguments.progress or os.environ.get("BUILDKIT_PROGRESS", "")
    display = Display(kind_of_display(progress, sys.stderr.isatty()))
    began, gauge = time.time(), Gauge(config.volume_mount, floor)
    returned, is_interrupted = attend(["docker", "build", *words], gauge, display)
    is_short = returned != 0 and not is_interrupted and gauge.is_short()
    return BuildOutcome(
        code=returned if returned >= 0 else 128 - returned,  # as a shell has it
        is_interrupted=is_interrupted,
        is_stopped=returned != 0 and not is_interrupted and _has_been_stopped(began, is_short),
        is_short=is_short,
        duration=time.time() - began,
        peak=gauge.peak,
        free=gauge.volume.free,
        size=size_of(arguments.tag) if arguments.tag and returned == 0 else None,
    )


def _has_been_stopped(began: float, is_short: bool) -> bool:
    """Whether the guard has stopped this build, which ended just now; what it stopped earlier was somebody else's.

    Its notes are for root, and may come late: the room tells as well.
    """
    noted = state.load(loop.STATE).get("aborted", []) if is_root() else []
    return any(each["time"] >= max(began, time.time() - ENDING) for each in noted) or (is_short and guard_is_alive())


def _remember(arguments: Arguments, outcome: BuildOutcome) -> None:
    try:
        history.remember(arguments.key, outcome.peak, outcome.size)
    except OSError as error:
        say(f"what it took is not remembered: {in_words(error)}")
        return
    if outcome.code == 0:
        need = estimate.need_of(None, arguments, history.load(), has_image)
        say(f"the next one is expected to need {human(need.bytes)} ({need.source})")
