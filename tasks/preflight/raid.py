"""Judge the mirror or the stripes that Docker's volume is or becomes. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bulkhead.sizes import human
from pyinfra_lvm.model import Storage
from pyinfra_lvm.operations import fstab_entries_of
from settings.model import Settings
from tasks.preflight.disks import another_disk
from tasks.preflight.finding import Finding
from tasks.preflight.planned_group import PlannedGroup
from tasks.support.paths import MIRROR_SERVICE, TAG

_MIRROR_MODULE = "dm-raid"

# The unit activates no copy that is stale.
_BRINGS_BACK = (
    f"`systemctl restart {MIRROR_SERVICE} && systemctl start docker` brings Docker back, or says that the disk that answers is "
    "stale; "
)


def judge_mirror(group: PlannedGroup) -> Iterator[Finding]:
    """Yield why Docker's volume cannot be the mirror that the settings want."""
    settings, storage, volume = group.settings, group.storage, group.volume
    if settings.volume_raid != "raid1" or (volume and volume.is_mirror):
        return
    if _MIRROR_MODULE not in storage.tools:
        yield Finding(
            f"the kernel has no module {_MIRROR_MODULE}, and volume_raid is {settings.volume_raid}",
            "the module that LVM makes a mirror with",
            'install a kernel package that has it (`modinfo dm-raid` shows it), or set volume_raid to ""',
        )
    disks = [*group.physical_volumes, *group.new_disks]
    if len(disks) < 2:
        yield Finding(
            f"the volume group {group.name} is on {', '.join(disks) or 'no disk'}, and volume_raid is {settings.volume_raid}",
            "two disks, each with room for a copy",
            f'{another_disk(settings, storage)}; or set volume_raid to ""',
        )
    elif not group.mirror_disks:
        yield Finding(
            f"{', '.join(disks)} are on one disk, and volume_raid is {settings.volume_raid}",
            "two disks: both copies of a mirror on one are lost with it",
            f'{another_disk(settings, storage)}; or set volume_raid to ""',
        )
    elif volume and TAG in volume.tags:
        path = f"{group.name}/{volume.name}"
        if group.new_disks:
            extend = f"`vgextend {group.name} {' '.join(group.new_disks)}` and "
        elif group.has_room_for_copy(volume.size):
            extend = ""
        else:
            extend = (
                f"`vgextend {group.name} BLANK_DISK` with a blank disk of at least {human(volume.size + group.copy_metadata)}, "
                "because no second disk of the group has room, and "
            )
        yield Finding(
            f"the logical volume {path} has one copy ({volume.segment_type}), and volume_raid is {settings.volume_raid}",
            "a mirror: a run makes a new volume one, and leaves it to the owner to add a copy to a volume with data",
            f"{extend}`lvconvert --type raid1 --mirrors 1 {path}` on the host while Docker runs, and run again "
            '(docs/mirror.md); or set volume_raid to ""',
        )


def judge_lost_copy(settings: Settings, storage: Storage) -> Iterator[Finding]:
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


def judge_stripes(group: PlannedGroup) -> Iterator[Finding]:
    """Yield why Docker's volume cannot be striped over the disks of the settings."""
    volume = group.volume
    if not volume or TAG not in volume.tags:
        return
    path = f"{group.name}/{volume.name}"
    if group.settings.volume_raid == "raid0" and volume.segment_type != "striped":
        yield Finding(
            f"the logical volume {path} is of the type {volume.segment_type}, and volume_raid is raid0",
            "a striped volume: only a new one becomes that",
            'set volume_raid to ""',
        )
    elif volume.segment_type == "striped" and group.new_disks:
        yield Finding(
            f"the logical volume {path} is striped over {len(group.physical_volumes)} disks, and volume_disks "
            f"also names {', '.join(group.new_disks)}",
            "the disks that it was made on: a striped volume does not grow onto others",
            "take them out of volume_disks",
        )


def raid_warnings(group: PlannedGroup) -> Iterator[str]:
    """Yield what the loss of a disk would take away, and what keeps a mirror from being whole."""
    settings, volume = group.settings, group.volume
    count = len(group.new_disks) + len(group.physical_volumes)
    alone = settings.volume_group_extend or settings.volume_ephemeral  # one that is emptied has lost its data anyway
    if group.new_disks and count > 1 and not alone and not group.is_mirrored:
        yield (
            f"the volume group {group.name} is on {count} disks without a mirror: if one of them is lost, all of Docker's data "
            'is lost. volume_raid = "raid1" makes one (docs/mirror.md)'
        )
    if volume and volume.is_mirror and volume.health:
        kept = "; it keeps its size until it is whole" if group.is_degraded else ""
        yield f"the mirror {group.name}/{volume.name} is not whole ({volume.health}): docs/mirror.md repairs it{kept}"
    if group.is_mirrored:
        yield from _boot_warnings(group)


def _boot_warnings(group: PlannedGroup) -> Iterator[str]:
    """Yield that other volumes of the mirror's group keep the host from booting when a disk is lost."""
    settings, storage = group.settings, group.storage
    others = [v for v in storage.logical_volumes if v.volume_group == group.name and v.name != settings.logical_volume]
    needed = [
        entry.target
        for volume in others
        for entry in fstab_entries_of(storage, volume.mapper_path)
        if not {"nofail", "noauto"} & {*entry.options}
    ]
    if needed:
        yield (
            f"the volume group {group.name} of the mirror also has {', '.join(needed)}: when one of its disks is lost, LVM does "
            "not activate them, and the host does not boot. For what it can boot without, add nofail in /etc/fstab"
        )
