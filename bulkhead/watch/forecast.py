"""How fast a filesystem fills, and when it would be full. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 9  # the newest so many count: two hours of a check every 15 minutes
_FEWEST = 4  # rates between them


class Forecast(NamedTuple):
    rate: float  # bytes per second; less than zero: it empties
    seconds_left: float | None  # until it is full; None: it does not fill


def forecast(samples: Sequence[tuple[float, int]], available: int) -> Forecast | None:
    """The trend of a filesystem; None while too little is known.

    The rate is the mean of the middle half of the rates from one sample to the next: a step, as a pull or a prune makes
    it, is an outlier and does not count; what has gone on for most of the time does.

    Args:
        samples: time in seconds and bytes in use, the oldest first.
        available: bytes that are left.
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
