"""A run is killed, or the power is cut, at any moment: the host boots, and the next run finishes.

The host is a Debian 12 with an unused engine, so that the moments include stopping the engine, renaming its stores and
starting it again. The test that cuts the power inside apt uses a host without an engine.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from lab.deploy import command
from lab.machine import Machine
from tests.lab.conftest import (
    assert_isolated,
    converge,
    cut_and_boot,
    deploy,
    dry,
    killed_at_the_end,
    start,
    until,
    verify,
    wait_until,
)

pytestmark = pytest.mark.turn

# The operations in which one run after the other is killed, and how many seconds after their beginning.
KILLS = {
    "while the volume is made": [
        ("Preflight", 0.5),
        ("Logical volume", 0.2),
        ("Logical volume", 1.5),
        ("Filesystem", 0.5),
    ],
    "while the volume is mounted": [
        ("/srv/docker-volume is mounted", 1.0),
        ("its marker", 0.5),
        ("need the volume", 1.0),
    ],
    "while Docker comes to it": [
        ("set aside", 1.5),
        ("/var/lib/docker is on the volume", 1.5),
        ("daemon.json", 2.0),
    ],
}


@pytest.fixture(scope="module")
def preinstalled(machines: Callable[..., Machine]) -> Machine:
    machine = machines("cut", suite="bookworm", docker="preinstalled")
    machine.snapshot("fresh")
    return machine


@pytest.fixture
def machine(preinstalled: Machine) -> Machine:
    preinstalled.restore("fresh")
    return preinstalled


def run_until(process: subprocess.Popen[str], operation: str, seconds: float) -> None:
    """Wait until a run begins an operation, and then for ``seconds`` more."""
    until(process, f"Starting operation: .*{re.escape(operation)}", seconds)


def assert_finished_by_the_next_run(machine: Machine) -> None:
    converge(machine)
    assert_isolated(machine)
    assert dry(machine).predicted == set()
    verify(machine)


@pytest.mark.sample(1)
@pytest.mark.parametrize("when", KILLS)
def test_runs_that_are_killed_are_finished_by_the_next(machine: Machine, when: str) -> None:
    for operation, seconds in KILLS[when]:
        with killed_at_the_end(start(command(machine.name))) as run:
            run_until(run, operation, seconds)
    assert_finished_by_the_next_run(machine)


CUTS = [
    ("Logical volume", 0.8),
    ("/srv/docker-volume is mounted", 1.0),
    ("set aside", 1.5),
]


@pytest.mark.sample(1)
@pytest.mark.parametrize("cuts", [CUTS[:1], CUTS[1:]], ids=["once", "twice"])
def test_host_boots_after_power_cuts_and_the_next_run_finishes(machine: Machine, cuts: list[tuple[str, float]]) -> None:
    for operation, seconds in cuts:
        with killed_at_the_end(start(command(machine.name))) as run:
            run_until(run, operation, seconds)
            cut_and_boot(machine)
            output, _ = run.communicate(timeout=300)
        assert "the connection was lost" in output
    assert_finished_by_the_next_run(machine)


def test_power_cut_inside_mkfs_is_finished_by_the_next_run(machine: Machine) -> None:
    # mkfs is suspended as soon as it runs: the power cut finds half of a filesystem.
    machine.run(
        "systemd-run -q --unit=in-mkfs sh -c 'until pid=$(pgrep -x mkfs.ext4); do :; done; sleep 0.05; kill -STOP $pid; "
        "sync; touch /run/in-mkfs; sleep 3000'"
    )
    with killed_at_the_end(start(command(machine.name))) as run:
        run_until(run, "Filesystem", 0)
        wait_until(lambda: machine.run("test -e /run/in-mkfs && pgrep -x mkfs.ext4", check=False).returncode == 0)
        cut_and_boot(machine)
    assert "pyinfra-unfinished" in machine.out("lvs --noheadings -o lv_tags ubuntu-vg/docker-lv")
    assert_finished_by_the_next_run(machine)


@pytest.mark.full
def test_power_cut_inside_apt_is_finished_by_the_next_run(machines: Callable[..., Machine]) -> None:
    machine = machines("apt", suite="bookworm")
    with killed_at_the_end(start(command(machine.name))) as run:
        run_until(run, "Docker is installed", 0)
        # Packages are unpacked, and none is configured. Suspend dpkg, so that this lasts until the power cut.
        unpacked = "grep -q ' status unpacked docker.io' /var/log/dpkg.log"
        wait_until(lambda: machine.run(unpacked, check=False).returncode == 0, 600)
        machine.run("pkill -STOP -x dpkg; sync")
        cut_and_boot(machine)
    assert machine.out("dpkg --audit"), "the cut came too late: nothing is half installed"
    assert_finished_by_the_next_run(machine)


def test_docker_that_is_used_during_the_run_keeps_its_data_and_runs(machine: Machine) -> None:
    machine.run(
        "systemd-run -q --unit=late sh -c 'until [ -e /dev/mapper/ubuntu--vg-docker--lv ]; do sleep 0.1; done; "
        "tar c /etc/hostname | docker import - late'"
    )
    run = deploy(machine)
    assert run.code == 1
    assert "Docker has been used since this run began: its data was not touched and it runs again." in run.output
    assert machine.out("docker images --format '{{.Repository}}'") == "late"
    assert machine.out("findmnt -no SOURCE /var/lib/docker || echo root") == "root"
    machine.run("docker rmi late")
    assert_finished_by_the_next_run(machine)
