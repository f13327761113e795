"""The command `bulkhead status`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bulkhead.move import commands
from bulkhead.status.page import render
from bulkhead.status.report import Status, gather

if TYPE_CHECKING:
    import argparse

    from bulkhead.config import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Show it. That something is wrong with the host is no failure of this command: `bulkhead check` judges."""
    status = gather(config, lambda: commands.moves(config, print))
    if options.json:
        print(json.dumps(as_json(status), indent=4))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        print(render(status, colour, shutil.get_terminal_size().columns))
    return 0


# -- for programs


def as_json(status: Status) -> dict[str, Any]:
    """The same for programs; Docker's move is at the top, where it has always been."""
    *extra_volumes, docker = [asdict(place) for place in status.places] or [{}]
    return {
        **docker,
        "under_way": status.under_way,
        "rollback": status.rollback,
        "extra_volumes": {place["path"]: place for place in extra_volumes},
        "host": status.host,
        "time": status.now,
        "level": status.seen.level,
        **status.seen.as_dict(),
        "usage": asdict(status.usage) if status.usage else None,
        "checked": status.checked,
        "next_check": status.next_check,
        "pruned": asdict(status.pruned) if status.pruned else None,
        "next_prune": status.next_prune,
        "guard": asdict(status.guard) if status.guard else None,
        "taken": status.taken,
        "alerts": [asdict(standing) for standing in status.standing],
        "queued": status.queued,
        "failed": status.failed,
    }
