"""`bulkhead preflight`: the checks of `bulkhead build`, then what else is seen on this host before a build or a deploy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead.build import commands
from bulkhead.build.arguments import of_options
from bulkhead.preflight import host, image

if TYPE_CHECKING:
    import argparse

    from bulkhead.build.checklist import Checklist
    from bulkhead.config import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead preflight`.

    Returns:
        The exit code: 3 if a check has failed.
    """
    arguments = of_options(options)

    def add_others(checklist: Checklist) -> None:
        for item in (*host.items(config), *image.items(arguments)):
            checklist.add(item)

    return commands.preflight(config, options, add_others)
