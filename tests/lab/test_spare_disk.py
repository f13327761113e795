"""Debian 13 with a plain root, a blank second disk for Docker (xfs), and a third disk that holds somebody's data."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import assert_isolated, converge, deploy, dry, fingerprint, verify

SETTINGS = {"filesystem": "xfs"}
CHECKSUM = "sha256sum /dev/disk/by-id/virtio-decoy"


@pytest.fixture(scope="module")
def provisioned(machines: Callable[..., Machine]) -> Machine:
    machine = machines("spare", suite="trixie", layout="decoy", docker="preinstalled", settings=SETTINGS)
    checksum = machine.out(CHECKSUM)
    predicted = dry(machine).predicted
    run = converge(machine)
    assert run.changed == predicted
    assert machine.out(CHECKSUM) == checksum, "the decoy disk has changed"
    machine.snapshot("provisioned")
    return machine


def test_host_is_verified(provisioned: Machine) -> None:
    verify(provisioned)


def test_second_run_changes_nothing(provisioned: Machine) -> None:
    assert dry(provisioned).predicted == set()
    assert converge(provisioned).changes == 0


def test_host_boots_without_the_disk_and_docker_stays_down(provisioned: Machine) -> None:
    provisioned.restore("provisioned")
    provisioned.run("sync")
    provisioned.cut()
    provisioned.pull_disk("spare")
    provisioned.boot()
    provisioned.run("systemctl is-system-running --wait || true", timeout=300)
    for unit in ("docker.service", "containerd.service"):
        provisioned.run(f"systemctl start {unit}", check=False, timeout=300)
    assert "active" not in provisioned.out("systemctl is-active docker.service containerd.service || true").split()
    assert provisioned.out("ls -A /var/lib/docker /var/lib/containerd").split() == [
        "/var/lib/containerd:",
        "/var/lib/docker:",
    ]
    refused = deploy(provisioned)
    assert refused.code == 1
    assert "no disk /dev/disk/by-id/virtio-spare" in refused.output
    provisioned.cut()
    provisioned.put_disk_back("spare")
    provisioned.boot()
    provisioned.run("systemctl is-system-running --wait || true", timeout=300)
    assert_isolated(provisioned)


def test_disk_that_carries_anything_is_never_taken(provisioned: Machine) -> None:
    provisioned.restore("provisioned")
    checksum, before = provisioned.out(CHECKSUM), fingerprint(provisioned)
    for disk in ("decoy", "root"):
        refused = deploy(provisioned, volume_disks=[f"/dev/disk/by-id/virtio-{disk}"], volume_group="other-vg")
        assert refused.code == 1
        assert "was left untouched" in refused.output
    assert provisioned.out(CHECKSUM) == checksum
    assert fingerprint(provisioned) == before
