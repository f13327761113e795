"""Living hosts: Docker's data is moved onto the volume, all of it, whatever happens on the way."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import (
    DATA,
    TOP,
    Run,
    assert_isolated,
    converge,
    cut_and_boot,
    deploy,
    dry,
    kill_the_move,
    relocation,
    send,
    until,
    verify,
    wait_until_booted,
)

# What Docker says that it has, from outside. The state of what runs is looked at apart.
INVENTORY = (
    "docker images --all --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}} {{.Digest}}' | sort; "
    "docker ps --all --no-trunc --format '{{.ID}} {{.Image}} {{.Names}}' | sort; "
    "docker inspect --format '{{.Name}} {{.State.Status}} {{json .HostConfig.RestartPolicy}}{{range .Mounts}}\n"
    "{{$.Name}} {{.Source}} {{.Destination}}{{end}}' $(docker ps --all --quiet) | sort; "
    "docker volume ls | sort; docker network ls --no-trunc --filter type=custom | sort"
)


def inventory(machine: Machine) -> str:
    return machine.out(INVENTORY)


def manifest(machine: Machine) -> str:
    """The image layers and the named volume, byte by byte."""
    send(machine, DATA / "manifest.py", "/run/manifest.py")
    layers = machine.out("awk 1 /var/lib/docker/image/overlay2/layerdb/sha256/*/cache-id 2>/dev/null | sort || true")
    trees = [f"/var/lib/docker/overlay2/{layer}/diff" for layer in layers.split()]
    trees += ["/var/lib/containerd/io.containerd.content.v1.content", "/var/lib/docker/volumes/named/_data"]
    return machine.out(f"python3 /run/manifest.py {' '.join(trees)}", timeout=300)


def log_lines(machine: Machine) -> list[str]:
    return machine.out("cat /var/lib/docker/volumes/named/_data/log").splitlines()


def running(machine: Machine) -> set[str]:
    return set(machine.out("docker ps --format '{{.Names}}'").split())


class Living:
    """A machine that is full of Docker's data, and what it had."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        send(machine, DATA / "fill.sh", "/run/fill.sh")
        machine.run("sh /run/fill.sh", timeout=600)
        self.inventory = inventory(machine)
        self.manifest = manifest(machine)

    def assert_whole(self, tag: str = "") -> None:
        """Docker has what it had, byte by byte, and what ran runs."""
        assert running(self.machine) == {"web", "plain"}, tag
        assert self.machine.out("docker exec web cat /outside/file") == "elsewhere", tag
        assert inventory(self.machine) == self.inventory, tag
        assert manifest(self.machine) == self.manifest, tag


@pytest.fixture(scope="module")
def living(machines: Callable[..., Machine]) -> Living:
    living = Living(machines("living", suite="bookworm", docker="preinstalled"))
    living.machine.snapshot("living")
    return living


@pytest.fixture(scope="module")
def moved(living: Living) -> Living:
    """After the run that moves the data, while a container writes."""
    machine = living.machine
    predicted = dry(machine).predicted
    run = converge(machine)
    assert run.changed == predicted
    machine.snapshot("moved")
    return living


def test_everything_is_moved_and_nothing_is_left_to_change(moved: Living) -> None:
    moved.assert_whole()
    assert_isolated(moved.machine)
    assert dry(moved.machine).predicted == set()
    verify(moved.machine)


def test_container_that_writes_all_through_the_copy_loses_nothing(moved: Living) -> None:
    written = list(map(int, log_lines(moved.machine)))
    again = [number for number, value in enumerate(written) if value == 1]
    assert len(again) >= 2, "the container was not stopped and started: nothing was shown"
    for first, after in zip(again, [*again[1:], len(written)], strict=True):
        assert written[first:after] == list(range(1, after - first + 1))


