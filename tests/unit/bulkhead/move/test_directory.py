"""A directory that moves is what it was until the commit, and on its volume after it, whatever the moment of a cut.

The host is a fake: mounts and fstab take a few lines here. The trees are real.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import state
from bulkhead.errors import Failed
from bulkhead.login import Login
from bulkhead.move import directory, directory_volume, move, rsync
from bulkhead.move.directory import DirectoryMove
from bulkhead.outage import journal
from bulkhead.outage.journal import Journal
from bulkhead.storage import beneath
from bulkhead.storage.processes import Process
from pyinfra_lvm.fstab import fstab_lists
from pyinfra_lvm.model import FstabEntry

from ..disk import LossyDisk
from ..power_cut import CUTS, PowerCut, Steps

SAVE = Journal.save


class DirectoryHost(Steps):
    """A machine with files in a directory, and an empty volume. Every change of it is a step, and may be the last."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.path, self.volume = f"{top}/home", f"{top}/volume"
        os.makedirs(f"{self.path}/me")
        Path(self.path, "me", "file").write_text("mine")
        os.makedirs(f"{self.volume}/lost+found")
        self.entry = FstabEntry.of("/dev/mapper/vg-home", self.path, "ext4", ("defaults",))
        self.fstab = "# mine\n"
        self.mounted = self.frozen = False
        self.uuid, self.root_uuid = "u1", "root"
        self.boot = "1"
        self.users: list[Process] = []
        self.as_it_is_switched: Callable[[], object] = lambda: None

        monkeypatch.setattr(state, "VOLATILE", f"{top}/run")
        monkeypatch.setattr(journal, "PATH", f"{top}/relocation.json")
        monkeypatch.setattr(journal, "boot_id", lambda: self.boot)
        monkeypatch.setattr(directory, "move_journal", lambda _: f"{top}/relocation-home.json")
        self.disk = LossyDisk(monkeypatch)
        self.did: list[str] = []
        monkeypatch.setattr(Journal, "save", lambda journal: self._save(journal))
        for name, fake in {
            "run": self._run,
            "mount_by_fstab": self._mount,
            "mounts_within": lambda _: [],
            "bound_elsewhere": lambda *_, **__: [],
            "kernel_uses": lambda _: [],
            "is_mounted": self._is_mounted,
            "boot_id": lambda: self.boot,
            "users_of": lambda _: self.users,
            "_CLOCK_GRAIN": 0.01,  # a tick of the kernel
        }.items():
            monkeypatch.setattr(directory, name, fake)
        for name, fake in {
            "STAGING": self.volume,
            "run": self._run,
            "is_mounted": self._is_mounted,
            "read_fstab": lambda: self.fstab,
            "replace_fstab": self._replace_fstab,
        }.items():
            monkeypatch.setattr(directory_volume, name, fake)
        monkeypatch.setattr(rsync, "copy", self._copy)
        monkeypatch.setattr(rsync, "compare", lambda *_: set())
        monkeypatch.setattr(rsync, "verify", self._verify)

    def _save(self, journal: Journal) -> None:
        self.step()
        SAVE(journal)
        self.did.append(f"journal: {journal.phase}")

    def _is_mounted(self, path: str) -> bool:
        return path == self.path and (self.mounted or self.frozen)

    def _run(self, *words: str) -> str:
        self.step()
        if words[0] != "findmnt":
            self.did.append(" ".join(words).replace(self.path, "home").replace(self.volume, "volume"))
        if words[0] == "findmnt":
            return f"{self.uuid}\n" if self.mounted or words[-1] != self.path else f"{self.root_uuid}\n"
        if words == ("mount", self.path):
            self._mount(self.path)
        if words[:2] == ("mount", "--bind"):
            assert not self.mounted
            self.frozen = True
        elif words[0] == "umount" and words[-1] == self.path:
            self.mounted = self.frozen = False
        return ""

    def _mount(self, path: str) -> None:
        self.step()
        assert path == self.path
        assert not self.frozen
        if not self.mounted:
            self.as_it_is_switched()
        self.mounted = True

    def _replace_fstab(self, change: Any) -> None:
        self.step()
        self.did.append("replace fstab")
        self.fstab = change(self.fstab)

    def _copy(self, source: str, target: str, *_: object, **__: object) -> None:
        self.step()
        self.did.append("copy")
        shutil.copytree(source, target, dirs_exist_ok=True)

    def _verify(self, *_: object) -> None:
        self.step()
        assert self.frozen, "what is verified may still change"
        self.did.append("verify")

    def reboot(self, how: str = "power") -> None:
        self.last_step = 0
        if how == "unsynced":
            self.disk.lose_power()
        self.frozen = False
        self.boot += "1"
        self.mounted = fstab_lists(self.fstab, self.entry)

    def move(self) -> DirectoryMove:
        return DirectoryMove(self.entry, lambda _: None, Login(os.getpid(), ""))

    @property
    def files(self) -> Path:
        """The directory as it is seen."""
        return Path(self.volume if self.mounted else self.path)

    def assert_whole(self) -> None:
        assert not self.frozen, "the directory stays read-only"
        assert (self.files / "me" / "file").read_text() == "mine"
        assert self.mounted == fstab_lists(self.fstab, self.entry)
        assert self.fstab.startswith("# mine\n")


