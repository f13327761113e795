"""What LVM says of volume groups and snapshots."""

from __future__ import annotations

import os
import select
import signal
from typing import NamedTuple

PATIENCE = 10  # seconds; a suspended device holds up every command of LVM's

_COMMAND = (
    "lvs --noheadings --nosuffix --units b --separator | -o vg_name,vg_size,vg_free,lv_name,origin,snap_percent".split()
)


# -a: a snapshot that is being merged is hidden otherwise.
_VOLUMES = (
    'lvs -a --noheadings --nosuffix --units b --separator | --config report/time_format="%s" '
    "-o lv_name,lv_attr,lv_size,origin,snap_percent,lv_tags,lv_time"
).split()


class Group(NamedTuple):
    name: str
    size: int  # bytes
    free: int


class Snapshot(NamedTuple):
    """A snapshot that has space of its own, and is lost when that is full."""

    group: str
    name: str
    origin: str
    percent: float  # in use; 100 also when it is lost


class Volume(NamedTuple):
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


def look() -> tuple[list[Group], list[Snapshot]]:
    """Every volume group that holds a volume, and every snapshot; none where there is no LVM, or to others than root.

    Raises:
        OSError: LVM does not answer in time, or says that it cannot.
    """
    if os.geteuid() != 0:
        return [], []
    try:
        return parsed(said(_COMMAND, PATIENCE))
    except FileNotFoundError:
        return [], []


def parsed(output: str) -> tuple[list[Group], list[Snapshot]]:
    groups, snapshots = {}, []
    for line in output.splitlines():
        group, size, free, volume, origin, percent = line.strip().split("|")
        groups[group] = Group(group, int(size), int(free))
        if percent and origin:  # without an origin: it goes back to its snapshot
            snapshots.append(Snapshot(group, volume, origin, float(percent)))
    return list(groups.values()), snapshots


def volumes(group: str) -> list[Volume]:
    """The volumes of a group.

    Raises:
        OSError: LVM does not answer in time, or says that it cannot.
    """
    found = []
    for line in said([*_VOLUMES, group], PATIENCE).splitlines():
        name, attributes, size, origin, percent, tags, made = line.strip().split("|")
        used = float(percent) if percent else None
        names = tuple(tags.split(",")) if tags else ()
        found.append(Volume(name.strip("[]"), attributes, int(size), origin, used, names, int(made or 0)))
    return found


def said(command: list[str], seconds: float) -> str:
    """What a command prints, whether or not it succeeds.

    As subprocess would do it, whose import alone costs half as much as Python's start.

    Raises:
        OSError: it is not there, does not end in time, or prints nothing but an error.
    """
    name = command[0]
    # cron looks for programs in /usr/bin and /bin only.
    paths = [f"{directory}/{name}" for directory in (*os.get_exec_path(), "/usr/sbin", "/sbin")]
    path = next((path for path in paths if os.access(path, os.X_OK)), paths[-1])
    with open(os.memfd_create("output"), "w+b") as output, open(os.memfd_create("errors"), "w+b") as errors:
        streams = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, errors.fileno(), 2)]
        process = os.posix_spawn(path, command, {**os.environ, "LC_ALL": "C"}, file_actions=streams)
        with open(os.pidfd_open(process), "rb") as end:
            if not select.select([end], [], [], seconds)[0]:
                os.kill(process, signal.SIGKILL)  # and not waited for: what waits for a dead device does not end by it
                raise TimeoutError(f"`{name}` did not end within {seconds:g} s")
        os.waitpid(process, 0)
        for stream in (output, errors):
            stream.seek(0)
        printed, wrong = output.read().decode(errors="replace"), errors.read().decode(errors="replace")
    if wrong and not printed:
        raise OSError(f"`{name}` says: {' '.join(wrong.split())[:300]}")
    return printed
