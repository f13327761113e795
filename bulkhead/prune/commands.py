"""The commands `bulkhead prune` and `bulkhead reclaim`."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.docker.daemon import docker_runs
from bulkhead.docker.engine import Engine
from bulkhead.errors import PROBLEMS, Failed
from bulkhead.outage import lock
from bulkhead.prune.pruner import NO_SPACE, Pruner
from bulkhead.sizes import human

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bulkhead.config import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead prune`.

    Returns:
        The exit code: 1 if something could not be removed.
    """
    with _alone(options):
        try:
            pruner = _run(config, options, Pruner.prune)
        except PROBLEMS as error:
            if not options.dry_run:
                _remember(0, 0, [str(error)])
            raise
        if not options.dry_run:
            _remember(pruner.freed(), len(pruner.removed), pruner.failed)
    return _end(pruner, options, not pruner.failed)


def _remember(freed: int, removed: int, failed: list[str]) -> None:
    state.save("prune", {"time": time.time(), "freed": freed, "removed": removed, "failed": failed})


def reclaim(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead reclaim`.

    Returns:
        The exit code: 1 if less is free than is needed.
    """
    with _alone(options):
        pruner = _run(config, options, Pruner.reclaim, options.need)
    return _end(pruner, options, pruner.free() >= options.need)


def _alone(options: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """Keep other prunes out, unless this is a dry run.

    Raises:
        TimeoutError: another prune is at work. Its result is the one to remember.
    """
    return contextlib.nullcontext() if options.dry_run else state.locked("prune", 5)


def _run(
    config: Config, options: argparse.Namespace, work: Callable[[Pruner], None], need: int | None = None
) -> Pruner:
    """Let a pruner do its work, unless enough is free already.

    Args:
        need: bytes that should be free; None: as many as possible.

    Raises:
        Failed: a move or a rollback is under way or unfinished, or Docker does not run.
        ValueError: the journal of a move or a rollback cannot be read.
    """
    if not docker_runs():
        raise Failed("Docker does not run (docker.service is not active). Nothing was removed")

    def say(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    # A move and a rollback compare what Docker holds before and after, and have stopped containers that will run again.
    with contextlib.nullcontext() if options.dry_run else lock.alone():
        pruner = Pruner(config, Engine(), say, dry_run=options.dry_run, need=need)
        if not pruner.is_enough():
            work(pruner)
    return pruner


def _end(pruner: Pruner, options: argparse.Namespace, succeeded: bool) -> int:
    """Print the result, and return the exit code."""
    free, config = pruner.free(), pruner.config
    if options.json:
        values = {
            "dry_run": pruner.dry_run,
            "removed": [
                {"kind": each.kind, "id": each.id, "name": each.name, "size": each.size, "why": each.why}
                for each in pruner.removed
            ],
            "freed": pruner.freed(),
            "free": free,
            "failed": pruner.failed,
        }
        print(json.dumps(values))
        return int(not succeeded)
    verbs = ("would be freed", "would be free") if pruner.dry_run else ("freed", "are free")
    print(f"{human(pruner.freed())} {verbs[0]}; {human(free)} {verbs[1]} on {config.volume_mount}")
    if pruner.need is not None and not succeeded:
        print(
            f"{human(pruner.need)} are needed: {human(pruner.need - free)} are missing. The rest is in use, is kept by your "
            "settings or labels, or belongs to a running build"
        )
    if any(NO_SPACE in failure for failure in pruner.failed):
        name = f"{config.vg_name}/{config.logical_volume}"
        print(f"Docker needs a little free space to remove objects. Make some: `lvextend --resizefs --size +1G {name}`")
    return int(not succeeded)
