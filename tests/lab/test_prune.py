"""A prune removes what Docker no longer needs, and nothing else. The tests compare inventories of a real engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import DATA, converge, send, start, wait_until

pytestmark = pytest.mark.turn

VOLUME = "/srv/docker-volume"
# The guard is off: on a nearly full volume it would reclaim space and send alerts too. It has tests of its own.
SETTINGS = {"volume_size": "3G", "prune_keep": ["listed-*"], "guard": False}
STALE = {"old-stopped", "old-never", "old-of-lost"}  # containers
UPTIME = "/var/lib/bulkhead/uptime.json"
INCIDENT = "docker system prune -af --volumes --filter until=48h"


def inventory(machine: Machine) -> dict[str, set[str]]:
    """Return everything that Docker has, by kind."""
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
    # A description may end with a space. `out` strips it from the last line: strip it from all.
    return {**found, "cache": {record.strip() for record in cache.splitlines()}}


def built(found: dict[str, set[str]]) -> set[str]:
    """Return the numbers of the builds whose own step is in the build cache."""
    return {number for record in found["cache"] for number in re.findall(r"; echo (\d)", record)}


def images(found: dict[str, set[str]]) -> set[str]:
    return {image.split()[0] for image in found["images"]}


def removed(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return what has been removed, by name, or by identifier if it has no name."""
    names = {kind: before[kind] - after[kind] for kind in before if kind != "cache"}
    return {kind: {entry.split()[0] for entry in entries} for kind, entries in names.items()}


def assert_all_there(before: dict[str, set[str]], after: dict[str, set[str]]) -> None:
    """Assert that nothing has been removed, except build contexts: BuildKit itself removes those after two days."""
    assert built(after) == built(before)
    assert after | {"cache": set()} == before | {"cache": set()}


def free(machine: Machine) -> int:
    return int(machine.out(f"df --output=avail -B1 {VOLUME} | tail -n 1"))


def let_pass(machine: Machine, hours: int) -> None:
    """Let time pass for which the host is up: set its clock, and the uptime that the program remembers."""
    machine.run("bulkhead check", check=False)  # it remembers the uptime until now
    machine.run(
        f"date -s '+{hours} hours' && jq '.up += {hours * 3600}' {UPTIME} >/root/uptime && cp /root/uptime {UPTIME}"
    )


def populated(machine: Machine) -> Machine:
    converge(machine, **SETTINGS)
    send(machine, DATA / "populate.sh", "/root/populate.sh")
    machine.run("systemctl stop cron docker-prune.timer")  # the tests set the clock
    machine.run(f"rm -f {UPTIME}; bulkhead check", check=False)
    machine.run("sh /root/populate.sh old", timeout=600)
    # Networks count from the first prune that sees them.
    machine.run(
        "docker network ls --no-trunc --quiet | jq --raw-input '{(.): now}' | jq --slurp add >/var/lib/bulkhead/networks.json"
    )
    let_pass(machine, 72)
    machine.run("sh /root/populate.sh young", timeout=600)
    machine.snapshot("populated")
    return machine


@pytest.fixture(scope="module")
def populated_host(machines: Callable[..., Machine]) -> Machine:
    return populated(machines("pruned", suite="bookworm", docker="preinstalled"))


@pytest.fixture
def machine(populated_host: Machine) -> Machine:
    return restored(populated_host)


def restored(machine: Machine) -> Machine:
    machine.restore("populated")
    machine.run("date -s '+3 days'")  # `restore` has set the clock to the present time
    return machine


def assert_only_what_is_meant_goes(machine: Machine, dangling: int = 2) -> None:
    """Assert what a prune removes.

    Args:
        dangling: how many dangling images there are; a prune keeps one of them.
    """
    before = inventory(machine)
    output = machine.out("bulkhead prune --dry-run", timeout=900)
    still = inventory(machine)
    assert built(before) == set("1234567")
    assert len([image for image in before["images"] if image.startswith("<none>")]) == dangling
    assert_all_there(before, still)
    had = free(machine)
    machine.run("systemctl start --wait docker-prune.service", timeout=300)
    after = inventory(machine)
    logged = machine.out("journalctl --unit=docker-prune.service --output=cat")
    assert removed(before, after) == {
        "containers": STALE,
        "images": {"<none>:<none>"} if dangling else set(),
        "networks": {"old-net"},
        "volumes": set(),
    }, f"{logged}\n{before['images']}"
    assert len(before["images"] - after["images"]) == dangling // 2
    # Young and old builds share their base image: it stays.
    assert built(after) == set("57")
    # Two steps of 20 MiB each go: that of the dangling image, and the old idle one. The other steps are in images too.
    # containerd frees the space a little later.
    wait_until(lambda: free(machine) > had + 35e6)
    for name in (*STALE, "old-net"):
        assert name in output
    assert "listed-old" not in output
    assert "old-stopped" in logged
    machine.run("docker exec runs true && docker run --rm --network none -v named:/named young true")
    assert json.loads(machine.out("bulkhead status --json"))["pruned"]["failed"] == []


