"""Sources of the engine: Docker's repository with its key and its pin, an installed engine, a newer one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import LabError
from lab.deploy import command
from lab.machine import Machine
from lab.repository import LabRepository
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
    verify,
    wait_until,
)

pytestmark = pytest.mark.turn

RUNS = f"{IMAGE} && docker run --detach --name runs --network none --restart unless-stopped box sleep 100000"


def from_repository(repository: LabRepository, **changes: object) -> dict[str, object]:
    return {
        "engine_source": "docker-ce",
        "docker_repository": repository.url_of_guests,
        "docker_repository_fingerprint": repository.fingerprint,
        "engine_version": "26.1.4",
        "engine_change": True,
    } | changes


@pytest.fixture(scope="module")
def machine(machines: Callable[..., Machine]) -> Machine:
    machine = machines("engine", suite="trixie", docker="preinstalled")
    machine.snapshot("fresh")
    return machine


@pytest.mark.sample(1, of="Docker's repository")
def test_key_with_another_fingerprint_is_refused(machine: Machine, repository: LabRepository) -> None:
    machine.restore("fresh")
    refused = deploy(machine, **from_repository(repository, docker_repository_fingerprint="A" * 40))
    assert refused.code == 1
    assert f"is {repository.fingerprint}, not {'A' * 40}; it was not installed" in refused.output
    assert machine.run("ls /etc/apt/keyrings/docker-bulkhead.asc", check=False).returncode != 0


def install_and_patch(machine: Machine, repository: LabRepository) -> None:
    """Install the pinned version, and then, while a container runs, the next patch release."""
    machine.restore("fresh")
    converge(machine, **from_repository(repository))
    assert machine.out("dpkg-query -W -f '${Version}' docker-ce") == "5:26.1.4-1~debian.13~trixie"
    assert "docker-ce" not in machine.out("apt-get -qq -s upgrade", timeout=600)
    assert_isolated(machine)
    assert dry(machine, **from_repository(repository)).predicted == set()
    machine.run(RUNS)
    ran = machine.out("docker inspect --format '{{.State.Pid}}' runs")
    newer = from_repository(repository, engine_version="26.1.5")
    converge(machine, **newer)
    assert machine.out("dpkg-query -W -f '${Version}' docker-ce") == "5:26.1.5-1~debian.13~trixie"
    assert machine.out("docker inspect --format '{{.State.Pid}}' runs") == ran, (
        "a patch release has stopped a container"
    )
    machine.snapshot("patched")


@pytest.fixture
def patched(machine: Machine, repository: LabRepository) -> Machine:
    """Return the machine at the patch release. Install that if the test that does so has not run."""
    try:
        machine.restore("patched")
    except LabError:
        install_and_patch(machine, repository)
    return machine


def test_engine_comes_from_dockers_repository_at_the_pinned_version(
    machine: Machine, repository: LabRepository
) -> None:
    install_and_patch(machine, repository)


@pytest.mark.full
def test_upgrade_beyond_a_patch_release_needs_consent_while_containers_run(
    patched: Machine, repository: LabRepository
) -> None:
    machine = patched
    larger = from_repository(repository, engine_version="27.5.1")
    ran = machine.out("docker inspect --format '{{.State.Pid}} {{.State.Running}}' runs")
    refused = deploy(machine, **larger)
    assert refused.code == 1
    assert "containers run (1), and engine_version upgrades the engine from 5:26.1.5" in refused.output
    assert machine.out("docker inspect --format '{{.State.Pid}} {{.State.Running}}' runs") == ran
    converge(machine, **larger, engine_upgrade_stops_containers=True)
    assert machine.out("dpkg-query -W -f '${Version}' docker-ce") == "5:27.5.1-1~debian.13~trixie"
    pid, runs = machine.out("docker inspect --format '{{.State.Pid}} {{.State.Running}}' runs").split()
    assert runs == "true"
    assert pid != ran.split()[0]
    assert machine.run("ls /var/lib/bulkhead/stopped-by-upgrade", check=False).returncode != 0
    assert dry(machine, **larger).predicted == set()
    older = deploy(machine, **from_repository(repository, engine_version="26.1.5"))
    assert older.code == 1
    assert "this project upgrades an engine and never downgrades it" in older.output


@pytest.mark.full
def test_next_run_after_a_power_cut_finishes_the_upgrade_and_starts_the_containers_that_ran(
    patched: Machine, repository: LabRepository
) -> None:
    machine = patched
    larger = from_repository(repository, engine_version="27.5.1", engine_upgrade_stops_containers=True)
    container, image = machine.out("docker inspect --format '{{.Id}} {{.Image}}' runs").split()
    with killed_at_the_end(start(command(machine.name, **larger))):
        unpacked = "grep -q ' status unpacked docker-ce:amd64 5:27.5.1' /var/log/dpkg.log"
        wait_until(lambda: machine.run(unpacked, check=False).returncode == 0, 600)
        machine.run("pkill -STOP -x dpkg")
        cut_and_boot(machine)
    assert machine.out("dpkg --audit"), "the cut came too late: nothing is half installed"
    assert machine.out("cat /var/lib/bulkhead/stopped-by-upgrade") == container
    larger["engine_upgrade_stops_containers"] = False  # the consent was for one run
    converge(machine, **larger)
    assert machine.out("dpkg-query -W -f '${db:Status-Status} ${Version}' docker-ce").startswith("installed 5:27.5.1")
    assert machine.out("docker inspect --format '{{.State.Running}} {{.Image}}' runs") == f"true {image}"
    assert machine.run("ls /var/lib/bulkhead/stopped-by-upgrade", check=False).returncode != 0
    assert_isolated(machine)
    assert dry(machine, **larger).predicted == set()


@pytest.mark.sample(1, of="Docker's repository")
def test_unavailable_version_is_refused_and_the_available_ones_are_named(
    machine: Machine, repository: LabRepository
) -> None:
    machine.restore("fresh")
    refused = deploy(machine, **from_repository(repository, engine_version="99.1.0"))
    assert refused.code == 1
    assert "apt cannot install version 99.1.0 of docker-ce" in refused.output
    assert "26.1.5" in refused.output
    # docker.io conflicts with docker-ce, so dpkg knows that name, without a version.
    assert machine.out("dpkg-query -W -f '${Version}' docker-ce 2>/dev/null || true") == ""


@pytest.mark.full
def test_engine_of_debian_unstable_is_provisioned_and_verified(machines: Callable[..., Machine]) -> None:
    machine = machines("sid", suite="sid", docker="preinstalled")
    converge(machine)
    assert int(machine.out("docker version -f '{{.Server.Version}}'").split(".")[0]) >= 28
    verify(machine)
    assert dry(machine).predicted == set()


# Joins the sample once it has passed on a machine.
@pytest.mark.full
def test_engine_with_another_storage_driver_is_refused_and_keeps_its_images(machine: Machine) -> None:
    machine.restore("fresh")
    machine.run(
        """mkdir -p /etc/docker && echo '{"storage-driver": "vfs"}' >/etc/docker/daemon.json && """
        "systemctl restart docker && tar c /etc/hostname | docker import - kept"
    )
    before = fingerprint(machine)
    refused = deploy(machine)
    assert refused.code == 1
    assert "Docker's storage driver is vfs" in refused.output
    assert "was left untouched" in refused.output
    assert fingerprint(machine) == before
    assert machine.out("docker images --format '{{.Repository}}'") == "kept"
