"""Choose the volume group of Docker's logical volume, judge it, and plan the volume in it. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bulkhead.sizes import BESIDE_OTHERS, human, setting_of
from pyinfra_lvm.model import EXTENT, LogicalVolume, Storage, VolumeGroup, lists_volume, usable
from pyinfra_lvm.operations import fstab_entries_of
from settings.model import ExtraVolume, Settings
from tasks.preflight.chosen_disks import with_chosen_disks
from tasks.preflight.disks import another_disk, disk_warnings, is_whole, judge_disks, new_disks
from tasks.preflight.finding import Finding, Refused
from tasks.preflight.logical_volume import docker_volume, judge_volume
from tasks.preflight.volume_file import FilePlan, offer, with_file, without_file
from tasks.preflight.volume_size import DoesNotFit, PlannedSize, plan_size
from tasks.support.paths import MIRROR_SERVICE, TAG, VOLUME_FILE_DEVICE

OWN_GROUP = "docker-vg"

# Bytes that LVM keeps beside each copy of a mirror: two superblocks, and a bit for each of at most 2^21 regions
# (_raid_rmeta_extents and raid_ensure_min_region_size in its raid_manip.c).
_MIRROR_NOTES = 2 * 4096 + 2**21 // 8
_MIRROR_MODULE = "dm-raid"

# The unit activates no copy that is stale.
_BRINGS_BACK = (
    f"`systemctl restart {MIRROR_SERVICE} && systemctl start docker` brings Docker back, or says that the disk that answers is "
    "stale; "
)
# How the disks of a SAN are attached, by lsblk's TRAN: another host may use them too.
_NETWORK = ("iscsi", "fc")


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
    disks = new_disks(settings, storage, name)
    volume = docker_volume(settings)
    wrong_disks = [*judge_disks(settings, storage, name)]
    # A disk that the host does not have, or that is not blank, says nothing about the group.
    findings = [*wrong_disks, *_judge_group(settings, storage, name, () if wrong_disks else disks)]
    if not wrong_disks:
        findings += [*_judge_mirror(settings, storage, name, disks), *_judge_stripes(settings, storage, name, disks)]
    findings += _judge_activation(settings, storage, name)
    group = storage.volume_group(name)
    if group and (group.missing_physical_volumes or len(_named(storage, name)) > 1):
        # What was read of a volume in it says nothing: its filesystem may be on the disk that is missing, and it may be the
        # other group's.
        raise Refused(*findings)
    if findings:
        # How much room such a group has is unknown, and so is whether the volume has to grow.
        raise Refused(*findings, *judge_volume(volume, storage, name))
    try:
        planned = _plan_size(settings, storage, name, disks)
    except DoesNotFit as error:
        raise Refused(_no_room(settings, storage, name, disks, error), *judge_volume(volume, storage, name)) from None
    in_bytes = settings.volume_size and settings.volume_size.bytes
    mirrored = _is_mirrored(settings, storage, name)
    reserve = settings.volume_reserve.bytes_of(_room(settings, storage, name, disks).size)
    return VolumePlan(
        name,
        disks,
        planned.bytes,
        planned.largest,
        reserve=0 if in_bytes else 2 * reserve if mirrored else reserve,  # on each disk of a mirror
        warnings=(
            *_extension_warnings(settings, storage, name, disks),
            *_mirror_warnings(settings, storage, name, disks),
            *_activation_warnings(settings, storage),
            *_health_warnings(settings, storage, name),
            *(_boot_warnings(settings, storage, name) if mirrored else ()),
            *disk_warnings(settings, storage, name),
            *planned.warnings,
        ),
        findings=tuple(judge_volume(volume, storage, name, planned.bytes)),
        mirrored=mirrored,
        mirror_disks=_named_for_mirror(settings, storage, name, disks) if mirrored else (),
        stripes=_stripes(settings, storage, name, disks),
    )


# -- the volume group


def plan_file(settings: Settings, storage: Storage, old_data: int = 0) -> FilePlan:
    """Return settings and facts to plan the volume with: every disk named, and the file as the disk where it is or becomes one.

    Args:
        old_data: bytes of Docker's data that move onto the volume.

    Raises:
        Refused: the mirror that is Docker's volume lacks a disk; a rule in volume_disks chooses no disk; or the settings want
            a file, and the host or the file does not qualify.
    """
    if lost := [*_judge_lost_copy(settings, storage)]:
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
    return has_volume or any(_lack_of_room(settings, storage, group) is None for group in groups)


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
        others = ", ".join(f"{name} ({reason})" for name, reason in left_out.items())
        nameable = [group.name for group in storage.volume_groups if not _unfit(group)]
        named = f"; or set volume_group to {' or '.join(nameable)} if no other host uses it" if nameable else ""
        raise Refused(
            Finding(
                f"no volume group{'' if storage.lvm_installed else ' (LVM is not installed)'}"
                f"{f' that is chosen by itself: {others}' if others else ''}; {_root(storage)}",
                "a volume group with room for Docker's volume, or a blank disk to make one of",
                f"{another_disk(settings, storage)}{offer(settings, storage)}: a filesystem that takes the whole disk is "
                f"never shrunk{named}",
            )
        )
    if len(groups) == 1:
        return groups.pop()
    lacks = {name: _lack_of_room(settings, storage, name) for name in groups}
    fitting = [name for name, lack in lacks.items() if lack is None]
    if len(fitting) > 1 and settings.volume_size is None:
        # A group with room for all of the default goes before one with room for a part of it.
        whole = settings.model_copy(update={"volume_size": BESIDE_OTHERS})
        fitting = [name for name in fitting if not _lack_of_room(whole, storage, name)] or fitting
    if len(fitting) != 1:
        listed = ", ".join(f"{g.name} ({human(g.free)} free)" for g in storage.volume_groups if g.name in groups)
        raise Refused(
            Finding(
                f"{len(fitting) or 'no'} volume groups with room for the volume: {listed}",
                "one volume group with room",
                "set volume_group to the one that Docker shall have"
                if fitting
                else _choices(settings, storage, max(lack.largest for lack in lacks.values() if lack)),
            )
        )
    return fitting[0]


def _unfit(group: VolumeGroup) -> str:
    """Return what a group is in which no volume is made, whatever the settings say; empty for an ordinary one."""
    lock = (f"locked by lvmlockd ({group.lock_type})",) if group.lock_type else ()
    return ", ".join([*group.kinds, *(("read-only",) if group.read_only else ()), *lock])


def _not_for_auto(storage: Storage) -> dict[str, str]:
    """Return the groups that are used only by their name, and why: other hosts may use them too."""
    reasons = {group.name: _unfit(group) for group in storage.volume_groups}
    root, _ = _root_volume(storage) or ("", "")  # a host that boots from a SAN has that group for itself
    for volume in storage.physical_volumes:
        device = storage.device(volume.path)
        below = storage.ancestors(device) if device else ()
        kinds = sorted({other.transport for other in below} & {*_NETWORK})
        if kinds and volume.volume_group not in ("", root):
            reasons[volume.volume_group] = reasons.get(volume.volume_group) or f"on a SAN: {', '.join(kinds)}"
    return {name: reason for name, reason in reasons.items() if reason}


def _named(storage: Storage, name: str) -> list[VolumeGroup]:
    """Return the groups of a name: more than one where a disk that was lost has come back."""
    return [group for group in storage.volume_groups if group.name == name]


def _lack_of_room(settings: Settings, storage: Storage, group: str) -> DoesNotFit | None:
    """Return why a group has no room for the volume; None for one that has it."""
    try:
        _plan_size(settings, storage, group, ())
    except DoesNotFit as error:
        return error
    return None


def _judge_group(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> Iterator[Finding]:
    group = storage.volume_group(name)
    if group is None:
        if not settings.volume_disks or settings.volume_group_extend:
            existing = ", ".join(g.name for g in storage.volume_groups)
            yield Finding(
                f"there is no volume group {name}; this host has {existing or 'none'}",
                "the volume group that volume_group names",
                f"correct volume_group, or {another_disk(settings, storage)}",
            )
        return
    if len(same_name := _named(storage, name)) > 1:
        listed = ", ".join(f"{each.uuid} ({human(each.size)})" for each in same_name)
        yield Finding(
            f"{len(same_name)} volume groups are named {name}: {listed}",
            "one volume group of that name: LVM refuses every command that names it",
            "one of them may be on a disk that was lost and has come back: `vgs -o vg_name,vg_uuid,pv_name,lv_name` shows what "
            "is in each; rename the one that this host does not use (`vgrename UUID NEW_NAME`), and run again",
        )
    if reason := _unfit(group):
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
    present = [storage.device(volume.path) for volume in storage.physical_volumes_of(name)]
    others = [device.path for device in present if device and device.path not in named]
    if new_disks and others and not settings.volume_group_extend:
        yield Finding(
            f"the volume group {name} is on {', '.join(others)} already, and not on {', '.join(new_disks)}",
            "a group of Docker's own for volume_disks",
            'leave volume_group at "auto" or set it to a new name; volume_group_extend = True adds the disks to '
            f"{name}, but a group that lacks a disk is not activated: if it is root's, the host does not boot",
        )


def _judge_activation(settings: Settings, storage: Storage, name: str) -> Iterator[Finding]:
    """Yield why LVM would not activate Docker's volumes in a group, now or at the next boot."""
    config, group = storage.lvm_config, storage.volume_group(name)
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


