"""When a host may be left."""

from __future__ import annotations

import pytest

from tasks.departure import findings

from .example_hosts import our_docker_ce_host


@pytest.mark.parametrize("phase", ["", "finalized", "rolled-back", "failed"])
def test_host_with_its_data_in_one_place_can_be_left(phase: str) -> None:
    assert findings(our_docker_ce_host(relocation=phase), "") == []


@pytest.mark.parametrize(
    ("phase", "found"),
    [
        ("done", "the old data of a move is kept on the root disk"),
        ("finalizing", "the old data of a move is kept on the root disk"),
        ("copying", "has not ended"),
        ("returning", "has not ended"),
    ],
)
def test_host_with_two_trees_of_data_is_not_left(phase: str, found: str) -> None:
    for moves in ({"relocation": phase}, {"moves": {"/var/lib/bulkhead/relocation-home.json": phase}}):
        (finding,) = findings(our_docker_ce_host(**moves), "")
        assert found in finding.found


def test_host_is_not_left_under_another_run_or_without_root() -> None:
    assert "bob" in findings(our_docker_ce_host(), "bob on laptop")[0].found
    assert "not root" in findings(our_docker_ce_host(uid=1000), "")[0].found
