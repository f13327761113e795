"""The jobs that the guard runs in the background, each in a process of its own.

Each imports what it needs by itself, so that the loop needs little memory.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING

from bulkhead import systemd
from bulkhead.names import DOCKER
from bulkhead.storage import lvm
from bulkhead.text import plain

if TYPE_CHECKING:
    from bulkhead.config import Config
    from bulkhead.docker.steps import BuildStep

_REMOVAL = 20  # seconds within which Docker notices that a container has ended


def say(text: str) -> None:
    """Write a line to the journal. Drop it if the journal does not take it: the guard must not wait."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [1], [], 0)[1]:
            os.write(1, f"{plain(text)}\n".encode(errors="replace"))


def classic_steps() -> tuple[list[BuildStep], list[str]]:
    """Return the steps of the classic builder, and the names of containers that only look like one."""
    from bulkhead.docker import classic_builder
    from bulkhead.docker.engine import Engine

    return classic_builder.classic_steps(Engine())


def remove_step(step: str) -> None:
    """Remove the container of a stopped step. The failed build leaves it, with everything that it wrote."""
    from bulkhead.docker.engine import Engine, EngineError

    deadline = time.monotonic() + _REMOVAL
    time.sleep(1)  # let Docker answer the client first
    while True:
        try:
            return Engine().remove("container", step)
        except EngineError as error:
            if error.status == 404:
                return None
            # Docker may not have noticed yet that it ended.
            if error.status != 409 or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def reclaim_cache(config: Config, need: int) -> int:
    """Remove idle build cache, the least recently used first, until ``need`` bytes are free. Return the bytes freed."""
    from bulkhead.prune import pruner

    return pruner.reclaim_cache(config, need, say, wait=0)


def drop_due_snapshots(config: Config) -> list[str]:
    """Drop the snapshots of bulkhead that are nearly full or old, and leftovers of a merge.

    Returns:
        What was dropped, in sentences.
    """
    from bulkhead.snapshot import snapshots

    dropped = []
    left = [(name, snapshots.LEFT) for name in snapshots.leftovers(config)]
    for name, why in [*snapshots.due(config, snapshots.ours(config), time.time()), *left]:
        snapshots.drop(config, name, why)
        dropped.append(f"the snapshot {name} has been dropped: {why}")
    return dropped


def rescue_docker(config: Config) -> tuple[list[str], list[str]] | None:
    """Rescue a Docker that the full volume has stopped.

    Returns:
        What was done, and what is still wrong, in lines. None: someone stopped Docker on purpose, and it stays down.
    """
    if systemd.unit_states([DOCKER], lvm.PATIENCE)[DOCKER] not in ("failed", "activating"):
        return None
    from bulkhead.guard import rescue

    done: list[str] = []

    def report(line: str) -> None:
        done.append(line)
        say(line)

    return done, rescue.rescue(config, report)


def send_alerts(config: Config, alerts: list[tuple[int, str, bool]]) -> int:
    """Send alerts, each with its level, its text, and whether it names what to reclaim. Return their number."""
    from bulkhead.watch import alert, alert_store

    for problem in alert.report_event(config, [alert_store.News(*each) for each in alerts], time.time()):
        say(problem)
    return len(alerts)
