"""The file that is Docker's disk: what a run makes, in which order, and what its script does with a loop device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from pyinfra.api import FunctionCommand
from pyinfra.context import ctx_host

from bulkhead.names import VOLUME_FILE, VOLUME_FILE_SERVICE
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import LoopDevice, PhysicalVolume, Storage
from tasks import volume_file
from tasks.preflight.facts import HostFacts
from tasks.support.files import render
from tasks.support.paths import VOLUME_FILE_DEVICE, VOLUME_FILE_RULES, VOLUME_FILE_SCRIPT, VOLUME_FILE_UNIT
from tasks.support.run_lock import Holder, RunLockHolder
from tasks.support.units import SystemdFiles, UnitFiles
from tasks.watch import JournalLimits

from .deployment import deployed
from .example_hosts import (
    GIB,
    bare_host,
    settings,
    shared_vg,
    single_root,
    with_disk,
    with_group,
    with_volume_file,
)
from .operations import OperationHost, calls, commands, noted, shell, stand_in
from .preflight.verdicts import plan_of

ON_FILE = settings(volume_file="60G", extra_volumes={"home-lv": {"mount": "/home", "size": "5G"}})
UP = UnitFiles({}, False, frozenset([VOLUME_FILE_SERVICE]))


def host(storage: Storage, units: UnitFiles = UP) -> OperationHost:
    return OperationHost({StorageLayout: storage, SystemdFiles: units})


def allocated(storage: Storage, size: int = 60 * GIB) -> list[str]:
    return commands(volume_file.disk_file, host(storage), size=size)


def attached(storage: Storage, size: int = 60 * GIB, units: UnitFiles = UP) -> list[str]:
    return commands(volume_file.attached, host(storage, units), size=size)


# -- the order of a run


def test_file_is_attached_before_anything_is_made_on_it_and_the_unit_is_never_restarted() -> None:
    facts = {HostFacts: bare_host(), StorageLayout: single_root(), RunLockHolder: Holder(), JournalLimits: []}
    run = deployed("deploy.py", ON_FILE, OperationHost(facts))
    order = [name for name in run.names if VOLUME_FILE in name or VOLUME_FILE_DEVICE in name or "docker-vg" in name]
    assert order[:5] == [
        f"{VOLUME_FILE} is allocated",
        f"{VOLUME_FILE_SERVICE} attaches {VOLUME_FILE}",
        f"{VOLUME_FILE} is attached, now and at every boot",
        f"{VOLUME_FILE_DEVICE} is a physical volume",
        "Volume group docker-vg holds the named disks",
    ]
    issued = "\n".join(str(command) for ran in run.ran.values() for command in ran)
    assert f"restart {VOLUME_FILE_SERVICE}" not in issued


def test_host_without_the_setting_gets_nothing_of_it() -> None:
    facts = {HostFacts: bare_host(), StorageLayout: shared_vg(), RunLockHolder: Holder(), JournalLimits: []}
    assert not any(VOLUME_FILE in name for name in deployed("deploy.py", settings(), OperationHost(facts)).names)


# -- the file


@pytest.fixture
def place(tmp_path: Path) -> Callable[[list[str]], CompletedProcess[str]]:
    """Run commands with the directory of the file below a temporary one."""
    (tmp_path / "bin").mkdir()
    noted(tmp_path / "bin", "sync", "fallocate")

    def run(issued: list[str]) -> CompletedProcess[str]:
        (tmp_path / "lib").mkdir(exist_ok=True)
        text = " && ".join(issued).replace("/var/lib/", f"{tmp_path}/lib/")
        return shell(text, tmp_path / "bin", stdin="Zm9v\n" * 3)

    return run


def test_file_is_allocated_whole_and_for_root_only(
    place: Callable[[list[str]], CompletedProcess[str]], tmp_path: Path
) -> None:
    done = place(allocated(single_root(), size=4 * 2**20))
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "lib/docker-disk/disk").stat()
    assert (made.st_size, made.st_mode & 0o777) == (4 * 2**20, 0o600)
    assert made.st_blocks * 512 >= made.st_size
    assert (tmp_path / "lib/docker-disk").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "lib/docker-disk/CACHEDIR.TAG").exists()


def test_tag_that_keeps_backups_out_begins_with_the_signature() -> None:
    assert volume_file._CACHE_TAG.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_file_that_does_not_fit_leaves_nothing_behind(
    place: Callable[[list[str]], CompletedProcess[str]], tmp_path: Path
) -> None:
    stand_in(tmp_path / "bin", "fallocate", 'touch "$3"; echo "No space left on device" >&2; exit 1')
    assert place(allocated(single_root())).returncode == 1
    assert [path.name for path in (tmp_path / "lib/docker-disk").iterdir()] == ["CACHEDIR.TAG"]


def test_file_that_appeared_meanwhile_is_not_touched(
    place: Callable[[list[str]], CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "lib/docker-disk").mkdir(parents=True)
    (tmp_path / "lib/docker-disk/disk").write_text("somebody's")
    assert place(allocated(single_root(), size=4096)).returncode == 1
    assert (tmp_path / "lib/docker-disk/disk").read_text() == "somebody's"


def test_file_grows_in_place_and_never_shrinks(
    place: Callable[[list[str]], CompletedProcess[str]], tmp_path: Path
) -> None:
    disk = tmp_path / "lib/docker-disk/disk"
    disk.parent.mkdir(parents=True)
    disk.write_text("content")
    assert place(allocated(with_volume_file(single_root(), 7), size=2**20)).returncode == 0
    assert (disk.stat().st_size, disk.read_bytes()[:7]) == (2**20, b"content")
    assert place(allocated(with_volume_file(single_root(), 7), size=2**19)).returncode == 1
    assert disk.stat().st_size == 2**20


def test_file_of_the_right_size_is_left_alone() -> None:
    assert allocated(with_volume_file(single_root(), 60 * GIB)) == []
    assert allocated(with_volume_file(single_root(), 70 * GIB)) == []


# -- the loop device


def test_unit_is_enabled_and_started_once() -> None:
    (command,) = attached(with_volume_file(single_root(), 60 * GIB), units=SystemdFiles.default())
    enabled, _, started = command.partition(" && sync -f /etc/systemd && ")
    assert enabled.endswith(f"systemctl enable --quiet {VOLUME_FILE_SERVICE}")
    assert started.startswith(f"systemctl start {VOLUME_FILE_SERVICE}")
    assert command.startswith("udevadm control --reload")
    assert attached(with_volume_file(single_root(), 60 * GIB)) == []


def test_loop_device_that_takes_discards_is_told_not_to() -> None:
    storage = with_volume_file(single_root(), 60 * GIB, loops=(LoopDevice("/dev/loop0", 60 * GIB, True),))
    assert attached(storage) == [f"sh {VOLUME_FILE_SCRIPT} attach"]


def test_larger_file_makes_loop_device_and_physical_volume_larger() -> None:
    storage = with_group(with_volume_file(single_root(), 60 * GIB), "docker-vg", VOLUME_FILE_DEVICE)
    assert attached(storage, 70 * GIB) == [
        f"losetup --set-capacity $(readlink -f {VOLUME_FILE_DEVICE})",
        f"pvresize --quiet {VOLUME_FILE_DEVICE} </dev/null",
    ]
    assert attached(storage, 60 * GIB) == []
    image = replace(storage.images[0], loops=(LoopDevice("/dev/loop0", 70 * GIB, False),))
    cut = replace(storage, images=(image,))
    assert attached(cut, 70 * GIB) == [f"pvresize --quiet {VOLUME_FILE_DEVICE} </dev/null"]


class LoopMachine:
    """A machine with stand-ins for the programs that the script calls."""

    def __init__(self, top: Path) -> None:
        self.top, self.programs = top, top / "bin"
        for path in (self.programs, top / "block/loop3/queue"):
            path.mkdir(parents=True)
        (self.programs / "calls").touch()
        self.file, self.discards = top / "disk", top / "block/loop3/queue/discard_max_bytes"
        self.file.write_bytes(bytes(4096))
        self.discards.write_text("4294966784\n")
        (top / "link").touch()
        self.program("losetup", f'case "$*" in *--associated*) cat {top}/attached ;; *--find*) echo /dev/loop3 ;; esac')
        for name in ("vgs", "vgchange"):
            self.program(name)
        self.program("pvs", "echo '  docker-vg'")
        (top / "attached").touch()

    def program(self, name: str, does: str = "") -> None:
        stand_in(self.programs, name, f'echo "{name} $*" >>{self.programs}/calls\n{does}')

    def run(self, verb: str, size: int = 4096) -> CompletedProcess[str]:
        values = {"file": str(self.file), "size": size, "group": "docker-vg", "device": str(self.top / "link")}
        script = render("docker-disk.sh.j2", **values).replace("/sys/class/block", str(self.top / "block"))
        (self.top / "script").write_text(script)
        return shell(f"sh {self.top}/script {verb}", self.programs)

    def calls(self) -> list[str]:
        found = calls(self.programs)
        (self.programs / "calls").touch()
        return found


# -- a disk takes over


def on_both(free: int = 0) -> Storage:
    """A group on the file and on a disk, of which so much of the file is free."""
    storage = with_group(with_volume_file(with_disk(single_root()), 60 * GIB), "docker-vg", VOLUME_FILE_DEVICE)
    (on_file,) = storage.physical_volumes
    on_disk = PhysicalVolume("/dev/vdb", "docker-vg", 19 * GIB, 0)
    return replace(storage, physical_volumes=(replace(on_file, free=free or on_file.free), on_disk))


def test_extents_move_from_the_file_as_long_as_any_is_on_it() -> None:
    with ctx_host.use(host(on_both(free=GIB))):
        (command,) = volume_file.emptied._inner(group="docker-vg")  # type: ignore[attr-defined]
    assert isinstance(command, FunctionCommand)
    assert commands(volume_file.emptied, host(on_both()), group="docker-vg") == []
    assert commands(volume_file.emptied, host(single_root()), group="docker-vg") == []


def test_move_shows_its_progress_and_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = []

    def follow(_: object, command: str) -> bool:
        followed.append(command)
        return True

    monkeypatch.setattr(volume_file.connection, "follow", follow)
    assert volume_file._move(None, None)  # type: ignore[arg-type]
    assert followed == [f"pvmove --interval 10 {VOLUME_FILE_DEVICE} </dev/null"]


class TakenOver(LoopMachine):
    """The same machine, on which nothing is on the file any more."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        for name in ("vgreduce", "pvremove", "sync"):
            self.program(name)
        self.program("systemctl", 'case "$*" in *RequiredBy*) cat "$0.required" 2>/dev/null ;; esac')

    def removes(self) -> CompletedProcess[str]:
        issued = commands(volume_file.removed, host(on_both()), group="docker-vg")
        text = " && ".join(f"( {command} )" for command in issued)
        for path in (VOLUME_FILE_UNIT, VOLUME_FILE_SCRIPT, VOLUME_FILE_RULES, "/var/lib/docker-disk"):
            text = text.replace(path, f"{self.top}{path}")
        for path in ("var/lib/docker-disk", "etc/udev/rules.d"):
            (self.top / path).mkdir(parents=True, exist_ok=True)
        (self.top / "var/lib/docker-disk/disk").touch()
        (self.top / VOLUME_FILE_RULES[1:]).touch()
        return shell(text.replace(f"-b {VOLUME_FILE_DEVICE}", f"-f {self.top}/link"), self.programs)


