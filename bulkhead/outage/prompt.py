"""Ask a person for consent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bulkhead.errors import Failed

if TYPE_CHECKING:
    import argparse


def consents(options: argparse.Namespace, question: str) -> bool:
    """Return whether the person at the terminal agrees, or has passed --yes.

    Args:
        options: of the command line; `yes` is the answer to all questions.
        question: what happens next, in sentences.

    Raises:
        Failed: nobody can be asked, because stdin is no terminal.
    """
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise Failed("stdin is not a terminal; pass --yes")
    try:
        return input(f"{question} Go on? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        return False