def assert_image_pulled_by_its_digest_stays(machine: Machine, dangles: bool = True) -> None:
    """Assert that a prune keeps an image that has a digest and no tag.

    Args:
        dangles: whether Docker calls such an image dangling.
    """
    send(machine, DATA / "registry.py", "/root/registry.py")
    machine.run("systemd-run --quiet --unit=registry python3 /root/registry.py 1048576")
    wait_until(lambda: machine.run("curl -sf http://127.0.0.1:5000/v2/", check=False).returncode == 0)
    machine.run("docker pull --quiet 127.0.0.1:5000/zeros")
    name = machine.out("docker image inspect --format '{{index .RepoDigests 0}}' 127.0.0.1:5000/zeros")
    assert "@sha256:" in name
    machine.run(f"docker image rm 127.0.0.1:5000/zeros && docker pull --quiet {name}")
    identifier = machine.out(f"docker image inspect --format '{{{{.Id}}}}' {name}")
    dangling = machine.out("docker images --filter dangling=true --quiet --no-trunc").split()
    assert (identifier in dangling) == dangles, f"{identifier} and {dangling}"
    let_pass(machine, 60)
    machine.run("bulkhead prune", timeout=900)
    machine.run(f"docker image inspect {name}")
    if dangles:
        assert len(machine.out("docker images --filter dangling=true --quiet").split()) < len(dangling)


def test_prune_removes_exactly_what_it_should(machine: Machine) -> None:
    assert_only_what_is_meant_goes(machine)


@pytest.mark.full
@pytest.mark.parametrize(("suite", "store"), [("trixie", "overlay2"), ("trixie", "containerd"), ("sid", "containerd")])
def test_prune_removes_exactly_what_it_should_on_newer_engines(
    machines: Callable[..., Machine], suite: str, store: str
) -> None:
    machine = machines("newer", suite=suite, docker="preinstalled")
    if store == "containerd":
        machine.run(
            """mkdir -p /etc/docker && echo '{"features": {"containerd-snapshotter": true}}' >/etc/docker/daemon.json && """
            "systemctl restart docker && tar -C /etc -c hostname | docker import - first"
        )
    try:
        # In containerd's store, Docker forgets an image when a build gives its name to another one (moby 48907).
        assert_only_what_is_meant_goes(populated(machine), dangling=0 if store == "containerd" else 2)
        assert_image_pulled_by_its_digest_stays(restored(machine), dangles=store == "overlay2")
    finally:
        machine.destroy()


def test_command_of_the_incident_still_removes_nothing(machine: Machine) -> None:
    # The incident's notes had this command as the nightly cleanup. It would have removed nothing.
    before = inventory(machine)
    done = machine.run(INCIDENT, check=False)
    assert done.returncode != 0
    assert 'The "until" filter is not supported with "--volumes"' in done.stderr
    assert_all_there(before, inventory(machine))


@pytest.mark.sample(1, of="what a prune leaves")
def test_images_are_removed_by_their_last_use_if_the_settings_say_so(machine: Machine) -> None:
    settings = "/etc/bulkhead/bulkhead.json"
    machine.run(f"jq '.prune_images_after_days = 2' {settings} >/root/settings && cp /root/settings {settings}")
    before = inventory(machine)
    machine.run("bulkhead prune", timeout=900)
    assert images(before) - images(inventory(machine)) == set(), "an image was removed although its last use is unknown"
    let_pass(machine, 24)
    machine.run("docker create --name user young true")
    machine.run("bulkhead prune", timeout=900)
    machine.run("docker rm user")
    let_pass(machine, 36)
    machine.run("bulkhead prune", timeout=900)
    # young stays: it was in a container until 36 hours ago. The others that stay are in containers.
    assert images(before) - images(inventory(machine)) == {"unused:latest", "kept:latest"}


@pytest.mark.sample(1, of="what a prune leaves")
def test_running_build_loses_nothing(machine: Machine) -> None:
    build = start(
        [
            *machine.ssh_command(),
            r"printf 'FROM box\nRUN dd if=/dev/urandom of=/one bs=1M count=5; sleep 1000; true\nRUN true\n' | docker build --network none --tag late -",
        ]
    )
    wait_until(lambda: machine.run("pgrep -fx 'sleep 1000'", check=False).returncode == 0)
    before = inventory(machine)
    output = machine.out("bulkhead prune", timeout=900)
    assert build.poll() is None, "the build ended before the prune: the test proves nothing"
    assert "<none>:<none>" not in removed(before, inventory(machine))["images"]
    assert re.search("dangling images: .*a build", output), output
    machine.run("pkill -fx 'sleep 1000'")
    output, _ = build.communicate(timeout=300)
    assert build.returncode == 0, output
    machine.run("docker run --rm --network none late true")


