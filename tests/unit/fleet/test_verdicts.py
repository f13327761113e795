"""How the verdicts of a run read."""

from __future__ import annotations

import json

from fleet.verdicts import HostVerdict, as_json, detail_lines, exit_code, host_lines, summary

FINDING = ("  found:  the volume group is full", "  needed: 8 GiB", "  do:     add a disk")
FLEET = [
    HostVerdict("web-1", "unchanged"),
    HostVerdict("web-12", "changed", ("Volume | It is mounted",)),
    HostVerdict("web-3", "refused", reason="the volume group is full", details=FINDING),
    HostVerdict(
        "web-4",
        "failed",
        ("Engine",),
        "Engine: E: locked",
        ("E: locked",),
        ("Note: Docker stops", "a disk may be lost"),
    ),
]


def test_each_host_has_a_line_with_its_verdict() -> None:
    assert list(host_lines(FLEET, dry=False)) == [
        "web-1   unchanged",
        "web-12  changed       1 operation",
        "web-3   refused       the volume group is full",
        "web-4   failed        Engine: E: locked",
    ]
    assert list(host_lines(FLEET, dry=True))[1] == "web-12  would change  1 operation"


def test_details_that_are_the_same_on_several_hosts_come_once() -> None:
    fleet = [HostVerdict(f"h{number}", "refused", details=FINDING) for number in range(1000)]
    assert list(detail_lines(fleet, dry=False)) == [
        "",
        "refused, h0, h1, h2 and 997 more:",
        *(f"  {line}" for line in FINDING),
    ]


def test_what_differs_is_shown_at_length_and_what_does_not_is_not() -> None:
    assert list(detail_lines(FLEET, dry=False)) == [
        "",
        "changed, web-12:",
        "  Volume | It is mounted",
        "",
        "refused, web-3:",
        *(f"  {line}" for line in FINDING),
        "",
        "failed, web-4:",
        "  E: locked",
        "",
        "note, web-4:",
        "  Docker stops",
        "",
        "warning, web-4:",
        "  a disk may be lost",
    ]


def test_summary_counts_the_hosts_of_each_verdict() -> None:
    assert summary(FLEET, dry=False) == "4 hosts: 1 unchanged, 1 changed, 1 refused, 1 failed"
    assert summary(FLEET[1:2], dry=True) == "1 host: 1 would change"


def test_json_has_everything() -> None:
    found = json.loads(as_json(FLEET, dry=True))
    assert found["dry"] is True
    assert found["summary"] == {"unchanged": 1, "changed": 1, "refused": 1, "failed": 1}
    assert [(host["host"], host["verdict"], host["reason"]) for host in found["hosts"]] == [
        ("web-1", "unchanged", ""),
        ("web-12", "changed", ""),
        ("web-3", "refused", "the volume group is full"),
        ("web-4", "failed", "Engine: E: locked"),
    ]
    assert found["hosts"][3]["operations"] == ["Engine"]
    assert found["hosts"][3]["warnings"] == ["Note: Docker stops", "a disk may be lost"]


def test_run_fails_where_a_host_was_refused_or_has_failed() -> None:
    assert [exit_code([one]) for one in FLEET] == [0, 0, 1, 1]


def test_operation_that_has_changed_a_host_is_not_what_has_failed_there() -> None:
    ended = HostVerdict("a", "failed", ("Engine",), "the run ended before this host was finished")
    assert list(detail_lines([ended], dry=False)) == ["", "changed, a:", "  Engine"]
