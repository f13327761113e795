"""What Docker no longer needs goes, and nothing else: by an inventory of a real engine, before and after."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import DATA, converge, send, start, wait_until

pytestmark = pytest.mark.turn

VOLUME = "/srv/docker-volume"
# Without the guard, which reclaims and tells too on a volume that is nearly full: it has tests of its own.
SETTINGS = {"volume_size": "3G", "prune_keep": ["listed-*"], "guard": False}
STALE = {"old-stopped", "old-never", "old-of-lost"}  # containers
INCIDENT = "docker system prune -af --volumes --filter until=48h"


def inventory(machine: Machine) -> dict[str, set[str]]:
    """Everything that Docker has, by kind."""
    asked = {
        "containers": "docker ps --all --format '{{.Names}} {{.ID}}'",
        "images": "docker images --all --format '{{.Repository}}:{{.Tag}} {{.ID}}'",
        "networks": "docker network ls --format '{{.Name}}'",
        "volumes": "docker volume ls --quiet",
    }
    found = {kind: set(machine.out(command).splitlines()) for kind, command in asked.items()}
    cache = machine.out(
        "curl -s --unix-socket /run/docker.sock http://docker/system/df | "
        "jq -r '(.BuildCache // [])[] | (.ID + \" \" + .Description)'"
    )
    # A description may end with a space, which the last line loses.
    return {**found, "cache": {record.strip() for record in cache.splitlines()}}


def built(found: dict[str, set[str]]) -> set[str]:
    """The numbers of the builds whose own step is in the build cache."""
    return {number for record in found["cache"] for number in re.findall(r"; echo (\d)", record)}


def images(found: dict[str, set[str]]) -> set[str]:
    return {image.split()[0] for image in found["images"]}


def gone(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is there no more, by name: of what has none, identifiers."""
    names = {kind: before[kind] - after[kind] for kind in before if kind != "cache"}
    return {kind: {entry.split()[0] for entry in entries} for kind, entries in names.items()}


def assert_all_there(before: dict[str, set[str]], after: dict[str, set[str]]) -> None:
    """Nothing has been removed, but what BuildKit itself removes: what builds sent it, two days after by the clock."""
    assert built(after) == built(before)
    assert after | {"cache": set()} == before | {"cache": set()}


def free(machine: Machine) -> int:
    return int(machine.out(f"df --output=avail -B1 {VOLUME} | tail -n 1"))


def populated(machine: Machine) -> Machine:
    converge(machine, **SETTINGS)
    send(machine, DATA / "populate.sh", "/root/populate.sh")
    machine.run("systemctl stop cron docker-prune.timer")  # the clock is about to be set
    machine.run("sh /root/populate.sh old", timeout=600)
    machine.run("date -s '+3 days'")
    machine.run("sh /root/populate.sh young", timeout=600)
    machine.snapshot("populated")
    return machine


@pytest.fixture(scope="module")
def made(machines: Callable[..., Machine]) -> Machine:
    return populated(machines("pruned", suite="bookworm", docker="preinstalled"))


@pytest.fixture
def machine(made: Machine) -> Machine:
    made.restore("populated")
    made.run("date -s '+3 days'")  # a snapshot comes back with the clock of today
    return made


def assert_only_what_is_meant_goes(machine: Machine) -> None:
    before = inventory(machine)
    output = machine.out("bulkhead prune --dry-run", timeout=300)
    still = inventory(machine)
    assert built(before) == set("1234567")
    assert_all_there(before, still)
    had = free(machine)
    machine.run("systemctl start docker-prune.service", timeout=300)
    after = inventory(machine)
    assert gone(before, after) == {
        "containers": STALE,
        "images": {"<none>:<none>"},
        "networks": {"old-net"},
        "volumes": set(),
    }
    assert len(before["images"] - after["images"]) == 1, "of the two dangling images one is kept"
    # What the young builds have in common with the old ones, the image that they begin with, stays with them.
    assert built(after) == set("57")
    # The dangling image's step and the old idle one, of 20 MiB each: the other steps are in images too. containerd
    # removes a little later.
    wait_until(lambda: free(machine) > had + 35e6)
    for name in (*STALE, "old-net"):
        assert name in output
    assert "listed-old" not in output
    logged = machine.out("journalctl --unit=docker-prune.service --output=cat")
    assert "old-stopped" in logged
    machine.run("docker exec runs true && docker run --rm --network none -v named:/named young true")
    assert json.loads(machine.out("bulkhead status --json"))["pruned"]["failed"] == []


def test_exactly_what_is_meant_goes(machine: Machine) -> None:
    assert_only_what_is_meant_goes(machine)


