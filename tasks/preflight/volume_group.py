"""Judge the volume group of Docker's logical volume, and plan the volume in it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bulkhead.sizes import human
from pyinfra_lvm.model import Storage, lists_volume
from settings.model import Settings
from tasks.preflight.disks import another_disk, disk_warnings, judge_disks, new_disks
from tasks.preflight.finding import Finding, Refused
from tasks.preflight.group_choice import choose_group, unfit
from tasks.preflight.logical_volume import docker_volume, judge_volume
from tasks.preflight.planned_group import PlannedGroup
from tasks.preflight.raid import judge_mirror, judge_stripes, raid_warnings
from tasks.preflight.volume_room import plan_docker_size, refuse_size, root_group
from tasks.preflight.volume_size import DoesNotFit
from tasks.support.paths import TAG, VOLUME_FILE_DEVICE


@dataclass(frozen=True)
class VolumePlan:
    """Where Docker's volume is or will be, how large, and why the one that is there cannot be used."""

    group: str
    new_disks: tuple[str, ...]  # named disks that are not in the group yet
    size: int  # bytes
    largest: int  # the largest size in bytes that would fit
    reserve: int  # bytes of the group that stay free; 0 where a size in bytes may use it up
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...]
    mirrored: bool = False  # it has two copies, each on a disk of its own
    mirror_disks: tuple[str, ...] = ()  # that the copies are on, where the group has more than two
    stripes: int = 1  # disks that it is striped over


def plan_volume(settings: Settings, storage: Storage) -> VolumePlan:
    """Plan where the logical volume is or will be, and how large.

    Raises:
        Refused: no group, or no size in it, can be planned. It has every other finding on disks, group and volume too.
    """
    name = choose_group(settings, storage)
    group = PlannedGroup(settings, storage, name, new_disks(settings, storage, name))
    volume = docker_volume(settings)
    findings = [*_judge(group)]
    if group.group and (group.group.missing_physical_volumes or len(group.all_of_its_name) > 1):
        # What was read of a volume in it says nothing: its filesystem may be on the disk that is missing, and it may be the
        # other group's.
        raise Refused(*findings)
    if findings:
        # How much room such a group has is unknown, and so is whether the volume has to grow.
        raise Refused(*findings, *judge_volume(volume, storage, name))
    try:
        planned = plan_docker_size(group)
    except DoesNotFit as error:
        raise Refused(refuse_size(group, error), *judge_volume(volume, storage, name)) from None
    in_bytes = settings.volume_size and settings.volume_size.bytes
    reserve = settings.volume_reserve.bytes_of(group.room.size)
    return VolumePlan(
        name,
        group.new_disks,
        planned.bytes,
        planned.largest,
        reserve=0 if in_bytes else 2 * reserve if group.is_mirrored else reserve,  # on each disk of a mirror
        warnings=(
            *_extension_warnings(group),
            *raid_warnings(group),
            *_activation_warnings(settings, storage),
            *disk_warnings(settings, storage, name),
            *planned.warnings,
        ),
        findings=tuple(judge_volume(volume, storage, name, planned.bytes)),
        mirrored=group.is_mirrored,
        mirror_disks=group.named_for_mirror,
        stripes=group.stripes,
    )


def _judge(group: PlannedGroup) -> Iterator[Finding]:
    """Yield why Docker's volume cannot be in a group with its disks."""
    disks = [*judge_disks(group.settings, group.storage, group.name)]
    yield from disks
    # A disk that the host does not have, or that is not blank, says nothing about the group.
    yield from _judge_group(group, () if disks else group.new_disks)
    if not disks:
        yield from judge_mirror(group)
        yield from judge_stripes(group)
    yield from _judge_activation(group)