def test_old_data_is_there_until_it_is_finalized(moved: Living) -> None:
    machine = moved.machine
    machine.restore("moved")
    old = "mount --bind /var/lib /mnt && cat /mnt/docker/volumes/named/_data/owned && ls -A /mnt/docker /mnt/containerd"
    assert "owned" in machine.out(f"unshare -m --propagation private sh -c '{old}'")
    late = "mount --bind /var/lib /mnt && touch /mnt/docker/late"  # as on a boot without the volume
    machine.run(f"unshare -m --propagation private sh -c '{late}'")
    refused = machine.run("bulkhead finalize --yes", check=False, timeout=300)
    assert refused.returncode == 1
    assert re.search("beneath /var/lib/docker have been changed since the move: .*late", refused.stderr), refused.stderr
    assert "owned" in machine.out(f"unshare -m --propagation private sh -c '{old}'")
    machine.run("bulkhead finalize --yes --force", timeout=300)
    beneath = "mount --bind /var/lib /mnt && ls -A /mnt/docker /mnt/containerd && lsattr -d /mnt/docker /mnt/containerd"
    assert machine.run(f"unshare -m --propagation private sh -c '{beneath}'").stdout.count("i") >= 2
    moved.assert_whole()
    assert dry(machine).predicted == set()


CONTAINERD_STORE = (
    """mkdir -p /etc/docker && echo '{"features": {"containerd-snapshotter": true}}' >/etc/docker/daemon.json && """
    "systemctl restart docker"
)


@pytest.mark.full
@pytest.mark.parametrize(
    ("suite", "prepare"),
    [("trixie", "true"), ("trixie", CONTAINERD_STORE), ("sid", CONTAINERD_STORE)],
    ids=["trixie-overlay2", "trixie-containerd", "sid-containerd"],
)
def test_everything_is_moved_on_newer_engines(machines: Callable[..., Machine], suite: str, prepare: str) -> None:
    machine = machines("newer", suite=suite, docker="preinstalled")
    try:
        machine.run(prepare)
        store = machine.out("docker info --format '{{.Driver}} {{.DriverStatus}}'")
        living = Living(machine)
        predicted = dry(machine).predicted
        assert converge(machine).changed == predicted
        living.assert_whole()
        now = machine.out("docker info --format '{{.Driver}} {{.DriverStatus}}'")
        assert (
            ("io.containerd.snapshotter.v1" in now) == ("io.containerd.snapshotter.v1" in store) == (prepare != "true")
        )
        assert dry(machine).predicted == set()
        verify(machine)
        machine.run("systemctl stop docker.socket docker")
        assert "daemon.json: Docker's configuration is in force" not in dry(machine).predicted
    finally:
        machine.destroy()


def leave(machine: Machine) -> Run:
    return deploy(machine, script="undeploy.py")


def runbook(page: str, heading: str) -> list[str]:
    """The blocks of commands below a heading of a page, each as it stands there."""
    text = (TOP / "docs" / page).read_text().partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)


@pytest.mark.full
def test_host_is_left_with_its_data_and_can_come_back_or_go_back_to_plain_docker(moved: Living) -> None:
    machine = moved.machine
    machine.restore("moved")
    refused = leave(machine)
    assert refused.code == 1
    assert "the old data of a move is kept on the root disk" in refused.output
    machine.run("bulkhead finalize --yes", timeout=300)
    left = leave(machine)
    assert left.code == 0, left.output
    moved.assert_whole()
    ours = " -o ".join(f"-name '*{name}*'" for name in ("bulkhead", "check-disk", "docker-prune", "docker-guard"))
    assert (
        machine.out(f"find / /run/bulkhead -xdev -path /proc -prune -o \\( {ours} \\) -print 2>/dev/null || true") == ""
    )
    assert machine.out("ls -A /srv/docker-volume | grep bulkhead || true") == ""
    assert machine.out("cat /etc/docker/daemon.json") == "{}"
    assert leave(machine).changes == 0
    machine.snapshot("left")
    converge(machine)
    moved.assert_whole()
    assert_isolated(machine)
    machine.restore("left")
    back, remove = runbook("leave.md", "## Back to plain Docker on the root disk")
    machine.run(f"set -e\n{back}", timeout=300)
    moved.assert_whole()
    machine.reboot()
    wait_until_booted(machine)
    machine.run(f"set -e\n{remove}".replace("lvremove", "lvremove --yes"), timeout=300)
    machine.run("docker start plain")
    moved.assert_whole()
    assert "/dev/mapper/ubuntu--vg-ubuntu--lv" in machine.out("df --output=source /var/lib/docker")
    assert machine.out("lvs --noheadings -o lv_name") == "ubuntu-lv"


