"""Living hosts: all of Docker's data moves onto the volume, whatever happens meanwhile."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from lab.deploy import TOP, command
from lab.machine import Machine
from tasks.support.paths import DROP_INS
from tests.lab.conftest import (
    DATA,
    Run,
    assert_isolated,
    converge,
    converge_as_predicted,
    cut_the_move,
    deploy,
    dry,
    fingerprint,
    in_time,
    kill_the_move,
    killed_at_the_end,
    phase_lengths,
    relocation,
    send,
    start,
    until,
    verify,
    wait_until_booted,
)

# Docker's own list of what it has.
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
    """Return the manifest of the image layers and of the named volume, which shows every changed byte."""
    send(machine, DATA / "manifest.py", "/run/manifest.py")
    layers = machine.out("awk 1 /var/lib/docker/image/overlay2/layerdb/sha256/*/cache-id 2>/dev/null | sort || true")
    trees = [f"/var/lib/docker/overlay2/{layer}/diff" for layer in layers.split()]
    trees += ["/var/lib/containerd/io.containerd.content.v1.content", "/var/lib/docker/volumes/named/_data"]
    return machine.out(f"python3 /run/manifest.py {' '.join(trees)}", timeout=300)


def log_lines(machine: Machine) -> list[str]:
    return machine.out("cat /var/lib/docker/volumes/named/_data/log").splitlines()


def running(machine: Machine) -> set[str]:
    return set(machine.out("docker ps --format '{{.Names}}'").split())


class LivingHost:
    """A machine that is full of Docker's data, and a record of that data."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        send(machine, DATA / "fill.sh", "/run/fill.sh")
        machine.run("sh /run/fill.sh", timeout=600)
        self.inventory = inventory(machine)
        self.manifest = manifest(machine)

    def assert_whole(self, tag: str = "") -> None:
        """Assert that Docker has every byte that it had, and that the same containers run."""
        assert running(self.machine) == {"web", "plain"}, tag
        assert self.machine.out("docker exec web cat /outside/file") == "elsewhere", tag
        assert inventory(self.machine) == self.inventory, tag
        assert manifest(self.machine) == self.manifest, tag


@pytest.fixture(scope="module")
def living(machines: Callable[..., Machine]) -> LivingHost:
    living = LivingHost(machines("living", suite="bookworm", docker="preinstalled"))
    living.machine.snapshot("living")
    return living


@pytest.fixture(scope="module")
def moved(living: LivingHost) -> LivingHost:
    """Return the host after the run that moves the data while a container writes."""
    machine = living.machine
    converge_as_predicted(machine)
    machine.snapshot("moved")
    return living


def test_owner_knows_what_the_move_stops_and_may_refuse_it(living: LivingHost) -> None:
    """A dry run and a run name the containers that stop; a run that may not move the data leaves the host."""
    machine = living.machine
    machine.restore("living")
    before = fingerprint(machine)
    announced = dry(machine).output
    assert "Docker's data moves onto its volume: " in announced
    stopped = re.search(r"Docker stops, and with it 2 containers \((\w+), (\w+)\)", announced)
    assert stopped, announced
    assert {*stopped.groups()} == {"web", "plain"}  # in Docker's order
    assert re.search(r"the nightly prune \(\d\d:\d\d\) removes what stays unused", announced), announced
    run = deploy(machine, relocation="refuse")
    assert run.code == 1
    assert "/var/lib/docker holds data that is not on its volume" in run.output
    assert fingerprint(machine) == before
    living.assert_whole()


def test_everything_is_moved_and_nothing_is_left_to_change(moved: LivingHost) -> None:
    moved.assert_whole()
    assert_isolated(moved.machine)
    assert dry(moved.machine).predicted == set()
    verify(moved.machine)


def test_container_that_writes_all_through_the_copy_loses_nothing(moved: LivingHost) -> None:
    written = list(map(int, log_lines(moved.machine)))
    again = [number for number, value in enumerate(written) if value == 1]
    assert len(again) >= 2, "the container was not stopped and started: the test proves nothing"
    for first, after in zip(again, [*again[1:], len(written)], strict=True):
        assert written[first:after] == list(range(1, after - first + 1))


