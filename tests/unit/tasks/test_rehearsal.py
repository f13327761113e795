"""Every installation is simulated before the first one: what it asks of apt, and what it does where nothing is missing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import rehearsal
from tasks.preflight import packages
from tasks.preflight.packages import PackageStep
from tasks.support.package_names import ENGINE, TOOLKIT
from tasks.support.packages import Offer, Offered, Pinned

from .example_hosts import our_docker_ce_host, settings, shared_vg
from .operations import OperationHost, commands
from .preflight.verdicts import plan_of

TOOLS = PackageStep(("lvm2", "cron"))
DOCKER_CE = PackageStep(ENGINE["docker-ce"], packages.pinned_engine(settings(), "docker-ce"), "docker-ce")
DISTRO = PackageStep(ENGINE["distro"], packages.pinned_engine(settings(), "distro"), "distro")


def simulated(
    *steps: PackageStep, installed: dict[str, str], offered: tuple[str, ...] = (), change: bool = False
) -> list[str]:
    host = OperationHost({Offered: Offer(installed, frozenset(offered))})
    return commands(rehearsal.simulated, host, steps=list(steps), change_engine=change, lock_timeout=600)


def of_apt(command: str) -> str:
    """What a simulation asks apt for."""
    return command.partition(" --simulate install ")[2].partition(")")[0]


def test_each_step_with_a_missing_package_is_simulated_after_an_update() -> None:
    update, tools, engine = simulated(TOOLS, DOCKER_CE, installed={"lvm2": "2.03"})
    assert update.endswith("apt_get update")
    assert of_apt(tools) == "cron"
    assert of_apt(engine) == " ".join(ENGINE["docker-ce"])
    _, engine = simulated(TOOLS, DOCKER_CE, installed={"lvm2": "2.03", "cron": "3.0"})
    assert of_apt(engine) == " ".join(ENGINE["docker-ce"])


def test_dry_run_says_that_apt_is_not_asked_yet() -> None:
    arguments: dict[str, Any] = {"steps": [TOOLS], "change_engine": False, "lock_timeout": 600}
    missing = OperationHost({Offered: Offer({"lvm2": "2.03"}, frozenset())}, state=SimpleNamespace(is_executing=False))
    commands(rehearsal.simulated, missing, **arguments)
    (note,) = missing.logged
    assert note.startswith("Packages are missing: cron. Only the run itself asks apt whether it can install them")
    running = OperationHost({Offered: Offer({"lvm2": "2.03"}, frozenset())})
    commands(rehearsal.simulated, running, **arguments)
    assert running.logged == []


def test_nothing_is_asked_of_apt_where_nothing_is_missing() -> None:
    assert simulated(TOOLS, installed={"lvm2": "2.03", "cron": "3.0"}) == []


def test_step_at_a_version_is_simulated_under_its_pin() -> None:
    toolkit = PackageStep(TOOLKIT, Pinned(TOOLKIT, "1.20.1", "/etc/apt/preferences.d/x", "nvidia_version"))
    _, command = simulated(toolkit, installed=dict.fromkeys(TOOLKIT, "1.19.0-1"))
    assert "apt cannot install version 1.20.1 of" in command
    assert of_apt(command) == " ".join(TOOLKIT)


def test_parts_of_another_engine_may_go_only_with_consent() -> None:
    found = {"docker-buildx": "0.13.1", "docker-compose": "1.29.2-3", "containerd": "1.7"}
    _, without = simulated(DOCKER_CE, installed=found)
    assert of_apt(without) == " ".join(ENGINE["docker-ce"])
    assert "-e containerd" not in without
    _, changed = simulated(DOCKER_CE, installed=found, change=True)
    assert of_apt(changed) == f"{' '.join(ENGINE['docker-ce'])} docker-buildx-"
    assert "-e containerd" in changed
    # Consent for the engine is none for the tools.
    _, tools, _ = simulated(TOOLS, DOCKER_CE, installed=found, change=True)
    assert "-e containerd" not in tools


def test_plugin_of_dockers_stays_beside_the_distributions_engine() -> None:
    offered = ("docker-cli", "docker-buildx")
    _, engine = simulated(DISTRO, installed={"docker-buildx-plugin": "0.30"}, offered=offered)
    assert of_apt(engine) == f"{' '.join(ENGINE['distro'])} docker-cli"
    _, engine = simulated(DISTRO, installed={}, offered=offered)
    assert of_apt(engine) == f"{' '.join(ENGINE['distro'])} docker-cli docker-buildx"


@pytest.mark.parametrize("installs", [True, False])
def test_host_without_a_missing_package_is_not_asked_again(monkeypatch: pytest.MonkeyPatch, installs: bool) -> None:
    asked: list[object] = []
    monkeypatch.setattr(rehearsal, "simulated", lambda **arguments: asked.append(arguments["steps"]))
    plan = replace(plan_of(our_docker_ce_host(), shared_vg()), installs=installs)
    rehearsal.simulate._inner(settings(), plan)  # type: ignore[attr-defined]
    assert asked == ([packages.steps(settings(), plan)] if installs else [])
