"""The race of the deploy and a playbook: medians, turns, changes and the comparison of the states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.deploy import STATE, changes_of, differences, in_turns, row

TOP = Path(__file__).parents[3]
RECAP = """
TASK [Docker is installed] ***
changed: [127.0.0.1]

PLAY RECAP *********
127.0.0.1 : ok=18   changed={changed}    unreachable=0    failed={failed}    skipped=3    rescued=0    ignored=0
"""


def test_race_is_won_by_the_medians() -> None:
    assert row("a run", {"ours": [5, 1, 2], "playbook": [9, 8, 100]}) == ("a run", 2, 9, 4.5)


def test_both_run_in_turns() -> None:
    order: list[str] = []
    seconds = in_turns(2, lambda way: order.append(way) or float(len(order)))  # type: ignore[func-returns-value]
    assert order == ["ours", "playbook"] * 2
    assert seconds == {"ours": [1, 3], "playbook": [2, 4]}


def test_states_are_the_same_whatever_the_order_and_the_blanks() -> None:
    ours = {"units": "a enabled\n  b enabled", "fstab": "x / ext4"}
    assert differences(ours, {"units": "b enabled\na enabled", "fstab": "x / ext4"}) == []


def test_difference_names_what_and_whose() -> None:
    ours = {"units": "a enabled", "mounts": "/srv"}
    assert differences(ours, {"units": "a disabled", "mounts": "/srv"}) == [
        "units, only ours: a enabled",
        "units, only playbook: a disabled",
    ]
    assert differences(ours, {"units": "a enabled"}) == ["mounts, only ours: /srv"]


def test_state_of_a_host_is_more_than_one_kind() -> None:
    assert {"files", "units", "mounts", "fstab", "volumes"} <= set(STATE)


@pytest.mark.parametrize(
    ("way", "output", "changes"),
    [
        ("ours", {"verdict": "unchanged", "operations": [], "reason": ""}, 0),
        ("ours", {"verdict": "changed", "operations": ["a", "b"], "reason": ""}, 2),
        ("playbook", {"changed": 3, "failed": 0}, 3),
    ],
)
def test_changes_of_a_run_are_read(way: str, output: dict[str, object], changes: int) -> None:
    text = json.dumps({"hosts": [output]}) if way == "ours" else RECAP.format(**output)
    assert changes_of(way, text) == changes


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("ours", json.dumps({"hosts": [{"verdict": "refused", "operations": [], "reason": "no room"}]})),
        ("playbook", RECAP.format(changed=1, failed=1)),
    ],
)
def test_run_that_fails_ends_the_race(way: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"no room|failed=1"):
        changes_of(way, text)


def test_ansible_is_no_dependency_of_the_project() -> None:
    assert "ansible" not in (TOP / "requirements.lock").read_text()
    assert "ansible==" in (TOP / "requirements-benchmark.lock").read_text()