def test_rollback_brings_the_old_data_back_and_keeps_the_new(moved: Living) -> None:
    machine = moved.machine
    machine.restore("moved")
    machine.run("docker volume create later && echo new >/var/lib/docker/volumes/later/_data/file")
    output = machine.out("bulkhead rollback --yes", timeout=300)
    assert "1 volume: later" in output
    moved.assert_whole()
    assert machine.out("findmnt -no SOURCE /var/lib/docker || echo root") == "root"
    assert machine.out("cat /srv/docker-volume/docker.left-1/volumes/later/_data/file") == "new"


# -- what a move meets on its way. From here on the program is run as the deploy runs it, which takes a third of the time.


@pytest.fixture(scope="module")
def prepared(living: Living) -> Living:
    """Everything but the move: a --rm container stood in its way, and a run said so."""
    machine = living.machine
    machine.restore("living")
    machine.run("docker run --detach --rm --name passing --network none app sleep 100000")
    run = deploy(machine, relocation_patience=0)
    assert run.code == 1
    assert "still under way after 0 s: the --rm container passing" in run.output
    assert running(machine) == {"web", "plain", "passing"}, "a refused move has stopped something"
    machine.run("docker rm --force passing")
    living.assert_whole()
    machine.snapshot("prepared")
    return living


@pytest.fixture
def machine(prepared: Living) -> Machine:
    prepared.machine.restore("prepared")
    return prepared.machine


def phase(machine: Machine) -> str:
    return machine.out('bulkhead status --json | sed -n \'s/.*"phase": "\\(.*\\)".*/\\1/p\'')


def move_on(prepared: Living) -> None:
    """The next run finishes the move."""
    output = prepared.machine.run("bulkhead relocate", check=False, timeout=600)
    assert output.returncode == 0, output.stdout + output.stderr
    assert phase(prepared.machine) == "done"
    prepared.assert_whole()


# What the move says as it comes to a phase, and at most how many seconds the phase takes.
PHASES = {
    "copying /var/lib/docker": 3.0,
    "verifying": 2.0,
    "stopping Docker": 8.0,
    "copying the difference in /var/lib/docker": 2.0,
    "switching": 4.0,
    "starting Docker": 12.0,
}
_random = random.Random(1)
MOMENTS = [(line, 0.0) for line in PHASES] + [
    (line, round(_random.uniform(0, longest), 1)) for line, longest in PHASES.items() for _ in range(6)
][:34]


@pytest.mark.sample(1, of="moves that are cut")
@pytest.mark.parametrize(("line", "seconds"), MOMENTS)
def test_nothing_is_lost_when_the_power_is_cut(prepared: Living, machine: Machine, line: str, seconds: float) -> None:
    with relocation(machine) as move:
        until(move, line, seconds)
        cut_and_boot(machine)
    assert phase(machine) in ("done", "failed")
    was_over = not machine.out("journalctl --boot --quiet --unit bulkhead-recover.service")
    if was_over or line in ("copying /var/lib/docker", "verifying"):
        # Docker was not touched, or ran again: a container without a restart policy is down after any power cut.
        machine.run("docker start plain")
    prepared.assert_whole("after the power cut")
    move_on(prepared)


@pytest.mark.sample(1, of="moves that are cut")
@pytest.mark.parametrize(("line", "seconds"), MOMENTS[::5])
def test_nothing_is_lost_when_the_program_is_killed(
    prepared: Living, machine: Machine, line: str, seconds: float
) -> None:
    with relocation(machine) as move:
        until(move, line, seconds)
        kill_the_move(machine)
    assert phase(machine) in ("done", "failed")
    prepared.assert_whole("after the kill")
    move_on(prepared)


