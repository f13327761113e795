"""Sizes as the settings write them, and in bytes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)"
_BYTES = re.compile(_NUMBER + r"([KMGT])(?:i?B)?", re.IGNORECASE)
_PERCENT = re.compile(_NUMBER + r"%(VG|FREE)?")
MINIMUM = 2**30  # bytes of Docker's volume: a smaller one holds no image of a useful size


@dataclass(frozen=True)
class Size:
    """A size as the settings write it: bytes, or a percentage of something."""

    text: str
    bytes: int = 0
    percent: float = 0.0
    of: str = ""  # of a percentage: VG, FREE, or empty

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``60G``, ``1.5T``, ``5%``, ``60%VG`` or ``80%FREE``. Units are powers of 1024, as LVM's and Docker's.

        Raises:
            ValueError: the text is not a size, or the size is zero or more than 100 %.
        """
        if match := _BYTES.fullmatch(text):
            size = cls(text, bytes=int(Fraction(match[1]) * _UNITS[match[2].upper()]))
        elif match := _PERCENT.fullmatch(text):
            size = cls(text, percent=float(match[1]), of=match[2] or "")
        else:
            raise ValueError("no size")
        if not (size.bytes or 0 < size.percent <= 100):
            raise ValueError("must be more than zero and at most 100 %")
        return size

    def bytes_of(self, whole: int) -> int:
        """Return the size in bytes.

        Args:
            whole: bytes that a percentage is taken of.
        """
        return self.bytes or int(whole * self.percent / 100)

    def __str__(self) -> str:
        return self.text


BESIDE_OTHERS = Size.parse("60%VG")


def human(size: int) -> str:
    """Return bytes in a unit that people read, rounded down: a size that does not fit must not look as if it did.

    >>> human(60 * 2**30)
    '60.0 GiB'
    """
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if size >= factor:
            return f"{size * 10 // factor / 10} {unit}"
    return f"{size} bytes"


def setting_of(size: int) -> str:
    """Return bytes as a setting writes them, in GiB and rounded down.

    >>> setting_of(70 * 2**30), setting_of(3 * 2**29)
    ('70G', '1.5G')
    """
    return f"{size * 10 // 2**30 / 10}".removesuffix(".0") + "G"
