"""How large Docker's volume becomes."""

from __future__ import annotations

from dataclasses import dataclass

from bulkhead.sizes import BESIDE_OTHERS, MINIMUM, Size, human


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
