"""The size of a volume: in whole extents, and within the room of its group."""

from __future__ import annotations

import pytest

from bulkhead.sizes import Size, human
from pyinfra_lvm.model import usable
from tasks.preflight.volume_size import DoesNotFit, PlannedSize, plan_size

G = 2**30


def plan(size: str | None, **changes: object) -> PlannedSize:
    group = {"group_size": 100 * G, "group_free": 70 * G, "extent_size": 4 * 2**20, "own_group": False}
    return plan_size(Size.parse(size) if size else None, reserve=Size.parse("5%"), **group | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "extents"), [(9 * 2**20, 2), (9 * 2**20 - 1, 1), (G, 255)])
def test_disk_gives_whole_extents_beside_what_lvm_takes(size: int, extents: int) -> None:
    assert usable(size, 4 * 2**20) == extents * 4 * 2**20


def test_default_beside_other_volumes_is_60_percent_of_the_group() -> None:
    assert plan(None).bytes == 60 * G


@pytest.mark.parametrize(
    ("group_size", "group_free", "expected"),
    [
        (100 * G, 50 * G, 45 * G),  # Ubuntu's installer: root has half of the group
        (100 * G, 60 * G, 55 * G),  # a home volume of 10 beside root's 30
        (93 * G, 63 * G, 55.8 * G),  # a disk of 100 GB: 60 % fit
        (200 * G, 100 * G, 90 * G),  # root is capped at 100 (subiquity)
        (30 * G, 3 * G, 1.5 * G),
    ],
)
def test_default_beside_others_is_what_is_free_less_the_reserve_where_that_is_less(
    group_size: int, group_free: int, expected: float
) -> None:
    planned = plan(None, group_size=group_size, group_free=group_free)
    assert planned.bytes == int(expected) // (4 * 2**20) * (4 * 2**20)
    is_less = planned.bytes < 0.59 * group_size
    assert [warning.split(": all")[0] for warning in planned.warnings] == (
        [f"the volume gets {human(planned.bytes)}"] if is_less else []
    )
    # The next run finds the volume, plans the same and is silent.
    again = plan(None, group_size=group_size, group_free=group_free - planned.bytes, existing=planned.bytes)
    assert again == PlannedSize(planned.bytes)


def test_default_beside_others_takes_at_least_a_gibibyte_and_leaves_the_reserve() -> None:
    smallest = plan(None, group_free=6 * G)
    assert smallest.bytes == G
    assert "the volume gets 1.0 GiB: all that is free less the reserve" in smallest.warnings[0]
    with pytest.raises(DoesNotFit) as error:
        plan(None, group_free=6 * G - 2**20)
    assert (error.value.needed, error.value.largest) == (6 * G, 6 * G - 4 * 2**20)


@pytest.mark.parametrize(
    ("size", "free", "largest"), [("80G", 70, 70), ("70%VG", 70, 70), ("80G", 1, 1), (None, 2, 2), (None, 0, 0)]
)
def test_refusal_knows_the_largest_size_that_fits(size: str | None, free: int, largest: int) -> None:
    with pytest.raises(DoesNotFit) as error:
        plan(size, group_free=free * G)
    assert error.value.largest == largest * G
    if largest:
        assert plan(f"{largest}G", group_free=free * G).bytes == largest * G


def test_default_of_an_own_group_is_all_but_the_reserve() -> None:
    assert plan(None, group_free=100 * G, own_group=True).bytes == 95 * G


def test_percent_free_counts_what_is_free() -> None:
    assert plan("50%FREE").bytes == 35 * G


def test_percent_free_of_everything_keeps_the_reserve() -> None:
    assert plan("100%FREE").bytes == 65 * G


def test_percent_free_of_an_existing_volume_is_its_size() -> None:
    assert plan("50%FREE", existing=35 * G, group_free=35 * G) == PlannedSize(35 * G)


def test_percentage_that_would_use_the_reserve_does_not_fit() -> None:
    with pytest.raises(DoesNotFit) as error:
        plan("70%VG")
    assert (error.value.needed, error.value.available) == (75 * G, 70 * G)


