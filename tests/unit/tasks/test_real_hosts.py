"""Hosts as people have them: the verdict on each, with nothing set and with what README says to set."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bulkhead.names import CONTAINERD, DOCKER, move_journal
from pyinfra_lvm.operations import UNFINISHED_TAG
from tasks.preflight.examine import Examination, examine
from tasks.preflight.host import Container, EngineData, Unit
from tasks.support.paths import TAG

from .example_hosts import (
    DEVICE,
    GIB,
    bare_host,
    docker_host,
    in_no_group,
    our_docker_ce_host,
    settings,
    shared_vg,
    with_directory,
    with_docker_volume,
    with_filesystem,
    with_foreign_mount,
    with_fstab,
    with_volume,
)
from .real_hosts import PAGE, RealHost, described, page, real_hosts, verdict

README = Path(__file__).parents[3] / "README.md"
HOSTS = real_hosts()

# The rows of README's table of disks, by the beginning of their first cell → the kind of hosts that they speak of.
ROWS = {
    "LVM, and at least 65 %": "room for the default",
    "LVM, and less is free": "less room than the default",
    "LVM, and nothing is free but the reserve": "full group",
    "A blank second disk": "blank disk",
    "Two blank disks": "mirror",
    "More than one volume group": "two groups",
    "Docker already has its own disk": "store on a disk of its own",
    "Root has taken the whole disk": "root has the disk",
    "An ephemeral disk": "ephemeral disk",
    "The disk that you name": "disk in use",
    "A volume group that misses": "incomplete group",
}

# These are refused with the settings too.
NO_WAY = ("disk in use",)


@cache
def rows() -> dict[str, list[str]]:
    """README's rows, by the kind of hosts: the cells."""
    section = README.read_text().partition("| Your disks |")[2].partition("\n\n")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines()[2:]]
    return {
        kind: [cell.strip() for cell in row]
        for row in cells
        for start, kind in ROWS.items()
        if row[0].strip().startswith(start)
    }


def test_every_release_and_every_layout_is_among_them() -> None:
    releases = Counter((host.state.os_id, host.state.os_version) for host in HOSTS)
    assert len(HOSTS) >= 30
    assert set(releases) == {
        ("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04"), ("ubuntu", "26.04"),
    }  # fmt: skip
    for word in (
        "ec2",
        "gce",
        "azure",
        "hetzner",
        "digitalocean",
        "linode",
        "installer",
        "md-",
        "mirror",
        "luks",
        "multipath",
        "zfs",
        "btrfs",
        "thin",
        "groups",
    ):
        assert any(word in host.name for host in HOSTS), word
    assert all(host.source for host in HOSTS)
    assert {host.kind for host in HOSTS} == set(ROWS.values())


def test_page_has_the_table() -> None:
    assert PAGE.read_text() == page(), "run: .venv/bin/python -m tests.unit.tasks.real_hosts"


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_readme_says_what_becomes_of_a_host(host: RealHost) -> None:
    _, nothing_set, settings_to_set = rows()[host.kind]
    assert nothing_set.partition(":")[0] == verdict(host.examine())
    if host.wanted:
        with_settings = verdict(host.examine(**host.wanted))
        assert with_settings.startswith("refused" if host.kind in NO_WAY else "works"), described(
            host.examine(**host.wanted)
        )
        if host.kind not in NO_WAY:
            assert all(f"`{name} = " in settings_to_set for name in host.wanted)


# -- no message destroys anything

USED: dict[str, Any] = {"docker_data": EngineData(images=3, containers=1, volumes=2), "store_bytes": 40 * GIB}
LOST: dict[str, Any] = USED | {"configured_volume": DEVICE, "configured_extra_volumes": {"/home": "/dev/mapper/a-home"}}

# Hosts with a Docker in every state that preflight judges.
DOCKERS = {
    "unused": docker_host(),
    "used": docker_host(**USED, containers=(Container("job", "exited", "i", 99, False, False),)),
    "stopped": docker_host(**USED, storage_driver=""),
    "hanging": docker_host(**USED, storage_driver="", docker_hangs=True),
    "too large": docker_host(**USED | {"store_bytes": 4000 * GIB, "store_inodes": 10**10}),
    "of others": docker_host(
        **USED,
        snap_docker=True,
        rootless_docker=("ann",),
        swarm=True,
        kubernetes=("/var/lib/kubelet",),
        containerd_namespaces=("k8s.io",),
        containerd_root="/data/containerd",
        docker_options="--debug",
        packages={"docker.io": "26.1", "podman-docker": "4.3", "containerd.io": "1.7"},
    ),
    "masked": docker_host(units=(Unit(DOCKER, "masked"), Unit(CONTAINERD, "masked"))),
    "daemon.json": docker_host(
        daemon_json=json.dumps(
            {
                "data-root": "/data",
                "userns-remap": "default",
                "log-driver": "journald",
                "storage-driver": "btrfs",
                "storage-opts": ["overlay2.size=1G"],
                "debug": 1,
            }
        ),
        daemon_json_obstacle="a mount point",
    ),
    "broken daemon.json": docker_host(daemon_json="{nonsense"),
    "cut move": docker_host(**USED, relocation="switching"),
    "cut rollback": docker_host(**USED, rollback="switching"),
    "rolled-back move": docker_host(**USED, relocation="rolled-back", storage_driver=""),
    "lost volume": docker_host(**LOST, fails_closed=True, storage_driver=""),
    "lost volume, running": docker_host(**LOST),
    "lost volume that data has moved to": docker_host(
        **LOST, relocation="relocated", moves={move_journal("/home"): "finalized"}
    ),
    "GPUs": our_docker_ce_host(toolkit_is_ours=True, nvidia_containers=("train",)),
    "GPUs of an image": our_docker_ce_host(
        gpus=("0000:01:00.0",), gpu_driver="loaded", toolkit_sources=("/etc/apt/x",)
    ),
    "Docker's packages": our_docker_ce_host(**USED, containers_running=2),
}
SETTINGS = [
    settings(),
    settings(replace_lost_volumes=True, relocation="refuse"),
    settings(extra_volumes={"home-lv": {"mount": "/home", "size": "5G"}}),
    settings(engine_source="docker-ce", engine_change=True, engine_version="29.2", nvidia=False),
    settings(engine_source="distro", nvidia=True),
]

