"""Docker has a partition of its own, mounted by fstab: it becomes Docker's volume in place. Debian 12 and 13."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

import pytest

from lab.deploy import command
from lab.machine import Machine
from tests.lab.conftest import (
    converge,
    converge_as_predicted,
    cut_and_boot,
    cut_the_move,
    deploy,
    dry,
    fingerprint,
    in_time,
    kill_the_move,
    killed_at_the_end,
    phase_lengths,
    relocation,
    start,
    until,
    verify,
    wait_until_booted,
)
from tests.lab.test_relocation import runbook

# They take turns in the sample, and join it once they have passed on a machine.
pytestmark = [pytest.mark.turn, pytest.mark.full]

SUITES = ("bookworm", "trixie")
VOLUME = "/srv/docker-volume"
PART = "/dev/vdb1"
STORES = "/var/lib/docker /var/lib/containerd"

# What Docker has, byte for byte where nobody writes, and as Docker itself lists it.
CONTENT = (
    "sha256sum /var/lib/docker/volumes/named/_data/sentinel && cat $(ls /var/lib/docker/overlay2/*/diff/layer) | sha256sum && "
    "docker images --all --no-trunc --format '{{.ID}} {{.Repository}}' | sort && "
    "docker ps --all --no-trunc --format '{{.ID}} {{.Names}} {{.Image}}' | sort && docker volume ls --quiet | sort"
)


def content(machine: Machine) -> str:
    return machine.out(CONTENT)


def running(machine: Machine) -> set[str]:
    return set(machine.out("docker ps --format '{{.Names}}'").split())


def source(machine: Machine, path: str) -> str:
    return machine.out(f"findmnt -no SOURCE {path} || echo none")


def assert_adopted(machine: Machine) -> None:
    """Assert that the partition is Docker's volume, with both stores bound from it, and that Docker runs."""
    assert machine.out("systemctl is-active docker containerd").split() == ["active", "active"]
    assert [source(machine, path) for path in (VOLUME, *STORES.split())] == [
        PART,
        f"{PART}[/docker]",
        f"{PART}[/containerd]",
    ]
    lines = [line.split() for line in machine.out("grep -v '^#' /etc/fstab").splitlines()]
    uuid = machine.out(f"blkid -s UUID -o value {PART}")
    assert [(line[0], line[1]) for line in lines[-3:]] == [
        (f"UUID={uuid}", VOLUME),
        (f"{VOLUME}/docker", "/var/lib/docker"),
        (f"{VOLUME}/containerd", "/var/lib/containerd"),
    ]
    assert "noatime" in lines[-3][3].split(",")
    machine.run("findmnt --verify")
    assert f"UUID={uuid} /var/lib/docker ext4 defaults,noatime 0 2" in machine.out("cat /etc/fstab.before-bulkhead")
    assert "lost+found" in machine.out(f"ls {VOLUME}").split()


def assert_where_it_was(machine: Machine) -> None:
    """Assert that the partition is mounted on Docker's store as before, and that nothing of an adoption is left."""
    assert machine.out("systemctl is-active docker containerd").split() == ["active", "active"]
    assert [source(machine, path) for path in (VOLUME, *STORES.split())] == ["none", PART, "none"]
    uuid = machine.out(f"blkid -s UUID -o value {PART}")
    assert machine.out("tail -n 1 /etc/fstab") == f"UUID={uuid} /var/lib/docker ext4 defaults,noatime 0 2"
    assert machine.out(f"ls -d {VOLUME} /var/lib/containerd.before-bulkhead 2>/dev/null || true") == ""
    names = machine.out("ls -A /var/lib/docker").split()
    assert {"overlay2", "volumes", "lost+found"} <= set(names)
    assert not {"docker", "docker.adopting", ".docker-bulkhead"} & set(names)


