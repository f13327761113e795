"""Plan how large a volume becomes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from bulkhead.sizes import BESIDE_OTHERS, MINIMUM, Size, human

WHOLE_GROUP = Size.parse("100%VG")  # less the reserve


class DoesNotFit(ValueError):
    """The group has no room for a volume of this size.

    Args:
        needed: bytes that the size asks for, with the reserve that it leaves free.
        available: bytes that the volume could have, its present size included.
        largest: the largest size in bytes that fits; 0 where none does.
    """

    def __init__(self, needed: int, available: int, largest: int) -> None:
        super().__init__(f"{human(needed)} are needed and {human(available)} are available")
        self.needed = needed
        self.available = available
        self.largest = largest


@dataclass(frozen=True)
class PlannedSize:
    """The bytes that a volume is going to have, in whole extents, and what its owner should know."""

    bytes: int
    warnings: tuple[str, ...] = ()
    largest: int = field(default=0, compare=False)  # the largest size in bytes that would fit


def plan_size(
    size: Size | None,
    *,
    group_size: int,
    group_free: int,
    extent_size: int,
    reserve: Size,
    own_group: bool,
    existing: int = 0,
    promised: int = 0,
) -> PlannedSize:
    """Plan how large a volume becomes.

    Args:
        size: what the settings ask for. None: beside other volumes 60 % of the group, or all that is free less the
            reserve where that is less; nearly all of a group of its own.
        group_size, group_free, extent_size: of the volume group, in bytes.
        reserve: what stays free in the group. A size in bytes may use it up, and so may others later, with a warning.
        own_group: the group was made from disks of its own.
        existing: the volume's present size in bytes. It is never shrunk, and ``%FREE`` counts at creation only.
        promised: bytes of the free space that other volumes get after it: less of it is left for the largest size.

    Raises:
        DoesNotFit: the group has no room for it.
    """
    is_default = size is None
    size = size or (WHOLE_GROUP if own_group else BESIDE_OTHERS)
    available = group_free + existing
    kept = reserve.bytes_of(group_size)
    room = (available - kept) // extent_size * extent_size
    fits = (available - promised) // extent_size * extent_size  # a size in bytes may use up the reserve
    largest = fits if fits >= MINIMUM else 0
    if size.of == "FREE":
        asked = existing or size.bytes_of(group_free)
    else:
        asked = size.bytes_of(group_size)
    wanted = asked // extent_size * extent_size
    warnings = []
    if wanted > room and size.percent and (own_group or size.of == "FREE"):
        wanted = room  # nearly all: all but the reserve
    elif wanted > room and is_default and existing:
        # Others have taken the space. No setting asks for more.
        if existing < room:
            warnings.append(
                f"the volume stays at {human(existing)}: there is no room for the {human(wanted)} of {size}"
            )
        wanted = existing
    elif wanted > room and is_default:
        if room >= MINIMUM:
            warnings.append(
                f"the volume gets {human(room)}: all that is free less the reserve. "
                f"{size.percent:.0f} % of the group would be {human(wanted)}"
            )
        wanted = max(room, MINIMUM)
    if existing and wanted <= existing:
        # Nothing has to be made. Space that others have taken in the group since (a home volume, a snapshot) is no
        # reason to refuse a host whose volume is as large as it should be.
        if existing - asked > extent_size:
            warnings.append(
                f"the volume has {human(existing)}, more than the {human(asked)} of its setting: it is never shrunk"
            )
        wanted = existing
    elif size.percent and wanted > room:
        raise DoesNotFit(wanted + kept, available, largest)
    elif wanted > available:
        raise DoesNotFit(wanted, available, largest)
    elif wanted < MINIMUM:
        raise DoesNotFit(MINIMUM, max(wanted, 0), largest)
    if available - wanted < kept:
        warnings.append(
            f"{human(available - wanted)} stay free in the volume group, less than the reserve of {human(kept)}"
        )
    return PlannedSize(wanted, tuple(warnings), largest)