@pytest.mark.sample(1, of="moves that meet with something")
def test_move_goes_on_when_the_connection_is_cut_and_the_next_run_joins_it(prepared: Living, machine: Machine) -> None:
    with relocation(machine) as move:
        until(move, "copying /var/lib/docker", 0)
    run = deploy(machine)
    assert run.code == 0, run.output
    assert "A move of data is under way from an earlier run" in run.output
    assert "Docker runs on the volume, with all that it had" in run.output
    prepared.assert_whole()
    assert dry(machine).predicted == set()


@pytest.mark.sample(1, of="moves that meet with something")
def test_file_that_is_changed_behind_the_copy_arrives_changed(prepared: Living, machine: Machine) -> None:
    # In place, the same size, the same time of modification: as soon as its copy is there.
    machine.run(
        """systemd-run --quiet sh -c 'cd /var/lib/docker/volumes/named/_data; until [ -s """
        """/srv/docker-volume/docker.moving/volumes/named/_data/owned.new ]; do :; done; """
        """old=$(stat -c %Y.%y owned); touch -r owned /run/old; printf OWNED | dd of=owned.new conv=notrunc status=none; """
        """touch -r /run/old owned.new'; cd /var/lib/docker/volumes/named/_data && cp -p owned owned.new"""
    )
    machine.run("bulkhead relocate", timeout=600)
    assert machine.out("cat /var/lib/docker/volumes/named/_data/owned.new") == "OWNED"
    machine.run("rm /var/lib/docker/volumes/named/_data/owned.new")
    prepared.assert_whole()


# What is done to the host, and what the move says then.
FAILURES = {
    "rsync_fails": (
        "mount --bind /bin/false /usr/bin/rsync",
        "rsync from /var/lib/docker ended with 1",
    ),
    "volume_is_full": (
        # Room for the data by the count, and gone when it is copied.
        "tune2fs -r 0 $(findmnt -no SOURCE /srv/docker-volume) && rm -rf /srv/docker-volume/docker.moving && systemd-run --quiet sh -c 'until [ -e /srv/docker-volume/docker.moving/image ]; "
        "do :; done; fallocate -l $(df --output=avail -B1 /srv/docker-volume | tail -n 1) /srv/docker-volume/hog; "
        "cat /dev/zero >/srv/docker-volume/hog2; sleep 60'",
        "o space left on device|`systemctl start containerd.service` failed",  # rsync, or Docker: who comes first
    ),
    "docker_refuses_to_start_on_the_volume": (
        "mkdir -p /etc/systemd/system/docker.service.d && printf '[Service]\\nExecStartPre=/bin/sh -c \"! mountpoint -q "
        "/var/lib/docker\"\\n' >/etc/systemd/system/docker.service.d/90-refuse.conf",
        "`systemctl start containerd.service` failed",
    ),
    "file_changes_under_the_copy": (
        # As soon as the move has stopped Docker: that is later than all its waiting.
        "systemd-run --quiet sh -c 'until [ -e /run/bulkhead/docker-stays-down ]; do :; done; "
        "while :; do date +%N >/var/lib/docker/changing; done'",
        "write to Docker's data|copy of /var/lib/docker differs|rsync from /var/lib/docker",  # whichever sees it first
    ),
    "disk_fails": (
        "sync; dmsetup suspend ubuntu--vg-docker--lv && "
        "dmsetup load ubuntu--vg-docker--lv --table \"0 $(dmsetup table ubuntu--vg-docker--lv | cut -d' ' -f2) error\"; "
        "dmsetup resume ubuntu--vg-docker--lv; echo 3 >/proc/sys/vm/drop_caches",
        "/srv/docker-volume",
    ),
}


@pytest.mark.sample(1, of="moves that meet with something")
@pytest.mark.parametrize("failure", FAILURES)
def test_failure_ends_on_the_old_data_with_docker_running(prepared: Living, machine: Machine, failure: str) -> None:
    make, message = FAILURES[failure]
    machine.run(make)
    failed = machine.run("bulkhead relocate", check=False, timeout=600)
    assert failed.returncode == 1, failed.stdout
    assert re.search(message, failed.stderr)
    assert "Docker runs on its old data" in failed.stderr
    assert machine.out("findmnt -no SOURCE /var/lib/docker || echo root") == "root"
    prepared.assert_whole()
