"""The command `bulkhead status`."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bulkhead.move import commands
from bulkhead.status.page import render
from bulkhead.status.report import Status, collect
from bulkhead.terminal import wants_colour

if TYPE_CHECKING:
    import argparse

    from bulkhead.config import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Print the status. It succeeds on an unhealthy host too: judging the host is what `bulkhead check` does."""
    status = collect(config, lambda: commands.moves(config, print))
    if options.json:
        print(json.dumps(as_json(status), indent=4))
    else:
        print(render(status, wants_colour(), shutil.get_terminal_size().columns))
    return 0


def as_json(status: Status) -> dict[str, Any]:
    """Return the status in the form that --json prints. The fields of Docker's move are at the top, for compatibility."""
    *extra_volumes, docker = [asdict(place) for place in status.places] or [{}]
    return {
        **docker,
        "under_way": status.under_way,
        "rollback": status.rollback,
        "extra_volumes": {place["path"]: place for place in extra_volumes},
        "host": status.host,
        "time": status.now,
        "level": status.observation.level,
        **status.observation.as_dict(),
        "usage": asdict(status.usage) if status.usage else None,
        "checked": status.checked,
        "next_check": status.next_check,
        "pruned": asdict(status.pruned) if status.pruned else None,
        "next_prune": status.next_prune,
        "guard": asdict(status.guard) if status.guard else None,
        "builds": [asdict(build) for build in status.builds],
        "taken": status.taken,
        "disk_room": [disk._asdict() for disk in status.disk_room],
        "alerts": [alert.as_dict() for alert in status.alerts],
        "queued": status.queued,
        "failed": status.failed,
    }
