"""Disks that forget: what a run leaves for the next boot, and what the boot makes of disks that it finds blank or not."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from bulkhead.names import MARKER, MARKER_TEXT, PROGRAM_STATE
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.ephemeral import unit_files
from tasks.preflight.facts import HostFacts
from tasks.preflight.host import HostState
from tasks.support.machine import MACHINE
from tasks.support.paths import EPHEMERAL_SCRIPT, EPHEMERAL_SERVICE, EPHEMERAL_UNIT
from tasks.support.run_lock import Holder, RunLockHolder
from tasks.support.units import SystemdFiles, UnitFiles
from tasks.volume import MARKERS
from tasks.watch import JournalLimits

from .deployment import Deployment, deployed
from .example_hosts import MIB, SPARE, bare_host, settings, shared_vg, spare_disk
from .operations import OperationHost, after_cuts, as_functions, calls, noted, noting, shell, stand_in
from .preflight.test_mirror import SECOND, two_disks
from .preflight.verdicts import plan_of

ONE = settings(volume_disks=[SPARE], volume_ephemeral=True)
TWO = settings(volume_disks=[SPARE, SECOND], volume_ephemeral=True, volume_raid="raid0")
PATTERN = settings(volume_disks=["/dev/disk/by-id/virtio-s*"], volume_ephemeral=True)

UUID = "ec2a1b2c-1111-2222-3333-444455556666"
FIRMWARE, MACHINE_ID, DEVICE = "/sys/class/dmi/id/product_uuid", "/etc/machine-id", "/dev/mapper/docker--vg-docker--lv"
DISK = 96 * MIB
IDENTITY = hashlib.sha256(f"{UUID} 0123\n".encode()).hexdigest()  # as tasks.support.machine has it


# -- a boot


class BootedMachine:
    """A machine whose disks are files, with stand-ins for LVM that keep what was made."""

    def __init__(self, top: Path, wanted: Settings, *disks: str) -> None:
        self.top, self.programs, self.lvm = top, top / "bin", top / "lvm"
        for path in (self.programs, self.lvm, top / "by-id", top / "mnt"):
            path.mkdir(parents=True)
        self.disks = [self.add_disk(name) for name in disks]
        (top / "uuid").write_text(f"{UUID}\n")
        (top / "machine-id").write_text("0123\n")
        self._programs()
        storage = two_disks() if len(wanted.volume_disks) > 1 else spare_disk()
        plan = plan_of(bare_host(machine=IDENTITY), storage, wanted)
        # Of disks in the size of those here.
        plan = replace(plan, size=len(wanted.volume_disks) * 80 * MIB)
        self.script = self._here(unit_files(wanted, plan)[EPHEMERAL_SCRIPT])

    def _here(self, text: str) -> str:
        places = {
            "/dev/disk/by-id": self.top / "by-id",
            FIRMWARE: self.top / "uuid",
            MACHINE_ID: self.top / "machine-id",
            DEVICE: self.top / "docker-lv",
            PROGRAM_STATE: self.top / "state",
            "/mnt": self.top / "mnt",
            "[ -b ": "[ -f ",
            "[ ! -b ": "[ ! -f ",
            # How much of a disk's beginning is read, which takes its time.
            f"last < {16 * MIB} ? last : {16 * MIB}": MIB,
        }
        for place, here in places.items():
            text = text.replace(place, str(here))
        return text

    def identity(self) -> str:
        return shell(f"{self._here(MACHINE)}\nmachine", self.programs).stdout.strip()

    def add_disk(self, name: str) -> Path:
        disk = self.top / f"disk-{name}"
        with disk.open("wb") as file:
            file.truncate(DISK)
        (self.top / "by-id" / f"virtio-{name}").symlink_to(disk)
        return disk

    def _programs(self) -> None:
        lvm = self.lvm

        def writes(name: str, does: str) -> None:
            stand_in(self.programs, name, f"{noting(self.programs, name)}\n{does}")

        def reads(name: str, does: str) -> None:
            stand_in(self.programs, name, does)

        tags = "tags=; while [ $# -gt 0 ]; do case $1 in --addtag) tags=$tags,$2 ;; esac; last=$1; shift; done"
        untag = 'case "$*" in *--deltag*) sed -i "s/,pyinfra-unfinished//" %s ;; esac'
        reads(
            "pvs",
            f"""for last; do :; done; base={lvm}/pv-${{last##*/}}
            case "$*" in
                *--select*) for file in {lvm}/pv-*; do
                    read -r group <$file; [ "$group" != docker-vg ] || echo "  {self.top}/${{file##*/pv-}}"; done ;;
                *vg_name*) read -r group <$base; echo "  $group" ;;
                *) [ -e $base ] || exit 5 ;;
            esac""",
        )
        reads(
            "vgs",
            f"[ -e {lvm}/vg ] || exit 5; "
            f'case "$*" in *vg_missing_pv_count*) read -r it <{lvm}/missing ;; *) read -r it <{lvm}/vg ;; esac; echo "$it"',
        )
        reads("lvs", f'[ -e {lvm}/lv ] || exit 5; read -r tags <{lvm}/lv; echo "$tags"')
        writes("pvcreate", f"printf LABELONE | dd of=$2 bs=512 seek=1 conv=notrunc status=none; : >{lvm}/pv-${{2##*/}}")
        writes(
            "vgcreate",
            f"for disk; do case $disk in */disk-*) echo docker-vg >{lvm}/pv-${{disk##*/}} ;; esac; done; {tags}; "
            f"echo $tags >{lvm}/vg; echo 0 >{lvm}/missing",
        )
        writes("lvcreate", f"{tags}; echo $tags >{lvm}/lv; : >{self.top}/docker-lv")
        writes("vgchange", untag % f"{lvm}/vg")
        writes("lvchange", untag % f"{lvm}/lv")
        writes("mkfs.ext4", f"rm -rf {self.top}/mnt/*; : >{self.top}/filesystem")
        writes("mount", f"[ -e {self.top}/filesystem ]")
        for name in ("umount", "sleep"):
            writes(name, "")
        reads("unshare", '[ "$1 $2 $3" = "--mount --propagation private" ] && shift 3 && exec "$@"')
        reads("mountpoint", "")
        reads("findmnt", "exit 1")
        reads("dumpe2fs", "exit 1")
        reads("blockdev", "stat -c %s $2")
        reads("lsblk", 'case "$*" in *MOUNTPOINTS*) echo ;; *) echo disk ;; esac')
        reads("wipefs", "")
        reads("seq", "echo 1 32 62")  # some of the places between the ends: reading all of them takes its time
        noted(self.programs, "sync")

    def boot(self, **environment: str) -> CompletedProcess[str]:
        return shell(as_functions(self.programs) + self.script, self.programs, **environment)

    def calls(self) -> list[str]:
        """What was written, in order."""
        if not (self.programs / "calls").exists():
            return []
        return [call.replace(f"{self.top}/", "") for call in calls(self.programs) if not call.startswith("sync")]

    def is_whole(self) -> bool:
        """Whether the volume is complete, with nothing that says otherwise."""
        tags = [(self.lvm / name).read_text().strip() for name in ("vg", "lv") if (self.lvm / name).exists()]
        marked = [(self.top / "mnt" / marker).exists() for marker in MARKERS]
        return tags == ["", ",docker-bulkhead"] and all(marked)


@pytest.fixture
def machine(tmp_path: Path) -> BootedMachine:
    return BootedMachine(tmp_path, ONE, "spare")


MADE = [
    "pvcreate --quiet disk-spare",
    "vgcreate --quiet --addtag pyinfra-unfinished docker-vg disk-spare",
    "lvcreate --quiet --yes --wipesignatures y --addtag pyinfra-unfinished --addtag docker-bulkhead --name docker-lv "
    "--size 83886080b docker-vg",
    "vgchange --quiet --activate y docker-vg",
    "mkfs.ext4 -q -F docker-lv",
    "lvchange --quiet --deltag pyinfra-unfinished docker-vg/docker-lv",
    "mount -t ext4 docker-lv mnt",
    "umount mnt",
    "vgchange --quiet --deltag pyinfra-unfinished docker-vg",
]


def test_volume_is_made_anew_on_a_blank_disk(machine: BootedMachine) -> None:
    done = machine.boot()
    assert (done.returncode, done.stderr) == (0, "")
    assert "was made anew on blank disks: " in done.stdout
    assert machine.calls() == MADE
    assert (machine.top / "mnt" / "docker" / MARKER).read_text() == MARKER_TEXT
    assert machine.is_whole()
    assert (machine.top / "state/emptied").exists(), "nobody is alerted"
    again = machine.boot()
    assert (again.returncode, again.stdout, machine.calls()) == (0, "", [])


def refuses(machine: BootedMachine, reason: str) -> None:
    """Assert that the boot fails with the reason and has written nothing."""
    written = [disk.stat().st_mtime_ns for disk in machine.disks]
    done = machine.boot()
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Nothing was written, and Docker stays down." in done.stderr
    assert [call for call in machine.calls() if not call.startswith("sleep")] == []
    assert [disk.stat().st_mtime_ns for disk in machine.disks] == written
    assert not (machine.top / "state/emptied").exists()


def write(path: Path, at: int, content: bytes = b"x") -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def resize(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def in_a_removed_group(machine: BootedMachine) -> None:
    (machine.lvm / "pv-disk-spare").touch()
    write(machine.disks[0], 5000)


def in_a_group_of_others(machine: BootedMachine) -> None:
    (machine.lvm / "pv-disk-spare").write_text("data-vg")


HOLDS = "holds data, or cannot be read"
UNUSED = "is no unused physical volume"
TWO_LINES = 'case "$*" in *--list*) echo a; echo b ;; esac'
NOT_BLANK: dict[str, tuple[Callable[[BootedMachine], None], str]] = {
    "a signature": (lambda m: stand_in(m.programs, "wipefs", "echo ext4"), "carries a signature: ext4"),
    "no answer": (lambda m: stand_in(m.programs, "wipefs", "exit 1"), "cannot be examined"),
    "partitions": (lambda m: stand_in(m.programs, "lsblk", TWO_LINES), "has partitions or is in use"),
    "a mount": (lambda m: stand_in(m.programs, "lsblk", "echo /data"), "is mounted or in use"),
    "a first byte": (lambda m: write(m.disks[0], 0), HOLDS),
    "a last byte": (lambda m: write(m.disks[0], DISK - 1), HOLDS),
    "data between the ends": (lambda m: write(m.disks[0], DISK // 2 + MIB - 1), HOLDS),
    "a group of others": (in_a_group_of_others, UNUSED),
    "a group that was removed": (in_a_removed_group, UNUSED),
    "too little room": (lambda m: resize(m.disks[0], 70 * MIB), "run the deploy, which plans it anew"),
}


@pytest.mark.parametrize("place", [1, 2, 61, 62])
def test_boot_reads_62_places_between_the_ends(machine: BootedMachine, place: int) -> None:
    (machine.programs / "seq").unlink()
    write(machine.disks[0], place * (DISK // 64))
    refuses(machine, "holds data, or cannot be read")


@pytest.mark.parametrize("what", NOT_BLANK)
def test_disk_that_is_not_blank_is_not_touched(machine: BootedMachine, what: str) -> None:
    spoil, reason = NOT_BLANK[what]
    spoil(machine)
    refuses(machine, reason)


@pytest.mark.parametrize(
    "changed",
    [("uuid", "EC2A1B2C-1111-2222-3333-444455556667"), ("machine-id", "4567"), ("uuid", "Not Settable"), ("uuid", "")],
)
def test_copy_of_the_root_disk_makes_nothing_on_another_machine(
    machine: BootedMachine, changed: tuple[str, str]
) -> None:
    name, content = changed
    (machine.top / name).write_text(f"{content}\n")
    refuses(machine, "This machine is not the one that was deployed")


def test_machine_is_the_same_however_its_firmware_writes_its_uuid(machine: BootedMachine) -> None:
    (machine.top / "uuid").write_text(f"{UUID.upper()}\n")
    assert machine.boot().returncode == 0


@pytest.mark.parametrize(
    "uuid",
    [
        "",
        "Not Settable",
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009",
    ],
)
def test_firmware_without_a_uuid_of_its_own_identifies_no_machine(machine: BootedMachine, uuid: str) -> None:
    assert machine.identity() == IDENTITY
    (machine.top / "uuid").write_text(f"{uuid}\n")
    assert machine.identity() == ""
    (machine.top / "uuid").unlink()
    assert machine.identity() == ""


def test_boot_waits_for_a_slow_disk_and_not_for_ever(machine: BootedMachine) -> None:
    name = machine.top / "by-id" / "virtio-spare"
    name.rename(machine.top / "kept")
    refuses(machine, "This host has no disk ")
    stand_in(machine.programs, "sleep", f"{noting(machine.programs, 'sleep')} mv {machine.top}/kept {name}")
    assert machine.boot().returncode == 0
    assert machine.calls() == ["sleep 1", *MADE]


def test_volume_that_is_there_is_left_alone_under_whatever_names_its_disk_has(machine: BootedMachine) -> None:
    machine.boot()
    machine.calls()
    (machine.top / "by-id" / "virtio-spare").unlink()
    (machine.top / "uuid").write_text("\n")
    assert machine.boot().returncode == 0
    assert machine.calls() == []


def test_group_without_the_volume_is_left_alone(machine: BootedMachine) -> None:
    machine.boot()
    machine.calls()
    for path in (machine.lvm / "lv", machine.top / "docker-lv", machine.top / "state/emptied"):
        path.unlink()
    refuses(machine, "The volume group docker-vg is there without the volume docker-lv")


def test_boot_that_is_cut_at_any_step_is_finished_by_the_next_one(tmp_path: Path) -> None:
    machine, cut = BootedMachine(tmp_path / "host", ONE, "spare"), 0
    for cut in after_cuts(machine.top, machine.boot):
        before = machine.calls()
        done = machine.boot()
        assert (done.returncode, done.stderr) == (0, ""), cut
        assert machine.is_whole(), cut
        assert (machine.top / "state/emptied").exists(), cut
        twice = {*before} & {*machine.calls()} - {"vgchange --quiet --activate y docker-vg"}
        # What the cut kept from happening, and what may happen twice before the volume has been used.
        assert all(call == before[-1] or not call.startswith(("pvcreate", "vgcreate", "lvcreate")) for call in twice), (
            cut
        )
        assert machine.boot().returncode == 0
        assert machine.calls() == [], cut
    assert cut > len(MADE)


@pytest.mark.parametrize("failing", ["pvcreate", "vgcreate", "lvcreate", "mkfs.ext4", "mount", "vgchange"])
def test_step_that_fails_ends_the_boot_and_the_next_one_goes_on(machine: BootedMachine, failing: str) -> None:
    works = shutil.copy(machine.programs / failing, machine.top / "kept")
    stand_in(machine.programs, failing, "exit 5")
    done = machine.boot()
    assert done.returncode == 1
    assert "failed. Docker stays down; the next boot" in done.stderr
    assert not machine.is_whole()
    shutil.copy(works, machine.programs / failing)
    assert machine.boot().returncode == 0
    assert machine.is_whole()


# -- several disks


def test_volume_is_striped_over_all_disks_or_not_made_at_all(tmp_path: Path) -> None:
    machine = BootedMachine(tmp_path, TWO, "spare", "second")
    write(machine.disks[1], 0)
    refuses(machine, "disk-second is not blank.")
    write(machine.disks[1], 0, b"\0")
    assert machine.boot().returncode == 0
    made = machine.calls()
    assert made[:3] == [
        "pvcreate --quiet disk-spare",
        "pvcreate --quiet disk-second",
        "vgcreate --quiet --addtag pyinfra-unfinished docker-vg disk-spare disk-second",
    ]
    assert "--type striped --stripes 2 --addtag" in made[3]
    assert machine.is_whole()


def test_one_emptied_disk_of_two_is_not_used(tmp_path: Path) -> None:
    machine = BootedMachine(tmp_path, TWO, "spare", "second")
    machine.boot()
    machine.calls()
    (machine.top / "state/emptied").unlink()
    (machine.lvm / "missing").write_text("1")
    refuses(machine, "The volume group docker-vg lacks 1 of its disks")


def test_smallest_of_striped_disks_decides_whether_the_volume_has_room(tmp_path: Path) -> None:
    machine = BootedMachine(tmp_path, TWO, "spare", "second")
    resize(machine.disks[1], 79 * MIB)
    resize(machine.disks[0], 200 * MIB)
    refuses(machine, "the volume had 167772160: run the deploy")


def test_pattern_that_two_disks_match_chooses_none(tmp_path: Path) -> None:
    machine = BootedMachine(tmp_path, PATTERN, "spare", "sparse")
    refuses(machine, "must stand for one disk, and they stand for")


def test_pattern_finds_the_disk_by_any_of_its_names_and_takes_no_partition(tmp_path: Path) -> None:
    machine = BootedMachine(tmp_path, PATTERN, "spare")
    (tmp_path / "by-id" / "virtio-spare-ns-1").symlink_to(machine.disks[0])
    (tmp_path / "by-id" / "virtio-spare-part1").symlink_to(tmp_path / "disk-spare1")
    (tmp_path / "disk-spare1").touch()
    assert machine.boot().returncode == 0
    assert machine.is_whole()


def test_group_that_is_being_made_on_other_disks_is_left_alone(machine: BootedMachine) -> None:
    machine.boot(CUT="3")
    machine.calls()
    (machine.lvm / "pv-disk-other").write_text("docker-vg")
    refuses(machine, "is on other disks: ")


# -- a run


def run_of(wanted: Settings, storage: Storage, state: HostState, installed: UnitFiles | None = None) -> Deployment:
    facts = {HostFacts: state, StorageLayout: storage, RunLockHolder: Holder(), JournalLimits: []}
    facts |= {SystemdFiles: installed} if installed else {}
    return deployed("deploy.py", wanted, OperationHost(facts))


HOST = bare_host(machine="digest")
INSTALLED = UnitFiles({EPHEMERAL_UNIT: "", EPHEMERAL_SCRIPT: ""}, needs_reload=False, up=frozenset())


def test_permission_is_written_last_and_withdrawn_first() -> None:
    names = run_of(ONE, spare_disk(), HOST).names
    assert names[-1] == f"{EPHEMERAL_SERVICE} makes Docker's volume anew at a boot that finds {SPARE} blank"
    assert not any("No boot makes" in name for name in names)
    assert not any("No boot makes" in name for name in run_of(settings(), shared_vg(), HOST).names)
    run = run_of(settings(), shared_vg(), replace(HOST, has_boot_unit=True), INSTALLED)
    assert not any(EPHEMERAL_SERVICE in name for name in run.names)
    first = run.names.index("No boot makes Docker's volume anew")
    assert first < run.names.index("Logical volume ubuntu-vg/docker-lv")
    removed = [str(command) for command in run.ran["tasks.support.units.unit_files_removed"]]
    assert any("disable --quiet --no-reload --now docker-ephemeral.service" in command for command in removed)
    assert f"rm -f {EPHEMERAL_UNIT} {EPHEMERAL_SCRIPT}" in removed


def test_host_whose_firmware_has_no_uuid_gets_no_permission() -> None:
    names = run_of(ONE, spare_disk(), bare_host(has_boot_unit=True), INSTALLED).names
    assert "No boot makes Docker's volume anew" in names
    assert not any(EPHEMERAL_SERVICE in name for name in names)


def test_volume_waits_for_the_unit_and_so_does_its_check() -> None:
    lines = unit_files(ONE, plan_of(HOST, spare_disk(), ONE))[EPHEMERAL_UNIT].splitlines()
    (before,) = (line for line in lines if line.startswith("Before="))
    assert before.split("=", 1)[1].split() == [
        r"systemd-fsck@dev-mapper-docker\x2d\x2dvg\x2ddocker\x2d\x2dlv.service",
        r"srv-docker\x2dvolume.mount",
        "shutdown.target",
    ]
    assert {"DefaultDependencies=no", "WantedBy=local-fs.target", f"ExecStart=/bin/sh {EPHEMERAL_SCRIPT}"} <= {*lines}


def test_settings_reach_what_a_boot_makes() -> None:
    wanted = settings(volume_disks=[SPARE], volume_ephemeral=True, filesystem="ext4", volume_bytes_per_inode=8192)
    script = unit_files(wanted, plan_of(HOST, spare_disk(), wanted))[EPHEMERAL_SCRIPT]
    assert "mkfs.ext4 -q -F -i 8192 /dev/mapper/docker--vg-docker--lv" in script
    wanted = settings(volume_disks=[SPARE], volume_ephemeral=True, filesystem="xfs")
    script = unit_files(wanted, plan_of(HOST, spare_disk(), wanted))[EPHEMERAL_SCRIPT]
    assert "mkfs.xfs -q -f /dev/mapper/docker--vg-docker--lv" in script
    assert "mount -t xfs /dev/mapper/docker--vg-docker--lv /mnt" in script
