"""What LVM says of volume groups and snapshots."""

from __future__ import annotations

import os
from typing import NamedTuple

from bulkhead.command import output_of

PATIENCE = 10  # seconds; a suspended device holds up every command of LVM's

_COMMAND = (
    "lvs --noheadings --nosuffix --units b --separator | -o vg_name,vg_size,vg_free,lv_name,origin,snap_percent".split()
)

# -a: a snapshot that is being merged is hidden otherwise.
_VOLUMES = (
    'lvs -a --noheadings --nosuffix --units b --separator | --config report/time_format="%s" '
    "-o lv_name,lv_attr,lv_size,origin,snap_percent,lv_tags,lv_time"
).split()


class GroupUsage(NamedTuple):
    name: str
    size: int  # bytes
    free: int


class SnapshotUsage(NamedTuple):
    """A snapshot that has space of its own, and is lost when that is full."""

    group: str
    name: str
    origin: str
    percent: float  # in use; 100 also when it is lost


class VolumeRecord(NamedTuple):
    name: str
    attributes: str  # lvs(8)
    size: int  # bytes
    origin: str  # of a snapshot
    percent: float | None  # of a snapshot's space in use, and of an origin what is still to be merged
    tags: tuple[str, ...]
    made: int  # seconds since the epoch

    @property
    def is_merging(self) -> bool:
        """Whether it goes back to its snapshot, or is the snapshot, now or when it is activated next."""
        return self.attributes[0] in "OS"

    @property
    def is_open(self) -> bool:
        return self.attributes[5] == "o"


def usage() -> tuple[list[GroupUsage], list[SnapshotUsage]]:
    """Every volume group that holds a volume, and every snapshot; none where there is no LVM, or to others than root.

    Raises:
        OSError: LVM does not answer in time, or says that it cannot.
    """
    if os.geteuid() != 0:
        return [], []
    try:
        return parsed(output_of(_COMMAND, PATIENCE))
    except FileNotFoundError:
        return [], []


def parsed(output: str) -> tuple[list[GroupUsage], list[SnapshotUsage]]:
    groups, snapshots = {}, []
    for line in output.splitlines():
        group, size, free, volume, origin, percent = line.strip().split("|")
        groups[group] = GroupUsage(group, int(size), int(free))
        if percent and origin:  # without an origin: it goes back to its snapshot
            snapshots.append(SnapshotUsage(group, volume, origin, float(percent)))
    return list(groups.values()), snapshots


def volumes(group: str) -> list[VolumeRecord]:
    """The volumes of a group.

    Raises:
        OSError: LVM does not answer in time, or says that it cannot.
    """
    found = []
    for line in output_of([*_VOLUMES, group], PATIENCE).splitlines():
        name, attributes, size, origin, percent, tags, made = line.strip().split("|")
        used = float(percent) if percent else None
        names = tuple(tags.split(",")) if tags else ()
        found.append(VolumeRecord(name.strip("[]"), attributes, int(size), origin, used, names, int(made or 0)))
    return found