@pytest.mark.sample(1, of="what a prune leaves")
def test_prune_frees_space_on_a_volume_without_a_free_byte(machine: Machine) -> None:
    # ext4 reserves more for root than a prune frees here: without this, df would still show 0 bytes.
    machine.run(f"tune2fs -r 0 $(findmnt -no SOURCE {VOLUME})")
    machine.run(f"cat /dev/zero >{VOLUME}/hog; sync", check=False, timeout=300)
    assert free(machine) == 0
    before = inventory(machine)
    done = machine.run("bulkhead prune", check=False, timeout=900)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert removed(before, inventory(machine))["containers"] == STALE
    assert free(machine) > 15e6
    need = free(machine) + 25 * 2**20
    done = machine.run(f"bulkhead reclaim --need {need // 2**20 + 1}M --yes", timeout=900)
    assert free(machine) >= need
    left = inventory(machine)
    assert left["volumes"] == before["volumes"]
    assert "unused:latest" not in images(left), done.stdout
    assert {"box:latest", "app:latest"} <= images(left)


@pytest.mark.sample(1, of="what a prune leaves")
def test_reclaim_beyond_what_can_be_had_removes_nothing(machine: Machine) -> None:
    before = inventory(machine)
    done = machine.run("bulkhead reclaim --need 900G --yes", check=False, timeout=900)
    assert done.returncode == 1
    assert "900.0 GiB are needed" in done.stderr
    assert "Nothing was removed" in done.stderr
    advised = re.search(r"Take what can be had: `(bulkhead reclaim --need (\d+)M)`", done.stderr)
    assert advised, done.stderr
    asked = machine.run(advised[1], check=False, timeout=600)
    assert asked.returncode == 1
    assert "unused:latest (3" in asked.stdout
    assert "stdin is not a terminal; pass --yes" in asked.stderr
    assert_all_there(before, inventory(machine))
    machine.run(f"{advised[1]} --yes", timeout=600)
    assert free(machine) >= int(advised[2]) * 2**20
    left = inventory(machine)
    assert left["volumes"] == before["volumes"]
    assert {"box:latest", "app:latest"} <= images(left)


@pytest.mark.sample(1, of="what a prune leaves")
def test_image_pulled_by_its_digest_stays(machine: Machine) -> None:
    assert_image_pulled_by_its_digest_stays(machine)


@pytest.mark.sample(1, of="what a prune leaves")
def test_network_of_jobs_that_leave_no_container_stays(machine: Machine) -> None:
    machine.run("docker run --rm --network old-net box true")
    machine.run("bulkhead prune", timeout=900)
    assert "old-net" in inventory(machine)["networks"]
    let_pass(machine, 40)
    machine.run("docker run --rm --network old-net box true")
    let_pass(machine, 40)
    machine.run("bulkhead prune", timeout=900)
    assert "old-net" in inventory(machine)["networks"]
    let_pass(machine, 60)
    machine.run("bulkhead prune", timeout=900)
    assert "old-net" not in inventory(machine)["networks"]


@pytest.mark.sample(1, of="what a prune leaves")
def test_nothing_goes_just_after_a_boot_nor_because_the_clock_is_set(machine: Machine) -> None:
    before = inventory(machine)
    machine.run(f"rm {UPTIME}")
    done = machine.run("bulkhead prune", check=False, timeout=900)
    assert done.returncode == 1
    assert "nothing is pruned in the first 3 h" in done.stderr
    let_pass(machine, 4)
    machine.run("date -s '+30 days' && bulkhead prune", timeout=900)
    after = inventory(machine)
    assert after["containers"] == before["containers"]
    assert after["networks"] == before["networks"]
    assert after["images"] == before["images"]


@pytest.mark.sample(1, of="what a prune leaves")
def test_anonymous_volume_goes_only_on_request(machine: Machine) -> None:
    before = inventory(machine)["volumes"]
    machine.run("bulkhead prune", timeout=900)
    assert inventory(machine)["volumes"] == before
    machine.run("bulkhead reclaim --volumes --yes", timeout=900)
    gone = before - inventory(machine)["volumes"]
    assert len(gone) == 1, "the volume of the container old-stopped is the only one that nobody has"
    assert re.fullmatch("[0-9a-f]{64}", gone.pop())
    assert "named" in inventory(machine)["volumes"]


def test_prune_does_not_start_a_stopped_docker(machine: Machine) -> None:
    machine.run("systemctl stop docker.service 2>/dev/null")
    done = machine.run("bulkhead prune", check=False)
    assert done.returncode == 1
    assert "docker.service" in done.stderr
    machine.run("systemctl start --wait docker-prune.service", check=False)
    assert machine.out("systemctl is-active docker.service || true") == "inactive"
