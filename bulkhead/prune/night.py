"""The nightly prune. While something is in its way that passes by itself, it waits and comes back, until the night is over."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from bulkhead.errors import PROBLEMS, Failed
from bulkhead.prune import attempt
from bulkhead.prune.pruner import Pruner
from bulkhead.text import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.config import Config

INTERVAL = 15 * 60  # seconds between two attempts
LENGTH = 6 * 3600  # seconds; docker-prune.service allows this and the last attempt


def run(config: Config, say: Callable[[str], None]) -> int:
    """Prune, and come back for what was skipped. No lock is held meanwhile: others may prune, reclaim and move.

    Returns:
        The exit code: 1 if something could not be removed.
    """
    end = time.monotonic() + LENGTH
    freed = removed = 0
    work = Pruner.prune
    while True:
        failed: list[str] = []
        try:
            pruner = attempt.prune(config, say, work)
        except Failed as error:
            hindrance = str(error)
            failed = [hindrance]
            say(hindrance)
        except PROBLEMS as error:
            attempt.save(freed=freed, removed=removed, failed=[str(error)])
            raise
        else:
            freed, removed = freed + pruner.freed(), removed + len(pruner.removed)
            failed, hindrance = pruner.failed, pruner.hindrance
            attempt.save(freed=freed, removed=removed, failed=failed, hindrance=hindrance)
            if not failed:
                work = Pruner.prune_images
        if not hindrance or time.monotonic() + INTERVAL > end:
            break
        say(f"Trying again in {INTERVAL // 60} min, for {(end - time.monotonic()) / 3600:.0f} h more")
        if _is_ended(INTERVAL):
            say("Stopped while it waited")
            failed = [each for each in failed if each != hindrance]
            break
    nights = attempt.skipped_nights() + 1 if hindrance else 0
    attempt.save(freed=freed, removed=removed, failed=failed, hindrance=hindrance, nights=nights)
    if hindrance:
        say(f"The night is over; skipped for {count(nights, 'night')} in a row: {hindrance}")
    return int(bool(failed))


def _is_ended(seconds: float) -> bool:
    """Wait. Return whether SIGTERM has ended the wait: the host shuts down. Such a night counts too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return signal.sigtimedwait({signal.SIGTERM}, seconds) is not None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
