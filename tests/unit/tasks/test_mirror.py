"""The mirror on a host: what a run makes of it, and the unit that boots it without a disk."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.preflight.facts import HostFacts
from tasks.support.paths import MIRROR_SERVICE
from tasks.support.run_lock import Holder, RunLockHolder
from tasks.volume import FSTAB_OPTIONS, mirror_unit
from tasks.watch import JournalLimits

from .deployment import Deployment, deployed
from .example_hosts import bare_host, settings, shared_vg
from .operations import OperationHost, calls, noting, shell, stand_in
from .preflight.test_mirror import MIRROR, two_disks
from .preflight.verdicts import plan_of

UNIT = mirror_unit(plan_of(bare_host(), two_disks(), MIRROR))


def run_of(wanted: Settings, storage: Storage) -> Deployment:
    facts = {HostFacts: bare_host(), StorageLayout: storage, RunLockHolder: Holder(), JournalLimits: []}
    return deployed("deploy.py", wanted, OperationHost(facts))


def test_unit_is_there_once_the_mirror_is_and_before_it_is_mounted() -> None:
    names = run_of(MIRROR, two_disks()).names
    ours = [names.index(name) for name in names if MIRROR_SERVICE in name]
    assert ours == [names.index("Filesystem ext4 on /dev/mapper/docker--vg-docker--lv") + 1]
    assert names.index("/srv/docker-volume is mounted") == ours[0] + 1


def test_run_makes_the_volume_with_two_copies() -> None:
    run = run_of(MIRROR, two_disks())
    (made,) = run.ran["pyinfra_lvm.operations.logical_volume"]
    assert "--type raid1 --mirrors 1 --addtag pyinfra-unfinished --addtag docker-bulkhead --name docker-lv" in str(made)


def test_host_without_a_mirror_gets_nothing_of_it() -> None:
    assert not any(MIRROR_SERVICE in name for name in run_of(settings(), shared_vg()).names)


@pytest.mark.parametrize("is_there", [True, False])
def test_mirror_is_activated_without_a_disk_only_if_it_is_not_there_in_time(tmp_path: Path, is_there: bool) -> None:
    device = tmp_path / "docker-lv"
    stand_in(tmp_path, "lvchange", noting(tmp_path, "lvchange"))
    comes = f"touch {device}" if is_there else ""  # a slow disk: it comes while the unit waits
    stand_in(tmp_path, "sleep", noting(tmp_path, "sleep") + comes)
    (line,) = re.findall("^ExecStart=(.*)$", UNIT, re.MULTILINE)
    # systemd reads "$$" as "$" (systemd.service(5)).
    command = shlex.split(line.replace("/dev/mapper/docker--vg-docker--lv", str(device)).replace("$$", "$"))
    assert shell(shlex.join(command), tmp_path).returncode == 0
    activated = "lvchange --activate y --activationmode degraded docker-vg/docker-lv"
    assert calls(tmp_path) == (["sleep 1"] if is_there else ["sleep 1"] * 45 + [activated])


def test_boot_waits_for_the_mirror_longer_than_the_unit_and_for_no_target() -> None:
    (timeout,) = (option for option in FSTAB_OPTIONS if "device-timeout" in option)
    assert timeout == "x-systemd.device-timeout=90s"
    lines = UNIT.splitlines()
    assert {"DefaultDependencies=no", "WantedBy=local-fs.target", "After=systemd-udevd.service"} <= {*lines}
    assert "Before=shutdown.target" in lines
