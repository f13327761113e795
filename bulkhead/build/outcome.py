"""Judge how a build has ended."""

from __future__ import annotations

from typing import NamedTuple

from bulkhead.build.checklist import reclaim_command
from bulkhead.sizes import human
from bulkhead.text import in_time

NOT_STARTED, STOPPED = 3, 4  # exit codes
_LEAST = 64 * 2**20  # bytes: a build that needs less came from the cache, or left nothing on this host


class BuildOutcome(NamedTuple):
    """How a build has ended."""

    code: int  # of docker build
    is_interrupted: bool = False
    is_stopped: bool = False  # by the guard
    is_short: bool = False  # whether the volume was about to be full when it ended
    duration: float = 0  # seconds
    peak: int = 0  # bytes above the start
    free: int = 0  # bytes, when it ended
    size: int | None = None  # bytes of the image, if known

    @property
    def exit_code(self) -> int:
        return STOPPED if self.is_stopped else self.code

    @property
    def is_representative(self) -> bool:
        """Return whether the next build should need as much: not if this one came from the cache, or failed otherwise."""
        if self.code == 0:
            return self.peak >= max((self.size or 0) // 100, _LEAST)
        return self.is_stopped or self.is_short


def outcome_lines(outcome: BuildOutcome, wanted: int) -> list[str]:
    """Return what to print after a build.

    Args:
        wanted: bytes that should have been free before it.
    """
    how = "built" if outcome.code == 0 else "interrupted" if outcome.is_interrupted else "failed"
    code = f", exit code {outcome.code}" if outcome.code else ""
    image = f"; the image has {human(outcome.size)}" if outcome.size else ""
    took = f"took {human(outcome.peak)} at its peak{image}; {human(outcome.free)} is free now"
    lines = [f"{how} after {in_time(outcome.duration)}{code}: {took}"]
    if outcome.is_stopped or outcome.is_short:
        why = "the guard stopped it" if outcome.is_stopped else "Docker's volume was nearly full when it failed"
        command = reclaim_command(wanted + outcome.peak)
        lines.append(f"{why}: it needs more space. Make room ({command}) or grow the volume (setting volume_size)")
    return lines
