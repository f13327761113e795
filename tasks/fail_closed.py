"""After this, docker.service and containerd.service cannot start without the volume, both stores, and their markers.

The markers tell our mounts from those of others: a unit of somebody's own in /etc/systemd/system wins over fstab.

The drop-ins can be there before the packages: systemd applies them as soon as the units exist.
"""

from __future__ import annotations

from bulkhead.names import MARKER
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.support import units
from tasks.support.files import render
from tasks.support.paths import DROP_INS, STORES, store_binds


def given_up(settings: Settings, storage: Storage) -> None:
    """Let Docker start without the volume, once fstab no longer has it.

    As long as fstab has the stores, Docker needs them. The options in fstab only order Docker after them: if the disk came after
    its timeout, Docker would start empty on the root disk, and the volume could be mounted over it.
    """
    if store_binds(settings.volume_mount) <= {(entry.source, entry.target) for entry in storage.fstab}:
        units.unit_files(
            name="docker.service and containerd.service only start after the mounts that fstab has",
            contents=ordering(),
            units=list(DROP_INS),
        )
    else:
        units.unit_files_removed(
            name="docker.service and containerd.service no longer need the volume",
            paths=list(DROP_INS.values()),
            units=list(DROP_INS),
        )


def ordering() -> dict[str, str]:
    """Return drop-ins that only start Docker after its stores, where fstab has them: path → content.

    They are in place while data moves. One rename of fstab then decides on which data Docker starts.
    """
    content = render("ordering.conf.j2", stores=STORES.values())
    return dict.fromkeys(DROP_INS.values(), content)


def refuse_to_start_without_the_volume(settings: Settings) -> None:
    """Keep Docker and containerd from starting unless the volume and both stores are there, with their markers.

    The markers must exist before this.
    """
    units.unit_files(
        name="Fail closed: docker.service and containerd.service need the volume",
        units=list(DROP_INS),
        contents=drop_ins(settings),
    )


def drop_ins(settings: Settings) -> dict[str, str]:
    """Return the drop-ins that assert the volume, the stores and their markers: path → content."""
    mount_points = [settings.volume_mount, *STORES.values()]
    markers = [f"{mount_point}/{MARKER}" for mount_point in mount_points]
    wrong = [f"{store}/docker/{MARKER}" for store in STORES.values()]
    return {
        path: render("drop-in.conf.j2", unit=unit, mount_points=mount_points, markers=markers, wrong=wrong)
        for unit, path in DROP_INS.items()
    }
