"""A run that adopts a filesystem: what it does in which order, what the host program is told, and what a second run finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pyinfra.api import FunctionCommand

from bulkhead.config import Config
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.fstab import FstabEntry
from pyinfra_lvm.model import Storage
from tasks.fail_closed import drop_ins
from tasks.preflight.adoption import EMPTY, FilesystemRoot
from tasks.preflight.adoption_facts import RootOfFilesystem
from tasks.preflight.facts import HostFacts, _configured
from tasks.preflight.host import Container, HostState
from tasks.program import configuration
from tasks.support.run_lock import Holder, RunLockHolder
from tasks.watch import JournalLimits

from .deployment import Deployment, deployed
from .example_hosts import OWN_DISK, VOLUME_MOUNT, adopted_disk, bare_host, docker_host, own_disk, settings, shared_vg
from .operations import OperationHost, shell, stand_in
from .preflight.verdicts import plan_of

WANTED = settings(adopt_filesystem=True)
WEB = Container("web", "running", "sha256:1", 0, has_restart_policy=True, is_kept=False)
LIVING = docker_host(containers=(WEB,), containers_running=1)


def host(storage: Storage, state: HostState = LIVING, root: FilesystemRoot = EMPTY) -> OperationHost:
    facts = {
        HostFacts: state,
        StorageLayout: storage,
        RunLockHolder: Holder(),
        JournalLimits: [],
        RootOfFilesystem: root,
    }
    return OperationHost(facts)


def run(storage: Storage) -> Deployment:
    return deployed("deploy.py", WANTED, host(storage))


def test_program_adopts_the_filesystem_and_no_operation_touches_it_before() -> None:
    done = run(own_disk())
    names = [name for name in done.names if "volume" in name.lower()]
    assert names == [
        "Relocation: /var/lib/docker on their volumes",
        "Fail closed: docker.service and containerd.service need the volume",
        "Guard: docker-guard.service keeps builds from filling the volume",
    ]
    (command,) = done.ran["tasks.relocation.relocate"]
    assert isinstance(command, FunctionCommand)
    assert command.args == [["/var/lib/docker"]]
    issued = "\n".join(
        str(one) for name, ran in done.ran.items() for one in ran if not name.startswith("tasks.program")
    )
    for word in ("mkfs", "lvcreate", "pvcreate", "vgcreate", "mount --bind", "fstab.new"):
        assert word not in issued, word


def test_second_run_leaves_the_volume_as_it_is() -> None:
    done = run(adopted_disk())
    assert "Relocation: /var/lib/docker on their volumes" not in done.names
    assert "LVM and the filesystem's tools are installed" not in done.names
    of_mounts = [one for name, ran in done.ran.items() for one in ran if name.endswith("operations.mount")]
    # The example's lines for the stores have no options; the volume's own line is as a run writes it.
    assert VOLUME_MOUNT + " ext4" not in "\n".join(map(str, of_mounts))
    mounted = [arguments for name, arguments in done.arguments if name.endswith("operations.mount")]
    assert [(each["path"], each["device"]) for each in mounted] == [
        (VOLUME_MOUNT, OWN_DISK),
        ("/var/lib/docker", f"{VOLUME_MOUNT}/docker"),
        ("/var/lib/containerd", f"{VOLUME_MOUNT}/containerd"),
    ]


def test_dry_run_announces_the_outage_and_asks_what_is_on_the_filesystem() -> None:
    asked = host(own_disk())
    deployed("deploy.py", WANTED, asked, dry=True)
    assert any("becomes Docker's volume in place" in line and "1 container (web)" in line for line in asked.logged)
    assert RootOfFilesystem in asked.asked
    converged = host(adopted_disk())
    deployed("deploy.py", WANTED, converged, dry=True)
    assert RootOfFilesystem not in converged.asked


def test_host_with_files_of_others_is_refused_before_anything() -> None:
    refused = host(own_disk(), root=FilesystemRoot(("backup.tar",)))
    failed: list[object] = []
    refused.state.fail_hosts = failed.append
    assert deployed("deploy.py", WANTED, refused, dry=True).names == []
    assert failed
    assert "holds what is not Docker's: backup.tar" in refused.logged[-1]


def test_program_gets_the_line_of_fstab_and_the_final_drop_ins(tmp_path: Path) -> None:
    plan = plan_of(LIVING, own_disk(), WANTED)
    path = tmp_path / "bulkhead.json"
    path.write_text(configuration(WANTED, plan))
    config = Config.load(str(path))
    options = ("defaults", "private", "noatime", "nofail", "x-systemd.device-timeout=90s")
    assert config.volume_fstab == (FstabEntry(OWN_DISK, VOLUME_MOUNT, "ext4", options, passno=2),)
    assert config.closed_drop_ins == drop_ins(WANTED)
    assert config.vg_name == ""
    assert config.reserve_bytes == 0
    # The next run writes the same.
    again = replace(plan, adopts=False, adopted=config.volume_fstab[0])
    assert configuration(WANTED, again) == path.read_text()
    assert _configured([f"={line}" for line in path.read_text().splitlines()]) == {
        "configured_volume": OWN_DISK,
        "configured_options": options,
        "configured_file": False,
        "configured_extra_volumes": {},
    }


def test_program_of_a_logical_volume_gets_neither() -> None:
    values = json.loads(configuration(settings(), plan_of(bare_host(), shared_vg())))
    assert (values["volume_fstab"], values["closed_drop_ins"]) == ([], {})


@pytest.mark.parametrize(
    ("xfs", "has_types"), [("naming =version 2 bsize=4096 ascii-ci=0, ftype=1", True), ("ftype=0", False), ("", True)]
)
def test_fact_reads_names_and_types(tmp_path: Path, xfs: str, has_types: bool) -> None:
    top = tmp_path / "filesystem"
    for name in ("overlay2", ".hidden", "with blank"):
        (top / name).mkdir(parents=True)
    stand_in(tmp_path, "xfs_info", f"echo '{xfs}'" if xfs else "exit 1")
    command = RootOfFilesystem().command(str(top))
    done = shell(command.replace('PATH="$PATH', f'PATH="{tmp_path}:$PATH'), tmp_path)
    found = RootOfFilesystem().process(done.stdout.splitlines())
    assert set(found.names) == {"overlay2", ".hidden", "with blank"}
    assert found.has_types == has_types
