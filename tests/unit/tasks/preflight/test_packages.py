"""Which packages a run installs, in which steps, and whether any is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.preflight import packages
from tasks.preflight.host import HostState
from tasks.support.package_names import ENGINE, TOOLKIT, every_name

from ..example_hosts import bare_host, docker_host, our_docker_ce_host, settings, shared_vg
from .verdicts import plan_of

TOOLS = ("lvm2", "e2fsprogs", "python3", "cron")
COMPLETE = dict.fromkeys((*TOOLS, *ENGINE["docker-ce"]), "1.0") | {"docker-ce": "5:29.1.3-1"}
GPU: dict[str, Any] = {"gpus": ("0000:01:00.0",), "gpu_driver": "loaded"}


def complete(**changes: Any) -> HostState:
    return our_docker_ce_host(**{"packages": COMPLETE} | changes)


def without(name: str) -> dict[str, str]:
    return {other: version for other, version in COMPLETE.items() if other != name}


def test_steps_name_all_that_the_settings_ask_for() -> None:
    wanted = settings(
        filesystem="xfs", alert_receivers={"ops": "json://localhost"}, engine_version="29.1", engine_source="docker-ce"
    )
    tools, engine, toolkit = packages.steps(wanted, plan_of(complete(**GPU), shared_vg(), wanted))
    assert tools.packages == ("lvm2", "xfsprogs", "python3", "cron", "apprise")
    assert (engine.packages, engine.pinned.version, engine.engine) == (ENGINE["docker-ce"], "29.1", "docker-ce")
    assert (toolkit.packages, toolkit.pinned.version) == (TOOLKIT, wanted.nvidia_version)


def test_move_needs_rsync_and_an_engine_or_a_toolkit_that_stays_needs_nothing() -> None:
    plan = plan_of(complete(**GPU), shared_vg())
    (tools,) = packages.steps(settings(), replace(plan, relocates=True, engine="present", keeps_toolkit=True))
    assert tools.packages == (*TOOLS, "rsync")


@pytest.mark.parametrize(
    ("state", "installs"),
    [
        (complete(), False),
        (bare_host(), True),
        (complete(packages=without("lvm2")), True),
        (complete(packages=without("docker-compose-plugin")), True),
        (complete(unfinished_packages=("cron",)), True),
        (complete(unfinished_packages=("docker-doc",)), False),
        (complete(**GPU), True),
        (complete(**GPU, toolkit="/usr/bin/nvidia-container-runtime"), False),
    ],
    ids=range(8),
)
def test_plan_says_whether_packages_are_missing(state: HostState, installs: bool) -> None:
    assert plan_of(state, shared_vg()).installs == installs


@pytest.mark.parametrize(
    ("there", "offered", "installs"),
    [
        ({"docker-cli": "26.1"}, ("docker-buildx",), True),
        ({"docker-cli": "26.1"}, (), False),  # the release has none
        ({"docker-cli": "26.1", "docker-buildx": "0.13"}, (), False),
        (
            {"docker-cli": "26.1", "docker-buildx-plugin": "0.30"},
            ("docker-buildx",),
            False,
        ),  # Docker's own is in its place
    ],
)
def test_part_of_the_distributions_engine_that_only_some_releases_have_counts_where_apt_offers_it(
    there: dict[str, str], offered: tuple[str, ...], installs: bool
) -> None:
    wanted = settings(engine_source="distro")
    installed = dict.fromkeys((*TOOLS, *ENGINE["distro"]), "1.0") | there
    assert plan_of(docker_host(packages=installed, offered=offered), shared_vg(), wanted).installs == installs
    # The engine of others stays as it is.
    assert not plan_of(docker_host(packages=installed, offered=offered), shared_vg()).installs


def test_engine_at_another_version_than_its_setting_is_missing() -> None:
    wanted = settings(engine_source="docker-ce", engine_version="29.2")
    assert plan_of(complete(), shared_vg(), wanted).installs


def test_packages_that_come_meanwhile_are_no_other_plan() -> None:
    plan = plan_of(complete(), shared_vg())
    assert plan == replace(plan, installs=True)


def test_preflight_asks_dpkg_for_every_package_of_the_steps() -> None:
    wanted = settings(filesystem="xfs", alert_receivers={"ops": "json://localhost"})
    plan = replace(plan_of(complete(**GPU), shared_vg(), wanted), relocates=True)
    assert {name for step in packages.steps(wanted, plan) for name in step.packages} <= set(every_name())
