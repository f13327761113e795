"""After this, no build fills Docker's volume: docker-guard.service, `bulkhead guard`, always on."""

from __future__ import annotations

from bulkhead.names import BALLAST, GUARD_SERVICE
from settings.model import Settings
from tasks import program
from tasks.support import files, units
from tasks.support.archive import archive
from tasks.support.files import render
from tasks.support.paths import UNITS

_PATH = UNITS[GUARD_SERVICE]


def install(settings: Settings) -> None:
    """Run the guard, or remove it where the settings want none."""
    if not settings.guard:
        removed(settings)
        return
    service = render("docker-guard.service.j2", program=program.digest(archive()))
    units.unit_files(
        name=f"Guard: {GUARD_SERVICE} keeps builds from filling the volume",
        contents={_PATH: service},
        units=[GUARD_SERVICE],
        services=[GUARD_SERVICE],
    )


def removed(settings: Settings) -> None:
    """Remove the guard and its ballast from the host."""
    units.unit_files_removed(
        name=f"{GUARD_SERVICE} is removed", paths=[_PATH], units=[GUARD_SERVICE], services=[GUARD_SERVICE]
    )
    files.removed(name="The guard's ballast is removed", paths=[f"{settings.volume_mount}/{BALLAST}"])
