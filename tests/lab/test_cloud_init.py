"""A new machine leaves the end of its disk to Docker by cloud-init. Debian 12 and 13."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import converge, converge_as_predicted, dry, verify, wait_until_booted

# They take turns in the sample, and join it once they have passed on a machine.
pytestmark = [pytest.mark.turn, pytest.mark.full]


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest, machines: Callable[..., Machine]) -> Machine:
    return machines(f"cloud-{request.param}", suite=request.param, layout="cloud-init", docker="preinstalled")


def test_root_grows_up_to_the_partition_that_becomes_dockers_disk(machine: Machine) -> None:
    assert "done" in machine.out("cloud-init status")
    root, docker = (int(machine.out(f"blockdev --getsize64 /dev/vda{n}")) / 2**30 for n in (1, 2))
    assert 19.9 < root < 20
    assert 19.9 < docker < 20.1
    assert 19 < int(machine.out("df --output=size -B1 / | tail -n 1")) / 2**30 < 20, "the filesystem has grown too"
    converge_as_predicted(machine)
    assert machine.out("pvs --noheadings -o pv_name").split() == ["/dev/vda2"]
    verify(machine)


def test_second_run_changes_nothing_after_a_reboot(machine: Machine) -> None:
    machine.reboot()
    wait_until_booted(machine)
    assert machine.out("lsblk -nro NAME /dev/vda").splitlines()[:2] == ["vda", "vda1"]
    assert dry(machine).predicted == set()
    assert converge(machine).changes == 0
    verify(machine)
