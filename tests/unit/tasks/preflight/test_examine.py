"""Whole hosts: what becomes of them, also after a run that was cut at any step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from settings.model import Settings
from tasks.preflight.examine import examine
from tasks.preflight.finding import report
from tasks.preflight.host import EngineData, HostState
from tasks.preflight.plan import Plan
from tasks.support.paths import TAG

from ..example_hosts import (
    DEVICE,
    GIB,
    ON_SPARE,
    SPARE,
    VOLUME_MOUNT,
    bare_host,
    converged,
    docker_host,
    on_the_way,
    our_docker_ce_host,
    settings,
    shared_vg,
    spare_disk,
    with_directory,
    with_docker_volume,
    with_filesystem,
    with_fstab,
    with_volume,
)
from .verdicts import all_found, plan_of


def test_fresh_host_with_room_in_its_group_gets_60_percent_of_it() -> None:
    assert plan_of(bare_host(), shared_vg()) == Plan(
        volume_group="ubuntu-vg",
        new_physical_volumes=(),
        logical_volume="docker-lv",
        size=60 * GIB,
        reserve=5 * GIB,
        filesystem="ext4",
        engine="docker-ce",
        os_id="debian",
        os_codename="bookworm",
        unused_stores=(),
        relocates=False,
        old_trees=False,
        containerd_store=False,
    )


def test_fresh_host_with_a_blank_disk_gets_all_of_it_but_the_reserve() -> None:
    plan = plan_of(bare_host(), spare_disk(), ON_SPARE)
    assert (plan.volume_group, plan.new_physical_volumes) == ("docker-vg", (SPARE,))
    assert 0.94 < plan.size / (20 * GIB) < 0.95


def test_unused_docker_is_set_aside_and_kept() -> None:
    storage = with_directory(shared_vg(), "/var/lib/docker", empty=False)
    storage = with_directory(storage, "/var/lib/containerd", empty=False)
    plan = plan_of(docker_host(), storage)
    assert plan.unused_stores == ("/var/lib/docker", "/var/lib/containerd")
    assert plan.engine == "present"


def test_data_on_the_mounted_volume_is_where_it_belongs() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    state = our_docker_ce_host(docker_data=EngineData(images=9), containerd_data=EngineData(images=1))
    assert plan_of(state, converged(shared_vg(), fresh)) == fresh


@pytest.mark.parametrize("wanted", [settings(), settings(volume_size="50G"), settings(volume_size="80%FREE")], ids=str)
@pytest.mark.parametrize("state", [bare_host(), our_docker_ce_host()], ids=["engine absent", "engine installed"])
def test_every_interrupted_run_in_a_shared_group_goes_on_with_the_same_plan(state: HostState, wanted: Settings) -> None:
    fresh = plan_of(bare_host(), shared_vg(), wanted)
    for step, storage in on_the_way(shared_vg(), fresh):
        assert plan_of(state, storage, wanted) == fresh, step


@pytest.mark.parametrize("lost", ["mounts", "fstab"])
def test_volume_that_lost_its_mounts_or_its_lines_is_ours_all_the_same(lost: str) -> None:
    fresh = plan_of(bare_host(), shared_vg())
    whole = converged(shared_vg(), fresh)
    assert plan_of(our_docker_ce_host(), replace(whole, **{lost: getattr(shared_vg(), lost)})) == fresh


def test_every_interrupted_run_on_a_spare_disk_goes_on_with_the_same_plan() -> None:
    fresh = plan_of(bare_host(), spare_disk(), ON_SPARE)
    for step, storage in on_the_way(spare_disk(), fresh):
        new = () if storage.volume_groups else fresh.new_physical_volumes
        assert plan_of(our_docker_ce_host(), storage, ON_SPARE) == replace(fresh, new_physical_volumes=new), step


def test_run_cut_while_setting_unused_stores_aside_goes_on() -> None:
    fresh = plan_of(docker_host(), shared_vg())
    half = with_directory(shared_vg(), "/var/lib/docker")
    half = with_directory(half, "/var/lib/containerd", empty=False)
    assert plan_of(docker_host(), half) == replace(fresh, unused_stores=("/var/lib/containerd",))


def test_every_finding_is_reported_in_one_message() -> None:
    state = docker_host(swarm=True, architecture="i386", docker_data=EngineData(images=1))
    result = examine(settings(volume_group="nope"), state, with_fstab(shared_vg(), "UUID=1", "/var/lib/docker"))
    text = report("web-1", result.findings)
    assert text.startswith(
        "web-1 was left untouched: 4 findings\n\n  found:  the architecture is i386\n  needed: amd64 or"
    )
    assert text.count("  do:     ") == 4


def test_extra_volume_that_is_not_mounted_counts_too() -> None:
    wanted = settings(extra_volumes={"data-lv": {"mount": "/srv/data", "size": "5G"}})
    whole = converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg()))
    result = examine(wanted, our_docker_ce_host(), whole)
    assert result.plan
    assert not result.is_mounted


def test_volume_extra_volume_mount_point_and_data_are_judged_in_one_examination() -> None:
    storage = with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE, "xfs")
    storage = with_volume(storage, "ubuntu-vg", "home-lv", 5 * GIB)
    storage = with_directory(with_fstab(storage, "UUID=1", VOLUME_MOUNT), "/var/lib/docker", empty=False)
    wanted = settings(extra_volumes={"home-lv": {"mount": "/home", "size": "5G"}})
    state = docker_host(docker_data=EngineData(images=1), store_bytes=58 * GIB)
    assert all_found(wanted, storage, state) == [
        "the logical volume ubuntu-vg/docker-lv holds xfs",
        "the logical volume ubuntu-vg/home-lv exists, with no ext4 or xfs on it, and this project did not make it",
        f"fstab mounts UUID=1 on {VOLUME_MOUNT}",
        "Docker's data takes 58.0 GiB, and its volume has 60.0 GiB",
    ]


def test_move_is_judged_though_no_volume_can_be_planned() -> None:
    state = docker_host(docker_data=EngineData(images=1), storage_driver="")
    assert all_found(settings(volume_group="nope"), shared_vg(), state) == [
        "Docker does not run, and holds 1 image; containerd: nothing",
        "there is no volume group nope; this host has ubuntu-vg",
    ]