@pytest.mark.full
@pytest.mark.parametrize("store", ["overlay2", "containerd"])
def test_exactly_what_is_meant_goes_on_newer_engines(machines: Callable[..., Machine], store: str) -> None:
    machine = machines("newer", suite="trixie", docker="preinstalled")
    if store == "containerd":
        machine.run(
            """mkdir -p /etc/docker && echo '{"features": {"containerd-snapshotter": true}}' >/etc/docker/daemon.json && """
            "systemctl restart docker && tar -C /etc -c hostname | docker import - first"
        )
    try:
        assert_only_what_is_meant_goes(populated(machine))
    finally:
        machine.destroy()


def test_incidents_own_command_still_removes_nothing(machine: Machine) -> None:
    # It was written down as the cleaning, and would have done nothing, every night.
    before = inventory(machine)
    done = machine.run(INCIDENT, check=False)
    assert done.returncode != 0
    assert 'The "until" filter is not supported with "--volumes"' in done.stderr
    assert_all_there(before, inventory(machine))


@pytest.mark.sample(1, of="what a prune leaves")
def test_images_go_by_their_last_use_where_that_is_wanted(machine: Machine) -> None:
    settings = "/etc/bulkhead/bulkhead.json"
    machine.run(f"jq '.prune_images_after_days = 2' {settings} >/root/settings && cp /root/settings {settings}")
    before = inventory(machine)
    machine.run("bulkhead prune", timeout=300)
    assert images(before) - images(inventory(machine)) == set(), "an image went whose last use nobody knew"
    machine.run("date -s '+1 day' && docker create --name user young true")
    machine.run("bulkhead prune", timeout=300)
    machine.run("docker rm user && date -s '+36 hours'")
    machine.run("bulkhead prune", timeout=300)
    # young: in no container for 36 hours. The rest that stays is in containers.
    assert images(before) - images(inventory(machine)) == {"unused:latest", "kept:latest"}


@pytest.mark.sample(1, of="what a prune leaves")
def test_build_that_runs_loses_nothing(machine: Machine) -> None:
    build = start(
        [
            *machine.ssh_command(),
            r"printf 'FROM box\nRUN dd if=/dev/urandom of=/one bs=1M count=5; sleep 1000; true\nRUN true\n' | docker build --network none --tag late -",
        ]
    )
    wait_until(lambda: machine.run("pgrep -fx 'sleep 1000'", check=False).returncode == 0)
    before = inventory(machine)
    output = machine.out("bulkhead prune", timeout=300)
    assert build.poll() is None, "the build had ended before the prune: nothing was shown"
    assert "<none>:<none>" not in gone(before, inventory(machine))["images"]
    assert re.search("dangling images: .*a build", output), output
    machine.run("pkill -fx 'sleep 1000'")
    output, _ = build.communicate(timeout=300)
    assert build.returncode == 0, output
    machine.run("docker run --rm --network none late true")


@pytest.mark.sample(1, of="what a prune leaves")
def test_room_is_made_on_a_volume_that_is_full_to_the_last_byte(machine: Machine) -> None:
    # ext4 reserves more for root than a prune brings back here: none of it would be seen as free.
    machine.run(f"tune2fs -r 0 $(findmnt -no SOURCE {VOLUME})")
    machine.run(f"cat /dev/zero >{VOLUME}/hog; sync", check=False, timeout=300)
    assert free(machine) == 0
    before = inventory(machine)
    done = machine.run("bulkhead prune", check=False, timeout=600)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert gone(before, inventory(machine))["containers"] == STALE
    assert free(machine) > 15e6
    need = free(machine) + 25 * 2**20
    done = machine.run(f"bulkhead reclaim --need {need // 2**20 + 1}M", timeout=600)
    assert free(machine) >= need
    left = inventory(machine)
    assert left["volumes"] == before["volumes"]
    assert "unused:latest" not in images(left), done.stdout
    assert {"box:latest", "app:latest"} <= images(left)
    done = machine.run("bulkhead reclaim --need 900G", check=False, timeout=600)
    assert done.returncode == 1
    assert "900" in done.stdout + done.stderr


def test_docker_that_was_stopped_is_not_started_by_a_prune(machine: Machine) -> None:
    machine.run("systemctl stop docker.service 2>/dev/null")
    done = machine.run("bulkhead prune", check=False)
    assert done.returncode == 1
    assert "docker.service" in done.stderr
    machine.run("systemctl start docker-prune.service", check=False)
    assert machine.out("systemctl is-active docker.service || true") == "inactive"
