"""Settings: the defaults are good, and what is bad is refused with its name, its value and what is allowed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pyinfra.api import State
from pyinfra.connectors.ssh import ConnectorData as SshData
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory_from_files

from settings import check as settings_check
from settings.check import DEFAULTS, SettingsError, check, check_fleet, defaults, settings_of
from settings.model import Settings

TOP = Path(__file__).parents[3]


def problems(**host_data: Any) -> list[str]:
    result = check(host_data)
    return [] if isinstance(result, Settings) else [str(problem) for problem in result]


def test_defaults_are_valid() -> None:
    assert isinstance(check({}), Settings)


def test_defaults_file_and_model_have_the_same_names() -> None:
    assert set(defaults()) == set(Settings.model_fields)


def test_every_default_is_explained_above_it() -> None:
    lines = DEFAULTS.read_text().splitlines()
    tree = ast.parse("\n".join(lines))
    for node in tree.body:
        if isinstance(node, ast.Assign):
            block = lines[: node.lineno - 1]
            while block and re.match(r"[a-z_]+ = ", block[-1]):  # settings that share a comment
                block.pop()
            assert block[-1].startswith("# "), f"line {node.lineno} has no comment"


def load(inventory: Path) -> dict[str, dict[str, Any]]:
    with ctx_state.use(State()):
        return {host.name: host.data.dict() for host in make_inventory_from_files(str(inventory), cwd=str(TOP))}


def test_example_inventory_is_valid_and_what_it_sets_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_SUDO_PASSWORD", "hunter2")
    hosts = load(TOP / "inventory/prod.py")
    fleet = check_fleet(hosts)
    assert [name.split("-")[0] for name in fleet] == ["docker", "docker", "gpu", "gpu"]
    assert str(fleet["docker-1.example.com"].build_cache_size) == defaults()["build_cache_size"]
    assert str(fleet["docker-2.example.com"].volume_size) == "200G"
    assert str(fleet["gpu-1.example.com"].build_cache_size) == "40%"
    assert fleet["gpu-1.example.com"].volume_disks
    assert {(data["ssh_user"], data["_sudo_password"]) for data in hosts.values()} == {("admin", "hunter2")}


def test_example_inventory_needs_no_secret_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BULKHEAD_SUDO_PASSWORD", raising=False)
    assert {data["_sudo_password"] for data in load(TOP / "inventory/prod.py").values()} == {None}


def test_group_all_of_an_inventory_cannot_override_the_defaults(tmp_path: Path) -> None:
    """Pyinfra's order, which inventory/group_data/all.py warns of."""
    (tmp_path / "group_data").symlink_to(TOP / "inventory/group_data")
    (tmp_path / "fleet.py").write_text('all = (["a"], {"volume_size": "200G"})\nweb = (["a"], {"log_max_file": 5})')
    settings = check(load(tmp_path / "fleet.py")["a"])
    assert isinstance(settings, Settings)
    assert settings.volume_size is None
    assert settings.log_max_file == 5


def test_defaults_hold_without_the_file_beside_the_inventory() -> None:
    assert check({"ssh_user": "admin"}) == check(defaults())


def test_every_name_of_pyinfras_ssh_connector_is_accepted() -> None:
    assert problems(**dict.fromkeys(SshData.__annotations__, "hunter2")) == []


