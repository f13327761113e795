"""A deploy beside other package managers: it waits for their locks, and removes none of their packages without consent."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lab.deploy import command
from lab.machine import Machine
from lab.repository import LabRepository
from tests.lab.conftest import assert_isolated, converge, deploy, dry, fingerprint, start, wait_until
from tests.lab.test_engines import from_repository

pytestmark = pytest.mark.turn

LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
# glibc translates under C.UTF-8 too, with apt's own catalogue. sshd's pam_env reads the file.
IN_GERMAN = r"printf 'LC_ALL=C.UTF-8\nLANGUAGE=de\n' >>/etc/environment"


@pytest.fixture(scope="module")
def fresh(machines: Callable[..., Machine]) -> Machine:
    machine = machines("packages", suite="bookworm")
    machine.snapshot("fresh")
    return machine


@pytest.fixture
def machine(fresh: Machine) -> Machine:
    fresh.restore("fresh")
    return fresh


def hold(machine: Machine, lock: str, seconds: int) -> None:
    """Hold a lock as apt and dpkg do."""
    code = f"import fcntl, time; f = open('{lock}', 'a'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep({seconds})"
    machine.run(f'systemd-run --quiet --unit=holds python3 -c "{code}"')


def waits(machine: Machine) -> bool:
    """Return whether one and the same command of apt or dpkg takes a minute: its messages are in a file of its own."""
    names = "ls /run/apt-messages.* 2>/dev/null; true"
    before = {*machine.out(names).split()}
    time.sleep(60)
    return bool(before & {*machine.out(names).split()})


@pytest.mark.sample(1, of="apt's locks")
@pytest.mark.parametrize("lock", LOCKS)
def test_lock_of_another_package_manager_is_waited_for_on_a_host_that_speaks_german(
    machine: Machine, lock: str
) -> None:
    machine.run(IN_GERMAN)
    hold(machine, lock, 3000)
    run = start(command(machine.name))
    try:
        wait_until(lambda: waits(machine), 600)
        assert machine.out("systemctl show --property ActiveState --value holds.service") == "active"
        assert run.poll() is None
    finally:
        machine.run("systemctl stop holds.service")
    output, _ = run.communicate(timeout=1200)
    assert run.returncode == 0, output
    assert_isolated(machine)
    assert dry(machine).predicted == set()


@pytest.mark.sample(1, of="apt's locks")
def test_lock_that_is_held_too_long_ends_the_run_with_its_name_and_the_next_one_finishes(machine: Machine) -> None:
    machine.run(IN_GERMAN)
    for lock in LOCKS:
        hold(machine, lock, 900)
        refused = deploy(machine, apt_lock_timeout=5)
        assert refused.code == 1
        assert f"Could not get lock {lock}" in refused.output
        machine.run("systemctl stop holds.service")
    converge(machine)
    assert_isolated(machine)


@pytest.mark.sample(1, of="Docker's repository")
def test_containerd_of_the_distribution_is_a_finding_and_both_ways_out_lead_on(
    machine: Machine, repository: LabRepository
) -> None:
    machine.run("apt-get -qq update && apt-get -qq -y install --no-install-recommends containerd", timeout=900)
    machine.snapshot("containerd")
    before = fingerprint(machine)
    refused = deploy(machine, **from_repository(repository, engine_change=False))
    assert refused.code == 1
    assert "found:  containerd and runc are installed" in refused.output
    assert fingerprint(machine) == before
    converge(machine, engine_source="distro")
    assert_isolated(machine)
    machine.restore("containerd")
    converge(machine, **from_repository(repository))
    assert_isolated(machine)
    assert machine.out("dpkg-query -W -f '${db:Status-Status}' containerd.io") == "installed"


@pytest.mark.sample(1, of="Docker's repository")
def test_package_that_needs_the_old_containerd_is_named_and_nothing_is_changed(
    machine: Machine, repository: LabRepository
) -> None:
    control = r"Package: needs-containerd\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDepends: containerd\nDescription: x\n"
    machine.run(
        f"mkdir -p /root/needs/DEBIAN && printf '{control}' >/root/needs/DEBIAN/control && dpkg-deb -b /root/needs && "
        "apt-get -qq update && apt-get -qq -y install --no-install-recommends gpg ca-certificates /root/needs.deb",
        timeout=900,
    )  # a run installs the first two, to verify repositories
    state = "dpkg-query -W; lsblk; lvs; cat /etc/fstab; ls -A /var/lib /srv /etc/docker /etc/systemd/system 2>&1; true"
    before = machine.out(state)
    refused = deploy(machine, **from_repository(repository))
    assert refused.code == 1
    assert "apt would remove needs-containerd. Neither was done. This run has changed nothing but apt" in refused.output
    assert machine.out(state) == before
    machine.run("apt-get -qq -y purge needs-containerd")
    converge(machine, **from_repository(repository))
    assert_isolated(machine)