def test_file_is_removed_last(tmp_path: Path) -> None:
    machine = TakenOver(tmp_path)
    done = machine.removes()
    assert done.returncode == 0, done.stderr
    changes = [call for call in machine.calls() if call.split()[0] not in ("pvs", "losetup")]
    assert changes == [
        f"vgreduce --quiet docker-vg {VOLUME_FILE_DEVICE}",
        f"pvremove --quiet {VOLUME_FILE_DEVICE}",
        f"systemctl disable --quiet {VOLUME_FILE_SERVICE}",
        "systemctl daemon-reload",
        f"systemctl show --property=RequiredBy --value {VOLUME_FILE_SERVICE}",
        f"systemctl is-active --quiet {VOLUME_FILE_SERVICE}",
        f"systemctl stop {VOLUME_FILE_SERVICE}",
        "systemctl daemon-reload",
        "sync -f /var/lib",
    ]
    assert not (tmp_path / "var/lib/docker-disk").exists()
    assert not (tmp_path / VOLUME_FILE_RULES[1:]).exists()


@pytest.mark.parametrize("obstacle", ["extents are on it", "the mount requires it", "it is attached"])
def test_file_stays_as_long_as_anything_needs_it(tmp_path: Path, obstacle: str) -> None:
    machine = TakenOver(tmp_path)
    if obstacle == "extents are on it":
        machine.program("vgreduce", "exit 5")
    elif obstacle == "the mount requires it":
        (machine.programs / "systemctl.required").write_text("srv-docker\\x2dvolume.mount\n")
    else:
        (machine.top / "attached").write_text("/dev/loop3\n")
    assert machine.removes().returncode != 0
    assert (tmp_path / "var/lib/docker-disk/disk").exists()
    stopped = any("stop" in call for call in machine.calls())
    assert stopped == (obstacle == "it is attached")


