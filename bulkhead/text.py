"""Words for people: counts, spans of time, short sizes."""

from __future__ import annotations


def in_time(number: float) -> str:
    """
    >>> in_time(59.9), in_time(192), in_time(36000)
    ('59 s', '3 min 12 s', '10 h')
    """
    if number < 60:
        return f"{int(number)} s"
    return f"{int(number) // 60} min {int(number) % 60} s" if number < 7200 else f"{int(number) // 3600} h"


def plain(text: str) -> str:
    r"""On one line, without the sign that the performance data begin with. Names of mount points are any bytes.

    >>> plain("/srv/a|b\n\udcff")
    '/srv/a/b\\n\\udcff'
    """
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escaped.replace("|", "/")


def span(seconds: float) -> str:
    """
    >>> span(-5), span(3599), span(47 * 3600), span(50 * 3600)
    ('0 min', '59 min', '47 h', '2 d')
    """
    minutes = max(int(seconds), 0) // 60
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d"


def short(size: float) -> str:
    """Bytes in the few letters that a line has room for. (sizes.human: its module costs more than the rest of a check.)

    >>> short(10_522_669_875), short(120 * 2**20), short(0)
    ('9.8G', '120M', '0K')
    """
    unit, factor = next((pair for pair in _UNITS if size >= pair[1]), _UNITS[-1])
    return f"{size / factor:.{int(0 < size < 10 * factor)}f}{unit}"


_UNITS = (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10))


def abbreviated(names: list[str]) -> str:
    """
    >>> abbreviated(["a", "b"]), abbreviated([*"abcdefg"])
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def count(number: int, noun: str) -> str:
    """
    >>> count(1, "file"), count(2, "file")
    ('1 file', '2 files')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