class AdoptedHost:
    """A machine whose partition has become Docker's volume, with the snapshots "fresh" and "adopted"."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.snapshot("fresh")
        self.content = content(machine)
        assert running(machine) == {"web", "plain"}
        self.before = fingerprint(machine)
        planned = dry(machine)
        assert fingerprint(machine) == self.before
        self.announced = planned.output
        began = time.monotonic()
        run = converge(machine)
        self.seconds = time.monotonic() - began
        assert run.changed == planned.predicted
        machine.snapshot("adopted")

    def assert_whole(self, ran: set[str]) -> None:
        assert content(self.machine) == self.content
        assert running(self.machine) == ran


@pytest.fixture(scope="module", params=SUITES)
def adopted(request: pytest.FixtureRequest, machines: Callable[..., Machine]) -> AdoptedHost:
    return AdoptedHost(
        machines(f"adopt-{request.param}", suite=request.param, layout="own-disk", docker="preinstalled")
    )


@pytest.fixture
def machine(adopted: AdoptedHost) -> Machine:
    adopted.machine.restore("adopted")
    return adopted.machine


def test_partition_becomes_the_volume_with_all_that_docker_had(adopted: AdoptedHost, machine: Machine) -> None:
    assert re.search(r"Docker stops, and with it 2 containers \(\w+, \w+\)", adopted.announced), adopted.announced
    assert "becomes Docker's volume in place" in adopted.announced
    assert "The outage takes seconds" in adopted.announced
    assert_adopted(machine)
    adopted.assert_whole({"web", "plain"})
    verify(machine)


def test_second_run_changes_nothing(machine: Machine) -> None:
    assert dry(machine).predicted == set()
    assert converge(machine).changes == 0


def test_host_comes_back_after_a_reboot(adopted: AdoptedHost, machine: Machine) -> None:
    machine.reboot()
    wait_until_booted(machine)
    assert_adopted(machine)
    adopted.assert_whole({"web"})
    verify(machine)


def test_host_boots_without_the_disk_and_docker_stays_down(adopted: AdoptedHost, machine: Machine) -> None:
    machine.run("sync")
    machine.cut()
    machine.pull_disk("spare")
    machine.boot()
    wait_until_booted(machine)
    machine.run("systemctl start docker.service containerd.service", check=False, timeout=300)
    assert "active" not in machine.out("systemctl is-active docker.service containerd.service || true").split()
    assert machine.out(f"ls -A {STORES}").split() == ["/var/lib/containerd:", "/var/lib/docker:"]
    refused = deploy(machine)
    assert refused.code == 1
    assert f"for {VOLUME} is not there" in refused.output
    machine.cut()
    machine.put_disk_back("spare")
    machine.boot()
    wait_until_booted(machine)
    assert_adopted(machine)
    adopted.assert_whole({"web"})


@pytest.mark.parametrize("path", [VOLUME, "/var/lib/docker", "/var/lib/containerd"])
def test_loss_of_any_line_of_fstab_keeps_docker_down_and_the_next_run_brings_it_back(
    adopted: AdoptedHost, machine: Machine, path: str
) -> None:
    machine.run(f"sed -i '\\# {path} #d' /etc/fstab; sync")
    cut_and_boot(machine)
    machine.run("systemctl start docker.service", check=False, timeout=300)
    assert machine.out("systemctl is-active docker.service || true") != "active"
    if path == VOLUME:
        uuid = machine.out(f"blkid -s UUID -o value {PART}")
        advice = f"mount -o private UUID={uuid} {VOLUME}"
        assert f"`{advice}` on the host" in deploy(machine).output
        machine.run(advice)
    converge(machine)
    machine.run("systemctl start docker.service", timeout=300)
    adopted.assert_whole({"web"})


def test_status_and_commands_say_that_there_is_no_logical_volume(machine: Machine) -> None:
    no = "This host's Docker volume is no logical volume"
    assert no in " ".join(machine.out("bulkhead status").split())
    assert no in machine.out("bulkhead snapshot list")
    refused = machine.run("bulkhead snapshot create", check=False)
    assert refused.returncode == 1
    assert no in refused.stderr
    checked = machine.run("check-disk --no-alert --verbose", check=False).stdout
    assert f"OK: Docker's data is on {VOLUME}" in checked, checked


def test_guard_and_ballast_work_on_the_volume(machine: Machine) -> None:
    assert machine.out("systemctl is-active docker-guard") == "active"
    assert int(machine.out(f"stat --format %s {VOLUME}/.bulkhead-ballast")) == 256 * 2**20
    machine.run(
        f"systemctl stop docker-guard && fallocate -l $(df --output=avail -B1 {VOLUME} | tail -n 1) {VOLUME}/filler",
        timeout=900,
    )
    assert "CRITICAL" in machine.run("check-disk --no-alert", check=False).stdout
    rescued = machine.run("bulkhead rescue", check=False, timeout=900)
    assert "This host's Docker volume is no logical volume" in rescued.stdout
    machine.run(f"rm {VOLUME}/filler && systemctl start docker-guard docker", timeout=300)
    assert machine.out("docker exec web true && echo runs") == "runs"


# -- back


def test_rollback_mounts_it_where_it_was_with_what_was_written_since(adopted: AdoptedHost, machine: Machine) -> None:
    machine.run("echo new >/var/lib/docker/volumes/named/_data/later")
    output = machine.out("bulkhead rollback --yes", timeout=900)
    assert "nothing is left behind" in output
    assert_where_it_was(machine)
    adopted.assert_whole({"web", "plain"})
    assert machine.out("cat /var/lib/docker/volumes/named/_data/later") == "new"
    undeployed = deploy(machine, script="undeploy.py")
    assert undeployed.code == 0, undeployed.output
    machine.run("docker start plain")
    assert_where_it_was(machine)
    machine.reboot()
    wait_until_booted(machine)
    assert_where_it_was(machine)
    adopted.assert_whole({"web"})
    converge(machine)
    assert_adopted(machine)
    adopted.assert_whole({"web"})
    assert dry(machine).predicted == set()


def test_kernel_name_in_the_old_line_comes_back_as_the_uuid(adopted: AdoptedHost) -> None:
    machine = adopted.machine
    machine.restore("fresh")
    machine.run(f"sed -i 's,^UUID=[^ ]* /var/lib/docker ,{PART} /var/lib/docker ,' /etc/fstab; systemctl daemon-reload")
    assert f"{PART} /var/lib/docker" in machine.out("cat /etc/fstab")
    converge(machine)
    machine.run("bulkhead rollback --yes", timeout=900)
    assert_where_it_was(machine)


def test_undeployed_host_keeps_its_volume_and_can_go_back_by_hand(adopted: AdoptedHost, machine: Machine) -> None:
    undeployed = deploy(machine, script="undeploy.py")
    assert undeployed.code == 0, undeployed.output
    adopted.assert_whole({"web", "plain"})
    assert source(machine, "/var/lib/docker") == f"{PART}[/docker]"
    (back,) = runbook("adopt.md", "## Back by hand")
    machine.run(f"set -e\n{back}", timeout=600)
    adopted.assert_whole({"web", "plain"})
    assert source(machine, "/var/lib/docker") == PART
    machine.reboot()
    wait_until_booted(machine)
    adopted.assert_whole({"web"})
    machine.run("rm -r /var/lib/docker/containerd.copied")
    converge(machine)
    assert_adopted(machine)
    adopted.assert_whole({"web"})


# -- hosts that do not qualify

REFUSED = {
    "files of others": ("mkdir /var/lib/docker/www", "holds what is not Docker's: www"),
    "mounted elsewhere too": (f"mkdir /data && mount {PART} /data", f"{PART} is mounted on /data too"),
    "a part bound elsewhere": (
        "mkdir /data && mount --bind /var/lib/docker/volumes /data",
        f"{PART} is mounted on /data too",
    ),
    "not in fstab": ("sed -i '$d' /etc/fstab", "/etc/fstab mounts nothing on /var/lib/docker"),
    "noauto": ("sed -i s/noatime/noatime,noauto/ /etc/fstab", "with noauto"),
    "files beneath the mount": (
        "mount --bind /var/lib /mnt && touch /mnt/docker/old && umount /mnt",
        "/var/lib/docker is not empty beneath the mount",
    ),
    "Docker does not run": ("systemctl stop docker.socket docker", "Docker does not run"),
}


@pytest.mark.sample(1)
@pytest.mark.in_turn("adopted")
@pytest.mark.parametrize("name", REFUSED)
def test_filesystem_that_does_not_qualify_is_left_as_it_is(adopted: AdoptedHost, name: str) -> None:
    machine = adopted.machine
    machine.restore("fresh")
    make, found = REFUSED[name]
    machine.run(make)
    before = fingerprint(machine)
    run = deploy(machine)
    assert run.code == 1
    assert found in run.output, run.output
    assert fingerprint(machine) == before


def test_shell_that_stands_in_the_store_keeps_it_where_it_is(adopted: AdoptedHost) -> None:
    machine = adopted.machine
    machine.restore("fresh")
    machine.run("systemd-run --quiet --unit=standing --working-directory=/var/lib/docker sleep 100000")
    run = deploy(machine)
    assert run.code == 1
    assert re.search(r"/var/lib/docker is in use: sleep \(process \d+\)", run.output), run.output
    assert_where_it_was(machine)
    adopted.assert_whole({"web", "plain"})
    machine.run("systemctl stop standing")
    converge(machine)
    assert_adopted(machine)
    adopted.assert_whole({"web", "plain"})


@pytest.mark.full
def test_images_of_containerd_on_root_are_copied_onto_it(machines: Callable[..., Machine]) -> None:
    machine = machines("adopt-containerd", suite="trixie", layout="own-disk", docker="preinstalled")
    machine.run(
        """mkdir -p /etc/docker && echo '{"features": {"containerd-snapshotter": true}}' >/etc/docker/daemon.json && """
        "systemctl restart docker && tar -C /root/image -c . | docker import - box >/dev/null && "
        "docker run --detach --name modern --restart always --network none box sleep 1000000",
        timeout=600,
    )
    images = machine.out("docker images --no-trunc --quiet | sort")
    converge_as_predicted(machine)
    assert [source(machine, path) for path in STORES.split()] == [f"{PART}[/docker]", f"{PART}[/containerd]"]
    assert machine.out("docker images --no-trunc --quiet | sort") == images
    assert machine.out("docker inspect --format '{{.State.Running}}' modern") == "true"
    refused = machine.run("bulkhead rollback --yes", check=False)
    assert "holds containerd's images" in refused.stderr
    machine.run("bulkhead finalize --yes", timeout=900)
    assert dry(machine).predicted == set()
    verify(machine)
    machine.destroy()


@pytest.mark.full
def test_filesystem_that_waits_for_docker_is_adopted_before_docker_is_installed(
    machines: Callable[..., Machine],
) -> None:
    machine = machines("adopt-absent", suite="bookworm", layout="own-disk")
    converge_as_predicted(machine)
    assert_adopted(machine)
    assert dry(machine).predicted == set()
    verify(machine)
    machine.destroy()


# -- power cuts at random moments

SEED = 23


def assert_on_one_side(adopted: AdoptedHost) -> None:
    """Assert that Docker runs with all that it had, wherever the boot and the recovery have left the partition."""
    machine = adopted.machine
    if source(machine, "/var/lib/docker") == PART:
        assert_where_it_was(machine)
    else:
        assert_adopted(machine)
    assert content(machine) == adopted.content
    assert "web" in running(machine)


@pytest.mark.sample(2, of="power cuts while a filesystem is adopted")
@pytest.mark.in_turn("adopted")
@pytest.mark.parametrize("number", range(20))
def test_run_that_a_power_cut_ends_at_a_random_moment_is_finished_by_the_next(
    adopted: AdoptedHost, number: int
) -> None:
    machine = adopted.machine
    machine.restore("fresh")
    after = random.Random(SEED + number).uniform(0.1, 0.95) * adopted.seconds
    with killed_at_the_end(start(command(machine.name))):
        time.sleep(after)
        cut_and_boot(machine)
    assert_on_one_side(adopted)
    converge(machine)
    assert_adopted(machine)
    assert content(machine) == adopted.content
    assert dry(machine).predicted == set()


# The lines that the move prints when a phase begins, and the share of its length after which it is cut.
PHASES = ("stopping Docker", "switching", "starting Docker")
_random = random.Random(SEED)
MOMENTS = [(line, 0.0) for line in PHASES] + [
    (line, round(_random.uniform(0, 0.7), 2)) for line in PHASES for _ in range(6)
]


@pytest.fixture(scope="module")
def lengths(adopted: AdoptedHost) -> dict[str, float]:
    """Make the snapshot "prepared": all but the adoption is done. Return how many seconds each phase takes."""
    machine = adopted.machine
    machine.restore("fresh")
    machine.run("docker run --detach --rm --name passing --network none app sleep 100000")
    run = deploy(machine, relocation_patience=0)
    assert run.code == 1
    assert "still under way after 0 s: the --rm container passing" in run.output
    assert_where_it_was(machine)
    assert running(machine) == {"web", "plain", "passing"}
    machine.run("docker rm --force passing")
    machine.snapshot("prepared")
    return phase_lengths(machine, PHASES)


def cut_adoption(adopted: AdoptedHost, line: str, seconds: float, how: Callable[[Machine], None]) -> None:
    """Cut an adoption, and assert that the host is on one side with its containers running."""
    machine = adopted.machine

    def cut(seconds: float) -> None:
        with relocation(machine) as move:
            until(move, line, seconds)
            how(machine)

    machine.restore("prepared")
    in_time(cut, seconds, lambda: machine.restore("prepared"))
    assert_on_one_side(adopted)
    assert running(machine) == {"web", "plain"}


@pytest.mark.sample(2, of="adoptions that are cut")
@pytest.mark.in_turn("adopted")
@pytest.mark.parametrize(("line", "share"), MOMENTS)
def test_nothing_is_lost_when_the_power_is_cut(
    adopted: AdoptedHost, lengths: dict[str, float], line: str, share: float
) -> None:
    cut_adoption(adopted, line, share * lengths[line], cut_the_move)
    adopted.machine.run("bulkhead relocate", timeout=900)
    assert_adopted(adopted.machine)
    adopted.assert_whole({"web", "plain"})


@pytest.mark.sample(1, of="adoptions that are killed")
@pytest.mark.in_turn("adopted")
@pytest.mark.parametrize(("line", "share"), MOMENTS[::4])
def test_nothing_is_lost_when_the_program_is_killed(
    adopted: AdoptedHost, lengths: dict[str, float], line: str, share: float
) -> None:
    cut_adoption(adopted, line, share * lengths[line], kill_the_move)


@pytest.mark.full
@pytest.mark.in_turn("adopted")
@pytest.mark.parametrize("seconds", [0, 2, 4, 6])
def test_rollback_that_the_power_cuts_ends_on_one_side(adopted: AdoptedHost, machine: Machine, seconds: float) -> None:
    line = [*machine.ssh_command(user="root"), "bulkhead rollback --yes"]
    with killed_at_the_end(start(line)) as rollback:
        until(rollback, "going back to the old data", seconds)
        cut_and_boot(machine)
    assert_on_one_side(adopted)
