"""What the owner of a host in use knows before its first run, and how they refuse it."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.preflight.consent import judge_consent
from tasks.preflight.examine import examine
from tasks.preflight.host import Container, EngineData

from ..example_hosts import GIB, bare_host, converged, docker_host, our_docker_ce_host, settings, shared_vg
from .verdicts import assert_says, finding, plan_of

USED = {"docker_data": EngineData(images=3, containers=1, volumes=2), "store_bytes": 40 * GIB, "store_inodes": 10**6}

OUTAGE = (
    "The outage depends on how much changes during the first copy, on how long the containers take to stop, and on the number "
    'of files, not on the amount of data (docs/move.md). relocation = "refuse" leaves such a host as it is'
)


def container(name: str, status: str = "exited", hours: float = 50, **changes: Any) -> Container:
    traits: dict[str, Any] = {"image": f"{name}-image", "has_restart_policy": False, "is_kept": False} | changes
    return Container(name, status, idle_hours=hours, **traits)


def notices(*containers: Container, images: tuple[str, ...] = (), **wanted: object) -> list[str]:
    """What a host with these containers is told before its first run."""
    state = docker_host(**USED, containers=containers, dangling_images=images)
    result = examine(settings(**wanted), state, shared_vg())
    assert result.plan
    assert result.warnings == ()
    return [*result.notices]


def test_move_names_the_containers_that_stop_and_the_amount_of_data() -> None:
    notice, _ = notices(container("web", "running"), container("db", "paused"), container("old", "exited", hours=1))
    assert notice == (
        "Docker's data moves onto its volume: 40.0 GiB in 1000000 files. For the switch Docker stops, and with it "
        f"2 containers (web, db). They start again on the volume. {OUTAGE}"
    )


def test_move_without_running_containers_says_so_and_many_are_cut_short() -> None:
    notice, _ = notices()
    assert f"For the switch Docker stops. {OUTAGE}" in notice
    notice, _ = notices(*(container(f"c{number}", "running") for number in range(25)))
    assert "25 containers (c0, c1," in notice
    assert "c19 and 5 more)" in notice
    notice, _ = notices(*(container(f"c{number}", "running") for number in range(20)))
    assert "c19). They start" in notice


def test_first_nightly_prune_names_what_it_removes() -> None:
    images = ("dangling", "job-image", "another")
    _, notice = notices(container("job"), container("test", "created"), images=images)
    assert notice == (
        "the nightly prune (03:00) removes what stays unused for 48 h from this run on; today that would be 2 containers (job, "
        "test) that stopped at least 48 h ago, 2 dangling images, build cache and networks that nobody uses. prune_keep keeps "
        "objects by name, "
        'prune_time = "" switches the prune off (docs/prune.md)'
    )


def test_one_container_and_one_image_are_named_as_one() -> None:
    _, notice = notices(container("job", hours=48), images=("dangling",))
    assert "1 container (job) that stopped at least 48 h ago, 1 dangling image, build cache" in notice


def test_first_nightly_prune_is_announced_where_nothing_but_cache_and_networks_may_go() -> None:
    _, notice = notices()
    assert "today that would be build cache and networks that nobody uses. prune_keep" in notice


@pytest.mark.parametrize(
    "kept",
    [
        container("new", hours=47),
        container("service", has_restart_policy=True),
        container("labelled", is_kept=True),
        container("keep-me"),
        container("web", "running"),
    ],
    ids=lambda container: container.name,
)
def test_container_that_the_prune_keeps_is_not_named(kept: Container) -> None:
    _, notice = notices(kept, prune_keep=["keep-*"])
    assert "today that would be build cache and networks that nobody uses. prune_keep" in notice


def test_prune_that_is_switched_off_removes_nothing() -> None:
    assert len(notices(container("job"), images=("dangling",), prune_time="")) == 1


def test_host_without_data_is_told_nothing() -> None:
    assert examine(settings(), docker_host(), shared_vg()).notices == ()


def test_move_that_is_refused_leaves_the_host_and_names_its_containers() -> None:
    state = docker_host(**USED, containers=(container("web", "running"), container("db", "running")))
    found = finding(state, shared_vg(), settings(relocation="refuse"))
    assert_says(
        found,
        found_has="/var/lib/docker holds data that is not on its volume",
        needed="Its containers stop for the move: 2 containers (web, db).",
        action='set relocation = "move" for this host',
    )


def test_two_directories_that_would_move_hold_data() -> None:
    (found,) = judge_consent(settings(relocation="refuse"), docker_host(), ["/home", "/var/lib/docker"])
    assert found.found == "/home and /var/lib/docker hold data that is not on its volume"


def test_host_without_data_off_the_volume_is_not_refused() -> None:
    refuse = settings(relocation="refuse")
    fresh = plan_of(bare_host(), shared_vg(), refuse)
    state = our_docker_ce_host(docker_data=EngineData(images=9))
    assert plan_of(state, converged(shared_vg(), fresh), refuse) == fresh


@pytest.mark.parametrize(
    ("size", "limit", "deleted"),
    [(4 * GIB, "500M", True), (4 * GIB, "4G", False), (4 * GIB, "", False), (0, "500M", False)],
)
def test_entries_of_the_journal_that_are_deleted_are_announced(size: int, limit: str, deleted: bool) -> None:
    found = examine(settings(journal_max_use=limit), bare_host(journal_bytes=size), shared_vg()).notices
    assert len(found) == deleted
    assert all(
        "the system's journal takes 4.0 GiB: its oldest entries beyond 500M are deleted" in note for note in found
    )
