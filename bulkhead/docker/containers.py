"""The processes that keep containers running, with or without Docker's daemon."""

from __future__ import annotations

import contextlib

from bulkhead import procfs
from bulkhead.storage.processes import Process


def shims() -> list[Process]:
    """Return the processes that keep the containers of this host's containerd running.

    Those of a containerd in a container are left out: they have another PID namespace.
    """
    own = procfs.namespace("self", "pid")
    found = []
    for pid in procfs.process_ids():
        with contextlib.suppress(OSError):  # the process has ended
            name = procfs.name(pid)
            if name.startswith("containerd-shim") and procfs.namespace(pid, "pid") == own:
                found.append(Process(pid, name))
    return found
