"""Read what LVM reports about volume groups, logical volumes and snapshots."""

from __future__ import annotations

import os

from bulkhead.command import output_of
from pyinfra_lvm.named_tuple import NamedTuple

PATIENCE = 10  # seconds; every command of LVM waits for a suspended device

# lv_layout has the segment type. The column segtype would print a volume of two segments twice.
_GROUPS_COLUMNS = "vg_name,vg_size,vg_free,lv_name,origin,snap_percent,lv_attr,sync_percent,lv_layout"
_GROUPS_COMMAND = f"lvs --noheadings --nosuffix --units b --separator | -o {_GROUPS_COLUMNS}".split()

# -a: otherwise lvs hides a snapshot that is being merged.
_VOLUMES_COLUMNS = "lv_name,lv_attr,lv_size,origin,snap_percent,lv_tags,lv_time"
_VOLUMES_COMMAND = (
    f'lvs -a --noheadings --nosuffix --units b --separator | --config report/time_format="%s" -o {_VOLUMES_COLUMNS}'
).split()


_DISKS_COLUMNS = "pv_name,vg_name,pv_size,dev_size,pe_start,vg_extent_size"
_FREE_COLUMNS = "vg_name,pv_name,pv_free,lv_name"
_FREE_COMMAND = f"pvs --noheadings --nosuffix --units b --segments --separator | -o {_FREE_COLUMNS}".split()

# What a RAID has on each physical volume. The attributes are those of the logical volume, a hidden part of a RAID too.
_COPIES_COLUMNS = "vg_name,lv_name,pv_uuid,lv_attr"
_COPIES_COMMAND = f"pvs --noheadings --segments --separator | -o {_COPIES_COLUMNS}".split()

_DISKS_COMMAND = f"pvs --noheadings --nosuffix --units b --separator | -o {_DISKS_COLUMNS}".split()


class GroupUsage(NamedTuple):
    """A volume group and its space in bytes."""

    name: str
    size: int
    free: int
    raid: bool = False  # a volume in it is a RAID of whatever level: what is free is not all for one volume


class DiskRoom(NamedTuple):
    """A disk that is larger than the physical volume on it: it has grown."""

    disk: str
    group: str
    room: int  # bytes that the group does not use


class SnapshotUsage(NamedTuple):
    """A snapshot that has space of its own, and is lost when that space is full."""

    group: str
    name: str
    origin: str
    percent: float  # of its space in use; 100 also when the snapshot is lost


class MirrorHealth:
    """A logical volume of the type raid1: it has a copy on each of its disks (lvmraid(7)). No NamedTuple: see `VolumeRecord`.

    A volume of LVM's older type mirror is none: when it loses a disk, LVM itself makes it linear (lvm.conf,
    mirror_image_fault_policy).
    """

    def __init__(self, group: str, name: str, problem: str, synced: float, *, is_active: bool = True) -> None:
        self.group = group
        self.name = name
        self.problem = problem  # one of MIRROR_PROBLEMS; empty: each copy is in use
        self.synced = synced  # percent of the copies that are the same
        self.is_active = is_active

    @property
    def is_degraded(self) -> bool:
        """Whether a copy is not written to, so that the loss of another disk may lose data."""
        return self.problem in ("partial", "refresh")


# The ninth of lvs' attributes (lvs(8)) → what is wrong with a mirror.
MIRROR_PROBLEMS = {"p": "partial", "r": "refresh", "m": "mismatches"}


class VolumeRecord:
    """A logical volume, from the columns of its row. No NamedTuple: that would cost a check half a percent more."""

    def __init__(self, name: str, attributes: str, size: str, origin: str, percent: str, tags: str, made: str) -> None:
        self.name = name.strip("[]")
        self.attributes = attributes  # lvs(8)
        self.size = int(size)  # bytes
        self.origin = origin  # of a snapshot; otherwise empty
        # Of a snapshot's space in use; of an origin's snapshot what is still to be merged.
        self.percent = float(percent) if percent else None
        self.tags = tuple(tags.split(",")) if tags else ()
        self.made = int(made or 0)  # seconds since the epoch

    @property
    def is_merging(self) -> bool:
        """Whether it is a snapshot that is merged into its origin, or that origin; now, or when it is activated next."""
        return self.attributes[0] in "OS"

    @property
    def is_raid(self) -> bool:
        """Whether it is a RAID of whatever level, or a part of one: each of its disks needs room for it to grow."""
        return self.attributes[6] in "mr"  # m: LVM's older type mirror

    @property
    def is_open(self) -> bool:
        """Whether somebody has the device open: a mount above all."""
        return self.attributes[5] == "o"


def list_groups() -> tuple[list[GroupUsage], list[SnapshotUsage], list[MirrorHealth]]:
    """Return every volume group that holds a logical volume, and every snapshot and every mirror in them.

    Without LVM, and to users other than root, there are none.

    Raises:
        OSError: LVM does not answer in time, or reports only errors.
    """
    if os.geteuid() != 0:
        return [], [], []
    try:
        return parse_groups(output_of(_GROUPS_COMMAND, PATIENCE))
    except FileNotFoundError:
        return [], [], []


