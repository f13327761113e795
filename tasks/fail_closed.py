"""After this, docker.service and containerd.service cannot start without the volume, its marker and both stores.

The drop-ins may be there before the packages: systemd applies them when the units come.
"""

from __future__ import annotations

from bulkhead.names import MARKER
from settings.model import Settings
from tasks.support import units
from tasks.support.files import render
from tasks.support.paths import DROP_INS, STORES


def released() -> None:
    """Docker starts with and without the volume."""
    units.unit_files_removed(
        name="docker.service and containerd.service start with and without the volume",
        paths=list(DROP_INS.values()),
        units=list(DROP_INS),
    )


def ordering() -> dict[str, str]:
    """Drop-ins that order Docker after its stores where fstab mounts them, and ask for nothing where it does not.

    They are in force while data is moved: one rename of fstab then decides what Docker starts on. Path → content.
    """
    content = render("ordering.conf.j2", stores=STORES.values())
    return dict.fromkeys(DROP_INS.values(), content)


def refuse_to_start_without_the_volume(settings: Settings) -> None:
    mount_points = [settings.volume_mount, *STORES.values()]
    units.unit_files(
        name="Fail closed: docker.service and containerd.service need the volume",
        units=list(DROP_INS),
        contents={
            path: render(
                "drop-in.conf.j2",
                unit=unit,
                mount_points=mount_points,
                marker=f"{settings.volume_mount}/{MARKER}",
            )
            for unit, path in DROP_INS.items()
        },
    )
