"""No secret on a command line, in output, or in a file that others can read, whichever operation runs."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import StringCommand
from pyinfra_testing.util import get_command_string

from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.fstab import fstab_with
from pyinfra_lvm.model import FstabEntry, Storage
from settings.model import Settings
from tasks.daemon import DaemonJson, DaemonJsonFiles
from tasks.nvidia import Toolkit, ToolkitState
from tasks.preflight.facts import HostFacts
from tasks.preflight.host import EngineData, HostState
from tasks.support.daemon_keys import text
from tasks.support.package_names import TOOLKIT
from tasks.support.packages import Offer
from tasks.support.run_lock import Holder, RunLockHolder

from .deployment import Deployment, deployed, operations
from .example_hosts import (
    DEVICE,
    SPARE,
    VOLUME_MOUNT,
    bare_host,
    converged,
    docker_host,
    settings,
    shared_vg,
    single_root,
    spare_disk,
    with_directory,
    with_disk,
    with_volume_file,
)
from .operations import OperationHost, noted, shell, stand_in
from .preflight.verdicts import plan_of

SECRET = "hunter2"

# Every setting that can hold a secret. The others are names, numbers, choices, and addresses without a user.
SECRETS: dict[str, Any] = {
    "alert_receivers": {"ops": f"slack://{SECRET}/b/c", "mail": f"mailtos://me:{SECRET}@example.com"},
    "daemon_json": {
        "http-proxy": f"http://me:{SECRET}@proxy.example.com",
        "proxies": {"https-proxy": f"http://me:{SECRET}@proxy.example.com"},
        "log-opts": {"tag": SECRET},
        "labels": [f"token={SECRET}"],
        "runtimes": {"kata": {"path": "/opt/kata", "runtimeArgs": ["--token", SECRET]}},
        "key-of-a-later-docker": {"below": [{"token": SECRET}]},
    },
}
NO_SECRET = {
    *(
        "adopt_filesystem",
        "adopt_volume",
        "allow_ephemeral_disks",
        "allow_unsupported_release",
        "alert_reminder",
        "apt_lock_timeout",
    ),
    *("build_cache_size", "check_critical", "check_hours_left", "check_interval", "check_threshold"),
    *("docker_repository", "docker_repository_channel", "docker_repository_fingerprint", "docker_repository_key"),
    *(
        "docker_start_limit",
        "engine_change",
        "engine_source",
        "engine_upgrade_stops_containers",
        "engine_version",
        "extra_volumes",
    ),
    *("filesystem", "guard", "guard_ballast", "guard_floor", "guard_rescue", "guard_stop_pulls", "journal_max_use"),
    *("live_restore", "log_driver", "log_max_file", "log_max_size", "logical_volume", "metrics_directory", "nvidia"),
    *("nvidia_default_runtime", "nvidia_repository", "nvidia_repository_fingerprint", "nvidia_repository_key"),
    *(
        "nvidia_version",
        "prune_anonymous_volumes",
        "prune_hours",
        "prune_images_after_days",
        "prune_keep",
        "prune_spread",
        "prune_time",
    ),
    *("relocation", "relocation_finalize", "relocation_patience", "replace_lost_volumes", "snapshot_max_hours"),
    *(
        "volume_bytes_per_inode",
        "volume_disk_minimum",
        "volume_disks",
        "volume_ephemeral",
        "volume_file",
        "volume_file_keep",
        "volume_group",
        "volume_group_extend",
        "volume_group_grow",
        "volume_mount",
        "volume_mount_options",
        "volume_raid",
        "volume_reserve",
        "volume_size",
    ),
}
# What a host may have beside that: the password of a share in fstab, and of its own proxy in daemon.json.
SHARE = f"//nas/share /mnt/share cifs username=me,password={SECRET} 0 0\n"
OWN_KEYS = {"https-proxy": f"http://me:{SECRET}@proxy", "log-opts": {"labels": SECRET}, "debug": True}


def test_every_setting_is_known_to_hold_a_secret_or_none() -> None:
    assert set(Settings.model_fields) == SECRETS.keys() | NO_SECRET


def host_with(state: HostState, storage: Storage, toolkit: ToolkitState | None = None) -> OperationHost:
    listed = replace(storage, fstab_text=storage.fstab_text + SHARE)
    files = DaemonJsonFiles(text(OWN_KEYS), text({"log-driver": "local", "debug": False}), exposed=True)
    given: dict[Any, Any] = {HostFacts: state, StorageLayout: listed, DaemonJson: files, RunLockHolder: Holder()}
    return OperationHost(given | ({Toolkit: toolkit} if toolkit else {}))


def on_a_file() -> Storage:
    """A host whose volume is on a file, and a disk that was attached since."""
    plan = plan_of(bare_host(), single_root(), settings(volume_file="18G"))
    return with_disk(converged(with_volume_file(single_root(), plan.disk_file_bytes), plan))


def on_a_grown_disk() -> Storage:
    """Docker's volume on a disk that has become larger since."""
    known = converged(spare_disk(), plan_of(bare_host(), spare_disk(), settings(volume_disks=[SPARE])))
    devices = tuple(replace(device, size=40 * 2**30) if SPARE in device.aliases else device for device in known.devices)
    return replace(known, devices=devices)


