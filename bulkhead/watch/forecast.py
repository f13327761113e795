"""Forecast when a filesystem will be full. Pure."""

from __future__ import annotations

from itertools import pairwise

from pyinfra_lvm.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 9  # how many of the newest count: two hours of a check every 15 minutes
_FEWEST = 4  # rates between samples, for a forecast


class Forecast(NamedTuple):
    rate: float  # bytes per second; below zero while it empties
    seconds_left: float | None  # until it is full; None while it does not fill


def forecast(samples: Sequence[tuple[float, int]], available: int) -> Forecast | None:
    """Return the trend of a filesystem; None while there are too few samples.

    The rate is the interquartile mean of the rates between samples. A step, such as a pull or a prune, is an outlier and
    does not count; a rate that lasts does.

    Args:
        samples: time in seconds and bytes in use, the oldest first.
        available: bytes that are free.
    """
    newest = samples[-SAMPLES:]
    rates = sorted(
        (after - before) / (until - since) for (since, before), (until, after) in pairwise(newest) if until > since
    )
    if len(rates) < _FEWEST:
        return None
    outliers = len(rates) // 4
    middle = rates[outliers : len(rates) - outliers]
    rate = sum(middle) / len(middle)
    return Forecast(rate, available / rate if rate > 0 else None)
