"""The summary of a verification: a line for each host, and the properties that do not hold."""

from __future__ import annotations

from tests.verify.summary import PropertyResult, summary


def test_host_whose_properties_all_hold_has_one_line() -> None:
    results = [PropertyResult("a", "volume is mounted"), PropertyResult("a", "docker runs")]
    assert summary(["a"], results) == ["a  2 passed, 0 failed"]


def test_property_that_does_not_hold_is_named_with_what_was_found() -> None:
    results = [
        PropertyResult("host-1", "volume is mounted", "not a mount\nbut a directory"),
        PropertyResult("b", "docker runs"),
    ]
    assert summary(["host-1", "b"], results) == [
        "host-1  0 passed, 1 failed",
        "          does not hold: volume is mounted",
        "                not a mount",
        "                but a directory",
        "b       1 passed, 0 failed",
    ]


def test_reason_why_a_host_was_not_checked_comes_once() -> None:
    results = [PropertyResult("a", sentence, "cannot be reached", checked=False) for sentence in ("one", "two")]
    assert summary(["a"], results) == [
        "a  0 passed, 0 failed, 2 not checked",
        "     could not be checked:",
        "           cannot be reached",
    ]


def test_host_without_any_result_is_not_left_out() -> None:
    assert summary(["a"], []) == ["a  0 passed, 0 failed"]
