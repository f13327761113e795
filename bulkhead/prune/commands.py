"""The commands `bulkhead prune` and `bulkhead reclaim`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bulkhead import uptime
from bulkhead.docker.engine import Engine
from bulkhead.errors import PROBLEMS
from bulkhead.prune import attempt, night
from bulkhead.prune.pruner import Pruner
from bulkhead.prune.reclaim import reclaim as make_room
from bulkhead.prune.remover import NO_SPACE
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
    say = _printer(options)
    if options.dry_run:
        attempt.refuse_without_docker()
        if why := attempt.too_early(uptime.current()):
            say(f"{why}. After that:")
        pruner = Pruner(config, Engine(), say, dry_run=True)
        pruner.prune()
    elif options.nightly:
        return night.run(config, say)
    else:
        try:
            pruner = attempt.prune(config, say, Pruner.prune)
        except attempt.NotNow:
            raise
        except PROBLEMS as error:
            attempt.save(failed=[str(error)])
            raise
        nights = None if pruner.hindrance else 0
        attempt.save(
            freed=pruner.freed(),
            removed=len(pruner.removed),
            failed=pruner.failed,
            hindrance=pruner.hindrance,
            nights=nights,
        )
    return _end(pruner, options, not pruner.failed)


def reclaim(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead reclaim`.

    Returns:
        The exit code: 1 if less is free than is needed.
    """
    pruner = make_room(config, options, _printer(options))
    if pruner is None:
        print("nothing was removed")
        return 1
    return _end(pruner, options, not pruner.failed if pruner.need is None else pruner.free() >= pruner.need)


def _printer(options: argparse.Namespace) -> Callable[[str], None]:
    def say(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    return say


def _end(pruner: Pruner, options: argparse.Namespace, succeeded: bool) -> int:
    """Print the result, and return the exit code."""
    free = pruner.free()
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
    print(f"{human(pruner.freed())} {verbs[0]}; {human(free)} {verbs[1]} on {pruner.config.volume_mount}")
    if pruner.need is not None and not succeeded:
        print(
            f"{human(pruner.need)} are needed: {human(pruner.need - free)} are missing. Docker counted more than came, others "
            "wrote meanwhile, or objects came into use"
        )
    if any(NO_SPACE in failure for failure in pruner.failed):
        print("Docker needs a little free space to remove objects: `bulkhead rescue` makes some")
    return int(not succeeded)
