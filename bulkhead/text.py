"""Counts, times and sizes as people read them."""

from __future__ import annotations


def in_time(number: float) -> str:
    """Return seconds as a duration.

    >>> in_time(59.9), in_time(192), in_time(36000)
    ('59 s', '3 min 12 s', '10 h')
    """
    if number < 60:
        return f"{int(number)} s"
    return f"{int(number) // 60} min {int(number) % 60} s" if number < 7200 else f"{int(number) // 3600} h"


def plain(text: str) -> str:
    r"""Return a text on one line and without the sign that performance data begin with. Mount points can have any name.

    >>> plain("/srv/a|b\n\udcff")
    '/srv/a/b\\n\\udcff'
    """
    return printable(text).replace("|", "/")


def printable(text: str) -> str:
    r"""Return a text that does nothing to a terminal. Files can have any name.

    >>> printable("é\033[2J")
    'é\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def span(seconds: float) -> str:
    """Return seconds as a duration in one unit.

    >>> span(-5), span(3599), span(47 * 3600), span(50 * 3600)
    ('0 min', '59 min', '47 h', '2 d')
    """
    minutes = max(int(seconds), 0) // 60
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d"


def short(size: float) -> str:
    """Return bytes in few letters. (A check cannot use sizes.human: importing it costs more than the rest of the check.)

    >>> short(10_522_669_875), short(120 * 2**20), short(0)
    ('9.8G', '120M', '0K')
    """
    unit, factor = next((pair for pair in _UNITS if size >= pair[1]), _UNITS[-1])
    return f"{size / factor:.{int(0 < size < 10 * factor)}f}{unit}"


_UNITS = (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10))


def abbreviated(names: list[str]) -> str:
    """Return the first names of a list, and how many more there are.

    >>> abbreviated(["a", "b"]), abbreviated([*"abcdefg"])
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "file"), count(2, "file")
    ('1 file', '2 files')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
