"""Ask for consent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bulkhead.errors import Failed

if TYPE_CHECKING:
    import argparse


def consents(options: argparse.Namespace, question: str) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise Failed("there is nobody to ask: --yes does it")
    return input(f"{question} Go on? [y/N] ").strip().lower() in ("y", "yes")
