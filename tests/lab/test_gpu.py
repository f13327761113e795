"""Hosts with NVIDIA GPUs. The GPU and NVIDIA's programs are fake; apt, its repository, systemd and Docker are real."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest

from lab.machine import Machine
from lab.nvidia_packages import SOURCES, TOOLKIT_VERSIONS
from lab.repository import LabRepository
from tasks.support.package_names import TOOLKIT as TOOLKIT_PACKAGES
from tests.lab.conftest import IMAGE, converge, deploy, dry, send, verification, verify

pytestmark = pytest.mark.turn

OLDER, VERSION = TOOLKIT_VERSIONS
OURS = "ls /etc/apt/*/nvidia-bulkhead* /etc/bulkhead/nvidia* 2>/dev/null || true"
TOOLKIT = "dpkg-query -W -f '${db:Status-Status} ${Package}\\n' 'nvidia-container*' 'libnvidia-container*' 2>/dev/null | grep ^installed || true"
RUNTIMES = {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}  # as nvidia-ctk writes them
TRACE = "/var/log/nvidia-container-runtime.log"


@pytest.fixture(scope="module")
def settings(repository: LabRepository) -> dict[str, object]:
    return {
        "nvidia_repository": f"{repository.url_of_guests}/libnvidia-container",
        "nvidia_repository_fingerprint": repository.fingerprint,
        "nvidia_version": VERSION,
    }


@pytest.fixture(scope="module")
def host(machines: Callable[..., Machine], settings: dict[str, object]) -> Machine:
    """Return a living host with a GPU: Debian 13, whose Docker supports CDI, with a running container."""
    machine = machines("gpu", suite="trixie", docker="preinstalled", settings=settings)
    send(machine, SOURCES / "play-gpu.sh", "/root/play-gpu.sh")
    machine.run("sh /root/play-gpu.sh device")
    machine.snapshot("unused")
    machine.run(f"{IMAGE}; docker run --detach --name keeps --network none --restart unless-stopped box sleep 100000")
    machine.run("sh /root/play-gpu.sh driver")
    machine.snapshot("living")
    return machine


@contextlib.contextmanager
def at_version(machine: Machine, version: str) -> Iterator[None]:
    """Put another version into the inventory, so that the verification uses it too."""
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


@pytest.mark.sample(1, of="GPU hosts")
@pytest.mark.parametrize(
    ("changes", "output"),
    [
        ({"nvidia_repository_fingerprint": "A" * 40}, "it was not installed; nothing was changed"),
        ({"nvidia_repository": "{url}/unsigned/libnvidia-container"}, "is not signed"),
        ({"nvidia_repository": "http://10.0.2.2:9/libnvidia-container"}, "cannot be fetched from http://10.0.2.2:9"),
        ({"nvidia_version": "1.99.0"}, "apt cannot install version 1.99.0 of nvidia-container-toolkit"),
    ],
    ids=["wrong key", "unsigned", "unreachable", "no such version"],
)
def test_repository_that_cannot_be_used_leaves_docker_and_apt_as_they_were(
    host: Machine, repository: LabRepository, changes: dict[str, str], output: str
) -> None:
    host.restore("living")
    before = host.out("cat /etc/docker/daemon.json 2>/dev/null || true")
    ran = host.out("docker inspect --format '{{.State.Pid}}' keeps")
    values = {name: value.format(url=repository.url_of_guests) for name, value in changes.items()}
    refused = deploy(host, **values)
    assert refused.code == 1
    assert output in refused.output
    assert host.out(TOOLKIT) == ""
    assert host.run("ls /etc/apt/preferences.d/nvidia-bulkhead", check=False).returncode != 0
    assert host.out("cat /etc/docker/daemon.json 2>/dev/null || true") == before
    assert host.out("docker inspect --format '{{.State.Pid}}' keeps") == ran
    assert host.out("findmnt -no SOURCE /srv/docker-volume || true") == ""
    host.run("apt-get -qq -o APT::Update::Error-Mode=any update", timeout=300)


@pytest.mark.full
def test_held_package_lock_is_reported_and_docker_runs(host: Machine) -> None:
    host.restore("living")
    host.run(
        "systemd-run --quiet --unit=holds python3 -c "
        "\"import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(900)\""
    )
    refused = deploy(host, apt_lock_timeout=5)
    assert refused.code == 1
    assert "Could not get lock" in refused.output
    assert host.out("systemctl is-active docker") == "active"


@pytest.mark.full
def test_host_without_a_driver_gets_a_warning_and_no_toolkit(host: Machine) -> None:
    host.restore("unused")
    # A fault outside the host is found before the run touches the stores of an unused Docker.
    refused = deploy(host, nvidia=True, nvidia_repository_fingerprint="A" * 40)
    assert refused.code == 1
    assert "it was not installed; nothing was changed" in refused.output
    assert host.out("systemctl is-active docker containerd").split() == ["active", "active"]
    run = converge(host)
    assert "0000:41:00.0: an NVIDIA GPU, and no driver: the container toolkit is not installed" in run.output
    assert host.out(OURS) == host.out(TOOLKIT) == ""
    assert "runtimes" not in daemon_json(host)
    verify(host)


@pytest.mark.sample(1, of="GPU hosts")
def test_apt_entry_of_somebody_else_is_refused_by_name(host: Machine, settings: dict[str, object]) -> None:
    host.restore("living")
    entry = "/etc/apt/sources.list.d/nvidia-container-toolkit.list"
    host.run(
        f"echo 'deb [signed-by=/usr/share/keyrings/x.gpg] {settings['nvidia_repository']}/stable/deb/amd64 /' >{entry}"
    )
    refused = deploy(host)
    assert refused.code == 1
    assert f"NVIDIA's container toolkit is listed in {entry}" in refused.output
    assert host.out(OURS) == ""


@pytest.mark.sample(1, of="GPU hosts")
def test_toolkit_of_an_image_is_kept_with_its_version_and_its_apt_entry(
    host: Machine, settings: dict[str, object]
) -> None:
    host.restore("living")
    entry, key = "/etc/apt/sources.list.d/nvidia-container-toolkit.list", "/etc/apt/keyrings/theirs.asc"
    packages = " ".join(f"{name}={OLDER}-1" for name in TOOLKIT_PACKAGES)
    host.run(
        f"mkdir -p /etc/apt/keyrings && curl -fsS -o {key} {settings['nvidia_repository']}/gpgkey && "
        f"echo 'deb [signed-by={key}] {settings['nvidia_repository']}/stable/deb/amd64 /' >{entry} && "
        f"apt-get -qq update && apt-get -qq -y install {packages}",
        timeout=600,
    )
    installed, apt = host.out("dpkg-query -W"), host.out("find /etc/apt -type f | sort | xargs sha256sum")
    converge(host)
    assert host.out(OURS) == ""
    assert host.out("find /etc/apt -type f | sort | xargs sha256sum") == apt
    assert set(installed.splitlines()) <= set(host.out("dpkg-query -W").splitlines())
    assert daemon_json(host)["runtimes"] == RUNTIMES
    host.run(f"rm -f {TRACE}; docker run --rm --network none --runtime nvidia box true")
    assert "create" in host.out(f"cat {TRACE}")
    verify(host)
    assert dry(host).predicted == set()


@pytest.fixture(scope="module")
def provisioned(host: Machine) -> Machine:
    host.restore("living")
    assert {name for name in dry(host).predicted if "NVIDIA" in name}
    converge(host)
    host.snapshot("provisioned")
    return host


@pytest.fixture
def gpu_host(provisioned: Machine) -> Machine:
    provisioned.restore("provisioned")
    return provisioned


def test_living_gpu_host_is_provisioned_and_verified_and_nothing_is_left_to_change(gpu_host: Machine) -> None:
    host = gpu_host
    verify(host)
    assert dry(host).predicted == set()
    keys = daemon_json(host)
    assert keys["runtimes"] == RUNTIMES
    assert keys["features"] == {"buildkit": True, "cdi": True, "containerd-snapshotter": False}
    assert "default-runtime" not in keys
    assert host.out("docker inspect --format '{{.State.Running}}' keeps") == "true"
    # Docker reaches the GPU through the runtime, and through CDI.
    host.run(f"rm -f {TRACE}; docker run --rm --network none --runtime nvidia box true")
    assert "create" in host.out(f"cat {TRACE}")
    environment = host.out("docker run --rm --network none --device nvidia.com/gpu=all box env").splitlines()
    assert "BULKHEAD_CDI=1" in environment


@pytest.mark.full
def test_fresh_gpu_host_is_provisioned_as_the_dry_run_predicted_and_verified(
    machines: Callable[..., Machine], settings: dict[str, object]
) -> None:
    """Use Debian 12, whose Docker does not support CDI."""
    host = machines("gpu-fresh", suite="bookworm", settings=settings)
    send(host, SOURCES / "play-gpu.sh", "/root/play-gpu.sh")
    host.run("sh /root/play-gpu.sh device; sh /root/play-gpu.sh driver")
    predicted = dry(host).predicted
    assert {name for name in predicted if "NVIDIA" in name}
    assert converge(host).changed == predicted
    verify(host)
    assert dry(host).predicted == set()
    assert daemon_json(host)["runtimes"] == RUNTIMES
    host.destroy()


@pytest.mark.full
@pytest.mark.timeout(3600, method="signal")
def test_older_version_is_upgraded_by_a_changed_pin(host: Machine) -> None:
    host.restore("living")
    with at_version(host, OLDER):
        converge(host)
        assert host.out("dpkg-query -W -f '${Version}' nvidia-container-toolkit") == f"{OLDER}-1"
        verify(host)
    host.snapshot("older")
    converge(host, nvidia=False)
    assert host.out(OURS) == host.out(TOOLKIT) == ""
    assert host.out("find /etc/systemd/system -name 'nvidia-cdi-refresh*'") == "", (
        "the old packages have left units behind"
    )
    host.restore("older")
    # A version that does not exist changes neither the pin nor what apt would install.
    refused = deploy(host, nvidia_version="1.99.0")
    assert refused.code == 1
    assert "apt cannot install version 1.99.0 of nvidia-container-toolkit" in refused.output
    with at_version(host, OLDER):
        verify(host)
    converge(host)
    assert host.out("dpkg-query -W -f '${Version}' libnvidia-container1") == f"{VERSION}-1"
    verify(host)
    older = deploy(host, nvidia_version=OLDER)
    assert older.code == 1
    assert f"apt cannot install version {OLDER} of nvidia-container-toolkit" in older.output
    verify(host)


@pytest.mark.sample(1, of="GPU hosts")
def test_changes_of_a_manual_nvidia_ctk_run_are_named_key_by_key_and_repaired(gpu_host: Machine) -> None:
    host = gpu_host
    host.run(
        "nvidia-ctk runtime configure --runtime=docker --cdi.enabled && "
        "sed -i '1s/{/{\"debug\": true,/' /etc/docker/daemon.json && systemctl restart docker"
    )
    observed = verification(host)
    assert observed.returncode == 1
    assert "features.buildkit is missing; features.containerd-snapshotter is missing" in observed.stdout
    run = converge(host)
    assert "features.buildkit is missing" in run.output
    assert "keys of the host's own stay: debug" in run.output
    keys = daemon_json(host)
    assert keys["features"] == {"buildkit": True, "cdi": True, "containerd-snapshotter": False}
    assert keys["debug"] is True


@pytest.mark.sample(1, of="GPU hosts")
def test_containers_with_gpus_are_named_before_docker_is_restarted(gpu_host: Machine) -> None:
    host = gpu_host
    host.run(
        "docker run --detach --name computes --network none --runtime nvidia --env NVIDIA_VISIBLE_DEVICES=all box sleep 100000"
    )
    assert "while containers with GPUs run" not in converge(host).output
    run = converge(host, log_max_file=5)
    assert "Docker is restarted while containers with GPUs run: computes" in run.output


@pytest.mark.sample(1, of="GPU hosts")
def test_toolkit_is_removed_from_a_host_whose_setting_is_off(gpu_host: Machine) -> None:
    host = gpu_host
    host.run("docker create --name computes --network none --runtime nvidia box sleep 1")
    refused = deploy(host, nvidia=False)
    assert refused.code == 1
    assert "this run would remove NVIDIA's container toolkit, and containers need it: computes" in refused.output
    host.run("docker rm computes")
    converge(host, nvidia=False)
    assert host.out(OURS) == host.out(TOOLKIT) == ""
    assert host.out("ls -d /etc/nvidia-container* /run/cdi/nvidia.yaml 2>/dev/null || true") == ""
    assert "runtimes" not in daemon_json(host)
    assert "cdi" not in daemon_json(host)["features"]  # type: ignore[operator]
    assert host.out("docker inspect --format '{{.State.Running}}' keeps") == "true"
    assert dry(host, nvidia=False).predicted == set()