ON_SPARE = {"volume_disks": [SPARE], "nvidia": True, "extra_volumes": {"home-lv": {"mount": "/home", "size": "1G"}}}
OUR_TOOLKIT = ToolkitState(Offer(dict.fromkeys(TOOLKIT, "1.20.1-1"), frozenset()), TOOLKIT)
LOST = fstab_with("", FstabEntry(DEVICE, VOLUME_MOUNT, "ext4", ("nofail",)))


def runs(secrets: dict[str, Any]) -> dict[str, tuple[str, Settings, OperationHost]]:
    """Runs that between them perform every operation: the script, the settings, the host."""
    plain = settings(**secrets)
    fresh = settings(**secrets, **ON_SPARE)
    ours = docker_host()
    toolkit = {"toolkit": "/usr/bin/nvidia-container-runtime", "toolkit_is_ours": True}
    data = {"docker_data": EngineData(images=1), "store_bytes": 2**30, "store_inodes": 1000}
    old_tree = with_directory(shared_vg(), "/var/lib/docker", empty=False)
    volume = converged(shared_vg(), plan_of(ours, shared_vg(), plain))
    entry = FstabEntry(DEVICE, VOLUME_MOUNT, "ext4", ("nofail",))
    lost = replace(shared_vg(), fstab_text=fstab_with("", entry), fstab=(entry,))
    return {
        "fresh host": ("deploy.py", fresh, host_with(bare_host(gpu_driver="550"), spare_disk())),
        "a file as the disk": (
            "deploy.py",
            settings(**secrets, volume_file="60G"),
            host_with(bare_host(), single_root()),
        ),
        "a disk that has grown": (
            "deploy.py",
            settings(**secrets, volume_disks=[SPARE]),
            host_with(ours, on_a_grown_disk()),
        ),
        "a disk that takes over": (
            "deploy.py",
            settings(**secrets, volume_disks=[SPARE]),
            host_with(bare_host(), on_a_file()),
        ),
        "unused stores": ("deploy.py", plain, host_with(ours, old_tree)),
        "data to move": (
            "deploy.py",
            settings(**secrets, relocation_finalize=True),
            host_with(docker_host(**data), old_tree),
        ),
        "lost volume": ("deploy.py", settings(**secrets, replace_lost_volumes=True), host_with(bare_host(), lost)),
        "GPU that is gone": ("deploy.py", plain, host_with(replace(ours, **toolkit), volume, OUR_TOOLKIT)),
        "host that is left": ("undeploy.py", plain, host_with(ours, volume)),
    }


@pytest.fixture(scope="module")
def deployments() -> dict[str, Deployment]:
    return {name: deployed(*run) for name, run in runs(SECRETS).items()}


def decoded(line: str) -> str:
    """Return a command line with everything in it that looks like base64 in clear."""
    words = [word[start:] for word in re.findall("[A-Za-z0-9+/]{16,}", line) for start in range(4)]
    clear = [base64.b64decode(word[: len(word) // 4 * 4]).decode(errors="replace") for word in words]
    return "\n".join([line, *clear])


def test_runs_perform_every_operation(deployments: dict[str, Deployment]) -> None:
    assert {name for one in deployments.values() for name in one.ran} == operations().keys()


def test_no_command_line_has_a_secret(deployments: dict[str, Deployment]) -> None:
    for one in deployments.values():
        for line in one.host.events:
            assert SECRET not in decoded(line), line


def test_nothing_that_is_logged_has_a_secret(deployments: dict[str, Deployment]) -> None:
    logged = [message for one in deployments.values() for message in (*one.host.logged, *one.names)]
    assert any("keys of the host's own stay: https-proxy, log-opts.labels" in message for message in logged)
    assert SECRET not in "\n".join(logged)


def commands_with_secrets(deployments: dict[str, Deployment]) -> dict[str, str]:
    """The commands that get a secret on standard input, which follows them."""
    done = [command for one in deployments.values() for commands in one.ran.values() for command in commands]
    sent = {
        get_command_string(one): one.connector_arguments.get("_stdin") for one in done if isinstance(one, StringCommand)
    }
    return {line: stdin for line, stdin in sent.items() if stdin and SECRET in decoded(stdin)}


def test_no_file_that_others_can_read_has_a_secret_at_any_moment(
    deployments: dict[str, Deployment], tmp_path: Path
) -> None:
    commands = commands_with_secrets(deployments)
    assert {name for name in ("receivers", "daemon.json", "fstab") for line in commands if name in line} == {
        *("receivers", "daemon.json", "fstab")
    }
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker/daemon.json").write_text("{}")
    (tmp_path / "etc/fstab").touch(mode=0o600)
    exposed = f"find {tmp_path}/etc -type f -perm -o+r -exec grep -l {SECRET} {{}} + >>{tmp_path}/exposed"
    noted(tmp_path, "chmod", "chown", "cp", "mkdir", "mv", "rm", "sync", before=exposed)
    stand_in(tmp_path, "findmnt", "true")
    stand_in(tmp_path, "systemctl", "exit 1")
    for line, stdin in commands.items():
        line = line.replace("/etc", f"{tmp_path}/etc").replace("$digest  fstab", "$(sha256sum fstab)")
        done = shell(line, tmp_path, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), line
        assert SECRET not in done.stdout
    written = {
        path.name: path.stat().st_mode & 0o777
        for path in (tmp_path / "etc").rglob("*")
        if path.is_file() and SECRET in path.read_text()
    }
    assert written.keys() == {"receivers", "daemon.json", "fstab"}
    assert not [name for name, mode in written.items() if mode & 0o007]
    assert (tmp_path / "exposed").read_text() == ""
