"""Judge whether a boot may make Docker's volume anew, on disks that it finds blank. Pure.

At a boot nobody reads which disk was chosen. So each entry of volume_disks must lead to one disk, and Docker's group must be
on these disks and have nothing but Docker's volume.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyinfra_lvm.model import BlockDevice, Storage
from settings.model import Settings
from tasks.preflight.chosen_disks import names_disk
from tasks.preflight.disks import is_whole, stable_name
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.preflight.planned_group import PlannedGroup
from tasks.preflight.volume_group import VolumePlan


def judge_boot_disks(settings: Settings, storage: Storage, volume: VolumePlan) -> Iterator[Finding]:
    """Yield why a boot could not tell on which disks to make Docker's volume anew.

    Args:
        settings: with the rules.
        volume: as it is planned.
    """
    if not settings.volume_ephemeral:
        return
    found: list[BlockDevice] = []
    for entry in settings.volume_disks:
        disks = [device for device in storage.devices if is_whole(device) and names_disk(device, entry)]
        found += disks
        if len(disks) != 1:
            listed = ", ".join(map(stable_name, disks))
            yield Finding(
                f'"{entry}" in volume_disks stands for {len(disks) or "no"} whole disks{f": {listed}" if listed else ""}',
                "one disk, as volume_ephemeral is set: at a boot nothing else tells which disk was Docker's",
                "name each disk of Docker's by an entry of its own, under /dev/disk/by-path where its serial number changes",
            )
    names = {device.path for device in found}
    present = [storage.device(each.path) for each in storage.physical_volumes_of(volume.group)]
    others = [stable_name(device) for device in present if device and device.path not in names]
    if others or not PlannedGroup(settings, storage, volume.group).is_own:
        yield Finding(
            f"the volume group {volume.group} "
            + (
                f"is also on {', '.join(others)}"
                if others
                else "has volumes of others, which a boot would not make anew"
            ),
            "a group of Docker's own, on the disks that volume_disks names, as volume_ephemeral is set",
            'leave volume_group at "auto", and name all of its disks; or set volume_ephemeral to False',
        )


def ephemeral_warnings(settings: Settings, state: HostState) -> Iterator[str]:
    """Yield that no boot of this host makes its volume anew."""
    if settings.volume_ephemeral and not state.machine:
        yield (
            "no boot of this host makes Docker's volume anew (volume_ephemeral): its firmware has no UUID of its own "
            "(/sys/class/dmi/id/product_uuid), and a copy of its root disk could not be told from it. Run the deploy after "
            "its disks were emptied"
        )
