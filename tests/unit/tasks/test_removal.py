"""When this project may be removed from a host."""

from __future__ import annotations

import pytest

from bulkhead.names import SNAPSHOT_TAG
from pyinfra_lvm.model import Storage
from tasks.removal import judge

from .example_hosts import GIB, our_docker_ce_host, shared_vg, with_volume


@pytest.mark.parametrize("phase", ["", "finalized", "rolled-back", "failed"])
def test_project_can_be_removed_from_a_host_with_its_data_in_one_place(phase: str) -> None:
    assert judge(our_docker_ce_host(relocation=phase), Storage(), "") == []


@pytest.mark.parametrize(
    ("phase", "found"),
    [
        ("done", "the old data of a move is kept on the root disk"),
        ("finalizing", "the old data of a move is kept on the root disk"),
        ("copying", "has not ended"),
        ("returning", "has not ended"),
    ],
)
def test_project_stays_on_a_host_with_two_trees_of_data(phase: str, found: str) -> None:
    for moves in ({"relocation": phase}, {"moves": {"/var/lib/bulkhead/relocation-home.json": phase}}):
        (finding,) = judge(our_docker_ce_host(**moves), Storage(), "")
        assert found in finding.found


def test_project_stays_until_a_rollback_has_ended() -> None:
    (finding,) = judge(our_docker_ce_host(rollback="stopping"), Storage(), "")
    assert "a rollback to a snapshot has not ended" in finding.found
    assert "`bulkhead relocate --recover`" in finding.action
    assert judge(our_docker_ce_host(rollback="done"), Storage(), "") == []


def test_project_stays_while_containers_that_an_upgrade_stopped_are_down() -> None:
    (finding,) = judge(our_docker_ce_host(stopped_by_upgrade=True), Storage(), "")
    assert "has left containers stopped" in finding.found
    assert "run deploy.py" in finding.action


def test_project_is_not_removed_under_another_run_or_without_root() -> None:
    assert "bob" in judge(our_docker_ce_host(), Storage(), "bob on laptop")[0].found
    assert "not root" in judge(our_docker_ce_host(uid=1000), Storage(), "")[0].found


def test_project_stays_while_there_is_a_snapshot_that_nobody_else_would_drop() -> None:
    theirs = with_volume(shared_vg(), "ubuntu-vg", "before", GIB, origin="docker-lv")
    assert judge(our_docker_ce_host(), theirs, "") == []
    ours = with_volume(theirs, "ubuntu-vg", "docker-lv-snapshot", GIB, origin="docker-lv", tags=(SNAPSHOT_TAG,))
    (finding,) = judge(our_docker_ce_host(), ours, "")
    assert "/dev/ubuntu-vg/docker-lv-snapshot" in finding.found
    assert "bulkhead snapshot drop" in finding.action


def test_project_stays_until_a_snapshot_is_merged() -> None:
    tags = (SNAPSHOT_TAG,)
    storage = with_volume(
        shared_vg(), "ubuntu-vg", "docker-lv-snapshot", GIB, origin="docker-lv", tags=tags, merging=True
    )
    (finding,) = judge(our_docker_ce_host(), storage, "")
    assert "still merging" in finding.found
    assert "wait" in finding.action
