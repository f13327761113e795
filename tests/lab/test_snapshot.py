"""Snapshots of Docker's volume: take one, roll back even across a power cut, and remove it before it does harm."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import (
    IMAGE,
    assert_isolated,
    converge,
    cut_the_move,
    in_time,
    killed_at_the_end,
    start,
    wait_until,
)
from tests.lab.test_guard import VOLUME, journal

pytestmark = pytest.mark.turn

SETTINGS = {"volume_size": "6G"}
SENTINEL = (
    f"cd {VOLUME}/docker/volumes/named/_data && sha256sum data && "
    "docker run --rm --network none box sh -c 'cd /bin && cat sh dd sleep' | sha256sum"
)


@pytest.fixture(scope="module")
def used(machines: Callable[..., Machine]) -> Machine:
    """Return a host with an image, a volume with data and a running container."""
    machine = machines("saved", suite="bookworm", docker="preinstalled")
    converge(machine, **SETTINGS)
    machine.run(IMAGE)
    machine.run(
        f"docker volume create named && head -c 50000000 /dev/urandom >{VOLUME}/docker/volumes/named/_data/data && "
        "docker run --detach --restart always --network none --name web -v named:/data box sleep 100000 && sync"
    )
    machine.run("systemctl stop cron docker-prune.timer")
    machine.snapshot("used")
    return machine


@pytest.fixture
def machine(used: Machine) -> Machine:
    used.restore("used")
    return used


def volumes(machine: Machine) -> set[str]:
    return set(machine.out("lvs --noheadings -o lv_name ubuntu-vg").split())


def take_snapshot(machine: Machine) -> str:
    """Take a snapshot, then change everything. Return the sentinel from before the change."""
    sentinel = machine.out(SENTINEL)
    machine.run("bulkhead snapshot create", timeout=900)
    machine.run(
        f"head -c 20000000 /dev/urandom >{VOLUME}/docker/volumes/named/_data/data && cp /bin/true /root/image/bin/more && "
        "tar -C /root/image -c . | docker import - later && docker volume create new && docker rm --force web && "
        "docker run --detach --network none --name late later sleep 100000 && docker rmi box && sync",
        timeout=300,
    )
    assert machine.run(SENTINEL, check=False).stdout.strip() != sentinel
    return sentinel


def assert_back(machine: Machine, sentinel: str) -> None:
    assert machine.out("docker ps --all --format '{{.Names}}'") == "web"
    assert machine.out("docker images --format '{{.Repository}}'") == "box"
    assert machine.out("docker volume ls --quiet") == "named"
    wait_until(lambda: machine.out("docker inspect --format '{{.State.Running}}' web") == "true")
    assert machine.out(SENTINEL) == sentinel
    assert_isolated(machine)
    wait_until(lambda: volumes(machine) == {"ubuntu-lv", "docker-lv"}, 300)


def assert_untouched(machine: Machine) -> None:
    assert machine.out("docker ps --all --format '{{.Names}} {{.State}}'") == "late running"
    assert volumes(machine) == {"ubuntu-lv", "docker-lv", "docker-lv-snapshot"}
    assert_isolated(machine)


@pytest.mark.sample(2, of="snapshots")
def test_rollback_names_what_is_lost_and_brings_everything_back(machine: Machine) -> None:
    sentinel = take_snapshot(machine)
    (shown,) = json.loads(machine.out("bulkhead snapshot list --json"))
    assert 0 < shown["percent"] < 50
    refused = machine.run("bulkhead snapshot rollback", check=False, timeout=900)
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    # Somebody has mounted the snapshot: LVM could not merge it before the next activation of the volume.
    machine.run("mount -o ro /dev/ubuntu-vg/docker-lv-snapshot /mnt")
    refused = machine.run("bulkhead snapshot rollback --yes", check=False, timeout=900)
    assert refused.returncode == 1
    assert "docker-lv-snapshot is open" in refused.stdout + refused.stderr
    assert_untouched(machine)
    machine.run("umount /mnt")
    output = machine.out("bulkhead snapshot rollback --yes", timeout=900)
    for lost in ("late", "new", "later"):
        assert lost in output
    assert_back(machine, sentinel)


# How to see that the rollback stops Docker, that it has started LVM's merge, and that it starts Docker again.
MOMENTS = {
    "stopping": "grep -qs stopping /var/lib/bulkhead/rollback.json",
    # LVM hides the snapshot during the merge, and then removes it.
    "told": "! lvs --noheadings -o lv_name ubuntu-vg | grep -q snapshot",
    "checking": "grep -qs checking /var/lib/bulkhead/rollback.json",
}


@pytest.mark.sample(2, of="snapshots")
@pytest.mark.parametrize(
    # Docker kills the container `late` 10 s after it has asked it to stop.
    ("moment", "seconds"),
    [("stopping", 0.0), ("stopping", 4.0), ("told", 0.0), ("checking", 0.0), ("checking", 0.3)],
)
def test_rollback_is_finished_or_has_not_begun_after_a_power_cut(machine: Machine, moment: str, seconds: float) -> None:
    sentinel = machine.out(SENTINEL)

    def cut(seconds: float) -> None:
        assert take_snapshot(machine) == sentinel
        with killed_at_the_end(start([*machine.ssh_command(user="root"), "bulkhead snapshot rollback --yes"])):
            wait_until(lambda: machine.run(MOMENTS[moment], check=False).returncode == 0)
            time.sleep(seconds)
            cut_the_move(machine)

    in_time(cut, seconds, lambda: machine.restore("used"))
    if moment == "stopping":
        assert_untouched(machine)
        machine.run("bulkhead snapshot rollback --yes", timeout=900)
    assert_back(machine, sentinel)


@pytest.mark.sample(2, of="snapshots")
def test_snapshot_is_removed_before_it_is_full_and_when_it_is_old(machine: Machine) -> None:
    sentinel = machine.out(SENTINEL)
    machine.run("bulkhead snapshot create --size 200M", timeout=900)
    again = machine.run("bulkhead snapshot create", check=False)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    fill = (
        "for n in 1 2 3 4 5 6 7 8 9; do dd if=/dev/zero of=hog$n bs=1M count=21 conv=fsync 2>/dev/null; sleep 4; done"
    )
    machine.run(f"cd {VOLUME} && {fill}; rm hog*", timeout=300)
    wait_until(lambda: volumes(machine) == {"ubuntu-lv", "docker-lv"}, 300)
    wait_until(lambda: "% full, and would soon be lost" in journal(machine))
    machine.run("bulkhead snapshot create && date -s '+2 days'", timeout=900)
    wait_until(lambda: volumes(machine) == {"ubuntu-lv", "docker-lv"}, 300)
    wait_until(lambda: "h old" in journal(machine))
    assert machine.out(SENTINEL) == sentinel
    assert machine.out("docker ps --format '{{.Names}}'") == "web"


@pytest.mark.sample(2, of="snapshots")
def test_dropped_snapshot_leaves_the_volume_as_it_is(machine: Machine) -> None:
    take_snapshot(machine)
    machine.run("bulkhead snapshot drop")
    assert volumes(machine) == {"ubuntu-lv", "docker-lv"}
    assert machine.out("docker ps --format '{{.Names}}'") == "late"
    nothing = machine.run("bulkhead snapshot rollback --yes", check=False)
    assert nothing.returncode == 1
    assert "there is no snapshot" in nothing.stderr
    # LVM ends a merge in two steps. A power cut between them leaves such a volume.
    machine.run("lvcreate -qq -y -L 1G -n docker-lv-snapshot --addtag bulkhead-snapshot ubuntu-vg")
    wait_until(lambda: volumes(machine) == {"ubuntu-lv", "docker-lv"}, 300)
    wait_until(lambda: "a power cut has left" in journal(machine))
