"""Jobs that the guard runs beside its loop, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING

from bulkhead import command
from bulkhead.docker import running_builds
from bulkhead.names import DOCKER
from bulkhead.storage import lvm
from bulkhead.text import plain

if TYPE_CHECKING:
    from bulkhead.config import Config

_REMOVAL = 20  # seconds until Docker knows that a container has ended


def say(text: str) -> None:
    """A line for the journal; lost where nobody takes it: the guard waits for nobody."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [1], [], 0)[1]:
            os.write(1, f"{plain(text)}\n".encode(errors="replace"))


# -- what is done beside the loop, each in a process of its own


def classic_steps() -> tuple[list[running_builds.BuildStep], list[str]]:
    from bulkhead.docker.engine import Engine

    return running_builds.classic_steps(Engine())


def remove_step(step: str) -> None:
    """Remove the container of a step that has been ended: a build that fails leaves it, with all that it has written."""
    from bulkhead.docker.engine import Engine, EngineError

    deadline = time.monotonic() + _REMOVAL
    time.sleep(1)  # the client is told first
    while True:
        try:
            return Engine().remove("container", step)
        except EngineError as error:
            if error.status == 404:
                return None
            # It may not have ended yet, for Docker.
            if error.status != 409 or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def reclaim_cache(config: Config, need: int) -> int:
    """Remove idle build cache, the least recently used first, until so much is free; the bytes that came back."""
    from bulkhead.prune import pruner

    return pruner.reclaim_cache(config, need, say, wait=0)


def drop_due_snapshots(config: Config) -> list[str]:
    from bulkhead.snapshot import snapshots

    dropped = []
    left = [(name, snapshots.LEFT) for name in snapshots.leftovers(config)]
    for name, why in [*snapshots.due(config, snapshots.ours(config), time.time()), *left]:
        snapshots.drop(config, name, why)
        dropped.append(f"the snapshot {name} has been dropped: {why}")
    return dropped


def rescue_docker(config: Config) -> tuple[list[str], list[str]] | None:
    """Bring Docker back where the volume has stopped it; what was said and what is still wrong, None: nothing was to do."""
    if command.output_of(["systemctl", "is-active", DOCKER], lvm.PATIENCE).strip() not in (
        "failed",
        "activating",
    ):
        return None  # somebody has stopped it on purpose
    from bulkhead.guard import rescue

    said: list[str] = []

    def heard(line: str) -> None:
        said.append(line)
        say(line)

    return said, rescue.rescue(config, heard)


def send_alerts(config: Config, news: list[tuple[int, str, bool]]) -> int:
    """Tell it; how much that was."""
    from bulkhead.watch import alert, alert_store

    for problem in alert.tell(config, [alert_store.News(*each) for each in news], time.time()):
        say(problem)
    return len(news)
