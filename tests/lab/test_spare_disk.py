"""Debian 13 with a plain root, a blank second disk for Docker (xfs), and a third disk that holds somebody's data."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import (
    assert_isolated,
    converge,
    converge_as_predicted,
    deploy,
    dry,
    fingerprint,
    verify,
    wait_until_booted,
)

SETTINGS = {"filesystem": "xfs"}
CHECKSUM = "sha256sum /dev/disk/by-id/virtio-decoy"


@pytest.fixture(scope="module")
def provisioned(machines: Callable[..., Machine]) -> Machine:
    machine = machines("spare", suite="trixie", layout="decoy", docker="preinstalled", settings=SETTINGS)
    checksum = machine.out(CHECKSUM)
    converge_as_predicted(machine)
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
    wait_until_booted(provisioned)
    provisioned.run("systemctl start docker.service containerd.service", check=False, timeout=300)
    assert "active" not in provisioned.out("systemctl is-active docker.service containerd.service || true").split()
    assert provisioned.out("ls -A /var/lib/docker /var/lib/containerd").split() == [
        "/var/lib/containerd:",
        "/var/lib/docker:",
    ]
    refused = deploy(provisioned)
    assert refused.code == 1
    assert "no disk /dev/disk/by-id/virtio-spare" in refused.output
    assert "the volume docker-vg/docker-lv for /srv/docker-volume is not there" in refused.output
    provisioned.cut()
    provisioned.put_disk_back("spare")
    provisioned.boot()
    wait_until_booted(provisioned)
    assert_isolated(provisioned)


def test_nothing_takes_the_place_of_a_volume_that_is_lost_with_its_disk(provisioned: Machine) -> None:
    machine = provisioned
    machine.restore("provisioned")
    machine.run("sync")
    machine.cut()
    machine.pull_disk("spare")
    machine.boot()
    wait_until_booted(machine)
    # The owner of the third disk has blanked it, and gives it to Docker.
    disk = "/dev/disk/by-id/virtio-decoy"
    machine.run(f"blkdiscard --zeroout {disk} || dd if=/dev/zero of={disk} bs=1M; udevadm settle", timeout=900)
    refused = deploy(machine, volume_disks=[disk])
    assert refused.code == 1
    assert "only if its data is gone for good, set replace_lost_volumes = True" in refused.output
    assert machine.out("pvs --noheadings") == ""


def test_disk_that_carries_anything_is_never_taken(provisioned: Machine) -> None:
    provisioned.restore("provisioned")
    checksum, before = provisioned.out(CHECKSUM), fingerprint(provisioned)
    for disk in ("decoy", "root"):
        refused = deploy(provisioned, volume_disks=[f"/dev/disk/by-id/virtio-{disk}"], volume_group="other-vg")
        assert refused.code == 1
        assert "was left untouched" in refused.output
    assert provisioned.out(CHECKSUM) == checksum
    assert fingerprint(provisioned) == before


def test_disk_whose_first_mebibyte_was_zeroed_is_not_blank(provisioned: Machine) -> None:
    provisioned.restore("provisioned")
    disk = "/dev/disk/by-id/virtio-decoy"
    provisioned.run(f"dd if=/dev/zero of={disk} bs=1M count=1 conv=fsync; udevadm settle")
    assert provisioned.out(f"wipefs --no-act {disk}") == ""
    checksum = provisioned.out(CHECKSUM)
    refused = deploy(provisioned, volume_disks=[disk], volume_group="other-vg")
    assert refused.code == 1
    assert "it is not all zeros" in refused.output
    assert provisioned.out(CHECKSUM) == checksum


def test_disk_that_the_host_runs_on_is_refused_without_a_recipe(provisioned: Machine) -> None:
    provisioned.restore("provisioned")
    root = provisioned.out("lsblk -npo PKNAME $(findmnt -no SOURCE /) | grep . || findmnt -no SOURCE /").split()[0]
    before = fingerprint(provisioned)
    refused = deploy(provisioned, volume_disks=["/dev/disk/by-id/virtio-spare", root])
    assert refused.code == 1
    assert "this host uses this one" in refused.output
    assert "wipefs" not in refused.output
    assert fingerprint(provisioned) == before


def test_devices_that_do_not_stay_are_refused(provisioned: Machine) -> None:
    provisioned.restore("provisioned")
    provisioned.run("truncate -s 2G /root/file && losetup /dev/loop0 /root/file")
    for device, kind in {"/dev/loop0": "a loop device", "/dev/ram0": "a RAM disk"}.items():
        refused = deploy(provisioned, volume_disks=[device], volume_group="other-vg")
        assert refused.code == 1
        assert f"is {kind}" in refused.output
    assert provisioned.out("pvs --noheadings -o pv_name | wc -l") == "1"


def test_provisioned_group_is_known_by_its_name_when_the_kernels_names_have_changed(provisioned: Machine) -> None:
    """The name in the settings means root's disk, as after a boot in another order: nothing is done to it."""
    provisioned.restore("provisioned")
    checksum = provisioned.out(CHECKSUM)
    other = provisioned.out("readlink -f /dev/disk/by-id/virtio-decoy")
    run = converge(provisioned, volume_disks=[other])
    assert run.changes == 0
    assert f"{other} is not used: the volume group docker-vg is complete without it" in run.output
    assert provisioned.out(CHECKSUM) == checksum


def test_group_is_extended_by_a_further_disk_and_the_volume_grows_while_containers_run(provisioned: Machine) -> None:
    machine = provisioned
    machine.restore("provisioned")
    # The owner of the third disk has blanked it, and gives it to Docker too.
    disk = "/dev/disk/by-id/virtio-decoy"
    machine.run(f"blkdiscard --zeroout {disk} || dd if=/dev/zero of={disk} bs=1M; udevadm settle", timeout=900)
    machine.run(
        "mkdir -p image/bin && cp /bin/busybox image/bin/sh && tar -C image -c . | docker import - box >/dev/null && "
        "docker run --detach --name writer --restart always box sh -c 'while echo x >>/log; do sleep 0.2; done'"
    )
    started = machine.out("docker inspect --format '{{.State.StartedAt}}' writer")
    size = int(machine.out("df --output=size -B1M /srv/docker-volume | tail -n 1"))
    disks = ["/dev/disk/by-id/virtio-spare", disk]
    run = converge_as_predicted(machine, volume_disks=disks)
    assert "Volume | Volume group docker-vg holds the named disks" in run.changed
    grown = int(machine.out("df --output=size -B1M /srv/docker-volume | tail -n 1"))
    added = int(machine.out(f"blockdev --getsize64 {disk}")) // 2**20
    assert grown - size > 0.9 * added
    assert machine.out("docker inspect --format '{{.State.StartedAt}} {{.State.Running}}' writer") == f"{started} true"
    assert machine.out("vgs --noheadings -o pv_count docker-vg") == "2"
    assert dry(machine, volume_disks=disks).predicted == set()