def test_old_data_stays_until_finalize(moved: LivingHost) -> None:
    machine = moved.machine
    machine.restore("moved")
    old = "mount --bind /var/lib /mnt && cat /mnt/docker/volumes/named/_data/owned && ls -A /mnt/docker /mnt/containerd"
    assert "owned" in machine.out(f"unshare -m --propagation private sh -c '{old}'")
    late = "mount --bind /var/lib /mnt && touch /mnt/docker/late"  # as happens after a boot without the volume
    machine.run(f"unshare -m --propagation private sh -c '{late}'")
    refused = machine.run("bulkhead finalize --yes", check=False, timeout=900)
    assert refused.returncode == 1
    assert re.search("beneath /var/lib/docker have been changed since the move: .*late", refused.stderr), refused.stderr
    assert "owned" in machine.out(f"unshare -m --propagation private sh -c '{old}'")
    machine.run("bulkhead finalize --yes --force", timeout=900)
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
        living = LivingHost(machine)
        converge_as_predicted(machine)
        living.assert_whole()
        now = machine.out("docker info --format '{{.Driver}} {{.DriverStatus}}'")
        for info in (store, now):
            assert ("io.containerd.snapshotter.v1" in info) == (prepare == CONTAINERD_STORE)
        assert dry(machine).predicted == set()
        verify(machine)
        machine.run("systemctl stop docker.socket docker")
        assert "daemon.json: Docker's configuration is in force" not in dry(machine).predicted
    finally:
        machine.destroy()


def undeploy(machine: Machine) -> Run:
    return deploy(machine, script="undeploy.py")


def runbook(page: str, heading: str) -> list[str]:
    """Return the blocks of commands below a heading of a page, verbatim."""
    text = (TOP / "docs" / page).read_text().partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)


@pytest.mark.full
def test_undeployed_host_keeps_its_data_and_can_be_deployed_again_or_return_to_plain_docker(moved: LivingHost) -> None:
    machine = moved.machine
    machine.restore("moved")
    refused = undeploy(machine)
    assert refused.code == 1
    assert "the old data of a move is kept on the root disk" in refused.output
    machine.run("bulkhead finalize --yes", timeout=900)
    undeployed = undeploy(machine)
    assert undeployed.code == 0, undeployed.output
    moved.assert_whole()
    ours = " -o ".join(f"-name '*{name}*'" for name in ("bulkhead", "check-disk", "docker-prune", "docker-guard"))
    found = machine.out(f"find / /run/bulkhead -xdev -path /proc -prune -o \\( {ours} \\) -print 2>/dev/null || true")
    assert set(found.split()) == set(DROP_INS.values())
    assert machine.out("ls -A /srv/docker-volume | grep bulkhead || true") == ""
    assert machine.out("cat /etc/docker/daemon.json") == "{}"
    assert undeploy(machine).changes == 0
    machine.snapshot("left")
    converge(machine)
    moved.assert_whole()
    assert_isolated(machine)
    machine.restore("left")
    # The volume's disk comes long after Docker would have started.
    unit = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=sleep 60\nTimeoutStartSec=infinity\n"
    late = "/etc/systemd/system/srv-docker\\x2dvolume.mount.d/late.conf"
    machine.run(
        f"printf '{unit}' >/etc/systemd/system/late.service; mkdir -p '{late.rpartition('/')[0]}'; "
        f"printf '[Unit]\nRequires=late.service\nAfter=late.service\n' >'{late}'; sync"
    )
    machine.reboot()
    wait_until_booted(machine)
    machine.run("docker start plain")
    moved.assert_whole()
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


@pytest.mark.full
def test_old_data_is_the_way_back_of_a_host_that_has_lost_its_volume(moved: LivingHost) -> None:
    machine = moved.machine
    machine.restore("moved")
    machine.run("docker stop $(docker ps --quiet)", timeout=300)
    machine.run(
        "systemctl stop docker.socket docker containerd && umount /var/lib/docker /var/lib/containerd /srv/docker-volume && "
        "lvremove --yes ubuntu-vg/docker-lv"
    )
    for settings in ({}, {"replace_lost_volumes": True}):
        refused = deploy(machine, **settings)
        assert refused.code == 1
        assert "`bulkhead rollback` on the host goes back to" in refused.output
    assert "what was written since the move is unknown" in machine.out("bulkhead rollback --yes", timeout=900)
    moved.assert_whole()
    assert "is not there" in deploy(machine).output
    converge(machine, replace_lost_volumes=True)
    moved.assert_whole()
    assert_isolated(machine)
    assert dry(machine).predicted == set()