def test_nothing_is_removed_where_there_is_no_file() -> None:
    assert commands(volume_file.removed, host(single_root()), group="docker-vg") == []


# -- the unit, its script and the rule


@pytest.fixture
def machine(tmp_path: Path) -> LoopMachine:
    return LoopMachine(tmp_path)


def test_file_is_attached_with_direct_io_and_without_discards_and_then_the_group_is_activated(
    machine: LoopMachine,
) -> None:
    stand_in(machine.programs, "vgchange", f"echo $(cat {machine.discards}) $* >>{machine.programs}/calls")
    done = machine.run("attach")
    assert done.returncode == 0, done.stderr
    assert machine.calls() == [
        f"losetup --noheadings --output NAME --associated {machine.file}",
        f"losetup --find --show --nooverlap --direct-io=on --sector-size 4096 {machine.file}",
        "vgs docker-vg",
        "0 --quiet --activate y docker-vg",
    ]


def test_group_whose_other_disk_is_late_does_not_fail_the_unit(machine: LoopMachine) -> None:
    machine.program("vgchange", "exit 5")
    assert machine.run("attach").returncode == 0


def test_file_that_is_attached_is_not_attached_again(machine: LoopMachine) -> None:
    (machine.top / "attached").write_text("/dev/loop3\n")
    assert machine.run("attach").returncode == 0
    assert not any("--find" in call for call in machine.calls())
    assert machine.discards.read_text() == "0\n"


