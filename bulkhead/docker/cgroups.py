"""The control groups of units and of builds: which one a step has, who is in it, and what they have written."""

from __future__ import annotations

import os
import re

from bulkhead import procfs

ROOT = "/sys/fs/cgroup"

# docker-ID.scope, or docker/ID without systemd. Its processes may be in groups below it. (A check imports this module, and
# never uses the pattern: it is not compiled here.)
_CONTAINER = r"^(.*?(?:/docker-[0-9a-f]{64}\.scope|/[0-9a-f]{64}))(?:/|$)"


def of_unit(unit: str) -> str:
    """Return the directory of the control group of a unit of the system."""
    return f"{ROOT}/system.slice/{unit}"


def processes_of(unit: str) -> list[int]:
    """Return the processes of a unit of the system; none if it does not run."""
    return [int(pid) for pid in procfs.read(f"{of_unit(unit)}/cgroup.procs").split()]


def directory_of(pid: int) -> str:
    """Return the directory of a process's control group; empty if the process has none of its own."""
    groups = procfs.cgroup(pid).splitlines()
    path = next((line.removeprefix("0::") for line in groups if line.startswith("0::/")), "/")
    return ROOT + path if path != "/" else ""


def group_of(pid: int, identifier: str) -> str:
    """Return the directory of the control group that was made for a step or a container; empty if there is none.

    A process of it may have moved to a group below: that is not the whole of it.

    Args:
        pid: a process of it.
        identifier: of the step or the container.
    """
    own = re.match(rf"(.*?/(?:[^/]*[:-])?{re.escape(identifier)}(?:\.scope)?)(?:/|$)", directory_of(pid))
    return own[1] if own else ""


def container_of(pid: int) -> str:
    """Return the directory of the control group of the container that a process is in; empty if it is in none.

    It is the outermost container's, where there are several: this host has started that one.
    """
    found = re.match(_CONTAINER, directory_of(pid))
    return found[1] if found else ""


def members(cgroup: str, *, but: frozenset[str] = frozenset()) -> list[int]:
    """Return the processes of a control group and of the groups in it.

    Args:
        cgroup: its directory.
        but: directories of groups in it that are left out.
    """
    found = []
    for directory, below, _ in os.walk(cgroup):
        below[:] = [name for name in below if f"{directory}/{name}" not in but]
        found += procfs.read(f"{directory}/cgroup.procs").split()
    return [int(pid) for pid in found]


def written(cgroup: str, *, but: frozenset[str] = frozenset()) -> int:
    """Return the bytes that the processes of a control group have written. An ended process counts for its parent.

    Args:
        cgroup: its directory.
        but: directories of groups in it that are left out.
    """
    return sum(map(procfs.bytes_written, members(cgroup, but=but)))
