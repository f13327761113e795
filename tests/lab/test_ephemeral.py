"""Debian 12 and 13 with disks that are emptied while the machine is down: a boot makes Docker's volume anew, or refuses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import (
    IMAGE,
    assert_isolated,
    converge,
    converge_as_predicted,
    deploy,
    dry,
    verify,
    wait_until,
    wait_until_booted,
)

# They take turns in the sample, and join it once they have passed on a machine.
pytestmark = [pytest.mark.turn, pytest.mark.full]

SUITES = ("bookworm", "trixie")
SPARE, SECOND = (f"/dev/disk/by-id/virtio-{serial}" for serial in ("spare", "second"))
UNIT = "docker-ephemeral.service"
REASON = f"journalctl --boot --unit {UNIT} --output cat"
ANOTHER_MACHINE = "0b5e55ed-10ab-4d0c-8ead-0123456789ab"
# What is on the disk goes, and somebody else's filesystem comes.
REFORMAT = (
    "systemctl stop docker.socket docker containerd && umount /var/lib/docker /var/lib/containerd /srv/docker-volume && "
    f"vgchange -qq --activate n docker-vg && wipefs -qa {SPARE} && blkdiscard -f {SPARE} && mkfs.ext4 -qF {SPARE} && "
    f"mount {SPARE} /media && echo precious >/media/file && umount /media && sync"
)
PRECIOUS = f"mount -o ro {SPARE} /media && cat /media/file && umount /media"


def state_of_docker(machine: Machine) -> str:
    return machine.out("systemctl is-active docker || true")


def comes_back_empty(machine: Machine) -> None:
    """Boot, and assert that Docker runs on a new volume."""
    machine.boot()
    wait_until_booted(machine)
    wait_until(lambda: state_of_docker(machine) == "active", 180)
    assert_isolated(machine)
    assert machine.out("docker images --quiet") == ""
    assert "Docker's volume was made anew" in machine.out(REASON)


def stays_down(machine: Machine, reason: str) -> None:
    """Boot, and assert that Docker does not run, for this reason."""
    machine.boot()
    wait_until_booted(machine)
    wait_until(lambda: machine.out(f"systemctl is-active {UNIT} || true") == "failed", 180)
    wait_until(lambda: state_of_docker(machine) != "activating", 180)
    assert state_of_docker(machine) != "active"
    printed = machine.out(REASON)
    assert reason in printed, printed
    assert "Nothing was written, and Docker stays down." in printed
    assert machine.run("check-disk --no-alert", check=False).returncode == 2
    assert machine.out("ls -A /var/lib/docker") == ""


@pytest.fixture(scope="module", params=SUITES)
def provisioned(request: pytest.FixtureRequest, machines: Callable[..., Machine]) -> Machine:
    machine = machines(
        f"ephemeral-{request.param}", suite=request.param, layout="instance-store", docker="preinstalled"
    )
    machine.snapshot("fresh")
    converge_as_predicted(machine)
    machine.run(IMAGE)
    machine.run("sync")
    machine.snapshot("provisioned")
    return machine


@pytest.fixture
def machine(provisioned: Machine) -> Machine:
    provisioned.restore("provisioned")
    return provisioned


def test_reboot_keeps_docker_with_its_data_and_a_second_run_changes_nothing(machine: Machine) -> None:
    verify(machine)
    assert converge(machine).changes == 0
    machine.reboot()
    wait_until_booted(machine)
    assert_isolated(machine)
    assert machine.out("docker images --quiet") != ""
    assert "was made anew" not in machine.out(REASON)
    assert dry(machine).predicted == set()


def test_blank_disk_gets_the_volume_at_boot_and_one_alert(machine: Machine) -> None:
    machine.shut_down()
    machine.empty_disk("spare")
    comes_back_empty(machine)
    alerted = machine.run("check-disk --verbose", check=False).stdout + machine.out("journalctl --boot --output cat")
    assert "WARNING: Docker has begun empty: a boot found its disks blank" in alerted
    machine.run("test ! -e /var/lib/bulkhead/emptied")
    machine.run(IMAGE)
    assert converge(machine).changes == 0
    verify(machine)
    machine.reboot()
    wait_until_booted(machine)
    assert_isolated(machine)
    assert machine.out("docker images --quiet") != ""


def test_disk_with_a_filesystem_of_others_is_not_touched(machine: Machine) -> None:
    machine.run(REFORMAT)
    machine.cut()
    stays_down(machine, "carries a signature: ext4")
    assert machine.out(PRECIOUS) == "precious"
    assert deploy(machine).code == 1
    assert machine.out(PRECIOUS) == "precious"


def test_host_without_the_disk_stays_down_until_it_is_back(machine: Machine) -> None:
    machine.cut()
    machine.pull_disk("spare")
    stays_down(machine, f"This host has no disk {SPARE}")
    machine.cut()
    machine.put_disk_back("spare")
    machine.boot()
    wait_until_booted(machine)
    assert_isolated(machine)
    assert machine.out("docker images --quiet") != ""


def test_copy_of_the_root_disk_makes_nothing_until_it_is_deployed(machine: Machine) -> None:
    own = machine.uuid
    machine.cut()
    machine.empty_disk("spare")
    machine.uuid = ANOTHER_MACHINE
    try:
        stays_down(machine, "This machine is not the one that was deployed")
        run = converge(machine)
        assert "is given up, as volume_ephemeral says" in run.output
        assert_isolated(machine)
        machine.shut_down()
        machine.empty_disk("spare")
        comes_back_empty(machine)
    finally:
        machine.uuid = own


def test_striped_volume_is_made_anew_only_if_both_disks_are_blank(provisioned: Machine) -> None:
    machine = provisioned
    machine.restore("fresh")
    both = {"volume_raid": "raid0", "volume_disks": [SPARE, SECOND]}
    converge(machine, **both)
    machine.run(f"{IMAGE} && sync")
    machine.shut_down()
    machine.empty_disk("spare")
    stays_down(machine, "The volume group docker-vg lacks 1 of its disks")
    machine.shut_down()
    machine.empty_disk("second")
    comes_back_empty(machine)
    assert machine.out("lvs --noheadings -o segtype,stripes docker-vg/docker-lv").split() == ["striped", "2"]
    assert converge(machine, **both).changes == 0


# Seconds after the start of QEMU: the unit runs somewhere in them, sooner with KVM than without.
_random = random.Random(20261130)
MOMENTS = [round(_random.uniform(5, 60), 1) for _ in range(12)]


@pytest.mark.sample(3, of="boots that are cut")
@pytest.mark.in_turn("provisioned")
@pytest.mark.parametrize("seconds", MOMENTS)
def test_boot_that_a_power_cut_ends_is_finished_by_the_next_one(machine: Machine, seconds: float) -> None:
    machine.shut_down()
    machine.empty_disk("spare")
    machine._start()
    time.sleep(seconds)
    machine.cut()
    machine.boot()
    wait_until_booted(machine)
    wait_until(lambda: state_of_docker(machine) == "active", 180)
    assert_isolated(machine)
    assert machine.out("vgs --noheadings -o vg_tags docker-vg") == ""
    assert converge(machine).changes == 0
