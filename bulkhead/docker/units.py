"""Sizes as docker prints them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d{1,18}(?:\.\d+)?) ?([kKMGTP]?)(i?)B")
_POWERS = {letter: power for power, letter in enumerate(("", "k", "M", "G", "T", "P"))} | {"K": 1}


def bytes_of(text: str) -> int | None:
    """Return a size of docker's in bytes; None if it is none. docker rounds to four digits (go-units, HumanSize).

    >>> bytes_of("1.704GB"), bytes_of("6.39kB"), bytes_of("0B"), bytes_of("5.08KiB"), bytes_of("2 weeks")
    (1704000000, 6390, 0, 5201, None)
    """
    match = _SIZE.fullmatch(text.strip())
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2]]) if match else None
