"""One attempt to prune, and what is remembered of it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from bulkhead import state, uptime
from bulkhead.docker.daemon import docker_runs
from bulkhead.docker.engine import Engine
from bulkhead.errors import Failed
from bulkhead.outage import lock
from bulkhead.prune.pruner import Pruner
from bulkhead.text import in_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bulkhead.config import Config
    from bulkhead.uptime import Uptime

AFTER_BOOT = 3 * 3600  # seconds of uptime for which nothing is pruned: what people start after a boot looks unused
_PATIENCE = 5  # seconds to wait for another prune
_STATE = "prune"


class NotNow(Failed):
    """Nothing was pruned, because of something that passes by itself. The result of the last prune still counts."""


def prune(config: Config, say: Callable[[str], None], work: Callable[[Pruner], None]) -> Pruner:
    """Let a pruner work.

    Raises:
        NotNow: the host has booted just now, or another prune is at work.
        Failed: Docker does not run, or another command changes the host.
        ValueError: the journal of a move or a rollback cannot be read.
    """
    refuse_without_docker()
    if why := too_early(uptime.remember()):
        raise NotNow(f"{why}. Nothing was removed. `bulkhead reclaim` makes room at once")
    with alone(), lock.alone():
        pruner = Pruner(config, Engine(), say)
        work(pruner)
    return pruner


def too_early(up: Uptime) -> str:
    """Return why nothing is pruned yet; empty if the boot was long enough ago."""
    if up.since_boot >= AFTER_BOOT:
        return ""
    ago, hours = in_time(up.since_boot), AFTER_BOOT // 3600
    return f"this host booted {ago} ago: nothing is pruned in the first {hours} h, until everything that it needs has started"


def refuse_without_docker() -> None:
    """
    Raises:
        Failed: Docker does not run.
    """
    if not docker_runs():
        raise Failed("Docker does not run (docker.service is not active). Nothing was removed")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other prunes out.

    Raises:
        NotNow: another is at work.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(state.locked(_STATE, _PATIENCE))
        except TimeoutError:
            raise NotNow(
                "another prune or reclaim is at work on this host: nothing was removed. Try again when it has ended. "
                "`systemctl status docker-prune` shows the nightly one"
            ) from None
        yield


def skipped_nights() -> int:
    """Return for how many nights in a row something has been in the way of the prune."""
    nights = state.load(_STATE).get("skipped_nights")
    return nights if isinstance(nights, int) else 0


def save(
    *, freed: int = 0, removed: int = 0, failed: Sequence[str] = (), hindrance: str = "", nights: int | None = None
) -> None:
    """Remember how a prune has ended, for `status`, the check and the metrics.

    Args:
        freed: bytes.
        removed: number of objects.
        failed: what could not be removed, with the reason.
        hindrance: what was in its way.
        nights: for which something has been in the way; None: as many as before.

    Raises:
        OSError: it cannot be written.
    """
    values = {"time": time.time(), "freed": freed, "removed": removed, "failed": [*failed], "hindrance": hindrance}
    state.save(_STATE, values | {"skipped_nights": skipped_nights() if nights is None else nights})
