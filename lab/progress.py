"""Show on standard error what the lab does, and for how long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print the name of a step when it begins, and how many seconds it took when it ends."""
    started = time.monotonic()
    print(f"--> {what} …", file=sys.stderr, flush=True)
    yield
    print(f"    done in {time.monotonic() - started:.0f} s: {what}", file=sys.stderr, flush=True)
