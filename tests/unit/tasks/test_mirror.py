"""The mirror on a host: what a run makes of it, and the unit that boots it without a disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from bulkhead.names import MIRROR_RECORD
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.preflight.facts import HostFacts
from tasks.support.paths import MIRROR_SCRIPT, MIRROR_SERVICE, MIRROR_UNIT
from tasks.support.run_lock import Holder, RunLockHolder
from tasks.volume import FSTAB_OPTIONS, mirror_files
from tasks.watch import JournalLimits

from .deployment import Deployment, deployed
from .example_hosts import SPARE, bare_host, settings, shared_vg, with_group
from .operations import OperationHost, as_functions, calls, noting, shell, stand_in
from .preflight.test_mirror import MIRROR, SECOND, two_disks
from .preflight.verdicts import plan_of

FILES = mirror_files(plan_of(bare_host(), two_disks(), MIRROR))
UNIT = FILES[MIRROR_UNIT]


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


def test_mirror_in_a_group_of_three_disks_is_made_on_two_of_them() -> None:
    storage = with_group(two_disks(), "data-vg", SECOND)
    third = replace(storage.physical_volumes[0], path="/dev/vde", free=0)
    storage = replace(storage, physical_volumes=(*storage.physical_volumes, third))
    wanted = settings(
        volume_raid="raid1", volume_group="data-vg", volume_disks=[SPARE], volume_group_extend=True, volume_size="5G"
    )
    (made,) = run_of(wanted, storage).ran["pyinfra_lvm.operations.logical_volume"]
    assert f"data-vg /dev/vdc {SPARE} </dev/null" in str(made)


def test_host_without_a_mirror_gets_nothing_of_it() -> None:
    assert not any(MIRROR_SERVICE in name for name in run_of(settings(), shared_vg()).names)


# The physical volumes of the two copies, and one of another volume, as pvs shows them.
A, B = "AAAA", "BBBB"
ACTIVATED = "lvchange --activate y --activationmode degraded docker-vg/docker-lv"


class BootingMachine:
    """A machine with stand-ins for the programs that the script calls, and with disks, or without them."""

    def __init__(self, top: Path) -> None:
        self.device, self.record, self.top, self.programs = top / "docker-lv", top / "record", top, top / "bin"
        self.programs.mkdir()
        for name in ("vgs", "sleep", "lvchange"):
            self.program(name)

    def program(self, name: str, does: str = "") -> None:
        stand_in(self.programs, name, noting(self.programs, name) + does)

    def boot(self, *present: str) -> CompletedProcess[str]:
        copies = {"[docker-lv_rimage_0]": A, "[docker-lv_rimage_1]": B, "[docker-lv_rmeta_1]": B, "other": "CCCC"}
        rows = [f"  docker-vg|{lv}|{'' if pv in present else 'missing'}|{pv}" for lv, pv in copies.items()]
        stand_in(self.programs, "pvs", "cat <<'E'\n" + "\n".join([*rows, "  vg2|[docker-lv_rimage_0]||DDDD", "E"]))
        stand_in(self.programs, "sync", f'echo "sync" >>{self.programs}/calls')
        script = FILES[MIRROR_SCRIPT].replace("/dev/mapper/docker--vg-docker--lv", str(self.device))
        return shell(as_functions(self.programs) + script.replace(MIRROR_RECORD, str(self.record)), self.programs)

    def calls(self) -> list[str]:
        return [call for call in calls(self.programs) if call != "vgs docker-vg"]


@pytest.fixture
def machine(tmp_path: Path) -> BootingMachine:
    return BootingMachine(tmp_path)


@pytest.mark.parametrize("is_there", [True, False])
def test_mirror_is_activated_without_a_disk_only_if_it_is_not_there_in_time(
    machine: BootingMachine, is_there: bool
) -> None:
    if is_there:  # a slow disk: it comes while the unit waits
        machine.program("sleep", f"touch {machine.device}")
    assert machine.boot(A).returncode == 0
    assert machine.calls() == (["sleep 1"] if is_there else ["sleep 1"] * 45 + ["sync", "sync", ACTIVATED])
    assert machine.record.exists() != is_there


def test_wait_for_the_second_disk_begins_with_the_first_and_ends_before_the_mount_gives_up(
    machine: BootingMachine,
) -> None:
    machine.program("vgs", f"[ $(grep -c sleep {machine.programs}/calls) -gt 20 ]")
    machine.boot(A)
    assert machine.calls().count("sleep 1") == 20 + 45
    machine.program("vgs", "exit 5")
    machine.boot()
    assert machine.calls() == ["sleep 1"] * 80


def test_copy_that_goes_on_alone_is_remembered_before_it_is_activated(machine: BootingMachine) -> None:
    machine.boot(B)
    assert machine.record.read_text() == f"{B}\n"
    assert machine.calls()[-3:] == ["sync", "sync", ACTIVATED]
    assert machine.boot(B).returncode == 0
    assert machine.calls()[-2:] == ["sleep 1", ACTIVATED]


def test_stale_copy_is_not_activated_and_the_message_says_why(machine: BootingMachine) -> None:
    machine.boot(A)
    machine.calls()
    refused = machine.boot(B)
    assert refused.returncode == 1
    assert f"the disk that answers ({B}) is stale. Docker has written to the other one since ({A})" in refused.stderr
    assert ACTIVATED not in machine.calls()
    assert machine.record.read_text() == f"{A}\n"


def test_both_copies_are_activated_without_another_disk_of_the_group_whatever_is_remembered(
    machine: BootingMachine,
) -> None:
    machine.record.write_text(f"{A}\n")
    assert machine.boot(A, B).returncode == 0
    assert machine.calls()[-1] == ACTIVATED
    assert machine.record.read_text() == f"{A}\n"


@pytest.mark.parametrize("obstacle", ["no copy answers", "it cannot be remembered"])
def test_nothing_is_activated_without_a_whole_copy_or_a_record(machine: BootingMachine, obstacle: str) -> None:
    if obstacle == "it cannot be remembered":
        machine.record.with_name("record.new").mkdir()
    refused = machine.boot(*[A] * (obstacle != "no copy answers"))
    assert refused.returncode == 1
    assert "docker-vg/docker-lv was not activated, and Docker stays down" in refused.stderr
    assert ACTIVATED not in machine.calls()


def test_boot_waits_for_the_mirror_longer_than_the_unit_and_for_no_target() -> None:
    (timeout,) = (option for option in FSTAB_OPTIONS if "device-timeout" in option)
    assert timeout == "x-systemd.device-timeout=90s"
    lines = UNIT.splitlines()
    assert {"DefaultDependencies=no", "WantedBy=local-fs.target", f"ExecStart=/bin/sh {MIRROR_SCRIPT}"} <= {*lines}
    assert "After=systemd-remount-fs.service systemd-udevd.service" in lines
    assert "Before=shutdown.target" in lines
