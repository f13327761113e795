"""Judge how a build has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bulkhead.sizes import human
from bulkhead.text import in_time

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_STARTED, STOPPED, OVER_LIMIT = 3, 4, 5  # exit codes
NOT, MAYBE, CERTAINLY = range(3)  # whether the guard has stopped a build
LEAST = 64 * 2**20  # bytes: a build that needs less came from the cache, or left nothing on this host


class BuildOutcome(NamedTuple):
    """How a build has ended."""

    code: int  # of docker
    is_interrupted: bool = False
    stopped: int = NOT  # by the guard, because the volume was about to be full
    is_short: bool = False  # whether the volume was about to be full when it ended
    passed_limit: int = 0  # bytes; 0: it has not passed its limit
    written: int = 0  # bytes that its steps have written
    is_disturbed: bool = False  # whether other builds ran meanwhile
    duration: float = 0  # seconds
    peak: int = 0  # bytes above the start
    free: int = 0  # bytes, when it ended
    size: int | None = None  # bytes of the image, if known

    @property
    def exit_code(self) -> int:
        return OVER_LIMIT if self.passed_limit else STOPPED if self.stopped == CERTAINLY else self.code

    @property
    def is_representative(self) -> bool:
        """Return whether the next build should need as much: not if this one came from the cache, or failed otherwise."""
        if self.code == 0:
            return self.peak >= max((self.size or 0) // 100, LEAST)
        return self.stopped == CERTAINLY or self.is_short or bool(self.passed_limit)


def outcome_lines(outcome: BuildOutcome, need: int, floor: int, advice: Callable[[int], str]) -> list[str]:
    """Return what to print after a build.

    Args:
        need: bytes that it should have needed.
        floor: bytes that the guard keeps free.
        advice: returns what makes so many bytes free.
    """
    how = "built" if outcome.code == 0 else "interrupted" if outcome.is_interrupted else "failed"
    code = f", exit code {outcome.code}" if outcome.code else ""
    image = f"; the image has {human(outcome.size)}" if outcome.size else ""
    took = f"took {human(outcome.peak)} at its peak{image}; {human(outcome.free)} is free now"
    lines = [f"{how} after {in_time(outcome.duration)}{code}: {took}"]
    if outcome.passed_limit:
        figures = f"this build has written {human(outcome.written)}, its limit is {human(outcome.passed_limit)}"
        return [*lines, f"the guard stopped it: {figures}. Make the build smaller, or give a larger --limit"]
    # Nobody knows what a stopped build would have needed: half as much again is a guess.
    wanted = max(need, outcome.peak * 3 // 2) + floor
    if outcome.stopped == CERTAINLY:
        lines.append(f"the guard stopped it: it needs more space. {advice(wanted)}")
    elif outcome.stopped == MAYBE:
        lines.append("the guard stopped this build or another one: it cannot tell which. Build again when fewer run")
    elif outcome.is_short:
        lines.append(f"Docker's volume was nearly full when it failed: it needs more space. {advice(wanted)}")
    return lines
