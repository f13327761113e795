"""Spare pyinfra what it computes anew for each host and operation, although it is the same (pyinfra 3.10).

Without this, half of a run's CPU time on the control machine goes there. `scripts/benchmark fleet` shows both.
"""

from __future__ import annotations

import inspect
from functools import cache, partial
from typing import get_type_hints

import pyinfra.api.arguments
import pyinfra.api.connectors
import pyinfra.api.util


def spare() -> None:
    """Replace what three modules of pyinfra import from the standard library."""
    # An operation's place in the order is its line numbers on the stack: without the source text of every frame.
    pyinfra.api.util.stack = partial(inspect.stack, 0)
    pyinfra.api.util.getframeinfo = partial(inspect.getframeinfo, context=0)
    # The installed connectors: they are read from the metadata of every package, twice for each host.
    pyinfra.api.connectors.entry_points = cache(pyinfra.api.connectors.entry_points)
    # The types of the global arguments: for each operation and fact.
    pyinfra.api.arguments.get_type_hints = cache(get_type_hints)  # type: ignore[assignment]