@pytest.fixture
def host(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryHost:
    return DirectoryHost(memory_path, monkeypatch)


def test_move_ends_on_the_volume_and_keeps_the_old_files(host: DirectoryHost) -> None:
    assert host.move().is_pending
    host.move().relocate()
    host.assert_whole()
    assert host.mounted
    assert not host.move().is_pending
    assert Path(host.path, "me", "file").exists()


def test_directory_is_frozen_copied_and_verified_before_the_commit(host: DirectoryHost) -> None:
    host.move().relocate()
    assert host.did == [
        "mount -t ext4 /dev/mapper/vg-home volume",
        "journal: copying",
        "copy",
        "mount --bind home home",
        "mount -o remount,bind,ro home",
        "copy",
        "verify",
        "journal: switching",
        "replace fstab",
        "umount --lazy home",
        "mount home",
        "umount volume",
        "journal: done",
    ]


def test_rollback_sets_apart_what_is_on_the_volume_before_it_has_ended(host: DirectoryHost) -> None:
    host.move().relocate()
    host.did.clear()
    host.disk.events.clear()
    host.move().roll_back()
    assert host.did == [
        "journal: returning",
        "replace fstab",
        "umount --lazy home",
        "systemctl daemon-reload",
        "mount -t ext4 /dev/mapper/vg-home volume",
        "umount volume",
        "journal: rolled-back",
    ]
    apart = host.disk.events.index("rename me me")
    assert host.disk.events[apart + 1 : apart + 4] == ["fsync 1", "fsync .bulkhead-left", "fsync volume"]


@pytest.mark.parametrize("how", CUTS)
def test_move_that_is_cut_at_any_step_goes_on(memory_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    count = DirectoryHost(memory_path / "count", monkeypatch)
    count.move().relocate()
    assert count.steps > 10
    ends = set()
    for last in range(1, count.steps + 1):
        host = DirectoryHost(memory_path / f"{how}{last}", monkeypatch)
        host.last_step = last
        with pytest.raises(PowerCut):
            host.move().relocate()
        if how == "kill":
            host.last_step = 0
            host.move().recover()  # by systemd, at once
        else:
            host.reboot(how)
        host.assert_whole()
        ends.add(host.mounted)
        (host.files / "me" / "since").write_text("written after the cut")
        if host.move().is_pending:
            host.move().relocate()
        host.assert_whole()
        assert host.mounted
        assert (host.files / "me" / "since").exists(), "what was written after the cut is lost"
        assert host.move().journal.phase == journal.DONE
    assert ends == {True, False}


def test_directory_that_is_used_stays_where_it_is(host: DirectoryHost) -> None:
    host.users = [Process(4_000_000, "vim", writes=False)]
    with pytest.raises(Failed, match=r"in use: vim \(process 4000000\)"):
        host.move().relocate()
    host.assert_whole()
    assert not host.mounted


def test_five_of_the_files_that_appear_as_it_is_switched_are_named(host: DirectoryHost) -> None:
    def write() -> None:
        time.sleep(0.02)  # a tick of the kernel's clock
        for number in range(7):
            Path(host.path, f"new{number}").write_text("late")

    host.as_it_is_switched = write
    with pytest.raises(Failed, match=r"^(new\d, ){4}new\d appeared in the old data of "):
        host.move().relocate()


def test_own_login_may_stand_in_it_but_not_write(host: DirectoryHost) -> None:
    host.users = [Process(os.getpid(), "bash", writes=True)]
    with pytest.raises(Failed, match="in use: bash"):
        host.move().relocate()
    host.users = [Process(os.getpid(), "bash", writes=False)]
    host.move().relocate()
    assert host.mounted


@pytest.mark.parametrize("name", ["me/new", "new"])
def test_what_is_written_as_it_is_switched_undoes_the_switch(host: DirectoryHost, name: str) -> None:
    def write() -> None:
        time.sleep(0.02)  # a tick of the kernel's clock
        Path(host.path, name).write_text("late")

    host.as_it_is_switched = write
    with pytest.raises(Failed, match=r"appeared in the old data of .* during the switch"):
        host.move().relocate()
    host.assert_whole()
    assert not host.mounted
    host.as_it_is_switched = lambda: None
    host.move().relocate()
    assert (host.files / name).read_text() == "late"


def test_volume_with_files_of_its_own_is_not_written_to(host: DirectoryHost) -> None:
    Path(host.volume, "theirs").write_text("theirs")
    with pytest.raises(Failed, match="both hold data"):
        host.move().relocate()
    assert sorted(os.listdir(host.volume)) == ["lost+found", "theirs"]
    assert host.move().journal.phase == "", "a move that never began has not failed"
    host.assert_whole()


def test_copy_that_was_begun_on_another_volume_is_not_gone_on_with(host: DirectoryHost) -> None:
    host.last_step = 6
    with pytest.raises(PowerCut):
        host.move().relocate()
    host.reboot()
    host.uuid = "u2"
    Path(host.volume, "theirs").write_text("theirs")
    host.move().recover()
    assert (host.move().journal.phase, host.move().journal.reason) == (journal.COPYING, "")
    with pytest.raises(Failed, match="both hold data"):
        host.move().relocate()


def test_rollback_keeps_what_is_on_the_volume_and_the_next_move_begins_anew(host: DirectoryHost) -> None:
    for number in (1, 2):
        host.move().relocate()
        (host.files / "since").write_text(str(number))
        host.move().roll_back()
        host.assert_whole()
        assert not host.mounted
        assert Path(host.volume, ".bulkhead-left", str(number), "since").read_text() == str(number)
    host.move().relocate()
    assert not (host.files / "since").exists()


@pytest.mark.parametrize("how", CUTS)
def test_rollback_that_is_cut_at_any_step_loses_nothing(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for last in range(1, 20):
        host = DirectoryHost(memory_path / f"{how}{last}", monkeypatch)
        host.move().relocate()
        (host.files / "since").write_text("since the move")
        host.steps, host.last_step = 0, last
        with contextlib.suppress(PowerCut):
            host.move().roll_back()
        if how != "kill":
            host.reboot(how)
        host.last_step = 0
        (host.files / "me" / "later").write_text("since the cut")
        host.move().recover()
        host.assert_whole()
        left = Path(host.volume, ".bulkhead-left", "1")
        assert any((top / "since").exists() for top in (host.files, left)), "what was written since the move is lost"
        assert any((top / "me/later").exists() for top in (host.files, left)), "what was written after the cut is lost"
        assert host.move().journal.phase == (journal.DONE if host.mounted else journal.ROLLED_BACK)


def test_switch_that_was_cut_long_ago_is_not_undone_where_the_volume_is_missing(host: DirectoryHost) -> None:
    host.as_it_is_switched = lambda: (_ for _ in ()).throw(PowerCut())
    with pytest.raises(PowerCut):
        host.move().relocate()
    host.as_it_is_switched = lambda: None
    host.reboot()
    (host.files / "since").write_text("on the volume")
    host.reboot()
    host.mounted = False  # the disk is late
    host.move().recover()
    assert fstab_lists(host.fstab, host.entry)
    host.reboot()
    host.move().relocate()
    assert (host.files / "since").read_text() == "on the volume"


def test_clock_that_was_set_back_at_a_boot_does_not_undo_a_switch_of_an_earlier_one(
    host: DirectoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.as_it_is_switched = lambda: (_ for _ in ()).throw(PowerCut())
    with pytest.raises(PowerCut):
        host.move().relocate()
    host.reboot()  # and the volume is in use
    host.reboot()
    host.mounted = False  # the disk is late
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the battery of the clock is empty
    host.move().recover()
    assert fstab_lists(host.fstab, host.entry), "the next move would copy the old files over those on the volume"


@pytest.mark.parametrize("root_uuid", ["root", ""])  # ZFS has none
def test_directory_that_is_killed_while_it_is_frozen_can_be_written_to_whatever_the_clock_says(
    host: DirectoryHost, monkeypatch: pytest.MonkeyPatch, root_uuid: str
) -> None:
    host.root_uuid = root_uuid

    def kill(*_: object, **__: object) -> None:
        host.last_step = host.steps + 1  # with what would have thawed it
        host.step()

    monkeypatch.setattr(rsync, "verify", kill)
    with pytest.raises(PowerCut):
        host.move().relocate()
    assert host.frozen
    host.last_step = 0
    monkeypatch.setattr(time, "clock_gettime", lambda _: 0.0)  # the host was up for less than the clock was put forward
    host.move().recover()
    host.assert_whole()


def test_late_change_does_not_undo_a_switch_after_others_wrote_to_the_volume(host: DirectoryHost) -> None:
    def both() -> None:
        time.sleep(0.02)  # a tick of the kernel's clock
        Path(host.path, "late").touch()
        Path(host.volume, "new").touch()

    host.as_it_is_switched = both
    with pytest.raises(Failed, match="Others wrote to the volume already"):
        host.move().relocate()
    host.assert_whole()
    assert host.mounted
    assert host.move().journal.phase == journal.DONE


def test_directory_of_the_name_that_a_rollback_uses_is_not_passed_over(host: DirectoryHost) -> None:
    Path(host.path, ".bulkhead-left").mkdir()
    with pytest.raises(Failed, match="Move it away"):
        host.move().relocate()
    host.assert_whole()


def test_old_files_that_were_used_since_the_move_are_kept(host: DirectoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(move, "empty_beneath", lambda path, **_: removed.append(path))
    monkeypatch.setattr(beneath, "changed_beneath", lambda *_: ["me/file"])
    host.move().relocate()
    with pytest.raises(Failed, match="have been changed since the move: me/file"):
        host.move().finalize()
    assert removed == []
    host.move().finalize(force=True)
    assert removed == [host.path]


def test_finalize_needs_the_volume_in_place(host: DirectoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(beneath, "changed_beneath", lambda *_: [])
    monkeypatch.setattr(move, "empty_beneath", lambda path, **_: removed.append(path))
    with pytest.raises(Failed, match="nothing to finalize"):
        host.move().finalize()
    host.move().relocate()
    host.mounted = False
    with pytest.raises(Failed, match="nothing was removed"):
        host.move().finalize()
    host.mounted, host.uuid = True, "of another volume"
    with pytest.raises(Failed, match="nothing was removed"):
        host.move().finalize()
    host.uuid = "u1"
    assert removed == []
    host.mounted = True
    host.move().finalize()
    assert removed == [host.path]
    assert host.move().journal.phase == journal.FINALIZED


def test_keys_of_the_accounts_that_live_in_a_directory_are_kept(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, home in {
        "me": memory_path / "home/me",
        "you": memory_path / "home/you",
        "other": memory_path / "home2",
    }.items():
        os.makedirs(home / ".ssh")
        (home / ".ssh" / ("authorized_keys" if name != "you" else "id_ed25519")).touch()
    accounts = [
        SimpleNamespace(pw_dir=home)
        for home in (f"{memory_path}/home/me/", f"{memory_path}/home/you", f"{memory_path}/home2")
    ]
    monkeypatch.setattr(directory.pwd, "getpwall", lambda: accounts)
    assert list(directory._login_files(f"{memory_path}/home")) == [f"{memory_path}/home/me/.ssh/authorized_keys"]


# -- what is refused, and what is told


def refused(host: DirectoryHost, match: str) -> None:
    with pytest.raises(Failed, match=match):
        host.move().relocate()
    host.assert_whole()
    assert (host.mounted, host.fstab) == (False, "# mine\n")


def test_files_that_a_repair_has_found_are_not_passed_over(host: DirectoryHost) -> None:
    Path(host.path, "lost+found").mkdir()
    Path(host.path, "lost+found", "#12").touch()
    refused(host, r"home/lost\+found holds files\. See what they are, and move them away\. \S+ is on its old data\.$")
    Path(host.path, "lost+found", "#12").unlink()
    host.move().relocate()
    assert host.mounted


def test_filesystem_that_is_mounted_in_it_is_not_passed_over(
    host: DirectoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = [SimpleNamespace(target=f"{host.path}/me/net")]
    monkeypatch.setattr(directory, "mounts_within", lambda paths: mounted if paths == [host.path] else [])
    refused(host, "home/me/net is a mount in .*home. Unmount it for the move")


def test_copy_that_was_begun_counts_as_room(host: DirectoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.last_step = 6
    with pytest.raises(PowerCut):
        host.move().relocate()
    host.reboot()
    assert os.path.exists(f"{host.volume}/me")
    sizes = {host.path: 10, f"{host.volume}/me": 4, f"{host.volume}/lost+found": 9}
    monkeypatch.setattr(rsync, "size_of", sizes.__getitem__)
    monkeypatch.setattr(move, "space_of", lambda _: SimpleNamespace(available=5))
    refused(host, "the data takes 10 bytes, and its volume has 9 bytes for it")
    monkeypatch.setattr(move, "space_of", lambda _: SimpleNamespace(available=6))
    host.move().relocate()
    host.assert_whole()


@pytest.mark.parametrize(
    ("name", "what"), [("bound_elsewhere", "bound to /mnt"), ("kernel_uses", "/home/swap, which is swap")]
)
def test_what_shows_no_process_keeps_it_in_place_too(
    host: DirectoryHost, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(directory, name, lambda *given, **how: asked.append((given, how)) or [what])
    refused(host, f"home is in use: {what}. End them, or log them out, and run again")
    assert asked == [((host.path,), {"readers": True} if name == "bound_elsewhere" else {})]


def test_no_more_than_ten_users_are_named(host: DirectoryHost) -> None:
    host.users = [Process(4_000_000 + number, "vim") for number in range(12)]
    refused(host, r"in use: (vim \(process \d+\), ){9}vim \(process 4000009\)\. End")


def test_volume_that_cannot_be_mounted_leaves_the_old_data_in_use(
    host: DirectoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise Failed("`mount` failed: no")

    monkeypatch.setattr(directory, "mount_by_fstab", fail)
    refused(host, r"^`mount` failed: no\. \S+home is on its old data\.$")
    assert host.move().journal.phase == journal.FAILED
    assert host.move().journal.reason == "`mount` failed: no"


def test_failure_after_others_wrote_to_the_volume_does_not_undo_the_switch(
    host: DirectoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        time.sleep(0.02)  # a tick of the kernel's clock
        Path(host.volume, "new").touch()
        raise Failed("`systemctl daemon-reload` failed: Connection timed out")

    monkeypatch.setattr(directory, "mount_by_fstab", fail)
    with pytest.raises(Failed, match=r"Connection timed out\. Others wrote to the volume already: .* is on its volume"):
        host.move().relocate()
    host.assert_whole()
    assert host.mounted
    assert host.move().journal.phase == journal.DONE


def test_rollback_from_a_volume_that_is_lost_ends(host: DirectoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.move().relocate()
    host.mounted = False

    def fail(*words: str) -> str:
        if words[:2] == ("mount", "-t"):
            raise Failed("`mount -t ext4` failed: special device does not exist")
        return host._run(*words)

    monkeypatch.setattr(directory_volume, "run", fail)
    reported: list[str] = []
    DirectoryMove(host.entry, reported.append, Login(os.getpid(), "")).roll_back()
    host.assert_whole()
    assert reported[-1] == (
        "what is on the volume could not be set apart: `mount -t ext4` failed: special device does not exist"
    )
    assert host.move().journal.phase == journal.ROLLED_BACK
    monkeypatch.setattr(directory_volume, "run", host._run)  # the disk comes back
    refused(host, "both hold data")


def test_user_who_is_left_in_the_old_data_undoes_the_switch(host: DirectoryHost) -> None:
    device = os.stat(host.path).st_dev
    others = [Process(4_000_000, "vim", devices=frozenset([device]))]
    host.as_it_is_switched = lambda: host.users.extend(others)
    refused(host, r"^vim \(process 4000000\) appeared in the old data of \S+home during the switch: run again\. ")


def test_own_login_in_the_old_data_is_told_to_log_in_again(host: DirectoryHost) -> None:
    reported: list[str] = []
    device = os.stat(host.path).st_dev
    host.users = [
        Process(os.getpid(), "bash", devices=frozenset([device])),
        Process(4_000_001, "x", devices=frozenset([7])),
    ]
    host.users.pop()
    DirectoryMove(host.entry, reported.append, Login(os.getpid(), "")).relocate()
    assert reported[-2:] == [
        f"your own login is still in the old data of {host.path}: log in again",
        f"{host.path} is on its volume",
    ]


def test_user_of_the_volume_is_not_in_the_old_data(host: DirectoryHost) -> None:
    host.as_it_is_switched = lambda: host.users.append(Process(4_000_000, "vim", devices=frozenset([-7])))
    host.move().relocate()
    assert host.mounted


def test_rollback_is_refused_while_it_is_used(host: DirectoryHost) -> None:
    host.move().relocate()
    host.users = [Process(4_000_000, "vim")]
    with pytest.raises(Failed, match="in use: vim"):
        host.move().roll_back()
    assert host.mounted
    assert host.move().journal.phase == journal.DONE


def test_what_was_written_since_the_move_is_counted(host: DirectoryHost) -> None:
    host.move().relocate()
    time.sleep(0.02)  # a tick of the kernel's clock
    Path(host.path, "since").touch()  # where the volume would be mounted
    Path(host.path, "lost+found").mkdir()
    Path(host.path, "lost+found", "left-out").touch()
    assert host.move().written_since() == [f"{host.path}: 1 file written since the move"]


def test_outcome_says_where_the_files_are(host: DirectoryHost) -> None:
    assert host.move().outcome() == f"{host.path} is on its old data."
    host.move().relocate()
    assert host.move().outcome() == f"{host.path} is on its volume; the old data is kept."
    host.move().journal.enter(journal.FINALIZED, old={})
    assert host.move().outcome() == f"{host.path} is on its volume."


def test_directory_that_is_empty_or_missing_or_mounted_has_nothing_to_move(host: DirectoryHost) -> None:
    host.mounted = True
    assert not host.move().is_pending
    host.mounted = False
    assert host.move().is_pending
    shutil.rmtree(f"{host.path}/me")
    assert not host.move().is_pending
    os.rmdir(host.path)
    assert not host.move().is_pending
    for phase in (journal.SWITCHING, journal.RETURNING):
        host.move().journal.enter(phase)
        assert host.move().is_pending
