"""After this, docker-prune.timer runs `bulkhead prune` every day, which removes Docker's unused objects."""

from __future__ import annotations

from bulkhead.names import PRUNE_TIMER
from settings.model import Settings
from tasks.support import units
from tasks.support.files import render, verbatim
from tasks.support.paths import PRUNE_SERVICE, UNITS

_UNITS = (PRUNE_SERVICE, PRUNE_TIMER)
_PATHS = [UNITS[unit] for unit in _UNITS]


def install(settings: Settings) -> None:
    """Run the timer, or remove it where the settings want none."""
    if not settings.prune_time:
        removed()
        return
    timer = render("docker-prune.timer.j2", time=settings.prune_time, spread=settings.prune_spread)
    units.unit_files(
        name=f"Prune: {PRUNE_TIMER} removes Docker's unused objects",
        contents=dict(zip(_PATHS, (verbatim(PRUNE_SERVICE), timer), strict=True)),
        units=_UNITS,
        timers=[PRUNE_TIMER],
    )


def removed() -> None:
    """Remove the timer and its service from the host. A prune that waits for hours ends: nobody wants it any more."""
    units.unit_files_removed(
        name=f"{PRUNE_TIMER} is removed", paths=_PATHS, units=_UNITS, timers=[PRUNE_TIMER], services=[PRUNE_SERVICE]
    )
