"""The one reader of the states of systemd's units."""

from __future__ import annotations

from bulkhead.command import output_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RUNNING = ("active", "reloading")
TIMEOUT = 90.0  # seconds; systemctl itself gives up earlier


def unit_states(units: Sequence[str], timeout: float = TIMEOUT) -> dict[str, str]:
    """Return the state of each unit: "active", "inactive", "failed", "activating", …

    Args:
        timeout: seconds that systemd may take to answer.

    Raises:
        OSError: systemd does not answer, or not in time.
    """
    states = output_of(["systemctl", "is-active", *units], timeout).split()
    if len(states) != len(units):
        raise OSError(f"`systemctl` says: {' '.join(states)}")
    return dict(zip(units, states, strict=True))


def is_running(unit: str, timeout: float = TIMEOUT) -> bool:
    """Return whether a unit runs, also while it reloads its configuration, but not while it starts or stops.

    Args:
        timeout: seconds that systemd may take to answer.

    Raises:
        OSError: systemd does not answer, or not in time.
    """
    return unit_states([unit], timeout)[unit] in RUNNING