def _extension_warnings(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> Iterator[str]:
    if storage.volume_group(name) and new_disks and settings.volume_group_extend:
        root = _root_volume(storage)
        loss = "the host does not boot" if root and root[0] == name else "it is not activated"
        yield f"the volume group {name} is extended by {', '.join(new_disks)}: when one of its disks is lost, {loss}"


def _mirror_warnings(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> Iterator[str]:
    count = len(new_disks) + len(storage.physical_volumes_of(name))
    alone = settings.volume_group_extend or settings.volume_ephemeral  # one that is emptied has lost its data anyway
    if new_disks and count > 1 and not alone and not _is_mirrored(settings, storage, name):
        yield (
            f"the volume group {name} is on {count} disks without a mirror: if one of them is lost, all of Docker's data is "
            'lost. volume_raid = "raid1" makes one (docs/mirror.md)'
        )


# -- a mirror in it


def _is_mirrored(settings: Settings, storage: Storage, name: str) -> bool:
    """Return whether Docker's volume in a group is a mirror, or becomes one."""
    existing = storage.logical_volume(name, settings.logical_volume)
    return existing.is_mirror if existing else settings.volume_raid == "raid1"


def _judge_mirror(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> Iterator[Finding]:
    """Yield why Docker's volume in a group cannot be the mirror that the settings want."""
    existing = storage.logical_volume(name, settings.logical_volume)
    if settings.volume_raid != "raid1" or (existing and existing.is_mirror):
        return
    if _MIRROR_MODULE not in storage.tools:
        yield Finding(
            f"the kernel has no module {_MIRROR_MODULE}, and volume_raid is {settings.volume_raid}",
            "the module that LVM makes a mirror with",
            'install a kernel package that has it (`modinfo dm-raid` shows it), or set volume_raid to ""',
        )
    disks = [*(volume.path for volume in storage.physical_volumes_of(name)), *new_disks]
    if len(disks) < 2:
        yield Finding(
            f"the volume group {name} is on {', '.join(disks) or 'no disk'}, and volume_raid is {settings.volume_raid}",
            "two disks, each with room for a copy",
            f'{another_disk(settings, storage)}; or set volume_raid to ""',
        )
    elif not _mirror_places(settings, storage, name, new_disks):
        yield Finding(
            f"{', '.join(disks)} are on one disk, and volume_raid is {settings.volume_raid}",
            "two disks: both copies of a mirror on one are lost with it",
            f'{another_disk(settings, storage)}; or set volume_raid to ""',
        )
    elif existing and TAG in existing.tags:
        path = f"{name}/{existing.name}"
        needed = existing.size + _notes(capacity(storage, name, ()).extent_size)
        if new_disks:
            extend = f"`vgextend {name} {' '.join(new_disks)}` and "
        elif _has_room_for_copy(storage, name, existing.size, needed):
            extend = ""
        else:
            extend = (
                f"`vgextend {name} BLANK_DISK` with a blank disk of at least {human(needed)}, because no second disk of the "
                "group has room, and "
            )
        yield Finding(
            f"the logical volume {path} has one copy ({existing.segment_type}), and volume_raid is {settings.volume_raid}",
            "a mirror: a run makes a new volume one, and leaves it to the owner to add a copy to a volume with data",
            f"{extend}`lvconvert --type raid1 --mirrors 1 {path}` on the host while Docker runs, and run again "
            '(docs/mirror.md); or set volume_raid to ""',
        )


def _judge_lost_copy(settings: Settings, storage: Storage) -> Iterator[Finding]:
    """Yield that a disk of the mirror is gone. Its volume is not lost, and the other disks of the settings do not matter."""
    for volume in storage.logical_volumes:
        name = volume.volume_group
        group = storage.volume_group(name)
        if volume.name != settings.logical_volume or TAG not in volume.tags or not volume.is_mirror:
            continue
        if group and group.missing_physical_volumes:
            path = f"{name}/{volume.name}"
            yield Finding(
                f"the volume group {name} lacks {group.missing_physical_volumes} of its disks, and the mirror {path} has "
                f"{'one copy left, which Docker uses' if volume.active else 'one copy left, and is not active'}",
                "a complete group: until then LVM changes nothing in it",
                f"{'' if volume.active else _BRINGS_BACK}if the disk was only detached, attach it, and `lvchange --refresh "
                f"{path}`; if it is gone for good, replace it while Docker runs by a blank disk that is at least as large: "
                f"`bulkhead snapshot drop` if there is a snapshot, `vgextend {name} BLANK_DISK`, `lvconvert --repair {path}`, "
                f"`vgreduce --removemissing {name}`, and name the new disk in volume_disks in place of the old one "
                "(docs/mirror.md)",
            )


# -- or stripes


def _stripes(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> int:
    """Return over how many disks Docker's volume in a group is striped, or becomes it: over all; 1 where it is not."""
    existing = storage.logical_volume(name, settings.logical_volume)
    is_striped = existing.segment_type == "striped" if existing else settings.volume_raid == "raid0"
    return len(storage.physical_volumes_of(name)) + (0 if existing else len(new_disks)) if is_striped else 1


def _judge_stripes(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> Iterator[Finding]:
    """Yield why Docker's volume in a group cannot be striped over the disks of the settings."""
    existing = storage.logical_volume(name, settings.logical_volume)
    if not existing or TAG not in existing.tags:
        return
    path = f"{name}/{existing.name}"
    if settings.volume_raid == "raid0" and existing.segment_type != "striped":
        yield Finding(
            f"the logical volume {path} is of the type {existing.segment_type}, and volume_raid is raid0",
            "a striped volume: only a new one becomes that",
            'set volume_raid to ""',
        )
    elif existing.segment_type == "striped" and new_disks:
        yield Finding(
            f"the logical volume {path} is striped over {len(storage.physical_volumes_of(name))} disks, and volume_disks "
            f"also names {', '.join(new_disks)}",
            "the disks that it was made on: a striped volume does not grow onto others",
            "take them out of volume_disks",
        )


def _is_degraded(volume: LogicalVolume | None) -> bool:
    return volume is not None and volume.is_mirror and volume.health not in ("", "mismatches exist")


def _health_warnings(settings: Settings, storage: Storage, name: str) -> Iterator[str]:
    existing = storage.logical_volume(name, settings.logical_volume)
    if existing and existing.is_mirror and existing.health:
        kept = "; it keeps its size until it is whole" if _is_degraded(existing) else ""
        yield f"the mirror {name}/{existing.name} is not whole ({existing.health}): docs/mirror.md repairs it{kept}"


def _boot_warnings(settings: Settings, storage: Storage, name: str) -> Iterator[str]:
    """Yield that other volumes of the mirror's group keep the host from booting when a disk is lost."""
    others = [v for v in storage.logical_volumes if v.volume_group == name and v.name != settings.logical_volume]
    needed = [
        entry.target
        for volume in others
        for entry in fstab_entries_of(storage, volume.mapper_path)
        if not {"nofail", "noauto"} & {*entry.options}
    ]
    if needed:
        yield (
            f"the volume group {name} of the mirror also has {', '.join(needed)}: when one of its disks is lost, LVM does not "
            "activate them, and the host does not boot. For what it can boot without, add nofail in /etc/fstab"
        )


# -- room in it


@dataclass(frozen=True)
class Capacity:
    """The room in a volume group, in bytes."""

    size: int
    free: int
    extent_size: int


def capacity(storage: Storage, name: str, new_disks: Sequence[str]) -> Capacity:
    """Return the room in a group once it has its new disks."""
    group = storage.volume_group(name)
    extent = group.extent_size if group else EXTENT
    devices = filter(None, map(storage.device, new_disks))
    added = sum(usable(device.size, extent) for device in devices)
    return Capacity((group.size if group else 0) + added, (group.free if group else 0) + added, extent)


def _room(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> Capacity:
    """Return the room for Docker's volume in a group once it has its new disks: for one copy of a mirror, or all stripes."""
    room = capacity(storage, name, new_disks)
    stripes, mirrored = _stripes(settings, storage, name, new_disks), _is_mirrored(settings, storage, name)
    if stripes == 1 and not mirrored:
        return room
    extent = room.extent_size
    if stripes > 1:  # each of them has as many extents of it: the smallest decides
        every = _places(storage, name, new_disks)
        size, free = min(place.size for place in every), min(place.free for place in every)
        return Capacity(stripes * size, stripes * free, stripes * extent)
    places = _mirror_places(settings, storage, name, new_disks)
    size = min((place.size for place in places), default=0)
    free = min((place.free for place in places), default=0)
    notes = _notes(extent)
    has_notes = storage.logical_volume(name, settings.logical_volume) is not None
    return Capacity(max(size - notes, 0), max(free - (0 if has_notes else notes), 0), extent)


def _notes(extent: int) -> int:
    """Return the bytes that LVM keeps beside each copy of a mirror, in whole extents."""
    return -(-_MIRROR_NOTES // extent) * extent


def _has_room_for_copy(storage: Storage, name: str, size: int, needed: int) -> bool:
    """Return whether a disk of a group has room for a second copy, beside another one that the first may be on.

    Args:
        size: bytes of the first copy.
        needed: bytes for the second.
    """
    pairs = itertools.permutations(storage.physical_volumes_of(name), 2)
    return any(
        first.size - first.free >= size
        and second.free >= needed
        and not _whole_disks(storage, first.path) & _whole_disks(storage, second.path)
        for first, second in pairs
    )


@dataclass(frozen=True)
class _Place:
    """A physical volume of a group, or a disk that becomes one."""

    path: str
    size: int  # bytes
    free: int  # bytes


def _places(storage: Storage, name: str, new_disks: Sequence[str]) -> list[_Place]:
    """Return the physical volumes of a group once it has its new disks."""
    extent = capacity(storage, name, ()).extent_size
    sizes = {path: usable(device.size, extent) for path in new_disks if (device := storage.device(path))}
    return [
        *(_Place(each.path, each.size, each.free) for each in storage.physical_volumes_of(name)),
        *(_Place(path, size, size) for path, size in sizes.items()),
    ]


def _mirror_places(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> tuple[_Place, ...]:
    """Return where the two copies of a mirror are and grow, or the two places on different disks with the most room.

    There are none where all of the group is on one disk. A mirror that exists stays where it is.
    """
    existing = storage.logical_volume(name, settings.logical_volume)
    mirror = existing if existing and existing.is_mirror else None
    copies = storage.copies_of(mirror) if mirror else ()
    if len(copies) == 2:
        largest = (max(copy, key=lambda volume: volume.free) for copy in copies)
        return tuple(_Place(volume.path, volume.size, volume.free) for volume in largest)
    pairs = (
        (one, other)
        for one, other in itertools.combinations(_places(storage, name, new_disks), 2)
        if mirror or not _whole_disks(storage, one.path) & _whole_disks(storage, other.path)
    )
    return max(pairs, key=lambda pair: (min(p.free for p in pair), min(p.size for p in pair)), default=())


def _whole_disks(storage: Storage, path: str) -> set[str]:
    """Return the disks that a device is on."""
    device = storage.device(path)
    below = storage.ancestors(device) if device else ()
    return {each.path for each in below if is_whole(each)} or {each.path for each in below} or {path}


def _named_for_mirror(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> tuple[str, ...]:
    """Return the disks that LVM must be told: with a third one, it may put both copies on one disk (before 2.03.22)."""
    if len(storage.physical_volumes_of(name)) + len(new_disks) <= 2:
        return ()
    return tuple(place.path for place in _mirror_places(settings, storage, name, new_disks))


def _plan_size(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str]) -> PlannedSize:
    """Plan the size of Docker's volume in a group that gets new disks.

    Raises:
        DoesNotFit: the group has no room for it.
    """
    room = _room(settings, storage, name, new_disks)
    existing = storage.logical_volume(name, settings.logical_volume)
    if existing and _is_degraded(existing):
        return PlannedSize(existing.size, largest=existing.size)
    own_group = is_own_group(settings, storage, name)
    claimed = _claimed(settings.extra_volumes, storage, name, room)
    present = existing.size if existing else 0
    # Where Docker's volume takes what is there, it still leaves the extra volumes their space.
    takes_the_rest = own_group or (
        settings.volume_size is None and _claims_do_not_fit(settings, room, present, claimed)
    )
    return plan_size(
        settings.volume_size,
        group_size=room.size,
        group_free=room.free - (claimed if takes_the_rest else 0),
        extent_size=room.extent_size,
        reserve=settings.volume_reserve,
        own_group=own_group,
        existing=present,
        promised=promised(settings, storage, name, room, settings.extra_volumes) - (claimed if takes_the_rest else 0),
    )


def is_own_group(settings: Settings, storage: Storage, name: str) -> bool:
    """Return whether a group is Docker's own: made of volume_disks, with no volume of others.

    A snapshot does not stay, and does not make a group a shared one.
    """
    ours = {settings.logical_volume, *settings.extra_volumes}
    volumes = [volume for volume in storage.logical_volumes if volume.volume_group == name]
    return bool(settings.volume_disks) and all({volume.name, volume.origin} & ours for volume in volumes)


def _claims_do_not_fit(settings: Settings, room: Capacity, existing: int, claimed: int) -> bool:
    """Return whether the extra volumes do not fit beside all of the default."""
    reserve = _reserve_of(settings.extra_volumes, settings, room)
    whole = BESIDE_OTHERS.bytes_of(room.size) // room.extent_size * room.extent_size
    return whole + claimed + reserve > room.free + existing


def promised(settings: Settings, storage: Storage, group: str, room: Capacity, extra: Mapping[str, ExtraVolume]) -> int:
    """Return how many bytes of the free space others cannot have, because extra volumes get them or leave them free.

    Args:
        room: in the group.
        extra: the volumes, by their names.
    """
    return _claimed(extra, storage, group, room) + _reserve_of(extra, settings, room)


def _reserve_of(extra: Mapping[str, ExtraVolume], settings: Settings, room: Capacity) -> int:
    """Return how many bytes extra volumes leave free. Sizes in bytes may use up the reserve."""
    return settings.volume_reserve.bytes_of(room.size) if any(one.size.percent for one in extra.values()) else 0


def _claimed(extra: Mapping[str, ExtraVolume], storage: Storage, group: str, room: Capacity) -> int:
    """Return how many bytes of the free space extra volumes have yet to get."""
    present = {v.name: v.size for v in storage.logical_volumes if v.volume_group == group}
    return sum(max(volume.size.bytes_of(room.size) - present.get(name, 0), 0) for name, volume in extra.items())


def _no_room(settings: Settings, storage: Storage, name: str, new_disks: Sequence[str], error: DoesNotFit) -> Finding:
    disks = "" if storage.volume_group(name) else f", made of {', '.join(new_disks)},"
    root = _root_volume(storage)
    taken = f"; {_root(storage)}" if root and root[0] == name else ""
    size = settings.volume_size or "auto"
    room = _room(settings, storage, name, new_disks)
    claimed = _claimed(settings.extra_volumes, storage, name, room)
    mirror = ", which is a mirror, on each of two disks" if _is_mirrored(settings, storage, name) else ""
    beside = f", beside the {human(claimed)} of extra_volumes" if claimed and error.available < room.free else ""
    within = f", of which extra_volumes get {human(claimed)}" if claimed and not beside else ""
    return Finding(
        f"volume group {name}{disks} has {human(max(error.available, 0))} for Docker's volume{mirror}{beside}{within}{taken}",
        f"{human(error.needed)}, for volume_size {size} and volume_reserve {settings.volume_reserve}",
        _choices(settings, storage, error.largest),
    )


def _choices(settings: Settings, storage: Storage, largest: int) -> str:
    """Return the advice where a group has no room.

    Args:
        largest: the largest size in bytes that fits; 0 where none does.
    """
    smaller = f'set a smaller volume_size (at most "{setting_of(largest)}" fits), or ' if largest else ""
    others = f"{another_disk(settings, storage)}{offer(settings, storage)}"
    return f"{smaller}{others}; a filesystem that takes the whole disk is never shrunk"


def _root_volume(storage: Storage) -> tuple[str, str] | None:
    """Return group and name of the logical volume that root is on."""
    mount = storage.mount("/")
    device = storage.device(mount.device) if mount else None
    names = {volume.mapper_path: (volume.volume_group, volume.name) for volume in storage.logical_volumes}
    return next((names[alias] for alias in device.aliases if alias in names), None) if device else None


def _root(storage: Storage) -> str:
    mount = storage.mount("/")
    if mount is None:
        return "no root filesystem is known"
    # lsblk knows no sizes of ZFS.
    return (
        f"root has {human(mount.size)} on {mount.source}"
        if mount.size
        else f"root is on {mount.source}, {mount.fstype}"
    )
