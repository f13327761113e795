"""Something other than a build fills Docker's volume: the host goes on, sends an alert, and a rescue starts Docker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import DATA, IMAGE, assert_isolated, converge, send, wait_until
from tests.lab.test_guard import VOLUME, free, journal, leave_free

pytestmark = pytest.mark.turn

SETTINGS = {"volume_size": "1536M", "alert_receivers": {"journal": "syslog://daemon"}}
FLOOR = 1536 * 2**20 // 4
ZEROS = 700 * 2**20  # bytes of the image that is pulled and loaded: more than is free
ALERTS = "journalctl --no-pager --output cat --identifier apprise --identifier Apprise"

FILLERS = {
    "pull": "docker pull 127.0.0.1:5000/zeros",
    "load": "docker load --input /root/zeros.tar",
    # A container goes on when Docker can no longer write its log: nothing reports that to it.
    "log of a container": "docker run --detach --name logs --network none --log-opt max-size=100g box sh -c "
    "'line=$(busybox dd if=/dev/zero bs=1000 count=8 | busybox tr \"\\0\" x); while echo $line; do :; done' && "
    f"until [ $(df --output=avail {VOLUME} | tail -n 1) -eq 0 ]; do sleep 1; done; docker kill logs; false",
    "volume": "docker run --rm --network none -v data:/data box dd if=/dev/zero of=/data/file bs=1M",
    "file put there by hand": f"cat /dev/zero >{VOLUME}/file",
}


@pytest.fixture(scope="module")
def provisioned(machines: Callable[..., Machine]) -> Machine:
    machine = machines("full", suite="bookworm", docker="preinstalled")
    machine.run("useradd --create-home worker && echo 'worker ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/worker")
    converge(machine, **SETTINGS)
    machine.run(IMAGE)
    send(machine, DATA / "registry.py", "/root/registry.py")
    machine.run(f"systemd-run --quiet --unit=registry python3 /root/registry.py {ZEROS}")
    machine.run(
        "until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 5000))' 2>/dev/null; do sleep 1; done",
        timeout=900,
    )
    # An archive of the same image, as `docker save` writes it.
    machine.run(
        "cd /root && python3 - <<'EOS'\n"
        "import json, tarfile, urllib.request\n"
        "def get(name): return urllib.request.urlopen(f'http://127.0.0.1:5000/v2/zeros/{name}').read()\n"
        "manifest = json.loads(get('manifests/latest'))\n"
        "open('layer.tar', 'wb').write(get('blobs/' + manifest['layers'][0]['digest']))\n"
        "open('config.json', 'wb').write(get('blobs/' + manifest['config']['digest']))\n"
        "json.dump([{'Config': 'config.json', 'RepoTags': ['zeros:latest'], 'Layers': ['layer.tar']}], open('manifest.json', 'w'))\n"
        "archive = tarfile.open('zeros.tar', 'w')\n"
        "for name in ('manifest.json', 'config.json', 'layer.tar'): archive.add(name)\n"
        "archive.close()\n"
        "EOS"
    )
    machine.run("systemctl stop cron docker-prune.timer")
    machine.snapshot("full")
    return machine


@pytest.fixture
def machine(provisioned: Machine) -> Machine:
    provisioned.restore("full")
    return provisioned


def root_used(machine: Machine) -> int:
    """Return how many bytes root has used, but for the journal, which takes 8 MiB at a time."""
    used, journal = machine.out("sync; df --output=used -B1 / | tail -n 1; du -sB1 /var/log/journal | cut -f 1").split()
    return int(used) - int(journal)


@pytest.mark.sample(2, of="what fills the volume")
@pytest.mark.parametrize("filler", FILLERS)
def test_full_volume_spares_root_and_sends_an_alert_and_rescue_brings_docker_back(
    machine: Machine, filler: str
) -> None:
    leave_free(machine, FLOOR + 60 * 2**20)
    used = root_used(machine)
    filled = machine.run(FILLERS[filler], check=False, timeout=1800)
    assert filled.returncode != 0, "it fitted on the volume"
    wait_until(lambda: "What fills it is no build" in machine.out(ALERTS), 300)
    assert abs(root_used(machine) - used) < 10 * 2**20
    machine.run("runuser -u worker -- sudo -n true")
    # Docker may have freed space. Fill the volume to the last byte, with the engine down.
    machine.run(f"systemctl stop docker-guard.service; rm -f {VOLUME}/.bulkhead-ballast")
    machine.run("systemctl kill --signal=KILL docker.service; systemctl stop docker.socket docker.service", check=False)
    machine.run(f"cat /dev/zero >{VOLUME}/rest", check=False, timeout=300)
    assert free(machine) == 0
    machine.run("bulkhead rescue", timeout=900)
    assert free(machine) >= FLOOR
    machine.run("docker run --rm --network none box true")
    assert_isolated(machine)


@pytest.mark.sample(2, of="what fills the volume")
def test_pull_is_interrupted_where_the_settings_say_so(machine: Machine) -> None:
    machine.run(
        'sed -i \'s/"guard_stop_pulls": false/"guard_stop_pulls": true/\' /etc/bulkhead/bulkhead.json && grep -q \'guard_stop_pulls": true\' /etc/bulkhead/bulkhead.json'
    )
    leave_free(machine, FLOOR + 60 * 2**20)
    pulled = machine.run(FILLERS["pull"], check=False, timeout=600)
    assert pulled.returncode != 0
    assert "docker-guard interrupts this" in pulled.stdout + pulled.stderr
    assert "the build command `docker pull" in journal(machine)
    wait_until(lambda: free(machine) > FLOOR)


@pytest.mark.sample(2, of="what fills the volume")
def test_guard_rescues_docker_on_a_full_volume_if_the_settings_say_so(
    machine: Machine,
) -> None:
    machine.run('sed -i \'s/"guard_rescue": false/"guard_rescue": true/\' /etc/bulkhead/bulkhead.json')
    machine.run(f"rm -f {VOLUME}/.bulkhead-ballast; cat /dev/zero >{VOLUME}/file", check=False, timeout=300)
    machine.run(f"rm -f {VOLUME}/.bulkhead-ballast; cat /dev/zero >{VOLUME}/more", check=False, timeout=300)
    machine.run("systemctl restart docker", check=False, timeout=300)
    assert machine.run("systemctl is-active docker", check=False).stdout.strip() != "active", (
        "Docker starts on a full volume"
    )
    wait_until(lambda: "has been brought back" in machine.out(ALERTS), 900)
    assert machine.out("systemctl is-active docker") == "active"
    assert free(machine) >= FLOOR
