"""Choose the volume group of Docker's logical volume, and the disks for it. Pure."""

from __future__ import annotations

from bulkhead.sizes import BESIDE_OTHERS, human
from pyinfra_lvm.model import Storage, VolumeGroup
from settings.model import Settings
from tasks.preflight.chosen_disks import with_chosen_disks
from tasks.preflight.disks import another_disk
from tasks.preflight.finding import Finding, Refused
from tasks.preflight.planned_group import PlannedGroup
from tasks.preflight.raid import judge_lost_copy
from tasks.preflight.volume_file import FilePlan, offer, with_file, without_file
from tasks.preflight.volume_room import choices, lack_of_room, root_group, root_of
from tasks.support.paths import TAG, VOLUME_FILE_DEVICE

OWN_GROUP = "docker-vg"

# How the disks of a SAN are attached, by lsblk's TRAN: another host may use them too.
_NETWORK = ("iscsi", "fc")


def plan_file(settings: Settings, storage: Storage, old_data: int = 0) -> FilePlan:
    """Return settings and facts to plan the volume with: every disk named, and the file as the disk where it is or becomes one.

    Args:
        old_data: bytes of Docker's data that move onto the volume.

    Raises:
        Refused: the mirror that is Docker's volume lacks a disk; a rule in volume_disks chooses no disk; or the settings want
            a file, and the host or the file does not qualify.
    """
    if lost := [*judge_lost_copy(settings, storage)]:
        raise Refused(*lost)
    group = storage.group_of(VOLUME_FILE_DEVICE)
    named = settings.volume_group
    target = OWN_GROUP if named == "auto" else named
    settings = with_chosen_disks(settings, storage, target)
    if group and named in ("auto", group) and not settings.volume_disks:
        return with_file(settings, storage, group, 0)
    if settings.volume_disks:
        return without_file(settings, storage, target) or FilePlan(settings, storage)
    if not settings.volume_file:
        return FilePlan(settings, storage)
    if _has_other_room(settings, storage):
        warning = "volume_file is not used: a volume group has Docker's volume, or room for it"
        return FilePlan(settings, storage, warnings=(warning,))
    return with_file(settings, storage, target, old_data)


def _has_other_room(settings: Settings, storage: Storage) -> bool:
    """Return whether a group has Docker's volume, or room for it, without the file."""
    if settings.volume_group != "auto":
        return storage.volume_group(settings.volume_group) is not None
    has_volume = any(volume.name == settings.logical_volume for volume in storage.logical_volumes)
    groups = {group.name for group in storage.volume_groups} - {*_not_for_auto(storage)}
    return has_volume or any(lack_of_room(PlannedGroup(settings, storage, group)) is None for group in groups)


def choose_group(settings: Settings, storage: Storage) -> str:
    """Return the volume group that the settings ask for. "auto": the one with the volume, or the only one with room.

    Raises:
        Refused: there is no such group, or more than one.
    """
    if settings.volume_group != "auto":
        return settings.volume_group
    if settings.volume_disks:
        return OWN_GROUP
    volumes = [volume for volume in storage.logical_volumes if volume.name == settings.logical_volume]
    ours = [volume for volume in volumes if TAG in volume.tags]
    left_out = _not_for_auto(storage)
    all_groups = {group.name for group in storage.volume_groups}
    groups = {volume.volume_group for volume in ours or volumes} or all_groups - {*left_out}
    if not groups:
        raise Refused(_no_group(settings, storage, left_out))
    if len(groups) == 1:
        return groups.pop()
    lacks = {name: lack_of_room(PlannedGroup(settings, storage, name)) for name in groups}
    fitting = [name for name, lack in lacks.items() if lack is None]
    if len(fitting) > 1 and settings.volume_size is None:
        # A group with room for all of the default goes before one with room for a part of it.
        whole = settings.model_copy(update={"volume_size": BESIDE_OTHERS})
        fitting = [name for name in fitting if not lack_of_room(PlannedGroup(whole, storage, name))] or fitting
    if len(fitting) != 1:
        listed = ", ".join(f"{g.name} ({human(g.free)} free)" for g in storage.volume_groups if g.name in groups)
        raise Refused(
            Finding(
                f"{len(fitting) or 'no'} volume groups with room for the volume: {listed}",
                "one volume group with room",
                "set volume_group to the one that Docker shall have"
                if fitting
                else choices(settings, storage, max(lack.largest for lack in lacks.values() if lack)),
            )
        )
    return fitting[0]


def _no_group(settings: Settings, storage: Storage, left_out: dict[str, str]) -> Finding:
    others = ", ".join(f"{name} ({reason})" for name, reason in left_out.items())
    nameable = [group.name for group in storage.volume_groups if not unfit(group)]
    named = f"; or set volume_group to {' or '.join(nameable)} if no other host uses it" if nameable else ""
    return Finding(
        f"no volume group{'' if storage.lvm_installed else ' (LVM is not installed)'}"
        f"{f' that is chosen by itself: {others}' if others else ''}; {root_of(storage)}",
        "a volume group with room for Docker's volume, or a blank disk to make one of",
        f"{another_disk(settings, storage)}{offer(settings, storage)}: a filesystem that takes the whole disk is "
        f"never shrunk{named}",
    )


def unfit(group: VolumeGroup) -> str:
    """Return what a group is in which no volume is made, whatever the settings say; empty for an ordinary one."""
    lock = (f"locked by lvmlockd ({group.lock_type})",) if group.lock_type else ()
    return ", ".join([*group.kinds, *(("read-only",) if group.read_only else ()), *lock])


def _not_for_auto(storage: Storage) -> dict[str, str]:
    """Return the groups that are used only by their name, and why: other hosts may use them too."""
    reasons = {group.name: unfit(group) for group in storage.volume_groups}
    root = root_group(storage)  # a host that boots from a SAN has that group for itself
    for volume in storage.physical_volumes:
        device = storage.device(volume.path)
        below = storage.ancestors(device) if device else ()
        kinds = sorted({other.transport for other in below} & {*_NETWORK})
        if kinds and volume.volume_group not in ("", root):
            reasons[volume.volume_group] = reasons.get(volume.volume_group) or f"on a SAN: {', '.join(kinds)}"
    return {name: reason for name, reason in reasons.items() if reason}
