"""What the lab is doing and for how long, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what begins, and when it has ended how many seconds it took."""
    started = time.monotonic()
    print(f"--> {what} …", file=sys.stderr, flush=True)
    yield
    print(f"    done in {time.monotonic() - started:.0f} s: {what}", file=sys.stderr, flush=True)
