"""Hosts with NVIDIA GPUs, played: the repository, the packages, systemd, apt and Docker are real, the GPU is none."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from lab.machine import Machine
from lab.nvidia_packages import SOURCES, TOOLKIT_VERSIONS
from lab.repository import Repository
from tests.lab.conftest import INVENTORY, TOP, converge, deploy, dry, verify

OLDER, VERSION = TOOLKIT_VERSIONS
IMAGE = (
    "mkdir -p /root/image/bin && cp /bin/busybox /root/image/bin/ && cd /root/image/bin && "
    "for name in sh sleep env; do ln -sf busybox $name; done && tar -C /root/image -c . | docker import - box >/dev/null"
)
OURS = "ls /etc/apt/*/nvidia-bulkhead* /etc/bulkhead/nvidia* 2>/dev/null || true"
TOOLKIT = "dpkg-query -W -f '${db:Status-Status} ${Package}\\n' 'nvidia-container*' 'libnvidia-container*' 2>/dev/null | grep ^installed || true"
TRACE = "/var/log/nvidia-container-runtime.log"


@pytest.fixture(scope="module")
def repository() -> Iterator[Repository]:
    yield Repository.running()
    Repository.stop_running()


@pytest.fixture(scope="module")
def settings(repository: Repository) -> dict[str, object]:
    return {
        "nvidia_repository": f"{repository.url_of_guests}/libnvidia-container",
        "nvidia_repository_fingerprint": repository.fingerprint,
        "nvidia_version": VERSION,
    }


@pytest.fixture(scope="module")
def host(machines: Callable[..., Machine], settings: dict[str, object]) -> Machine:
    """Debian 13, whose Docker knows CDI, with a container that runs."""
    machine = machines("gpu", suite="trixie", docker="preinstalled", settings=settings)
    machine.run("cat >/root/play-gpu.sh <<'EOF'\n" + (SOURCES / "play-gpu.sh").read_text() + "\nEOF")
    return machine


@contextlib.contextmanager
def at_version(machine: Machine, version: str) -> Iterator[None]:
    """With another version in the inventory, for the verification too."""
    before = machine.settings["nvidia_version"]
    try:
        machine.settings["nvidia_version"] = version
        machine.save()
        yield
    finally:
        machine.settings["nvidia_version"] = before
        machine.save()


def daemon_json(machine: Machine) -> dict[str, object]:
    keys: dict[str, object] = json.loads(machine.out("cat /etc/docker/daemon.json"))
    return keys


def test_repository_that_cannot_be_used_stops_the_first_run_before_docker_is_touched(host: Machine) -> None:
    """On a host whose Docker is there and unused, so that its stores would be set aside."""
    refused = deploy(host, nvidia=True, nvidia_repository_fingerprint="A" * 40)
    assert refused.code == 1
    assert "it was not installed; nothing was changed" in refused.output
    assert host.out("systemctl is-active docker containerd").split() == ["active", "active"]


def test_host_without_a_driver_is_told_so_and_gets_nothing_half_done(host: Machine) -> None:
    host.run("sh /root/play-gpu.sh device")
    run = converge(host)
    assert "0000:41:00.0: an NVIDIA GPU, and no driver: the container toolkit is left out" in run.output
    assert host.out(OURS) == host.out(TOOLKIT) == ""
    assert "runtimes" not in daemon_json(host)
    host.run(f"{IMAGE}; docker run --detach --name keeps --network none --restart unless-stopped box sleep 100000")
    host.run("sh /root/play-gpu.sh driver")
    host.snapshot("driver")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nvidia_repository_fingerprint": "A" * 40}, "it was not installed; nothing was changed"),
        ({"nvidia_repository": "{url}/unsigned/libnvidia-container"}, "is not signed"),
        ({"nvidia_repository": "http://10.0.2.2:9/libnvidia-container"}, "cannot be fetched from http://10.0.2.2:9"),
        ({"nvidia_version": "1.99.0"}, "no version 1.99.0 of nvidia-container-toolkit"),
    ],
    ids=["wrong key", "unsigned", "unreachable", "no such version"],
)
def test_repository_that_cannot_be_used_leaves_docker_and_apt_as_they_were(
    host: Machine, repository: Repository, changes: dict[str, str], said: str
) -> None:
    before = daemon_json(host)
    ran = host.out("docker inspect --format '{{.State.Pid}}' keeps")
    values = {name: value.format(url=repository.url_of_guests) for name, value in changes.items()}
    refused = deploy(host, **values)
    assert refused.code == 1
    assert said in refused.output
    assert host.out(TOOLKIT) == ""
    assert host.run("ls /etc/apt/preferences.d/nvidia-bulkhead", check=False).returncode != 0
    assert daemon_json(host) == before
    assert host.out("docker inspect --format '{{.State.Pid}}' keeps") == ran
    host.run("apt-get -qq -o APT::Update::Error-Mode=any update", timeout=300)


def test_package_lock_that_somebody_holds_is_said_and_docker_runs(host: Machine) -> None:
    host.run(
        "systemd-run --quiet --unit=holds python3 -c "
        "\"import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(900)\""
    )
    refused = deploy(host, apt_lock_timeout=5)
    assert refused.code == 1
    assert "Could not get lock" in refused.output
    assert host.out("systemctl is-active docker") == "active"
    host.run("systemctl stop holds")


def test_entry_of_somebody_else_is_named(host: Machine, settings: dict[str, object]) -> None:
    host.restore("driver")
    entry = "/etc/apt/sources.list.d/nvidia-container-toolkit.list"
    host.run(
        f"echo 'deb [signed-by=/usr/share/keyrings/x.gpg] {settings['nvidia_repository']}/stable/deb/amd64 /' >{entry}"
    )
    refused = deploy(host)
    assert refused.code == 1
    assert f"NVIDIA's container toolkit is in {entry}" in refused.output
    assert host.out(OURS) == ""


def test_gpu_host_is_provisioned_and_verified_and_nothing_is_left_to_change(host: Machine) -> None:
    host.restore("driver")
    ran = host.out("docker inspect --format '{{.State.Pid}}' keeps")
    predicted = dry(host).predicted
    run = converge(host)
    assert {name for name in predicted if "NVIDIA" in name}, predicted
    assert "toolkit" in run.output
    verify(host)
    assert dry(host).predicted == set()
    keys = daemon_json(host)
    assert keys["runtimes"] == {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}
    assert keys["features"] == {"buildkit": True, "cdi": True, "containerd-snapshotter": False}
    assert "default-runtime" not in keys
    assert host.out("docker inspect --format '{{.State.Pid}}' keeps") == ran, "the container was restarted"
    # By the runtime, and by CDI.
    host.run(f"rm -f {TRACE}; docker run --rm --network none --runtime nvidia box true || [ -s {TRACE} ]")
    assert "create" in host.out(f"cat {TRACE}")
    environment = host.out("docker run --rm --network none --device nvidia.com/gpu=all box env").splitlines()
    assert "BULKHEAD_CDI=1" in environment
    host.snapshot("provisioned")


def test_older_version_is_upgraded_by_a_changed_pin(host: Machine) -> None:
    host.restore("driver")
    with at_version(host, OLDER):
        converge(host)
        assert host.out("dpkg-query -W -f '${Version}' nvidia-container-toolkit") == f"{OLDER}-1"
        verify(host)
        host.snapshot("older")
    # A version that there is not leaves the pin, and what apt would do.
    refused = deploy(host, nvidia_version="1.99.0")
    assert refused.code == 1
    assert "no version 1.99.0 of nvidia-container-toolkit" in refused.output
    with at_version(host, OLDER):
        verify(host)
    converge(host)
    assert host.out("dpkg-query -W -f '${Version}' libnvidia-container1") == f"{VERSION}-1"
    verify(host)
    older = deploy(host, nvidia_version=OLDER)
    assert older.code == 1
    assert f"no version {OLDER} of nvidia-container-toolkit that apt would take" in older.output
    verify(host)


def test_older_version_leaves_nothing_behind_either(host: Machine) -> None:
    host.restore("older")
    converge(host, nvidia=False)
    assert host.out(OURS) == host.out(TOOLKIT) == ""
    assert host.out("find /etc/systemd/system -name 'nvidia-cdi-refresh*'") == ""


def test_hand_run_configure_is_named_key_by_key_and_put_right(host: Machine) -> None:
    host.restore("provisioned")
    host.run(
        "nvidia-ctk runtime configure --runtime=docker --cdi.enabled && "
        "sed -i '1s/{/{\"debug\": true,/' /etc/docker/daemon.json && systemctl restart docker"
    )
    seen = subprocess.run(
        ["scripts/verify", INVENTORY, "--limit", host.name], cwd=TOP, text=True, capture_output=True, timeout=1200
    )
    assert seen.returncode == 1
    assert "features.buildkit is gone; features.containerd-snapshotter is gone" in seen.stdout
    run = converge(host)
    assert "features.buildkit is gone" in run.output
    assert "keys of the host's own stay: debug" in run.output
    keys = daemon_json(host)
    assert keys["features"] == {"buildkit": True, "cdi": True, "containerd-snapshotter": False}
    assert keys["debug"] is True


def test_containers_with_gpus_are_named_before_docker_is_restarted(host: Machine) -> None:
    host.restore("provisioned")
    host.run(
        "docker run --detach --name computes --network none --runtime nvidia --env NVIDIA_VISIBLE_DEVICES=all box sleep 100000"
    )
    assert "while containers with GPUs run" not in deploy(host).output
    run = converge(host, log_max_file=5)
    assert "Docker is restarted while containers with GPUs run: computes" in run.output


def test_host_that_leaves_the_group_has_nothing_of_it(host: Machine) -> None:
    host.restore("provisioned")
    host.run("docker create --name computes --network none --runtime nvidia box sleep 1")
    refused = deploy(host, nvidia=False)
    assert refused.code == 1
    assert "containers with GPUs, and NVIDIA's container toolkit is to be removed: computes" in refused.output
    host.run("docker rm computes")
    converge(host, nvidia=False)
    assert host.out(OURS) == host.out(TOOLKIT) == ""
    assert host.out("ls -d /etc/nvidia-container* /run/cdi/nvidia.yaml 2>/dev/null || true") == ""
    assert "runtimes" not in daemon_json(host)
    assert "cdi" not in daemon_json(host)["features"]  # type: ignore[operator]
    assert host.out("docker inspect --format '{{.State.Running}}' keeps") == "true"
    assert dry(host, nvidia=False).predicted == set()
