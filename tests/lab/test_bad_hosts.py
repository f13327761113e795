"""The most dangerous bad hosts, on a real machine: the deploy refuses them, says why, and changes nothing. And one that looks bad."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import assert_isolated, converge, converge_as_predicted, deploy, fingerprint

SENTINEL = (
    "find /var/lib/docker /var/lib/containerd /data -xdev -type f 2>/dev/null | sort | xargs -r sha256sum | sha256sum; "
    "blkid | sort; sha256sum /dev/ubuntu-vg/docker-lv 2>/dev/null || true"
)


@pytest.fixture(scope="module")
def preinstalled(machines: Callable[..., Machine]) -> Machine:
    machine = machines("bad", suite="bookworm", docker="preinstalled")
    machine.snapshot("fresh")
    return machine


@pytest.fixture
def machine(preinstalled: Machine) -> Machine:
    preinstalled.restore("fresh")
    return preinstalled


IMAGE = "mkdir -p /tmp/i && cp /bin/busybox /tmp/i/ && tar -C /tmp/i -c . | docker import - box >/dev/null"
PRECIOUS = (
    f"{IMAGE} && docker volume create precious >/dev/null && echo data >/var/lib/docker/volumes/precious/_data/file"
)
BAD = {
    "data_of_a_docker_that_does_not_run": (
        f"{PRECIOUS} && systemctl stop docker.socket docker",
        "Docker does not run, and holds 1 image, 1 volume, 1 layer; containerd: nothing",
    ),
    "data_that_is_bound_elsewhere": (
        f"{PRECIOUS} && mkdir /srv/www && mount --bind /var/lib/docker/volumes/precious/_data /srv/www",
        "part of /var/lib/docker is bind-mounted on /srv/www",
    ),
    "volume_of_somebody_else": (
        "lvcreate -qq -y -L 512M -n docker-lv ubuntu-vg && mkfs.ext4 -q /dev/ubuntu-vg/docker-lv && mkdir /data && "
        "mount /dev/ubuntu-vg/docker-lv /data && echo data >/data/file && umount /data",
        "the logical volume ubuntu-vg/docker-lv exists, with ext4 on it, and this project did not make it",
    ),
    "store_on_a_filesystem_of_its_own": (
        "systemctl stop docker.socket docker && lvcreate -qq -y -L 2G -n other ubuntu-vg && "
        "mkfs.ext4 -q /dev/ubuntu-vg/other && mount /dev/ubuntu-vg/other /var/lib/docker && systemctl start docker",
        "/var/lib/docker is on a filesystem of its own already: /dev/mapper/ubuntu--vg-other",
    ),
    "store_is_a_link": (
        "systemctl stop docker.socket docker && mkdir /data && mv /var/lib/docker /data/docker && "
        "ln -s /data/docker /var/lib/docker && systemctl start docker",
        "/var/lib/docker is a symbolic link",
    ),
    "daemon_json_that_cannot_be_replaced": (
        "mkdir -p /etc/docker && echo '{}' >/etc/docker/daemon.json && chattr +i /etc/docker/daemon.json",
        "/etc/docker/daemon.json is immutable",
    ),
    "daemon_json_that_docker_cannot_read": (
        """mkdir -p /etc/docker && echo '{"runtimes": ["x"]}' >/etc/docker/daemon.json""",
        "/etc/docker/daemon.json has values that Docker cannot read: runtimes",
    ),
    "size_of_containers_without_quotas": (
        """mkdir -p /etc/docker && echo '{"storage-opts": ["overlay2.size=1G"]}' >/etc/docker/daemon.json""",
        "/etc/docker/daemon.json sets storage-opts overlay2.size",
    ),
    "docker_that_hangs": (
        "kill -STOP $(pidof dockerd)",
        "docker.service is active, and `docker info` does not answer within 120 s",
    ),
    "full_group": (
        "lvextend -qq -l +100%FREE ubuntu-vg/ubuntu-lv",
        "volume group ubuntu-vg has 0 bytes for Docker's volume",
    ),
}


ADVICE = {
    "store_on_a_filesystem_of_its_own": "set adopt_filesystem = True, which makes Docker's volume of it in place",
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", BAD)
def test_bad_host_is_refused_and_not_changed(machine: Machine, name: str) -> None:
    make, found = BAD[name]
    machine.run(make)
    before, sentinel = fingerprint(machine), machine.out(SENTINEL)
    run = deploy(machine)
    assert run.code == 1
    assert found in run.output, run.output
    assert ADVICE.get(name, "") in run.output, run.output
    assert "was left untouched" in run.output
    assert fingerprint(machine) == before
    assert machine.out(SENTINEL) == sentinel


@pytest.mark.sample(1)
def test_layout_of_ubuntus_installer_works_with_nothing_set(machine: Machine) -> None:
    """Root has half of the group: Docker gets the rest but the reserve, and the run says so."""
    machine.run("lvextend -qq -l 50%VG ubuntu-vg/ubuntu-lv")
    run = converge_as_predicted(machine)
    assert "all that is free less the reserve" in run.output
    size, free, group = map(
        int,
        machine.out("vgs --noheadings --units b --nosuffix -o lv_size,vg_free,vg_size -S lv_name=docker-lv").split(),
    )
    assert free >= group // 20 > free - 4 * 2**20
    assert size > 0.44 * group
    assert_isolated(machine)
    assert converge(machine).changes == 0
