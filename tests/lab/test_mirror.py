"""Debian 12 and 13 with a plain root and two blank disks: Docker's volume is a mirror, and one of its disks is lost."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from lab.deploy import command
from lab.machine import Machine
from tests.lab.conftest import (
    IMAGE,
    assert_isolated,
    converge,
    converge_as_predicted,
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

# They take turns in the sample, and join it once they have passed on a machine.
pytestmark = [pytest.mark.turn, pytest.mark.full]

SUITES = ("bookworm", "trixie")
SPARE, SECOND, NEW = (f"/dev/disk/by-id/virtio-{serial}" for serial in ("spare", "second", "new"))
VOLUME = "docker-vg/docker-lv"
HEALTH = f"lvs --noheadings -o segtype,lv_health_status,sync_percent {VOLUME}"
WRITER = "docker run --detach --name writer --restart always box sh -c 'while echo x >>/log; do sleep 0.2; done'"
WRITTEN = "docker exec writer sh -c 'sync; cat /log' | wc -l"
SIZE = "df --output=size -B1M /srv/docker-volume | tail -n 1"
# The kernel forgets the disk, whoever uses it: as if it were pulled out.
PULL = 'disk=$(basename "$(readlink -f %s)"); echo 1 >"$(readlink -f /sys/block/$disk/device)/../remove"'
REPAIR = (
    f"vgextend -qq docker-vg {NEW} && lvconvert -qq --yes --repair {VOLUME} && vgreduce -qq --removemissing docker-vg"
)


def is_synchronized(machine: Machine) -> bool:
    return machine.out(HEALTH).split() == ["raid1", "100.00"]


def writes(machine: Machine) -> None:
    """Assert that the container writes, and that what it writes arrives."""
    before = int(machine.out(WRITTEN))
    wait_until(lambda: int(machine.out(WRITTEN)) > before, 60)


@pytest.fixture(scope="module", params=SUITES)
def mirrored(request: pytest.FixtureRequest, machines: Callable[..., Machine]) -> Machine:
    machine = machines(f"mirror-{request.param}", suite=request.param, layout="two-disks", docker="preinstalled")
    machine.snapshot("fresh")
    converge_as_predicted(machine)
    machine.run(IMAGE)
    machine.run(WRITER)
    wait_until(lambda: is_synchronized(machine), 1800)
    machine.run("sync")
    machine.snapshot("provisioned")
    return machine


@pytest.fixture
def machine(mirrored: Machine) -> Machine:
    mirrored.restore("provisioned")
    return mirrored


def test_fresh_host_gets_a_mirror_and_a_second_run_changes_nothing(machine: Machine) -> None:
    verify(machine)
    assert dry(machine).predicted == set()
    assert converge(machine).changes == 0
    assert f"{VOLUME} has both copies" in machine.out("bulkhead status")
    machine.reboot()
    wait_until_booted(machine)
    assert_isolated(machine)
    writes(machine)


def test_docker_goes_on_when_a_disk_is_pulled_out_and_a_new_one_takes_its_place(machine: Machine) -> None:
    machine.run(PULL % SECOND)
    writes(machine)
    checked = machine.run("check-disk", check=False)
    assert checked.returncode == 1
    assert f"mirror {VOLUME}" in checked.stdout
    assert "what is written has one copy" in machine.out("bulkhead status")
    machine.run("sync")
    machine.cut()
    machine.pull_disk("second")
    machine.add_disk("new", "8G")
    machine.boot()
    wait_until_booted(machine)
    assert_isolated(machine)
    writes(machine)
    before = fingerprint(machine)
    refused = deploy(machine)
    assert refused.code == 1
    assert f"the mirror {VOLUME} has one copy left, which Docker uses" in refused.output
    assert "replace_lost_volumes" not in refused.output
    assert fingerprint(machine) == before
    machine.run(REPAIR, timeout=600)
    wait_until(lambda: is_synchronized(machine), 1800)
    assert converge(machine, volume_disks=[SPARE, NEW]).changes == 0
    assert f"{VOLUME} has both copies" in machine.out("bulkhead status")
    writes(machine)


@pytest.mark.parametrize("serial", ["spare", "second"])
def test_host_boots_without_a_disk_and_uses_it_again_when_it_is_back(machine: Machine, serial: str) -> None:
    machine.cut()
    machine.pull_disk(serial)
    machine.boot()
    wait_until_booted(machine)
    wait_until(lambda: machine.out("systemctl is-active docker || true") == "active", 180)
    assert_isolated(machine)
    writes(machine)
    machine.run("sync")
    machine.cut()
    machine.put_disk_back(serial)
    machine.boot()
    wait_until_booted(machine)
    machine.run(f"lvchange -qq --refresh {VOLUME}")
    wait_until(lambda: is_synchronized(machine), 1800)
    assert converge(machine).changes == 0
    machine.run(f"lvchange -qq --syncaction check {VOLUME}")
    wait_until(lambda: machine.out(f"lvs --noheadings -o raid_sync_action {VOLUME}") == "idle", 1800)
    writes(machine)


@pytest.mark.parametrize("is_running", [True, False], ids=["lost while it runs", "lost at a boot"])
def test_stale_disk_is_not_used_alone_and_the_other_one_wins(machine: Machine, is_running: bool) -> None:
    if is_running:
        machine.run(PULL % SECOND)
        writes(machine)
        machine.run("check-disk", check=False)
        machine.run("sync")
        machine.cut()
    else:
        machine.cut()
        machine.pull_disk("second")
        machine.boot()
        wait_until_booted(machine)
        wait_until(lambda: machine.out("systemctl is-active docker || true") == "active", 180)
        writes(machine)
        machine.run("docker volume create later && sync")
        machine.cut()
        machine.put_disk_back("second")
    assert_stale(machine)
    machine.put_disk_back("spare")
    machine.boot()
    wait_until_booted(machine)
    machine.run(f"lvchange -qq --refresh {VOLUME}")
    wait_until(lambda: is_synchronized(machine), 1800)
    assert_isolated(machine)
    writes(machine)
    if not is_running:
        assert "later" in machine.out("docker volume ls --quiet").split()
    machine.run("check-disk", check=False)
    machine.run("[ ! -e /etc/docker-mirror ]")
    machine.run(f"lvchange -qq --syncaction check {VOLUME}")
    wait_until(lambda: machine.out(f"lvs --noheadings -o raid_sync_action {VOLUME}") == "idle", 1800)


def assert_stale(machine: Machine) -> None:
    """Boot with the second disk alone, and assert that Docker stays down, with the reason."""
    machine.pull_disk("spare")
    machine.boot()
    wait_until_booted(machine)
    wait_until(lambda: machine.out("systemctl is-active docker-mirror || true") == "failed", 180)
    assert machine.out("systemctl is-active docker || true") != "active"
    assert "is stale. Docker has written to the other one since" in machine.out("journalctl -b -u docker-mirror")
    checked = machine.run("check-disk", check=False)
    assert checked.returncode == 2
    assert f"mirror {VOLUME} lacks a disk, and is not active" in checked.stdout
    machine.cut()


def test_mirror_grows_with_both_disks_while_a_container_writes(machine: Machine) -> None:
    size = int(machine.out(SIZE))
    for serial in ("spare", "second"):
        machine.grow_disk(serial, "18G")
    for disk in (SPARE, SECOND):
        wait_until(lambda disk=disk: machine.out(f"blockdev --getsize64 {disk}") == str(18 * 2**30))  # type: ignore[misc]
    converge_as_predicted(machine)
    assert int(machine.out(SIZE)) - size > 9000
    assert machine.out(HEALTH).split()[0] == "raid1"
    writes(machine)
    cut_and_boot(machine)
    verify(machine)


def test_snapshot_of_a_mirror_is_taken_and_gone_back_to(machine: Machine) -> None:
    machine.run("bulkhead snapshot create --size 1G && docker volume create later", timeout=600)
    machine.run("bulkhead snapshot rollback --yes", timeout=900)
    assert "later" not in machine.out("docker volume ls --quiet").split()
    assert machine.out(HEALTH).split()[0] == "raid1"
    writes(machine)


def test_volume_with_one_copy_becomes_a_mirror_by_the_commands_of_the_message(mirrored: Machine) -> None:
    machine = mirrored
    machine.restore("fresh")
    one = {"volume_raid": "", "volume_disks": [SPARE]}
    converge(machine, **one)
    machine.run(f"{IMAGE} && {WRITER}")
    refused = deploy(machine)
    assert refused.code == 1
    assert f"`vgextend docker-vg {SECOND}` and `lvconvert --type raid1 --mirrors 1 {VOLUME}`" in refused.output
    machine.run(f"vgextend -qq docker-vg {SECOND} && lvconvert -qq --yes --type raid1 --mirrors 1 {VOLUME}")
    run = converge(machine)
    assert not any("Logical volume" in name for name in run.changed)
    writes(machine)
    wait_until(lambda: is_synchronized(machine), 1800)
    verify(machine)


# Where in the run the power is cut, and how many seconds after that line.
STEPS = ("is a physical volume", "holds the named disks", "Logical volume", "Filesystem", "docker-mirror")
_random = random.Random(20261129)
MOMENTS = [(step, round(_random.uniform(0, 1.5), 2)) for step in STEPS for _ in range(4)]


@pytest.mark.sample(2, of="mirrors that are cut")
@pytest.mark.in_turn("mirrored")
@pytest.mark.parametrize(("step", "seconds"), MOMENTS)
def test_run_that_a_power_cut_ends_is_finished_by_the_next_one(mirrored: Machine, step: str, seconds: float) -> None:
    machine = mirrored
    machine.restore("fresh")
    with killed_at_the_end(start(command(machine.name))) as run:
        until(run, f"Starting operation: .*{step}", seconds)
        cut_and_boot(machine)
    converge(machine)
    assert_isolated(machine)
    assert machine.out(HEALTH).split()[0] == "raid1"
    assert dry(machine).predicted == set()
