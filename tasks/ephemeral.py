"""After this, a boot that finds all of Docker's disks blank makes Docker's volume on them anew; and no boot of another host.

The commands are those of a run, with the same checks right before they write. The script is the permission, and it is written
last in a run: it is for one machine, so that it does nothing on a copy of the root disk.
"""

from __future__ import annotations

import posixpath
import shlex

from bulkhead.names import EMPTIED
from pyinfra_lvm import operations as lvm
from pyinfra_lvm.model import EXTENT, METADATA
from settings.model import Settings
from tasks.preflight.plan import Plan
from tasks.support import units
from tasks.support.files import render
from tasks.support.machine import MACHINE
from tasks.support.paths import EPHEMERAL_SCRIPT, EPHEMERAL_SERVICE, EPHEMERAL_UNIT, TAG
from tasks.support.units import mount_unit
from tasks.volume import filesystem_options, make_stores

# Seconds for the disks at boot: half of the time that the volume's mount waits for its device.
PATIENCE = 45

_FILES = (EPHEMERAL_UNIT, EPHEMERAL_SCRIPT)


def forbid(plan: Plan) -> None:
    """Have no boot make anything, where the settings do not say so, or the machine cannot be told from another."""
    if plan.removes_boot_unit:
        removed()


def removed() -> None:
    """Have no boot make anything."""
    units.unit_files_removed(
        name="No boot makes Docker's volume anew", paths=_FILES, units=[EPHEMERAL_SERVICE], services=[EPHEMERAL_SERVICE]
    )


def permit(settings: Settings, plan: Plan) -> None:
    """Have a boot that finds Docker's disks blank make the volume on them anew."""
    if plan.boot_disks:
        units.unit_files(
            name=f"{EPHEMERAL_SERVICE} makes Docker's volume anew at a boot that finds {', '.join(plan.boot_disks)} blank",
            contents=unit_files(settings, plan),
            units=[EPHEMERAL_SERVICE],
            services=[EPHEMERAL_SERVICE],
        )


def unit_files(settings: Settings, plan: Plan) -> dict[str, str]:
    """Return the unit and its script: path → content."""
    group, volume = plan.volume_group, plan.logical_volume
    # fsck of an ext4 comes before its mount, and would find no filesystem.
    fsck = f"systemd-fsck@{mount_unit(plan.device).removesuffix('.mount')}.service"
    script = render(
        "docker-ephemeral.sh.j2",
        group=group,
        volume=volume,
        device=plan.device,
        size=plan.size,
        stripes=plan.stripes,
        machine=plan.machine,
        disks=shlex.join(plan.boot_disks),
        unfinished=lvm.UNFINISHED_TAG,
        service=EPHEMERAL_SERVICE,
        identity=MACHINE,
        patience=PATIENCE,
        metadata=METADATA,
        extent=EXTENT,
        note=EMPTIED,
        note_directory=posixpath.dirname(EMPTIED),
        blank=lvm.blank_guard('"$1"'),
        unused=lvm.unused_guard('"$1"'),
        physical_volume=lvm.make_physical_volume('"$1"'),
        volume_group=lvm.make_volume_group(group, "$disks", [lvm.UNFINISHED_TAG]),
        logical_volume=lvm.make_logical_volume(group, volume, plan.size, [TAG], lvm.striped(plan.stripes)),
        filesystem=lvm.make_filesystem(group, volume, plan.filesystem, filesystem_options(settings)),
        stores=_stores(plan),
    )
    unit = render(
        "docker-ephemeral.service.j2",
        directories=[posixpath.dirname(EPHEMERAL_SCRIPT), posixpath.dirname(EMPTIED)],
        before=[fsck, mount_unit(settings.volume_mount)],
        script=EPHEMERAL_SCRIPT,
    )
    return {EPHEMERAL_UNIT: unit, EPHEMERAL_SCRIPT: script}


def _stores(plan: Plan) -> str:
    inner = f"mount -t {plan.filesystem} {shlex.quote(plan.device)} /mnt && ( {make_stores('/mnt')} ) && umount /mnt"
    return f"unshare --mount --propagation private sh -c {shlex.quote(inner)}"
