"""Sizes: how they are written, and how many bytes of a volume group they come to. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)"
_BYTES = re.compile(_NUMBER + r"([KMGT])(?:i?B)?", re.IGNORECASE)
_PERCENT = re.compile(_NUMBER + r"%(VG|FREE)?")

MINIMUM = 2**30  # of Docker's volume: less holds no image worth the name


class DoesNotFit(ValueError):
    """A volume of the size that is asked for has no room in its group.

    Args:
        needed: bytes that are asked for.
        available: bytes that could be had, the volume's present size included.
    """

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"{human(needed)} are needed and {human(available)} are available")
        self.needed = needed
        self.available = available


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
            ValueError: the text is no size, or it is zero or more than 100 %.
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
        """Bytes, a percentage taken of ``whole`` bytes."""
        return self.bytes or int(whole * self.percent / 100)

    def __str__(self) -> str:
        return self.text


BESIDE_OTHERS = Size.parse("60%VG")
OWN_GROUP = Size.parse("100%VG")  # less the reserve


@dataclass(frozen=True)
class PlannedSize:
    """Bytes that a volume shall have, in whole extents, and what there is to say of it."""

    bytes: int
    warnings: tuple[str, ...] = ()


def plan_size(
    size: Size | None,
    *,
    group_size: int,
    group_free: int,
    extent_size: int,
    reserve: Size,
    own_group: bool,
    existing: int = 0,
) -> PlannedSize:
    """How large Docker's volume shall be.

    Args:
        size: what the settings ask for; None: 60 % of the group beside other volumes, nearly all of a group of its own.
        group_size, group_free, extent_size: of the volume group, in bytes.
        reserve: what stays free in the group. A size in bytes may use it up, and so may others later, with a warning.
        own_group: the group was made from disks of its own.
        existing: the volume's present size in bytes. It is never shrunk, and ``%FREE`` counts at creation only.

    Raises:
        DoesNotFit: there is no room for it.
    """
    is_default = size is None
    size = size or (OWN_GROUP if own_group else BESIDE_OTHERS)
    available = group_free + existing
    kept = reserve.bytes_of(group_size)
    if size.of == "FREE":
        asked = existing or size.bytes_of(group_free)
    else:
        asked = size.bytes_of(group_size)
    wanted = asked
    if size.percent and (own_group or size.of == "FREE"):
        wanted = min(asked, available - kept)  # "nearly all": the reserve is what makes it nearly
    wanted = wanted // extent_size * extent_size
    warnings = []
    if is_default and existing and existing < wanted > available - kept:
        # The group has grown, and others have taken the space. Nobody has asked for more by its size.
        warnings.append(f"the volume stays at {human(existing)}: there is no room for the {human(wanted)} of a new one")
        wanted = existing
    if existing and wanted <= existing:
        # Nothing is to be made. What others have taken of the group since (a home volume, a snapshot) is no reason to
        # refuse a host that has what it asks for.
        if existing - asked > extent_size:
            warnings.append(
                f"the volume has {human(existing)}, more than the {human(asked)} of its setting: it is never shrunk"
            )
        wanted = existing
    elif size.percent and wanted > available - kept:
        raise DoesNotFit(wanted + kept, available)
    elif wanted > available:
        raise DoesNotFit(wanted, available)
    elif wanted < MINIMUM:
        raise DoesNotFit(MINIMUM, max(wanted, 0))
    if available - wanted < kept:
        warnings.append(
            f"{human(available - wanted)} stay free in the volume group, less than the reserve of {human(kept)}"
        )
    return PlannedSize(wanted, tuple(warnings))


def human(size: int) -> str:
    """Bytes as a person reads them, rounded down: what does not fit must not look as if it did.

    >>> human(60 * 2**30)
    '60.0 GiB'
    """
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if size >= factor:
            return f"{size * 10 // factor / 10} {unit}"
    return f"{size} bytes"
