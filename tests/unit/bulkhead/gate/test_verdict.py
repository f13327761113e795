"""What a bill is judged by."""

from __future__ import annotations

import pytest

from bulkhead.gate.limits import Limit
from bulkhead.gate.verdict import EXCEEDED, OK, UNKNOWN, Verdict, judge, last_good

from ..bill.bills import G, M, bill


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        (Limit("peak", 24 * G), Verdict("peak", 24 * G, 24 * G, OK)),
        (Limit("peak", 24 * G - 1), Verdict("peak", 24 * G, 24 * G - 1, EXCEEDED)),
        (Limit("image", 15 * G), Verdict("image", 16 * G, 15 * G, EXCEEDED)),
        (Limit("layers", 8), Verdict("layers", 9, 8, EXCEEDED)),
        (Limit("context", 200 * M), Verdict("context", 200 * M, 200 * M, OK)),
        (Limit("models"), Verdict("models", 4 * G, 0, EXCEEDED)),
        (Limit("wasted", percent=12.5), Verdict("wasted", 2 * G, 2 * G, OK)),
        (Limit("wasted", percent=12), Verdict("wasted", 2 * G, 16 * G * 12 // 100, EXCEEDED)),
        (
            Limit("compressed", G),
            Verdict("compressed", None, G, UNKNOWN, "this engine keeps the layers of images uncompressed"),
        ),
    ],
)
def test_figure_is_held_to_its_limit(limit: Limit, verdict: Verdict) -> None:
    assert judge(bill(), {limit.name: limit}, None) == [verdict]


@pytest.mark.parametrize(
    ("limit", "allowed", "level"),
    [(Limit("increase", percent=10), 1600 * M, OK), (Limit("increase", 1599 * M), 1599 * M, EXCEEDED)],
)
def test_image_may_increase_by_so_much(limit: Limit, allowed: int, level: str) -> None:
    before, now = bill(1, size=16000 * M), bill(2, size=17600 * M)
    (verdict,) = judge(now, {"increase": limit}, before)
    assert verdict[1:] == (1600 * M, allowed, level, "against 15.6 GiB of bill 1")
    assert judge(before, {"increase": limit}, now)[0].level == OK, "it has become smaller"


def test_first_build_of_an_image_has_nothing_to_increase_from() -> None:
    (verdict,) = judge(bill(), {"increase": Limit("increase", percent=1)}, None)
    assert (verdict.level, verdict.in_words) == (OK, ("-", "-"))


def test_peak_that_nobody_saw_is_over_a_limit_if_the_cache_alone_is() -> None:
    remote = bill(peak=None, unknown={"peak": "the engine has its data on another machine"})
    (over,) = judge(remote, {"peak": Limit("peak", 10 * G)}, None)
    assert (over.level, over.measured) == (EXCEEDED, 19 * G)
    (unknown,) = judge(remote, {"peak": Limit("peak", 30 * G)}, None)
    assert (unknown.level, unknown.measured) == (UNKNOWN, None)
    assert (
        unknown.note
        == "the engine has its data on another machine; it was at least 19.0 GiB: so much was written to the build cache"
    )


def test_percentage_of_an_unknown_size_is_unknown() -> None:
    lost = bill(size=None, wasted=None, unknown={"size": "the engine has no image"})
    for name in ("wasted", "increase"):
        (verdict,) = judge(lost, {name: Limit(name, percent=5)}, bill())
        assert (verdict.level, verdict.note) == (UNKNOWN, "the engine has no image")


def test_last_good_build_is_the_last_that_passed() -> None:
    bills = [
        bill(1, has_passed=True),
        bill(2, has_passed=True),
        bill(3, has_passed=False),
        bill(4),
        bill(5, has_passed=True, key="web"),
        bill(7, has_passed=True),
    ]
    assert last_good(bill(6), [*bills, bill(6)]) == bills[1]
    assert last_good(bill(1), bills) is None
    assert last_good(bill(8), [*bills, bill(8), bill(7, has_passed=True, size=None)]) == bills[-1]


def test_images_without_a_name_are_not_compared() -> None:
    bills = [bill(1, key="", has_passed=True), bill(2, key="")]
    assert last_good(bills[1], bills) is None


def test_bill_of_another_machine_is_compared_with_what_was_built_before_it() -> None:
    bills = [bill(8, time=100.0, has_passed=True), bill(9, time=300.0, has_passed=True)]
    assert last_good(bill(3, time=200.0), bills) == bills[0]


def test_image_that_is_compared_with_one_of_unknown_size_has_not_passed() -> None:
    (verdict,) = judge(bill(), {"increase": Limit("increase", percent=1)}, bill(2, size=None))
    assert (verdict.level, verdict.note) == (UNKNOWN, "the size of the image that it is compared with is not known")