def test_rollback_brings_the_old_data_back_and_keeps_the_new(moved: LivingHost) -> None:
    machine = moved.machine
    machine.restore("moved")
    machine.run("docker volume create later && echo new >/var/lib/docker/volumes/later/_data/file")
    output = machine.out("bulkhead rollback --yes", timeout=900)
    assert "1 volume: later" in output
    moved.assert_whole()
    assert machine.out("findmnt -no SOURCE /var/lib/docker || echo root") == "root"
    assert machine.out("cat /srv/docker-volume/docker.left-1/volumes/later/_data/file") == "new"


# -- what happens to a move. From here on the tests run the program without the deploy, which takes a third of the time.


@pytest.fixture(scope="module")
def prepared(living: LivingHost) -> LivingHost:
    """Return the host after a run that did everything but the move, which a --rm container blocked."""
    machine = living.machine
    machine.restore("living")
    machine.run("docker run --detach --rm --name passing --network none app sleep 100000")
    run = deploy(machine, relocation_patience=0)
    assert run.code == 1
    assert "still under way after 0 s: the --rm container passing" in run.output
    assert running(machine) == {"web", "plain", "passing"}, "a refused move has stopped a container"
    machine.run("docker rm --force passing")
    living.assert_whole()
    machine.snapshot("prepared")
    return living


@pytest.fixture
def machine(prepared: LivingHost) -> Machine:
    prepared.machine.restore("prepared")
    return prepared.machine


def phase(machine: Machine) -> str:
    return machine.out('bulkhead status --json | sed -n \'s/.*"phase": "\\(.*\\)".*/\\1/p\'')


def finish_the_move(prepared: LivingHost) -> None:
    """Assert that the next move finishes."""
    output = prepared.machine.run("bulkhead relocate", check=False, timeout=900)
    assert output.returncode == 0, output.stdout + output.stderr
    assert phase(prepared.machine) == "done"
    prepared.assert_whole()


# The lines that the move prints when a phase begins.
PHASES = (
    "copying /var/lib/docker",
    "verifying",
    "stopping Docker",
    "copying the difference in /var/lib/docker",
    "switching",
    "starting Docker",
)
_random = random.Random(1)
# The shares of each phase's length on this machine after which the move is cut: never so late that it may be over.
SHARES = {line: [round(_random.uniform(0, 0.6), 2) for _ in range(5)] for line in PHASES}


@pytest.fixture(scope="module")
def lengths(prepared: LivingHost) -> dict[str, float]:
    """Return how many seconds each phase takes on this machine."""
    prepared.machine.restore("prepared")
    return phase_lengths(prepared.machine, PHASES)


def assert_ended_on_one_side(machine: Machine) -> None:
    """Assert that a move that was cut is finished or undone: Docker runs where the journal says, and at the next boot too."""
    on_volume = phase(machine) == "done"
    assert on_volume or phase(machine) == "failed"
    for store in ("/var/lib/docker", "/var/lib/containerd"):
        assert (machine.run(f"mountpoint -q {store}", check=False).returncode == 0) == on_volume
        assert (machine.run(f"grep -q ' {store} ' /etc/fstab", check=False).returncode == 0) == on_volume


def cut_a_move(living: LivingHost, how: str, line: str, seconds: float) -> None:
    """Begin a move, cut it so many seconds after a line, and assert that nothing is lost."""
    machine = living.machine

    def cut(seconds: float) -> None:
        with relocation(machine) as move:
            until(move, line, seconds)
            if how == "power":
                cut_the_move(machine)
            else:
                kill_the_move(machine)

    in_time(cut, seconds, lambda: machine.restore("prepared"))
    assert_ended_on_one_side(machine)
    if how == "power" and line in ("copying /var/lib/docker", "verifying"):
        # Docker ran when the power was cut. After that, a container without a restart policy stays down.
        machine.run("docker start plain")
    living.assert_whole(f"after the {how} cut, {seconds:.1f} s after {line!r}")