HOME = {"mount": "/home", "size": "20G"}
SIZE = '"60G" or "20%VG" or "20%FREE"'
BAD: list[tuple[dict[str, Any], str]] = [
    # volume
    ({"volume_group": "vg one"}, "volume_group = 'vg one': must be a name for LVM"),
    ({"volume_group": "-vg"}, "volume_group = '-vg': must be a name for LVM"),
    ({"volume_group": ""}, "volume_group = '': must be a name for LVM"),
    ({"volume_group": "vg;reboot"}, "volume_group = 'vg;reboot': must be a name for LVM"),
    ({"volume_group": None}, "volume_group = None: must be text in quotes"),
    ({"logical_volume": "a/b"}, "logical_volume = 'a/b': must be a name for LVM"),
    ({"logical_volume": ".."}, "logical_volume = '..': must be a name for LVM"),
    ({"logical_volume": "snapshot-of-docker"}, "= 'snapshot-of-docker': must be a name without \"snapshot\""),
    ({"logical_volume": "docker_tmeta"}, "logical_volume = 'docker_tmeta': must be a name without \"_tmeta\""),
    ({"logical_volume": "x" * 56}, "must be a name for LVM: at most 55"),
    ({"logical_volume": "$(id)"}, "logical_volume = '$(id)': must be a name for LVM"),
    ({"volume_disks": 1}, 'volume_disks = 1: must be "blank", or a list, such as ["/dev/disk/by-id/…"]'),
    ({"volume_disks": "vdb"}, "volume_disks[0] = 'vdb': must be the path of a disk under /dev"),
    ({"volume_disks": "blanc"}, "volume_disks[0] = 'blanc': must be the path of a disk under /dev"),
    ({"volume_disks": ["blank", "/dev/vdb"]}, 'must be "blank" alone, which stands for the only blank disk, or a list'),
    ({"volume_disks": ["vdb"]}, "volume_disks[0] = 'vdb': must be the path of a disk under /dev"),
    ({"volume_disks": ["/dev/vdb", "/dev/../etc/passwd"]}, "volume_disks[1] = '/dev/../etc/passwd': must be the path"),
    ({"volume_disks": ["/dev/vd*"]}, "volume_disks[0] = '/dev/vd*': must be a pattern of names under /dev/disk"),
    ({"volume_disks": "/dev/sd[bc]"}, "volume_disks[0] = '/dev/sd[bc]': must be a pattern of names under /dev/disk"),
    ({"volume_disks": "/dev/sd?"}, "volume_disks[0] = '/dev/sd?': must be a pattern of names under /dev/disk"),
    ({"volume_disks": "/dev/disk/by-id/$(id)*"}, "volume_disks[0] = '/dev/disk/by-id/$(id)*': must be the path"),
    ({"volume_disks": "/dev/disk/by-id/a b*"}, "volume_disks[0] = '/dev/disk/by-id/a b*': must be the path"),
    ({"volume_disk_minimum": "5%"}, "volume_disk_minimum = '5%': must be a size such as \"60G\""),
    *(
        (
            {"volume_bytes_per_inode": value},
            f'volume_bytes_per_inode = {value!r}: must be "auto", or bytes from 4096 to 1048576',
        )
        for value in (4095, 1048577, "16K", 8192.0, True, None)
    ),
    ({"volume_mount_options": "_netdev"}, "volume_mount_options = '_netdev': must be a list, such as [\"_netdev\"]"),
    *(
        (
            {"volume_mount_options": ["noatime", option]},
            f"volume_mount_options[1] = {option!r}: must be another option: {why}",
        )
        for option, why in {
            "nofail": "the volume always has it",
            "private": "the volume always has it",
            "x-systemd.device-timeout=5s": "the volume always has it",
            "ro": "Docker and its containers write",
            "noexec": "Docker and its containers write and run programs there",
            "noauto": "Docker would stay down after a boot",
            "x-systemd.automount": "Docker would stay down after a boot",
            "rshared": "the volume is mounted private",
            "rbind": "it mounts something else",
            "users": "other users could unmount it",
            "data=writeback": "a power cut could cost data",
            "errors=panic": "a damaged volume would take the host down",
            "x-systemd.makefs": "this project makes and grows the filesystem",
        }.items()
    ),
    *(
        ({"volume_mount_options": [option]}, f"volume_mount_options[0] = {option!r}: must be an option such as")
        for option in ("_netdevv", "noatime,ro", "commit=", "commit=5 x", "", "x-systemd.requires=a b")
    ),
    ({"volume_group_grow": 1}, "volume_group_grow = 1: must be True or False"),
    ({"volume_disk_minimum": ""}, "volume_disk_minimum = '': must be a size such as \"60G\""),
    ({"volume_disks": ["/dev/vdb; rm -rf /"]}, "volume_disks[0] = '/dev/vdb; rm -rf /': must be the path"),
    ({"volume_disks": ["/dev/vdb/"]}, "volume_disks[0] = '/dev/vdb/': must be the path"),
    ({"volume_disks": ["/dev/disk/../vdb"]}, "volume_disks[0] = '/dev/disk/../vdb': must be the path"),
    (
        {"volume_disks": ["/dev/vdb", "/dev/vdb"]},
        "volume_disks = ['/dev/vdb', '/dev/vdb']: must be a list that names each disk once",
    ),
    ({"volume_disks": [1]}, "volume_disks[0] = 1: must be text in quotes"),
    ({"volume_size": "60"}, f"volume_size = '60': must be \"auto\" or a size such as {SIZE}"),
    ({"volume_size": 60}, 'volume_size = 60: must be "auto" or a size'),
    ({"volume_size": "0G"}, "volume_size = '0G': must be \"auto\" or a size"),
    ({"volume_size": "-5G"}, "volume_size = '-5G': must be \"auto\" or a size"),
    ({"volume_size": "60 G"}, "volume_size = '60 G': must be \"auto\" or a size"),
    ({"volume_size": "9" * 400 + "G"}, '9…: must be "auto" or a size'),
    ({"volume_size": "500M"}, "volume_size = '500M': must be \"auto\" or at least 1.0 GiB"),
    ({"volume_size": "0.001K"}, "volume_size = '0.001K': must be \"auto\" or at least 1.0 GiB"),
    ({"volume_size": "120%VG"}, "it must be more than zero and at most 100 %"),
    ({"volume_size": "60%"}, "volume_size = '60%': must be \"auto\" or a size"),
    ({"volume_size": "60%ROOT"}, "volume_size = '60%ROOT': must be \"auto\" or a size"),
    ({"volume_reserve": "5%VG"}, 'volume_reserve = \'5%VG\': must be a size such as "60G" or "20%"'),
    ({"volume_reserve": 5}, "volume_reserve = 5: must be a size"),
    ({"volume_reserve": "100%"}, "volume_reserve = '100%': must be less than 100 %"),
    ({"filesystem": "btrfs"}, 'filesystem = \'btrfs\': must be "ext4" or "xfs"'),
    ({"volume_mount": "srv/docker"}, "volume_mount = 'srv/docker': must be an absolute path"),
    ({"volume_mount": "/"}, "volume_mount = '/': must be an absolute path"),
    ({"volume_mount": "/srv/docker-volume/"}, "volume_mount = '/srv/docker-volume/': must be an absolute path"),
    ({"volume_mount": "/srv"}, "volume_mount = '/srv': must be a directory of its own"),
    ({"volume_mount": "/var/log"}, "volume_mount = '/var/log': must be a directory of its own"),
    ({"volume_mount": "/home"}, "volume_mount = '/home': must be a directory of its own"),
    ({"volume_mount": "/etc/docker-volume"}, "must be a directory of its own, which the system does not use"),
    ({"volume_mount": "/var/lib/docker"}, "must be a directory outside of /var/lib/docker and /var/lib/containerd"),
    ({"volume_mount": "/var/lib/docker/volume"}, "must be a directory outside of /var/lib/docker"),
    ({"volume_mount": "/srv/../etc"}, "volume_mount = '/srv/../etc': must be an absolute path"),
    ({"volume_mount": "/srv/a b"}, "volume_mount = '/srv/a b': must be an absolute path"),
    ({"volume_mount": "/srv/`id`"}, "volume_mount = '/srv/`id`': must be an absolute path"),
    *(
        ({"volume_mount": f"{path}/docker-volume"}, "must be a directory of its own, which the system does not use")
        for path in ("/boot", "/dev", "/proc", "/run", "/sys", "/tmp", "/usr", "/var/lib/dpkg", "/var/run", "/var/tmp")
    ),
    # extra volumes
    ({"extra_volumes": []}, "extra_volumes = []: must be a dictionary"),
    (
        {"extra_volumes": {"home-lv": "/home"}},
        "extra_volumes.home-lv = '/home': must be a dictionary, such as {\"mount\"",
    ),
    ({"extra_volumes": {"home-lv": {"size": "20G"}}}, "extra_volumes.home-lv.mount: is missing"),
    ({"extra_volumes": {"home-lv": {"mount": "/home"}}}, "extra_volumes.home-lv.size: is missing"),
    (
        {"extra_volumes": {"home-lv": HOME | {"fs": "xfs"}}},
        "extra_volumes.home-lv.fs: no such key; the keys are mount, size, filesystem",
    ),
    ({"extra_volumes": {"home lv": HOME}}, "extra_volumes.home lv = 'home lv': must be a name for LVM"),
    ({"extra_volumes": {"home_tmeta": HOME}}, 'must be a name without "_tmeta", which LVM reserves'),
    ({"extra_volumes": {"docker-lv": HOME}}, 'extra_volumes: must not have "docker-lv", which is Docker\'s volume'),
    (
        {"extra_volumes": {"images": HOME}, "logical_volume": "images"},
        'extra_volumes: must not have "images", which is Docker\'s volume',
    ),
    ({"extra_volumes": {"home-lv": HOME | {"filesystem": "zfs"}}}, 'filesystem = \'zfs\': must be "ext4" or "xfs"'),
    *(
        ({"extra_volumes": {"a-lv": HOME | {"size": size}}}, f"extra_volumes.a-lv.size = {size!r}: must be {allowed}")
        for size, allowed in {
            "20%FREE": 'a size such as "60G" or "20%VG"',
            "20%": 'a size such as "60G" or "20%VG"',
            "1023M": "at least 1.0 GiB",
            20: "a size such as",
        }.items()
    ),
    *(
        ({"extra_volumes": {"a-lv": HOME | {"mount": path}}}, f"extra_volumes.a-lv.mount = {path!r}: must be {allowed}")
        for path, allowed in {
            "home": "an absolute path",
            "/home/": "an absolute path",
            "/var": "a directory of its own, which the system does not use",
            "/var/lib": "a directory of its own, which the system does not use",
            "/var/log": "a directory of its own, which the system does not use",
            "/etc/models": "a directory of its own, which the system does not use",
            "/var/lib/docker": "a directory outside of /var/lib/docker and /var/lib/containerd",
            "/var/lib/containerd/x": "a directory outside of /var/lib/docker and /var/lib/containerd",
            "/srv/docker-volume": "outside of volume_mount, /srv/docker-volume",
            "/srv/docker-volume/models": "outside of volume_mount, /srv/docker-volume",
        }.items()
    ),
    (
        {"extra_volumes": {"a-lv": HOME, "b-lv": HOME}},
        "extra_volumes.b-lv.mount = '/home': must be outside of extra_volumes.a-lv.mount, /home",
    ),
    (
        {"extra_volumes": {"b-lv": HOME | {"mount": "/home/models"}, "a-lv": HOME}},
        "extra_volumes.b-lv.mount = '/home/models': must be outside of extra_volumes.a-lv.mount, /home",
    ),
    (
        {"extra_volumes": {"srv-lv": HOME | {"mount": "/srv"}}},
        "volume_mount = '/srv/docker-volume': must be outside of extra_volumes.srv-lv.mount, /srv",
    ),
    ({"adopt_volume": "yes"}, "adopt_volume = 'yes': must be True or False"),
    # the file that is Docker's disk
    *(
        ({"volume_file": value}, f"volume_file = {value!r}: must be {allowed}, or empty")
        for value, allowed in {
            "2047M": "at least 2.0 GiB",
            "100%": "less than 100 %",
            "20%FREE": 'a size such as "60G" or "20%", in quotes',
            20: 'a size such as "60G" or "20%", in quotes',
        }.items()
    ),
    # engine
    ({"engine_source": "snap"}, 'engine_source = \'snap\': must be "auto", "docker-ce", "distro" or "present"'),
    ({"engine_version": "27.5 || true"}, "engine_version = '27.5 || true': must be a version"),
    (
        {"engine_version": "5:27.5.1"},
        'engine_version = \'5:27.5.1\': must be a version such as "27.5.1" (without "5:")',
    ),
    ({"engine_upgrade_stops_containers": "yes"}, "engine_upgrade_stops_containers = 'yes': must be True or False"),
    ({"engine_version": 27.5}, 'engine_version = 27.5: must be text in quotes, such as "27.5"'),
    ({"docker_repository": "download.example.com"}, "docker_repository = 'download.example.com': must be an address"),
    ({"docker_repository": "file:///srv"}, "docker_repository = 'file:///srv': must be an address"),
    ({"docker_repository": "https://[a"}, "docker_repository = 'https://[a': must be an address such as"),
    ({"docker_repository": "https://a/linux/debian"}, "must be an address without the distribution's name"),
    ({"docker_repository": "https://a/b c"}, "docker_repository = 'https://a/b c': must be an address"),
    ({"docker_repository_key": "/etc/docker.asc"}, "docker_repository_key = '/etc/docker.asc': must be an address"),
    ({"docker_repository_fingerprint": "9DC8"}, "docker_repository_fingerprint = '9DC8': must be a key's fingerprint"),
    ({"docker_repository_channel": "nightly"}, 'must be "stable" or "test"'),
    ({"apt_lock_timeout": "600"}, "apt_lock_timeout = '600': must be a whole number"),
    # daemon.json
    ({"log_max_size": "10mb"}, "log_max_size = '10mb': must be a size such as \"10m\""),
    ({"log_max_size": 10}, 'log_max_size = 10: must be text in quotes, such as "10m" (on the command line: --data'),
    ({"log_max_size": "0m"}, "log_max_size = '0m': must be a size"),
    ({"log_max_file": "3"}, "log_max_file = '3': must be a whole number"),
    ({"log_max_file": True}, "log_max_file = True: must be a whole number"),
    ({"live_restore": 1}, "live_restore = 1: must be True or False"),
    ({"build_cache_size": "a lot"}, "build_cache_size = 'a lot': must be a size"),
    ({"daemon_json": []}, "daemon_json = (not shown): must be a dictionary"),
    ({"daemon_json": {"data-root": "/big"}}, "without 'data-root' (Docker's data belongs on the volume"),
    ({"daemon_json": {"storage-driver": "vfs"}}, "without 'storage-driver' (this project sets up overlay2 only"),
    ({"daemon_json": {"hosts": ["tcp://0.0.0.0"]}}, "without 'hosts' (the unit passes -H already"),
    ({"daemon_json": {"log-opts": {"max-size": "1g"}}}, "without 'log-opts.max-size' (set log_max_size)"),
    ({"daemon_json": {"features": {"containerd-snapshotter": True}}}, "without 'features.containerd-snapshotter'"),
    ({"daemon_json": {"log-opts": "big"}}, "with a dictionary as 'log-opts'"),
    (
        {"daemon_json": {"log-opts": {"compress": True}}},
        "daemon_json = {'log-opts': …}: must be a dictionary with text as",
    ),
    ({"daemon_json": {"userns-remap": "default"}}, "without 'userns-remap' (it gives Docker another data root"),
    ({"daemon_json": {"log-driver": "journald"}}, "without 'log-driver' (set log_driver)"),
    *(
        (
            {"daemon_json": {key: value, "labels": ["a=b"]}},
            f"daemon_json = {{{key!r}: …, 'labels': …}}: must be a dictionary without {key!r} ({why}",
        )
        for key, value, why in [
            ("graph", "/big", "it is the old name of data-root)"),
            ("exec-root", "/run/other", "the units of Docker and containerd expect the default)"),
            ("containerd", "/run/other.sock", "containerd's store belongs on the volume"),
            ("containerd-namespace", "other", "hosts with namespaces other than Docker's own are refused)"),
            ("containerd-plugins-namespace", "other", "hosts with namespaces other than Docker's own are refused)"),
            ("live-restore", False, "set live_restore)"),
            ("builder", {"gc": {"enabled": False}}, "set build_cache_size)"),
            ("swarm-default-advertise-addr", "192.0.2.1", "hosts in a Swarm are refused)"),
        ]
    ),
    ({"daemon_json": {"log-opts": {"max-file": "9"}}}, "without 'log-opts.max-file' (set log_max_file)"),
    ({"daemon_json": {"features": {"buildkit": False}}}, "without 'features.buildkit' (BuildKit is always on)"),
    ({"daemon_json": {"debug": "yes"}}, "must be a dictionary with true or false as 'debug'"),
    ({"daemon_json": {"runtimes": {"kata": "/opt/kata"}}}, "with a dictionary as 'runtimes.kata'"),
    (
        {"daemon_json": {"storage-opts": ["overlay2.size=10G"]}},
        "without 'storage-opts overlay2.size' (Docker does not start",
    ),
    (
        {"daemon_json": {"log-opts": {"compress": "true"}}, "log_max_file": 1},
        "must be without 'log-opts.compress' (no new container starts with it: with one log file",
    ),
    (
        {"daemon_json": {"log-opts": {"labels": "team"}}, "log_driver": "local"},
        "must be without 'log-opts.labels' (Docker does not start with it: the log driver local knows no such option)",
    ),
    (
        {"daemon_json": {"log-opts": {"gelf-address": "x"}}, "log_driver": "keep"},
        "must be without 'log-opts.gelf-address'",
    ),
    ({"log_driver": "journald"}, 'log_driver = \'journald\': must be "json-file", "local" or "keep"'),
    ({"relocation": True}, 'relocation = True: must be "move" or "refuse"'),
    ({"daemon_json": {1: True}}, "daemon_json[1] = 1: must be text in quotes"),
    ({"daemon_json": {"labels": {1, 2}}}, "must be a dictionary that can be written as JSON"),
    ({"daemon_json": {"mtu": float("nan")}}, "must be a dictionary that can be written as JSON"),
    # watch, alert, prune
    ({"check_interval": 45}, "check_interval = 45: must be 1, 2, 3, 4, 5, 6, 10, 12, 15, 20 or 30"),
    ({"check_interval": "15"}, "check_interval = '15': must be 1, 2, 3"),
    ({"check_threshold": "80"}, "check_threshold = '80': must be a whole number"),
    ({"check_critical": 79}, "check_critical = 79: must be at least check_threshold, 80"),
    ({"alert_receivers": ["slack://a/b/c"]}, "alert_receivers = (not shown): must be a dictionary"),
    (
        {"alert_receivers": {"ops team": "slack://a/b/c"}},
        "alert_receivers = {…: …}: must be a dictionary whose keys are names of letters",
    ),
    (
        {"alert_receivers": {"ops": "hunter2"}},
        "{'ops': …}: must be a dictionary with an address of Apprise for \"ops\"",
    ),
    (
        {"alert_receivers": {"ops": "json://a\ninclude /etc/x"}},
        'must be a dictionary with an address of Apprise for "ops"',
    ),
    ({"alert_receivers": {"ops": ["slack://secret"]}}, "alert_receivers.ops = (not shown): must be text in quotes"),
    (
        {"alert_receivers": {"slack://secret": "ops"}},
        "alert_receivers = {…: …}: must be a dictionary whose keys are names of letters",
    ),
    ({"alert_receivers": {"slack://secret": 5}}, "alert_receivers.… = (not shown): must be text in quotes"),
    ({"metrics_directory": "var/metrics"}, "metrics_directory = 'var/metrics': must be an absolute path"),
    ({"journal_max_use": "500"}, "journal_max_use = '500': must be a size such as \"500M\""),
    ({"prune_time": "3:00"}, "prune_time = '3:00': must be a time of day such as \"03:00\""),
    ({"prune_anonymous_volumes": "yes"}, "prune_anonymous_volumes = 'yes': must be True or False"),
    ({"prune_keep": ["a b"]}, "prune_keep[0] = 'a b': must be a name or a pattern of names"),
    # guard
    ({"guard": "on"}, "guard = 'on': must be True or False"),
    (
        {"docker_start_limit": "900"},
        "docker_start_limit = '900': must be \"auto\", or seconds from 60 to 86400",
    ),
    ({"docker_start_limit": 59}, 'docker_start_limit = 59: must be "auto", or seconds from 60 to 86400'),
    ({"docker_start_limit": 86401}, 'docker_start_limit = 86401: must be "auto", or seconds from 60 to 86400'),
    ({"docker_start_limit": True}, "docker_start_limit = True: must be"),
    ({"guard_floor": 10}, 'guard_floor = 10: must be "auto" or a size such as "60G" or "20%", in quotes'),
    ({"guard_floor": ""}, "guard_floor = '': must be \"auto\" or a size"),
    ({"guard_floor": "10%VG"}, "guard_floor = '10%VG': must be \"auto\" or a size"),
    ({"guard_floor": "0%"}, "it must be more than zero"),
    ({"guard_floor": "26%"}, "guard_floor = '26%': must be at most 25 %"),
    ({"guard_ballast": "2%"}, "guard_ballast = '2%': must be a size such as \"60G\", in quotes, or empty"),
    ({"guard_ballast": None}, "guard_ballast = None: must be a size"),
    ({"guard_ballast": "0M"}, "guard_ballast = '0M': must be a size"),
    ({"guard_stop_pulls": 1}, "guard_stop_pulls = 1: must be True or False"),
    ({"guard_rescue": "yes"}, "guard_rescue = 'yes': must be True or False"),
    # NVIDIA
    ({"nvidia": "yes"}, "nvidia = 'yes': must be \"auto\", True or False"),
    ({"nvidia": None}, 'nvidia = None: must be "auto", True or False'),
    ({"nvidia": 1}, 'nvidia = 1: must be "auto", True or False'),
    ({"nvidia_version": ""}, "nvidia_version = '': must be a version such as \"1.20.1\", from 1.18 on"),
    ({"nvidia_version": "1.17.8"}, 'must be a version such as "1.20.1", from 1.18 on: older ones do not keep the CDI'),
    ({"nvidia_version": "1"}, "nvidia_version = '1': must be a version such as"),
    ({"nvidia_version": "1.20.1-1"}, "nvidia_version = '1.20.1-1': must be a version such as"),
    ({"nvidia_version": "1.20; reboot"}, "nvidia_version = '1.20; reboot': must be a version such as"),
    ({"nvidia_version": 1.2}, 'nvidia_version = 1.2: must be text in quotes, such as "1.'),
    ({"nvidia_default_runtime": "nvidia"}, "nvidia_default_runtime = 'nvidia': must be True or False"),
    ({"nvidia_repository": "file:///srv"}, "nvidia_repository = 'file:///srv': must be an address such as"),
    ({"nvidia_repository_fingerprint": "C95B"}, "nvidia_repository_fingerprint = 'C95B': must be a key's fingerprint"),
    ({"nvidia_repository_key": "/etc/nvidia.asc"}, "nvidia_repository_key = '/etc/nvidia.asc': must be an address"),
    # names
    ({"volume_sise": "60G"}, "volume_sise: no such setting; did you mean volume_size?"),
    ({"log_max_files": 3}, "log_max_files: no such setting; did you mean log_max_file?"),
    ({"_sudoo": True}, "_sudoo: no such setting; did you mean _sudo?"),
    ({"ssh_prot": 22}, "ssh_prot: no such setting; did you mean ssh_port?"),
    ({"quux": 1}, "quux: no such setting; begin names of your own with my_"),
    # contradictions
    (
        {"volume_group_extend": True},
        "volume_group_extend = True: needs volume_disks and the name of an existing volume_group",
    ),
    (
        {"volume_group_extend": True, "volume_disks": ["/dev/vdb"]},
        "volume_group_extend = True: needs volume_disks and the name of an existing volume_group",
    ),
    (
        {"volume_group_extend": True, "volume_group": "vg"},
        "volume_group_extend = True: needs volume_disks and the name of an existing volume_group",
    ),
    *(
        (
            {"adopt_filesystem": True} | {name: value},
            f"adopt_filesystem = True: adopt_filesystem and {name} exclude each other: set only one of them",
        )
        for name, value in {
            "volume_group": "data-vg",
            "volume_disks": ["/dev/vdb"],
            "volume_file": "60%",
            "volume_size": "60G",
            "volume_bytes_per_inode": 8192,
            "volume_mount_options": ["noatime"],
            "adopt_volume": True,
            "extra_volumes": {"home-lv": {"mount": "/home", "size": "5G"}},
        }.items()
    ),
    (
        {"volume_bytes_per_inode": 8192, "filesystem": "xfs"},
        'volume_bytes_per_inode = 8192: needs filesystem "ext4": xfs makes inodes as it needs them',
    ),
    (
        {"volume_mount_options": ["commit=30"], "filesystem": "xfs"},
        "volume_mount_options = ['commit=30']: must be without 'commit=30', which xfs does not know",
    ),
    (
        {"volume_mount_options": ["inode64"]},
        "volume_mount_options = ['inode64']: must be without 'inode64', which ext4 does not know",
    ),
    (
        {"volume_mount_options": ["discard"], "volume_file": "60G"},
        "must be without 'discard' beside volume_file: it would give the file's space to others",
    ),
    (
        {"volume_group_extend": True, "volume_group": "vg", "volume_disks": "blank"},
        "volume_disks = 'blank': must name the disk that volume_group_extend adds to a group of others",
    ),
    (
        {"adopt_volume": True, "volume_disks": ["/dev/vdb"]},
        "adopt_volume = True: adopt_volume and volume_disks exclude each other",
    ),
    ({"volume_raid": "raid5"}, 'volume_raid = \'raid5\': must be "", "raid0" or "raid1"'),
    (
        {"volume_raid": "raid0", "volume_disks": ["/dev/vdb"]},
        "volume_raid = 'raid0': needs at least two names in volume_disks, which has 1",
    ),
    ({"volume_raid": "raid0"}, "needs at least two names in volume_disks, which has 0"),
    (
        {
            "volume_raid": "raid0",
            "volume_group": "vg",
            "volume_disks": ["/dev/vdb", "/dev/vdc"],
            "volume_group_extend": True,
        },
        "volume_raid and volume_group_extend exclude each other (the disks are a group of Docker's own)",
    ),
    (
        {
            "volume_ephemeral": True,
            "volume_disks": ["/dev/disk/by-id/a"],
            "volume_group": "vg",
            "volume_group_extend": True,
        },
        "volume_ephemeral and volume_group_extend exclude each other (the disks are a group of Docker's own)",
    ),
    ({"volume_ephemeral": True}, "volume_ephemeral = True: needs volume_disks: a boot makes the volume on the disks"),
    *(
        (
            {"volume_ephemeral": True, "volume_disks": [name]},
            f"volume_ephemeral = True: needs names that a disk has at every boot, also while it is blank, such as those under /dev/disk/by-id or /dev/disk/by-path; {name} is none",
        )
        for name in (
            "blank",
            "/dev/nvme1n1",
            "/dev/disk/by-uuid/1234",
            "/dev/disk/by-partlabel/docker",
            "/dev/disk/by-id/lvm-pv-uuid-1234",
        )
    ),
    (
        {"volume_ephemeral": True, "volume_raid": "raid1", "volume_disks": ["/dev/disk/by-id/a", "/dev/disk/by-id/b"]},
        "volume_ephemeral and the mirror of volume_raid exclude each other: both disks are emptied at once",
    ),
    *(
        (
            {"volume_ephemeral": True, "volume_disks": ["/dev/disk/by-id/a"]} | {name: value},
            f"volume_ephemeral = True: volume_ephemeral and {name} exclude each other (",
        )
        for name, value in {
            "volume_file": "60%",
            "extra_volumes": {"home-lv": {"mount": "/home", "size": "20G"}},
        }.items()
    ),
    (
        {"volume_raid": "raid1", "volume_disks": ["/dev/vdb"]},
        "volume_raid = 'raid1': needs two disks, and volume_disks has one: /dev/vdb. Name a second one",
    ),
    (
        {"volume_raid": "raid1", "volume_disks": ["/dev/vdb", "/dev/vdc", "/dev/vdd"]},
        "volume_raid = 'raid1': takes two disks, and volume_disks has 3. Name two of them",
    ),
    ({"volume_raid": "raid1", "volume_disks": "blank"}, "needs two disks, and volume_disks has one: blank"),
    *(
        (
            {"volume_raid": "raid1"} | {name: value},
            f"volume_raid = 'raid1': volume_raid and {name} exclude each other (",
        )
        for name, value in {
            "volume_file": "60%",
            "adopt_filesystem": True,
            "adopt_volume": True,
            "extra_volumes": {"home-lv": {"mount": "/home", "size": "20G"}},
        }.items()
    ),
    (
        {"adopt_volume": True, "volume_file": "60%"},
        "adopt_volume = True: adopt_volume and volume_file exclude each other",
    ),
    (
        {"engine_version": "27.5"},
        'engine_version = \'27.5\': needs engine_source "docker-ce" or "distro"; it is "auto"',
    ),
    ({"engine_change": True}, 'engine_change = True: needs engine_source "docker-ce" or "distro"'),
    ({"volume_size": "96%VG"}, "volume_size = '96%VG': is more than 100 % together with volume_reserve 5%"),
    ({"volume_reserve": "50%"}, "volume_size = '60%VG': is more than 100 % together with volume_reserve 50%"),
    ({"build_cache_size": "60G", "volume_size": "60G"}, "build_cache_size = '60G': must be less than volume_size, 60G"),
    ({"build_cache_size": "61G", "volume_size": "60G"}, "build_cache_size = '61G': must be less than volume_size, 60G"),
    (
        {"guard_floor": "15.1G", "volume_size": "60G"},
        "guard_floor = '15.1G': must be at most 25 % of volume_size, 60G",
    ),
    ({"guard_rescue": True, "guard": False}, "guard_rescue = True: needs guard = True"),
    ({"guard_stop_pulls": True, "guard": False}, "guard_stop_pulls = True: needs guard = True"),
    (
        {"nvidia_default_runtime": True, "nvidia": False},
        'nvidia_default_runtime = True: needs nvidia = True or "auto"',
    ),
    *(
        (
            {"nvidia_default_runtime": True, "daemon_json": {"default-runtime": other}},
            "daemon_json: must be without 'default-runtime' (nvidia_default_runtime is True)",
        )
        for other in ("kata", "runsc")
    ),
    *(
        (
            {"daemon_json": {"default-runtime": "nvidia"} | others, "nvidia_default_runtime": wanted},
            "daemon_json: must be without 'default-runtime' (set nvidia_default_runtime)",
        )
        for others in ({}, {"runtimes": None}, {"runtimes": {"kata": {"path": "/opt/kata"}}})
        for wanted in (True, False)
    ),
]


