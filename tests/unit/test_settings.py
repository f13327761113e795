"""Settings: the defaults are good, and what is bad is refused with its name, its value and what is allowed."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import State
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory_from_files

import settings
from settings import Settings, SettingsError, check, check_fleet, defaults

TOP = Path(__file__).parent.parent.parent


def problems(**host_data: Any) -> list[str]:
    result = check(host_data)
    return [] if isinstance(result, Settings) else [str(problem) for problem in result]


def test_defaults_are_valid() -> None:
    assert isinstance(check({}), Settings)


def test_defaults_file_and_model_have_the_same_names() -> None:
    assert set(defaults()) == set(Settings.model_fields)


def test_every_default_is_explained_above_it() -> None:
    lines = settings.DEFAULTS.read_text().splitlines()
    tree = ast.parse("\n".join(lines))
    for node in tree.body:
        if isinstance(node, ast.Assign):
            block = lines[: node.lineno - 1]
            while block and re.match(r"[a-z_]+ = ", block[-1]):  # settings that share a comment
                block.pop()
            assert block[-1].startswith("# "), f"line {node.lineno} has no comment"


def test_example_inventory_is_valid() -> None:
    with ctx_state.use(State()):
        inventory = make_inventory_from_files(str(TOP / "inventory/prod.py"), cwd=str(TOP))
    fleet = check_fleet({host.name: host.data.dict() for host in inventory})
    assert len(fleet) == 3
    assert fleet["gpu-1.example.com"].volume_disks


SIZE = '"60G" or "20%VG" or "20%FREE"'
BAD = [
    # volume
    ({"volume_group": "vg one"}, "volume_group = 'vg one': must be a name of LVM"),
    ({"volume_group": "-vg"}, "volume_group = '-vg': must be a name of LVM"),
    ({"volume_group": ""}, "volume_group = '': must be a name of LVM"),
    ({"volume_group": "vg;reboot"}, "volume_group = 'vg;reboot': must be a name of LVM"),
    ({"volume_group": None}, "volume_group = None: must be text in quotes"),
    ({"logical_volume": "a/b"}, "logical_volume = 'a/b': must be a name of LVM"),
    ({"logical_volume": ".."}, "logical_volume = '..': must be a name of LVM"),
    ({"logical_volume": "snapshot"}, "logical_volume = 'snapshot': must be a name of LVM"),
    ({"logical_volume": "docker_tmeta"}, "logical_volume = 'docker_tmeta': must be a name of LVM"),
    ({"logical_volume": "x" * 62}, "must be a name of LVM: at most 61"),
    ({"logical_volume": "$(id)"}, "logical_volume = '$(id)': must be a name of LVM"),
    ({"volume_disks": "/dev/vdb"}, "volume_disks = '/dev/vdb': must be a list"),
    ({"volume_disks": ["vdb"]}, "volume_disks[0] = 'vdb': must be the path of a disk under /dev"),
    ({"volume_disks": ["/dev/vdb", "/dev/../etc/passwd"]}, "volume_disks[1] = '/dev/../etc/passwd': must be the path"),
    ({"volume_disks": ["/dev/vd*"]}, "volume_disks[0] = '/dev/vd*': must be the path of a disk"),
    ({"volume_disks": ["/dev/vdb; rm -rf /"]}, "volume_disks[0] = '/dev/vdb; rm -rf /': must be the path"),
    ({"volume_disks": ["/dev/vdb", "/dev/vdb"]}, "volume_disks = ['/dev/vdb', '/dev/vdb']: must be each disk once"),
    ({"volume_disks": [1]}, "volume_disks[0] = 1: must be text in quotes"),
    ({"volume_size": "60"}, f"volume_size = '60': must be \"auto\" or a size such as {SIZE}"),
    ({"volume_size": 60}, 'volume_size = 60: must be "auto" or a size'),
    ({"volume_size": "0G"}, "volume_size = '0G': must be \"auto\" or a size"),
    ({"volume_size": "-5G"}, "volume_size = '-5G': must be \"auto\" or a size"),
    ({"volume_size": "60 G"}, "volume_size = '60 G': must be \"auto\" or a size"),
    ({"volume_size": "120%VG"}, "it must be more than zero and at most 100 %"),
    ({"volume_size": "60%"}, "volume_size = '60%': must be \"auto\" or a size"),
    ({"volume_size": "60%ROOT"}, "volume_size = '60%ROOT': must be \"auto\" or a size"),
    ({"volume_reserve": "5%VG"}, 'volume_reserve = \'5%VG\': must be a size such as "60G" or "20%"'),
    ({"volume_reserve": 5}, "volume_reserve = 5: must be a size"),
    ({"filesystem": "btrfs"}, 'filesystem = \'btrfs\': must be "ext4" or "xfs"'),
    ({"volume_mount": "srv/docker"}, "volume_mount = 'srv/docker': must be an absolute path"),
    ({"volume_mount": "/"}, "volume_mount = '/': must be an absolute path"),
    ({"volume_mount": "/home"}, "volume_mount = '/home': must be a directory of its own"),
    ({"volume_mount": "/etc/docker-volume"}, "must be a directory of its own, not one that the system uses"),
    ({"volume_mount": "/var/lib/docker"}, "must be a neutral place, neither in nor above /var/lib/docker"),
    ({"volume_mount": "/var/lib/docker/volume"}, "must be a neutral place"),
    ({"volume_mount": "/srv/../etc"}, "volume_mount = '/srv/../etc': must be an absolute path"),
    ({"volume_mount": "/srv/a b"}, "volume_mount = '/srv/a b': must be an absolute path"),
    ({"volume_mount": "/srv/`id`"}, "volume_mount = '/srv/`id`': must be an absolute path"),
    ({"adopt_volume": "yes"}, "adopt_volume = 'yes': must be True or False"),
    # engine
    ({"engine_source": "snap"}, 'engine_source = \'snap\': must be "auto", "docker-ce", "distro" or "present"'),
    ({"engine_version": "27.5 || true"}, "engine_version = '27.5 || true': must be a version"),
    ({"engine_version": 27.5, "engine_source": "distro"}, "engine_version = 27.5: must be text in quotes"),
    ({"docker_repository": "download.example.com"}, "docker_repository = 'download.example.com': must be an address"),
    ({"docker_repository": "file:///srv"}, "docker_repository = 'file:///srv': must be an address"),
    ({"docker_repository": "https://a/b c"}, "docker_repository = 'https://a/b c': must be an address"),
    ({"docker_repository_fingerprint": "9DC8"}, "docker_repository_fingerprint = '9DC8': must be a key's fingerprint"),
    ({"docker_repository_channel": "nightly"}, 'must be "stable" or "test"'),
    ({"apt_lock_timeout": -1}, "apt_lock_timeout = -1: must be at least 0"),
    ({"apt_lock_timeout": "600"}, "apt_lock_timeout = '600': must be a whole number"),
    # daemon.json
    ({"log_max_size": "10mb"}, "log_max_size = '10mb': must be a size such as \"10m\""),
    ({"log_max_size": 10}, "log_max_size = 10: must be text in quotes"),
    ({"log_max_size": "0m"}, "log_max_size = '0m': must be a size"),
    ({"log_max_file": 0}, "log_max_file = 0: must be at least 1"),
    ({"log_max_file": True}, "log_max_file = True: must be a whole number"),
    ({"live_restore": 1}, "live_restore = 1: must be True or False"),
    ({"build_cache_size": "a lot"}, "build_cache_size = 'a lot': must be a size"),
    ({"daemon_json": []}, "daemon_json = []: must be a dictionary"),
    ({"daemon_json": {"data-root": "/big"}}, "without 'data-root' (Docker's data belongs on the volume"),
    ({"daemon_json": {"storage-driver": "vfs"}}, "without 'storage-driver' (overlay2 is the only one"),
    ({"daemon_json": {"hosts": ["tcp://0.0.0.0"]}}, "without 'hosts' (the unit passes -H already"),
    ({"daemon_json": {"log-opts": {"max-size": "1g"}}}, "without 'log-opts.max-size' (set log_max_size)"),
    ({"daemon_json": {"features": {"containerd-snapshotter": True}}}, "without 'features.containerd-snapshotter'"),
    ({"daemon_json": {"log-opts": "big"}}, "without 'log-opts' as anything but a dictionary"),
    ({"daemon_json": {"labels": {1, 2}}}, "must be a dictionary that can be written as JSON"),
    # names
    ({"volume_sise": "60G"}, "volume_sise: no such setting; did you mean volume_size?"),
    ({"log_max_files": 3}, "log_max_files: no such setting; did you mean log_max_file?"),
    ({"_sudoo": True}, "_sudoo: no such setting; did you mean _sudo?"),
    ({"ssh_prot": 22}, "ssh_prot: no such setting; did you mean ssh_port?"),
    ({"quux": 1}, "quux: no such setting; names of your own begin with my_"),
    # contradictions
    ({"volume_group_extend": True}, "volume_group_extend needs volume_disks and the name of an existing volume_group"),
    ({"adopt_volume": True, "volume_disks": ["/dev/vdb"]}, "adopt_volume takes a volume that is there"),
    ({"engine_version": "27.5"}, 'engine_version needs engine_source "docker-ce" or "distro"'),
    ({"engine_change": True}, 'engine_change needs engine_source "docker-ce" or "distro"'),
    ({"volume_size": "97%VG"}, "volume_size and volume_reserve are more than 100 % together"),
]


@pytest.mark.parametrize(("host_data", "message"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_bad_setting_is_refused_and_explained(host_data: dict[str, Any], message: str) -> None:
    found = problems(**host_data)
    assert len(found) == 1, found
    assert message in found[0]


GOOD = [
    {"volume_size": "1.5T"},
    {"volume_size": "100%FREE"},
    {"volume_size": "60GiB"},
    {"volume_disks": ["/dev/disk/by-id/scsi-0QEMU_disk2", "/dev/nvme1n1p2"]},
    {"docker_repository_fingerprint": "9dc8 5822 9fc7 dd38 854a  e2d8 8d81 803c 0ebf cd88"},
    {"engine_source": "docker-ce", "engine_version": "27.5.1"},
    {"daemon_json": {"registry-mirrors": ["https://mirror.example.com"], "log-opts": {"labels": "team"}}},
    {"ssh_user": "admin", "ssh_port": 22, "_sudo": True, "my_own": object()},
]


@pytest.mark.parametrize("host_data", GOOD, ids=[next(iter(data)) + str(n) for n, data in enumerate(GOOD)])
def test_good_setting_is_taken(host_data: dict[str, Any]) -> None:
    assert problems(**host_data) == []


def test_all_problems_of_a_host_come_at_once() -> None:
    assert len(problems(volume_size="big", log_max_file=0, no_such=1)) == 3


def test_fleet_says_each_problem_once_with_its_hosts() -> None:
    fleet = {f"web-{number}": {"log_max_file": 0} for number in range(5)} | {"db": {"filesystem": "zfs"}}
    with pytest.raises(SettingsError) as error:
        check_fleet(fleet)
    message = str(error.value)
    assert "nothing was changed on any host" in message
    assert "log_max_file = 0: must be at least 1  [web-0, web-1, web-2 and 2 more]" in message
    assert 'filesystem = \'zfs\': must be "ext4" or "xfs"  [db]' in message


def test_password_in_the_repository_address_is_refused_and_not_shown() -> None:
    (found,) = problems(docker_repository="https://me:hunter2@mirror.example.com")
    assert "without a user name or password" in found
    assert "hunter2" not in found