@pytest.mark.sample(1, of="moves that are cut")
@pytest.mark.parametrize("line", PHASES)
@pytest.mark.parametrize("how", ["power", "kill"])
@pytest.mark.usefixtures("machine")
def test_nothing_is_lost_when_a_move_is_cut(prepared: LivingHost, how: str, line: str) -> None:
    cut_a_move(prepared, how, line, 0)
    finish_the_move(prepared)


def cut_move_after_move(living: LivingHost, how: str, moments: list[tuple[str, float]]) -> None:
    """Cut one move after the other on the same host. After one that has finished, the host is again as it was before."""
    for line, seconds in moments:
        cut_a_move(living, how, line, seconds)
        if phase(living.machine) == "done":
            living.machine.restore("prepared")
    finish_the_move(living)


@pytest.mark.full
@pytest.mark.timeout(3600, method="signal")
@pytest.mark.parametrize("line", PHASES)
@pytest.mark.usefixtures("machine")
def test_nothing_is_lost_when_move_after_move_is_cut(
    prepared: LivingHost, lengths: dict[str, float], line: str
) -> None:
    cut_move_after_move(prepared, "power", [(line, share * lengths[line]) for share in SHARES[line]])


@pytest.mark.full
@pytest.mark.timeout(3600, method="signal")
@pytest.mark.usefixtures("machine")
def test_nothing_is_lost_when_move_after_move_is_killed(prepared: LivingHost, lengths: dict[str, float]) -> None:
    cut_move_after_move(prepared, "kill", [(line, SHARES[line][0] * lengths[line]) for line in PHASES])


@pytest.mark.sample(1, of="moves that meet with something")
def test_move_goes_on_when_the_connection_is_cut_and_the_next_run_joins_it(
    prepared: LivingHost, machine: Machine
) -> None:
    # A move waits for such a container: it is still under way when the run comes.
    machine.run("docker run --detach --rm --name passing --network none app sleep 100000")
    with relocation(machine) as move:
        until(move, "copying /var/lib/docker", 0)
    with killed_at_the_end(start(command(machine.name))) as joining:
        until(joining, "A move of data is under way from an earlier run", 0)
        machine.run("docker rm --force passing", timeout=300)
        output, _ = joining.communicate(timeout=1200)
    run = Run(joining.returncode, output)
    assert run.code == 0, run.output
    assert "Docker runs on the volume, with all that it had" in run.output
    prepared.assert_whole()
    assert dry(machine).predicted == set()


@pytest.mark.sample(1, of="moves that meet with something")
def test_file_that_changes_after_it_was_copied_arrives_changed(prepared: LivingHost, machine: Machine) -> None:
    # Change the file in place as soon as its copy exists, and keep its size and its time of modification.
    machine.run(
        """systemd-run --quiet sh -c 'cd /var/lib/docker/volumes/named/_data; until [ -s """
        """/srv/docker-volume/docker.moving/volumes/named/_data/owned.new ]; do :; done; """
        """old=$(stat -c %Y.%y owned); touch -r owned /run/old; printf OWNED | dd of=owned.new conv=notrunc status=none; """
        """touch -r /run/old owned.new'; cd /var/lib/docker/volumes/named/_data && cp -p owned owned.new"""
    )
    machine.run("bulkhead relocate", timeout=900)
    assert machine.out("cat /var/lib/docker/volumes/named/_data/owned.new") == "OWNED"
    machine.run("rm /var/lib/docker/volumes/named/_data/owned.new")
    prepared.assert_whole()