def test_file_that_has_no_group_yet_is_attached_all_the_same(machine: LoopMachine) -> None:
    machine.program("vgs", "exit 5")
    assert machine.run("attach").returncode == 0
    assert not any(call.startswith("vgchange") for call in machine.calls())


@pytest.mark.parametrize("what", ["gone", "link", "truncated"])
def test_file_that_is_not_whole_is_not_attached_and_the_message_says_why(machine: LoopMachine, what: str) -> None:
    if what != "truncated":
        machine.file.rename(machine.top / "elsewhere")
    if what == "link":
        machine.file.symlink_to(machine.top / "elsewhere")
    done = machine.run("attach", size=8192 if what == "truncated" else 4096)
    assert done.returncode == 1
    reason = "has 4096 bytes and had 8192: somebody truncated it." if what == "truncated" else "is not there"
    assert reason in done.stderr
    assert done.stderr.endswith("Nothing was attached, and Docker stays down.\n")
    assert machine.calls() == []


def test_file_that_is_larger_than_the_script_knows_is_attached(machine: LoopMachine) -> None:
    """A run that grew it was cut before it wrote the script anew."""
    assert machine.run("attach", size=1024).returncode == 0


def test_group_is_deactivated_before_its_disk_is_detached(machine: LoopMachine) -> None:
    (machine.top / "attached").write_text("/dev/loop3\n")
    assert machine.run("detach").returncode == 0
    assert machine.calls()[2:] == ["vgchange --quiet --activate n docker-vg", "losetup --detach /dev/loop3"]


def test_group_that_a_disk_has_taken_over_stays_active(machine: LoopMachine) -> None:
    (machine.top / "attached").write_text("/dev/loop3\n")
    machine.program("pvs")
    assert machine.run("detach").returncode == 0
    assert machine.calls()[2:] == ["losetup --detach /dev/loop3"]


def test_disk_that_is_in_use_is_not_detached(machine: LoopMachine) -> None:
    (machine.top / "attached").write_text("/dev/loop3\n")
    machine.program("vgchange", "exit 5")
    assert machine.run("detach").returncode != 0
    assert not any("--detach" in call for call in machine.calls())


def test_boot_and_shutdown_are_ordered_by_the_unit() -> None:
    files = volume_file.unit_files(ON_FILE, plan_of(bare_host(), single_root(), ON_FILE))
    assert set(files) == {VOLUME_FILE_RULES, VOLUME_FILE_SCRIPT, VOLUME_FILE_UNIT}
    lines = files[VOLUME_FILE_UNIT].splitlines()
    assert {
        "DefaultDependencies=no",
        "RequiresMountsFor=/var/lib/docker-disk",
        "After=systemd-remount-fs.service systemd-udevd.service modprobe@loop.service",
        r"Before=srv-docker\x2dvolume.mount home.mount shutdown.target",
        "Conflicts=shutdown.target",
        r"RequiredBy=srv-docker\x2dvolume.mount",
        "WantedBy=local-fs.target",
        "RemainAfterExit=yes",
    } <= set(lines)


def test_rule_comes_before_lvms_and_turns_discards_off_in_the_same_event() -> None:
    assert Path(VOLUME_FILE_RULES).name < "69-dm-lvm.rules"
    (rule,) = (
        line
        for line in volume_file.unit_files(ON_FILE, plan_of(bare_host(), single_root(), ON_FILE))[
            VOLUME_FILE_RULES
        ].splitlines()
        if not line.startswith("#")
    )
    assert f'ATTR{{loop/backing_file}}=="{VOLUME_FILE}|{VOLUME_FILE} (deleted)"' in rule
    assert 'ATTR{queue/discard_max_bytes}="0"' in rule
    assert 'SYMLINK+="disk/by-id/docker-disk"' in rule
