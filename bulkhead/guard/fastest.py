"""Name the processes that write most. Nobody is stopped for it: an alert helps people to find what fills the volume."""

from __future__ import annotations

import re
import time

from bulkhead import procfs
from bulkhead.text import plain, short

_LEAST = 2**20  # bytes per second
_NAMED = 3  # processes
_CONTAINER = re.compile(r"[0-9a-f]{64}")


def describe() -> str:
    """Measure for a second, and return a sentence; nothing if no process writes much."""
    before = {pid: procfs.bytes_written(pid) for pid in procfs.process_ids()}
    time.sleep(1)
    speeds = {pid: procfs.bytes_written(pid) - written for pid, written in before.items()}
    fastest = sorted((pid for pid in speeds if speeds[pid] >= _LEAST), key=lambda pid: speeds[pid], reverse=True)
    if not fastest:
        return ""
    words = [f"{short(speeds[pid])}/s by {_name_of(pid)}" for pid in fastest[:_NAMED]]
    return f"The most is written now, to whichever disk, with {', '.join(words)}"


def _name_of(pid: int) -> str:
    container = _CONTAINER.search(procfs.cgroup(pid))
    where = f" in the container {container[0][:12]}" if container else ""
    # A process can give itself any name, also one of several lines.
    return f"{plain(procfs.name(pid) or '') or 'a process that has ended'} ({pid}{where})"