# Volumes and disks as a cut run or somebody else leaves them.
STORAGES = {
    "of another": with_docker_volume(),
    "used by another": with_filesystem(with_docker_volume(), DEVICE, "btrfs"),
    "unfinished": with_docker_volume(tags=(TAG, UNFINISHED_TAG)),
    "unfinished and in fstab": with_fstab(with_docker_volume(tags=(TAG, UNFINISHED_TAG)), DEVICE, "/srv/docker-volume"),
    "ours, empty": with_docker_volume(tags=(TAG,)),
    "inactive": with_docker_volume(tags=(TAG,), active=False),
    "renamed": with_volume(shared_vg(), "ubuntu-vg", "old-lv", 60 * GIB, tags=(TAG,)),
    "thin": with_docker_volume(tags=(TAG,), segment_type="thin"),
    "merging": with_docker_volume(tags=(TAG,), merging=True),
    "too small a filesystem": with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE, "ext4", 61 * GIB),
    "of a removed group": in_no_group(),
    "full group": shared_vg(free=0),
    "mounted on a store": with_foreign_mount("/var/lib/docker"),
    "files in the mount point": with_directory(shared_vg(), "/srv/docker-volume", empty=False),
}

# What the commands in messages may be: those that only read, and those that take nothing away.
HARMLESS = re.compile(
    r"journalctl |dmesg|docker info|docker system df|docker save|ctr namespaces ls|lvs |pvs|wipefs --no-act |vgcfgrestore|man |"
    r"root$|--opt |systemctl (start|restart|stop|unmask|daemon-reload)\b|mount |umount |lvrename |lvextend |lvchange |"
    r"vgextend --restoremissing |chattr |mv |bulkhead (relocate --recover|rollback)|apt-get remove podman-docker|"
    r"dockerd-rootless-setuptool.sh uninstall|docker image prune$|docker swarm leave"
)
# These take data away, and are named only for data that is saved before.
AFTER_SAVING = re.compile(r"snap remove docker|docker system prune -a|docker volume rm|bulkhead snapshot drop")
DESTROYING = (
    "wipefs --all",
    "mkfs",
    "lvremove",
    "vgremove",
    "pvremove",
    "blkdiscard",
    "dd ",
    "rm -",
    "shred",
    "sgdisk",
)


def assert_destroys_nothing(result: Examination) -> set[str]:
    """Check every message, and return the commands in them."""
    messages = [*map(str, result.findings), *result.warnings, *result.notices]
    commands = {command: message for message in messages for command in re.findall(r"`([^`]+)`", message)}
    for command, message in commands.items():
        assert not [word for word in DESTROYING if word in message], message
        is_saved = AFTER_SAVING.match(command) and "save what you need" in message
        assert is_saved or all(HARMLESS.match(part) for part in re.split(r" *(?:&&|;|\|) *", command)), message
    return {*commands}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_no_message_on_a_host_destroys_anything(host: RealHost) -> None:
    every = [settings(**host.wanted)] * bool(host.wanted) + SETTINGS
    for docker in (host.state, *DOCKERS.values()):
        state = replace(
            docker, os_id=host.state.os_id, os_version=host.state.os_version, os_codename=host.state.os_codename
        )
        for wanted in every:
            assert_destroys_nothing(examine(wanted, state, host.storage))


@cache
def commands_on(storage: str) -> set[str]:
    """Check every message on a volume, and return the commands in them."""
    every = [settings(volume_disks=["/dev/vdb"]), settings(adopt_volume=True), *SETTINGS]
    results = [
        examine(wanted, state, STORAGES[storage]) for state in (bare_host(), *DOCKERS.values()) for wanted in every
    ]
    return set[str]().union(*map(assert_destroys_nothing, results))


@pytest.mark.parametrize("storage", STORAGES)
def test_no_message_on_a_volume_destroys_anything(storage: str) -> None:
    commands_on(storage)


def test_messages_that_name_commands_are_among_them() -> None:
    """Otherwise the two tests before would show nothing."""
    named = set[str]().union(*map(commands_on, STORAGES))
    programs = {command.split()[0] for command in named}
    assert {"chattr", "docker", "journalctl", "lvrename", "snap", "systemctl"} <= programs
    assert any(map(AFTER_SAVING.match, named))
