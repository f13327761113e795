"""Debian 12 with a plain root, a blank disk of 20 GB and one that holds data: a disk that is chosen by a rule, and that grows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.deploy import command
from lab.machine import Machine
from tests.lab.conftest import (
    IMAGE,
    assert_isolated,
    converge,
    cut_and_boot,
    deploy,
    dry,
    fingerprint,
    killed_at_the_end,
    start,
    until,
    verify,
    wait_until,
    wait_until_booted,
)

pytestmark = pytest.mark.full

SPARE = "/dev/disk/by-id/virtio-spare"
SETTINGS = {"volume_disks": "blank", "volume_bytes_per_inode": 8192, "volume_mount_options": ["noatime"]}
CHECKSUM = "sha256sum /dev/disk/by-id/virtio-decoy"
PHYSICAL_VOLUMES = "pvs --noheadings -o pv_name -S vg_name=docker-vg"
SIZE = "df --output=size -B1M /srv/docker-volume | tail -n 1"
STARTED = "docker inspect --format '{{.State.StartedAt}} {{.State.Running}}' writer"


@pytest.fixture(scope="module")
def provisioned(machines: Callable[..., Machine]) -> Machine:
    machine = machines("disks", suite="bookworm", layout="decoy", docker="preinstalled", settings=SETTINGS)
    machine.snapshot("fresh")
    checksum = machine.out(CHECKSUM)
    predicted = dry(machine).predicted
    assert f"Volume | {SPARE} is a physical volume" in predicted
    run = converge(machine)
    assert run.changed == predicted
    assert machine.out(PHYSICAL_VOLUMES) == machine.out(f"readlink -f {SPARE}")
    assert machine.out(CHECKSUM) == checksum, "the decoy disk has changed"
    machine.run(IMAGE)
    machine.snapshot("provisioned")
    return machine


@pytest.fixture
def machine(provisioned: Machine) -> Machine:
    provisioned.restore("provisioned")
    return provisioned


def test_host_with_a_chosen_disk_is_verified_and_a_second_run_changes_nothing(machine: Machine) -> None:
    verify(machine)
    assert dry(machine).predicted == set()
    assert converge(machine).changes == 0


def test_further_blank_disk_is_not_taken_after_a_reboot(machine: Machine) -> None:
    machine.add_disk("further", "30G")
    machine.reboot()
    wait_until_booted(machine)
    assert "30G" in machine.out("lsblk --noheadings --nodeps --output SIZE /dev/disk/by-id/virtio-further")
    assert dry(machine).predicted == set()
    assert converge(machine).changes == 0
    assert machine.out(PHYSICAL_VOLUMES) == machine.out(f"readlink -f {SPARE}")
    assert machine.out("wipefs --no-act /dev/disk/by-id/virtio-further") == ""


def test_one_of_two_blank_disks_is_never_guessed(provisioned: Machine) -> None:
    machine = provisioned
    machine.restore("fresh")
    machine.add_disk("further", "25G")
    machine.add_disk("config", "64M")
    machine.reboot()
    wait_until_booted(machine)
    before = fingerprint(machine)
    refused = deploy(machine)
    assert refused.code == 1
    assert '2 disks fit "blank" in volume_disks' in refused.output
    assert f'volume_disks = ["{SPARE}", "/dev/disk/by-id/virtio-further"]' in refused.output
    assert fingerprint(machine) == before
    for changes in ({"volume_disk_minimum": "22G"}, {"volume_disks": "/dev/disk/by-id/virtio-f*"}):
        predicted = dry(machine, **changes).predicted
        assert "Volume | /dev/disk/by-id/virtio-further is a physical volume" in predicted
    converge(machine, volume_disks="/dev/disk/by-id/virtio-f*")
    assert_isolated(machine)
    assert dry(machine, volume_disks="/dev/disk/by-id/virtio-f*").predicted == set()
    assert machine.out("wipefs --no-act /dev/disk/by-id/virtio-config; wipefs --no-act " + SPARE) == ""


def test_volume_follows_a_disk_that_grows_while_a_container_runs(machine: Machine) -> None:
    machine.run(
        "docker run --detach --name writer --restart always box sh -c 'while echo x >>/log; do sleep 0.2; done'"
    )
    started, size = machine.out(STARTED), int(machine.out(SIZE))
    machine.grow_disk("spare", "30G")
    wait_until(lambda: machine.out(f"blockdev --getsize64 {SPARE}") == str(30 * 2**30))
    assert "has grown by 10G" in machine.out("bulkhead status")
    planned = dry(machine)
    assert f"{SPARE} has grown from 20.0 GiB to 30.0 GiB" in planned.output
    run = converge(machine)
    assert run.changed == planned.predicted
    assert int(machine.out(SIZE)) - size > 9000  # of 10 GB, 5 % for the reserve
    assert machine.out(STARTED) == started
    assert "has grown" not in machine.out("bulkhead status")
    assert dry(machine).predicted == set()
    cut_and_boot(machine)
    assert_isolated(machine)
    assert int(machine.out(SIZE)) - size > 9000
    verify(machine)


def test_growth_that_a_power_cut_ends_is_finished_by_the_next_run(machine: Machine) -> None:
    size = int(machine.out(SIZE))
    machine.grow_disk("spare", "30G")
    wait_until(lambda: machine.out(f"blockdev --getsize64 {SPARE}") == str(30 * 2**30))
    with killed_at_the_end(start(command(machine.name))) as run:
        until(run, "Starting operation: .*is used over its whole size", 0.5)
        machine.cut()
    machine.boot()
    wait_until_booted(machine)
    assert_isolated(machine)
    converge(machine)
    assert int(machine.out(SIZE)) - size > 9000
    assert dry(machine).predicted == set()


def test_filesystem_has_the_inodes_and_the_mount_options_of_the_settings(machine: Machine) -> None:
    found = machine.out(
        "tune2fs -l /dev/docker-vg/docker-lv | awk -F: '/^Block count|^Block size|^Inode count/ { print $2 + 0 }'"
    )
    inodes, blocks, block_size = map(int, found.split())
    assert 0.95 < inodes * 8192 / (blocks * block_size) < 1.05
    assert int(machine.out("df --output=itotal /srv/docker-volume | tail -n 1")) == inodes
    assert "noatime" in machine.out("findmnt -no OPTIONS /srv/docker-volume")
    run = converge(machine, volume_bytes_per_inode=16384)
    assert run.changes == 0
    assert "it applies when a filesystem is made, and this one stays as it is" in run.output