@pytest.mark.parametrize(("host_data", "message"), BAD, ids=[str(next(iter(data))) for data, _ in BAD])
def test_bad_setting_is_refused_and_explained(host_data: dict[str, Any], message: str) -> None:
    found = problems(**host_data)
    assert len(found) == 1, found
    assert message in found[0]


def comments() -> dict[str, str]:
    """Return the comment that each setting has in all.py."""
    found = {}
    for block in DEFAULTS.read_text().split("\n\n"):
        lines = block.splitlines()
        text = " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
        found |= {line.partition(" = ")[0]: text for line in lines if re.match(r"\w+ = ", line)}
    return found


@pytest.mark.parametrize(
    ("name", "other"),
    sorted(
        {
            (match[1], match[2])
            for data, _ in BAD
            for problem in problems(**data)
            if (match := re.search(r"\b(\w+) and (?:the mirror of )?(\w+) exclude each other", problem))
            or (match := re.match(r"(\w+) = [^:]+: needs (\w+)", problem))
            if match[2] in defaults()
        }
    ),
)
def test_comment_of_a_setting_names_the_others_that_it_excludes_or_needs(name: str, other: str) -> None:
    assert other in comments()[name]


GOOD: list[dict[str, Any]] = [
    {"volume_size": "1.5T"},
    {"volume_size": "100%FREE"},
    {"volume_size": "60GiB"},
    {"volume_size": "97%VG", "volume_disks": ["/dev/vdb"]},
    {"volume_size": "95%VG"},
    {"volume_size": "1G", "build_cache_size": "1023M"},
    {"volume_mount": "/var/lib/docker2"},
    {"extra_volumes": {"home-lv": HOME, "home2-lv": HOME | {"mount": "/home2"}}},
    {"extra_volumes": {"a-lv": HOME | {"mount": "/opt", "size": "20%VG", "filesystem": "xfs"}}},
    {"extra_volumes": {"a-lv": HOME | {"mount": "/srv/docker-volume2", "size": "1G"}}},
    {"extra_volumes": {"a-lv": HOME | {"mount": "/var/opt"}, "b-lv": HOME | {"mount": "/var/mail"}}},
    {"volume_mount": "/var/lib/docker-volume"},
    {"volume_group": "snapshot-vg"},
    {"volume_group": "VG0", "volume_disks": ["/dev/vdb"], "volume_group_extend": True},
    {"volume_group": "data-vg", "volume_disks": ["/dev/vdb"], "volume_group_extend": True},
    {"logical_volume": "x" * 55},
    {"check_critical": 80, "check_threshold": 80},
    {"docker_repository": "http://127.0.0.1:8080/docker"},
    {"docker_repository_key": "https://keys.example.com/docker.asc"},
    {"docker_repository": "https://[2001:db8::1]:8443/docker"},
    {"volume_disks": ["/dev/disk/by-id/scsi-0QEMU_disk2", "/dev/nvme1n1p2"]},
    {"volume_disks": "blank", "volume_disk_minimum": "50G"},
    *({"volume_bytes_per_inode": value} for value in ("auto", 4096, 1048576)),
    {"volume_mount_options": ["_netdev", "x-systemd.requires=iscsid.service", "noatime", "discard", "commit=30"]},
    {"volume_mount_options": ["logbufs=8", "lazytime"], "filesystem": "xfs"},
    {"volume_disks": ["blank"]},
    {"volume_ephemeral": True, "volume_disks": "/dev/disk/by-id/nvme-Amazon_EC2_NVMe_Instance_Storage_*"},
    {
        "volume_ephemeral": True,
        "volume_raid": "raid0",
        "volume_disks": ["/dev/disk/by-path/pci-0000:00:1f.0-nvme-1", "/dev/disk/azure/local/by-index/2"],
    },
    {"volume_raid": "raid0", "volume_disks": ["/dev/vdb", "/dev/disk/by-id/virtio-second*"]},
    {"volume_raid": "raid1"},
    {"volume_raid": "raid1", "volume_disks": ["/dev/vdb", "/dev/disk/by-id/virtio-second*"]},
    {"volume_raid": "raid1", "volume_disks": ["/dev/vdb"], "volume_group": "vg", "volume_group_extend": True},
    {"volume_disks": "/dev/vdb"},
    {"volume_disks": "/dev/disk/by-id/scsi-0Google_PersistentDisk_docker-*"},
    {"volume_disks": ["/dev/disk/azure/scsi[12]/lun?", "/dev/vdb"]},
    {"volume_disks": "/dev/disk/by-id/virtio-docker*", "volume_group": "vg", "volume_group_extend": True},
    {"docker_repository_fingerprint": "9dc8 5822 9fc7 dd38 854a  e2d8 8d81 803c 0ebf cd88"},
    {"engine_source": "docker-ce", "engine_version": "27.5.1"},
    {"docker_start_limit": "auto"},
    {"docker_start_limit": 60},
    {"docker_start_limit": 86400},
    {"guard_floor": "25%"},
    {"guard_floor": "15G", "volume_size": "60G"},
    {"guard_ballast": "", "guard": False},
    {"volume_file": "2G"},
    {"volume_file": "60%", "volume_file_keep": "10G", "volume_size": "96%VG"},
    {"daemon_json": {"registry-mirrors": ["https://mirror.example.com"], "log-opts": {"labels": "team"}}},
    {"daemon_json": {"log-opts": {"compress": "true"}, "runtimes": None}},
    {"daemon_json": {"log-opts": {"compress": "false"}}, "log_max_file": 1, "log_driver": "local"},
    {"log_driver": "local", "log_max_file": 1},
    {"log_driver": "keep", "relocation": "refuse"},
    {"nvidia": True, "nvidia_default_runtime": True},
    {"nvidia": False, "daemon_json": {"default-runtime": "runsc"}},
    {
        "nvidia_default_runtime": True,
        "daemon_json": {"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "/opt/nvidia"}}},
    },
    {"nvidia_version": "1.18"},
    {"nvidia_version": "2.0.1", "nvidia_repository": "https://mirror.example.com/debian", "nvidia_repository_key": ""},
    {"ssh_user": "admin", "ssh_port": 22, "_sudo": True, "my_own": object()},
]


@pytest.mark.parametrize("host_data", GOOD, ids=[next(iter(data)) for data in GOOD])
def test_good_setting_is_taken(host_data: dict[str, Any]) -> None:
    assert problems(**host_data) == []


BOUNDS = {
    "apt_lock_timeout": (0, 86400),
    "log_max_file": (1, 1000),
    "relocation_patience": (0, 86400),
    "check_threshold": (10, 99),
    "check_critical": (10, 99),
    "check_hours_left": (1, 720),
    "alert_reminder": (1, 168),
    "prune_spread": (0, 1439),
    "prune_hours": (1, 8760),
    "prune_images_after_days": (0, 3650),
    "snapshot_max_hours": (1, 720),
}


def test_number_is_taken_within_its_bounds_and_refused_beyond() -> None:
    assert {name for name, field in Settings.model_fields.items() if field.annotation is int} == BOUNDS.keys()
    for name, (least, most) in BOUNDS.items():
        for number in (least, most):
            assert not re.search(rf"{name} = .* at (least|most) [0-9]", str(problems(**{name: number})))
        assert problems(**{name: least - 1}) == [f"{name} = {least - 1}: must be at least {least}"]
        assert problems(**{name: most + 1}) == [f"{name} = {most + 1}: must be at most {most}"]


def test_all_problems_of_a_host_come_at_once() -> None:
    assert len(problems(volume_size="big", log_max_file=0, no_such=1)) == 3
    assert len(problems(engine_version="27.5", adopt_volume=True, volume_disks=["/dev/vdb"], no_such=1)) == 3


def test_a_tuple_in_daemon_json_is_the_list_that_comes_back_from_the_file() -> None:
    result = check({"daemon_json": {"dns": ("192.0.2.1",)}})
    assert isinstance(result, Settings)
    assert result.daemon_json == {"dns": ["192.0.2.1"]}


def test_long_value_is_shown_by_its_beginning() -> None:
    (whole,), (cut,) = (problems(volume_size="9" * digits) for digits in (98, 99))
    assert whole.startswith(f"volume_size = '{'9' * 98}': must be")
    assert cut.startswith(f"volume_size = '{'9' * 98}…: must be")


def test_fleet_says_each_problem_once_with_its_hosts() -> None:
    fleet = {f"web-{number}": {"log_max_file": 0} for number in (4, 2, 0, 3, 1)} | {"db": {"filesystem": "zfs"}}
    with pytest.raises(SettingsError) as error:
        check_fleet(fleet)
    message = str(error.value)
    assert "nothing was changed on any host" in message
    assert "log_max_file = 0: must be at least 1  [web-0, web-1, web-2 and 2 more]" in message
    assert 'filesystem = \'zfs\': must be "ext4" or "xfs"  [db]' in message


@pytest.mark.parametrize(("count", "names"), [(3, "0, 1, 2"), (4, "0, 1, 2 and 1 more")])
def test_three_hosts_with_a_problem_are_named(count: int, names: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[{names}\]"):
        check_fleet({str(number): {"log_max_file": 0} for number in range(count)})


def test_settings_that_many_hosts_share_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[object] = []

    def noting(data: Any) -> Any:
        checked.append(data)
        return check(data)

    monkeypatch.setattr(settings_check, "check", noting)
    hosts = {f"web-{n}": {"volume_size": "60G" if n else "70G", "ssh_hostname": f"10.0.0.{n}"} for n in range(5)}
    fleet = check_fleet(hosts)
    assert [str(fleet[name].volume_size) for name in hosts] == ["70G", "60G", "60G", "60G", "60G"]
    assert len(checked) == 2


def test_equal_values_of_other_types_are_other_settings() -> None:
    with pytest.raises(SettingsError, match=r"guard = 1: must be True or False  \[b\]"):
        check_fleet({"a": {"guard": True}, "b": {"guard": 1}})


@pytest.mark.parametrize("is_good", [True, False])
def test_settings_of_a_fleet_are_checked_once_for_all_of_its_hosts(
    monkeypatch: pytest.MonkeyPatch, is_good: bool
) -> None:
    checked: list[object] = []

    def check_once(hosts: dict[str, dict[str, object]]) -> dict[str, Settings]:
        checked.append(hosts)
        return check_fleet(hosts)

    monkeypatch.setattr(settings_check, "check_fleet", check_once)
    data = {} if is_good else {"log_max_file": 0}
    fleet = Mock(iter_activated_hosts=lambda: [host])
    host = Mock(inventory=fleet, data=Mock(dict=lambda: data))
    host.name = "web"
    for _ in range(2):
        with nullcontext() if is_good else pytest.raises(SettingsError):
            settings_of(host)
    assert len(checked) == 1


def test_files_that_no_host_changes_are_read_once_for_all_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    check({"ssh_user": "admin"})
    monkeypatch.delattr(settings_check, "runpy")
    monkeypatch.delattr(settings_check, "get_all_connectors")
    assert isinstance(check({"ssh_user": "admin"}), Settings)


@pytest.mark.parametrize(
    "host_data",
    [
        {"docker_repository": "https://me:hunter2@mirror.example.com"},
        {"docker_repository": "https://me:hun/hunter2@mirror.example.com"},
        {"docker_repository": "https://me:p@hunter2@mirror.example.com"},
        {"docker_repository": "me:hunter2@mirror.example.com"},
        {"docker_repository_key": "https://me:hunter2@mirror.example.com/gpg"},
        {"nvidia_repository": "https://me:hunter2@mirror.example.com"},
        {"nvidia_repository_key": "https://me:hunter2@mirror.example.com/gpgkey"},
        {"daemon_json": {"hosts": [], "http-proxy": "http://me:hunter2@proxy.example.com"}},
        {"daemon_json": {"hosts": [], "log-opts": {"splunk-token": "hunter2"}}},
        {"daemon_json": '{"log-opts": {"splunk-token": "hunter2"}}'},
        {"ssh_pasword": "hunter2"},
        {"ssh_password": "hunter2", "filesystem": "zfs"},
    ],
)
def test_secret_is_not_shown(host_data: dict[str, Any]) -> None:
    (found,) = problems(**host_data)
    assert "hunter2" not in found


def test_bad_settings_end_the_run_in_one_plain_message_before_anything(
    python_with_pyinfra: Path, tmp_path: Path
) -> None:
    (tmp_path / "fleet.py").write_text('web = [("@fake/a", {"filesystem": "zfs"}), "@fake/b"]')
    run = subprocess.run(
        [python_with_pyinfra, "-m", "pyinfra", "-y", str(tmp_path / "fleet.py"), "deploy.py"],
        cwd=TOP,
        env=os.environ | {"PYINFRA_FAKE_DELAY": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    output = run.stdout + run.stderr
    assert run.returncode == 1
    assert output.count("bad settings; nothing was changed on any host") == 1
    assert 'filesystem = \'zfs\': must be "ext4" or "xfs"  [@fake/a]' in output
    assert "Traceback" not in output
    assert "Beginning operation run" not in output