def _judge_group(planned: PlannedGroup, new_disks: tuple[str, ...]) -> Iterator[Finding]:
    settings, storage, name, group = planned.settings, planned.storage, planned.name, planned.group
    if group is None:
        if not settings.volume_disks or settings.volume_group_extend:
            existing = ", ".join(g.name for g in storage.volume_groups)
            yield Finding(
                f"there is no volume group {name}; this host has {existing or 'none'}",
                "the volume group that volume_group names",
                f"correct volume_group, or {another_disk(settings, storage)}",
            )
        return
    if len(same_name := planned.all_of_its_name) > 1:
        listed = ", ".join(f"{each.uuid} ({human(each.size)})" for each in same_name)
        yield Finding(
            f"{len(same_name)} volume groups are named {name}: {listed}",
            "one volume group of that name: LVM refuses every command that names it",
            "one of them may be on a disk that was lost and has come back: `vgs -o vg_name,vg_uuid,pv_name,lv_name` shows what "
            "is in each; rename the one that this host does not use (`vgrename UUID NEW_NAME`), and run again",
        )
    if reason := unfit(group):
        yield Finding(
            f"the volume group {name} is {reason}",
            "a group that this host alone uses, and that LVM lets it change",
            f"set volume_group to another one, or {another_disk(settings, storage)}; vgchange(8), `vgimport` and "
            "lvmlockd(8) say how such a group becomes an ordinary one, if no other host uses it",
        )
    if group.missing_physical_volumes:
        yield Finding(
            f"the volume group {name} lacks {group.missing_physical_volumes} of its physical volumes",
            "a complete volume group",
            f"bring the disk back (`pvs` shows what is missing), and if LVM still calls it missing, `vgextend "
            f"--restoremissing {name} DISK`; if the disk is gone for good, so is what was on it: vgreduce(8) says how to take "
            "it out of the group",
        )
    named = {device.path for device in map(storage.device, settings.volume_disks) if device}
    present = map(storage.device, planned.physical_volumes)
    others = [device.path for device in present if device and device.path not in named]
    if new_disks and others and not settings.volume_group_extend:
        yield Finding(
            f"the volume group {name} is on {', '.join(others)} already, and not on {', '.join(new_disks)}",
            "a group of Docker's own for volume_disks",
            'leave volume_group at "auto" or set it to a new name; volume_group_extend = True adds the disks to '
            f"{name}, but a group that lacks a disk is not activated: if it is root's, the host does not boot",
        )


def _judge_activation(planned: PlannedGroup) -> Iterator[Finding]:
    """Yield why LVM would not activate Docker's volumes in a group, now or at the next boot."""
    settings, storage, name, group = planned.settings, planned.storage, planned.name, planned.group
    config = storage.lvm_config
    # The file's unit activates the group, and asks no list for boot.
    by_unit = VOLUME_FILE_DEVICE in settings.volume_disks
    lists = {"volume_list": config.volume_list}
    lists |= {} if by_unit else {"auto_activation_volume_list": config.auto_activation_volume_list}
    for setting, entries in lists.items():
        if entries is None:
            continue
        for volume in (settings.logical_volume, *settings.extra_volumes):
            existing = storage.logical_volume(name, volume)
            tags = [*(group.tags if group else ()), *(existing.tags if existing else ()), TAG]
            if not lists_volume(entries, name, volume, tags):
                listed = ", ".join(f'"{entry}"' for entry in entries)
                yield Finding(
                    f"activation/{setting} in lvm.conf is [{listed}], and leaves out {name}/{volume}",
                    "a volume that LVM activates at every boot: without it Docker stays down",
                    f'add "{name}" to {setting} in /etc/lvm/lvm.conf, `update-initramfs -u`, and run again',
                )
    if group and not group.autoactivated and not by_unit:
        yield Finding(
            f"the volume group {name} is not activated at boot: its autoactivation is off",
            "a group that LVM activates at every boot: without it Docker stays down",
            f"`vgchange --setautoactivation y {name}` on the host, and run again; or name another group",
        )


def _activation_warnings(settings: Settings, storage: Storage) -> Iterator[str]:
    if not storage.lvm_config.event_activation and VOLUME_FILE_DEVICE not in settings.volume_disks:
        yield (
            "global/event_activation is 0 in lvm.conf: something else than LVM's udev rule has to activate Docker's volume group "
            "at boot, or Docker stays down"
        )


def _extension_warnings(group: PlannedGroup) -> Iterator[str]:
    if group.group and group.new_disks and group.settings.volume_group_extend:
        loss = "the host does not boot" if root_group(group.storage) == group.name else "it is not activated"
        yield f"the volume group {group.name} is extended by {', '.join(group.new_disks)}: when one of its disks is lost, {loss}"