def parse_groups(output: str) -> tuple[list[GroupUsage], list[SnapshotUsage], list[MirrorHealth]]:
    """Read what `lvs` prints for `list_groups`.

    Raises:
        OSError: nothing of it is a row of the report.
    """
    groups: dict[str, GroupUsage] = {}
    snapshots, mirrors = [], []
    for group, size, free, volume, origin, percent, attributes, synced, layout in _rows(output, _GROUPS_COLUMNS):
        is_raid = layout.startswith(("raid", "mirror"))
        groups[group] = GroupUsage(group, int(size), int(free), is_raid or (group in groups and groups[group].raid))
        if percent and origin:  # a percentage without an origin: the volume is being merged with its snapshot
            snapshots.append(SnapshotUsage(group, volume, origin, float(percent)))
        if "raid1" in layout.split(","):
            problem = MIRROR_PROBLEMS.get(attributes[8], "")
            mirrors.append(MirrorHealth(group, volume, problem, float(synced or 0), is_active=attributes[4] == "a"))
    return list(groups.values()), snapshots, mirrors


def list_disk_room() -> list[DiskRoom]:
    """Return each disk that has grown beyond its physical volume.

    Without LVM, and to users other than root, there are none.

    Raises:
        OSError: LVM does not answer in time, or reports only errors.
    """
    if os.geteuid() != 0:
        return []
    try:
        rows = _rows(output_of(_DISKS_COMMAND, PATIENCE), _DISKS_COLUMNS)
    except FileNotFoundError:
        return []
    found = []
    for disk, group, used, size, start, extent in rows:
        room = int(size) - int(start) - int(used)
        # What is left of a disk that has not grown is less than an extent, and less than LVM's metadata at its end.
        if group and room >= 2 * int(extent):
            found.append(DiskRoom(disk, group, room))
    return found


def copies_of(group: str, volume: str) -> list[tuple[str, bool]]:
    """Return the copies of a mirror that is active: the UUIDs of its physical volumes, and whether it is whole and in use.

    Raises:
        OSError: LVM does not answer in time, or reports only errors.
    """
    disks: dict[str, set[str]] = {}
    whole: dict[str, bool] = {}
    for owner, name, uuid, attributes in _rows(output_of(_COPIES_COMMAND, PATIENCE), _COPIES_COLUMNS):
        name = name.strip("[]")
        if owner == group and name.startswith(f"{volume}_rimage_"):
            disks.setdefault(name, set()).add(uuid)
            # lvs(8): an image that is in sync, and neither partial nor in need of a refresh.
            whole[name] = attributes[0] == "i" and attributes[8] not in "pr"
    return [(" ".join(sorted(disks[name])), whole[name]) for name in sorted(disks)]


def room_for_raid(group: str, volume: str) -> tuple[list[str], int]:
    """Return the disk on which each copy of a RAID grows, and by how many bytes it can: what the fullest of them has free.

    That is exact for a mirror. For another level it is a careful guess. The disks must be named to LVM: before 2.03.22, it may
    grow two copies on one disk where the group has a third. A volume of LVM's older type mirror grows where LVM chooses, by
    no more than what the second of the group's disks has free.

    Raises:
        OSError: LVM does not answer in time, or reports only errors.
    """
    every: dict[str, int] = {}  # disk → bytes that are free on it
    copies: dict[str, set[str]] = {}  # copy → its disks
    for owner, disk, free, name in _rows(output_of(_FREE_COMMAND, PATIENCE), _FREE_COLUMNS):
        name = name.strip("[]")
        if owner == group:
            every[disk] = int(free)
            if name.startswith(f"{volume}_rimage_"):
                copies.setdefault(name, set()).add(disk)
    if not copies:
        return [], sorted([0, 0, *every.values()])[-2]
    disks = [max(copy, key=lambda disk: every[disk]) for copy in copies.values()]
    return disks, min(every[disk] for disk in disks)


def largest_free(group: str) -> tuple[str, int]:
    """Return the disk of a group that has the most free, and its free bytes.

    Raises:
        OSError: LVM does not answer in time, or reports only errors; or the group has no disk.
    """
    rows = _rows(output_of(_FREE_COMMAND, PATIENCE), _FREE_COLUMNS)
    free = {disk: int(size) for owner, disk, size, _ in rows if owner == group}
    if not free:
        raise OSError(f"LVM shows no disk of {group}")
    return max(free.items(), key=lambda each: each[1])


def list_volumes(group: str) -> list[VolumeRecord]:
    """Return the logical volumes of a volume group.

    Raises:
        OSError: LVM does not answer in time, or reports only errors.
    """
    rows = _rows(output_of([*_VOLUMES_COMMAND, group], PATIENCE), _VOLUMES_COLUMNS)
    return [VolumeRecord(*row) for row in rows]


def _rows(output: str, columns: str) -> list[list[str]]:
    """Return the rows of a report. With log/verbose in lvm.conf, messages stand between them."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    rows = [fields for line in lines if len(fields := line.split("|")) == columns.count(",") + 1]
    if lines and not rows:
        raise OSError(f"LVM says: {' '.join(lines)[:300]}")
    return rows
