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
from bulkhead.storage.space import space_of
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


def reclaim_cache(config: Config, space: int, inodes: int) -> tuple[int, int]:
    """Remove idle build cache, the least recently used first, until enough is free.

    Args:
        space: bytes that should be free.
        inodes: that should be free.

    Returns:
        The bytes that were freed, and the inodes.
    """
    from bulkhead.prune import pruner

    before = space_of(config.volume_mount).inodes_free
    freed = pruner.reclaim_in_portions(
        config, space, inodes, lambda need: pruner.reclaim_cache(config, need, say, wait=0)
    )
    return freed, max(space_of(config.volume_mount).inodes_free - before, 0)


def due_snapshots(config: Config) -> list[tuple[str, str]]:
    """Return the snapshots of bulkhead that are nearly full or old, and leftovers of a merge: name, and why it must go."""
    from bulkhead.snapshot import snapshots

    left = [(name, snapshots.LEFT) for name in snapshots.leftovers(config)]
    return [*snapshots.due(config, snapshots.ours(config), time.time()), *left]


def drop_due_snapshots(config: Config) -> list[str]:
    """Drop the snapshots that must go. This needs the lock of commands that change the host.

    Returns:
        What was dropped, in sentences.
    """
    from bulkhead.snapshot import snapshots

    dropped = []
    for name, why in due_snapshots(config):
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


def send_alerts(config: Config, alerts: list[tuple[int, str, bool, bool]]) -> int:
    """Send alerts. Return their number.

    Args:
        alerts: each with its level, its text, whether it names what to reclaim, and whether it names who writes most.
    """
    from bulkhead.watch import alert, alert_store

    busy = ""
    if any(writers for *_, writers in alerts):
        from bulkhead.guard import fastest

        if busy := fastest.describe():
            say(busy)
    news = [
        alert_store.News(level, f"{text}. {busy}" if writers and busy else text, reclaim)
        for level, text, reclaim, writers in alerts
    ]
    for problem in alert.report_event(config, news, time.time()):
        say(problem)
    return len(alerts)