# What happens to the host, and what the move prints about it.
FAILURES = {
    "rsync_fails": (
        "mount --bind /bin/false /usr/bin/rsync",
        "rsync from /var/lib/docker ended with 1",
    ),
    "volume_is_full": (
        # The space check passes, but the space is gone when the data is copied.
        "tune2fs -r 0 $(findmnt -no SOURCE /srv/docker-volume) && rm -rf /srv/docker-volume/docker.moving && systemd-run --quiet sh -c 'until [ -e /srv/docker-volume/docker.moving/image ]; "
        "do :; done; fallocate -l $(df --output=avail -B1 /srv/docker-volume | tail -n 1) /srv/docker-volume/hog; "
        "cat /dev/zero >/srv/docker-volume/hog2; sleep 60'",
        "(?i)no space left on device",  # of rsync, or of Docker if the copy was faster
    ),
    "docker_refuses_to_start_on_the_volume": (
        "mkdir -p /etc/systemd/system/docker.service.d && printf '[Service]\\nExecStartPre=/bin/sh -c \"! mountpoint -q "
        "/var/lib/docker\"\\n' >/etc/systemd/system/docker.service.d/90-refuse.conf",
        "`systemctl start docker.service` failed",
    ),
    "program_writes_to_the_old_data": (
        # Begin when the move has stopped Docker: it no longer waits for anything then.
        "systemd-run --quiet sh -c 'until [ -e /run/bulkhead/docker-stays-down ]; do :; done; "
        "exec >/var/lib/docker/changing; while :; do date +%N; done'",
        "other programs write to Docker's data: ",
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
def test_failure_ends_on_the_old_data_with_docker_running(prepared: LivingHost, machine: Machine, failure: str) -> None:
    make, message = FAILURES[failure]
    machine.run(make)
    failed = machine.run("bulkhead relocate", check=False, timeout=900)
    assert failed.returncode == 1, failed.stdout
    assert re.search(message, failed.stderr)
    assert "Docker runs on its old data" in failed.stderr
    assert machine.out("findmnt -no SOURCE /var/lib/docker || echo root") == "root"
    prepared.assert_whole()


# -- a Docker that takes long to start

MANY = 40  # containers; under emulation they take as long as hundreds do elsewhere
_SLOW = "mkdir -p /run/systemd/system/docker.service.d && printf '[Service]\\nExecStartPre=/bin/sleep {}\\n' >{}"
_DROP_IN = "/run/systemd/system/docker.service.d/90-slow.conf"


def slow_down(machine: Machine, seconds: int) -> None:
    """Have Docker start with so many containers, after a delay."""
    machine.run(
        f"seq {MANY} | xargs -P 8 -I{{}} docker run --detach --name many-{{}} --restart unless-stopped --network none app "
        "sleep 100000 >/dev/null",
        timeout=900,
    )
    machine.run(f"{_SLOW.format(seconds, _DROP_IN)} && systemctl daemon-reload")


def set_limit(machine: Machine, limit: str) -> None:
    path = "/etc/bulkhead/bulkhead.json"
    machine.run(f'sed -i \'s/"docker_start_limit": [^,]*/"docker_start_limit": {limit}/\' {path}')


@pytest.mark.full
@pytest.mark.timeout(3600, method="signal")
def test_docker_that_needs_minutes_to_start_is_waited_for(machine: Machine) -> None:
    slow_down(machine, 240)
    began = set(running(machine))
    done = machine.run("bulkhead relocate", check=False, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert phase(machine) == "done"
    assert running(machine) == began
    assert len(began) == MANY + 2
    # What a reboot finds: systemd does not end the start either.
    machine.run("systemctl restart docker", timeout=900)
    assert running(machine) >= began - {"plain"}


@pytest.mark.full
@pytest.mark.timeout(3600, method="signal")
def test_move_that_gave_up_waiting_is_finished_by_hand_as_it_says(prepared: LivingHost, machine: Machine) -> None:
    slow_down(machine, 200)
    set_limit(machine, "60")
    began = running(machine)
    failed = machine.run("bulkhead relocate", check=False, timeout=1800)
    assert failed.returncode == 1
    advice = (
        "finish by hand, in this order: `systemctl start docker.service`; wait until `docker info` answers; "
        "`bulkhead relocate --recover`"
    )
    assert advice in failed.stdout + failed.stderr
    assert phase(machine) == "returning"
    machine.run("systemctl start docker.service", timeout=900)
    machine.run("until docker info >/dev/null 2>&1; do sleep 1; done", timeout=300)
    since = machine.out("systemctl show --property=ExecMainStartTimestamp --value docker.service")
    machine.run("bulkhead relocate --recover", timeout=900)
    assert machine.out("systemctl show --property=ExecMainStartTimestamp --value docker.service") == since, (
        "it was stopped"
    )
    assert phase(machine) == "failed"
    assert running(machine) == began
    machine.run(f"rm {_DROP_IN} && systemctl daemon-reload")
    machine.run(f"docker rm --force $(seq --format many-%g {MANY})", timeout=600)
    finish_the_move(prepared)