def test_bytes_may_use_the_reserve_with_a_warning() -> None:
    planned = plan("68G")
    assert planned.bytes == 68 * G
    assert planned.warnings == ("2.0 GiB stay free in the volume group, less than the reserve of 5.0 GiB",)


def test_bytes_beyond_what_is_free_do_not_fit() -> None:
    with pytest.raises(DoesNotFit, match=r"80\.0 GiB are needed and 70\.0 GiB are available"):
        plan("80G")


def test_size_is_rounded_down_to_whole_extents() -> None:
    assert plan("33.333%VG").bytes % (4 * 2**20) == 0


def test_volume_grows_into_what_is_free_and_its_own_size() -> None:
    assert plan("60G", existing=40 * G, group_free=30 * G).bytes == 60 * G


def test_volume_larger_than_set_stays_and_is_reported() -> None:
    planned = plan("40G", existing=60 * G, group_free=10 * G)
    assert planned.bytes == 60 * G
    assert "never shrunk" in planned.warnings[0]


def test_converged_volume_plans_itself_without_a_warning() -> None:
    assert plan(None, existing=60 * G, group_free=10 * G) == PlannedSize(60 * G)
    assert plan(None, existing=95 * G, group_free=5 * G, own_group=True) == PlannedSize(95 * G)


@pytest.mark.parametrize(("existing", "own_group"), [(60 * G, False), (95 * G, True)])
def test_volume_stays_when_others_have_taken_the_reserve_since(existing: int, own_group: bool) -> None:
    """The incident's layout: root 30, Docker 60, home 10, and nothing free. A snapshot does the same for a while."""
    planned = plan(None, existing=existing, group_free=0, own_group=own_group)
    assert planned.bytes == existing
    assert planned.warnings == ("0 bytes stay free in the volume group, less than the reserve of 5.0 GiB",)


def test_volume_of_an_own_group_grows_as_far_as_the_reserve_lets_it() -> None:
    assert plan(None, existing=50 * G, group_free=40 * G, own_group=True).bytes == 85 * G


def test_percentage_of_a_group_that_has_grown_does_not_grow_into_the_reserve() -> None:
    with pytest.raises(DoesNotFit):
        plan("60%VG", existing=50 * G, group_free=12 * G)


def test_default_of_a_group_that_has_grown_refuses_no_host_that_has_its_volume() -> None:
    planned = plan(None, existing=50 * G, group_free=12 * G)
    assert planned.bytes == 50 * G
    assert "stays at 50.0 GiB: there is no room for the 60.0 GiB" in planned.warnings[0]


def test_volume_that_is_small_already_stays() -> None:
    assert plan("50%FREE", existing=G // 2) == PlannedSize(G // 2)


def test_less_than_a_gibibyte_does_not_fit() -> None:
    assert plan("1G").bytes == G
    for free in (G, 0):
        with pytest.raises(DoesNotFit) as error:
            plan("50%FREE", group_free=free)
        assert (error.value.needed, error.value.available) == (G, 0)


def test_largest_size_is_in_whole_extents() -> None:
    with pytest.raises(DoesNotFit) as error:
        plan("80G", group_free=70 * G + 5)
    assert error.value.largest == 70 * G


def test_size_that_leaves_exactly_the_reserve_fits_without_a_warning() -> None:
    for size in ("65G", "65%VG"):
        assert plan(size) == PlannedSize(65 * G)
    assert plan(None, existing=55 * G, group_free=5 * G) == PlannedSize(55 * G)


@pytest.mark.parametrize(("extents", "warns"), [(1, False), (2, True)])
def test_volume_that_is_larger_by_an_extent_is_as_large_as_set(extents: int, warns: bool) -> None:
    existing = 60 * G + extents * 4 * 2**20
    planned = plan("60G", existing=existing, group_free=10 * G)
    assert planned.bytes == existing
    assert ["never shrunk" in warning for warning in planned.warnings] == [True] * warns
