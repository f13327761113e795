"""A rollback that is cut at any of its steps ends on the old content or on the snapshot's, whole, with Docker up.

The host is a fake: its volume has two contents, what is there now and what the snapshot has kept.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import command, files, state
from bulkhead.docker import containers, daemon, start
from bulkhead.docker.engine import Engine, EngineError, Inventory
from bulkhead.errors import Failed, Problem
from bulkhead.move import commands
from bulkhead.outage import journal, outage, unit
from bulkhead.outage.journal import Journal
from bulkhead.snapshot import merge, rollback, snapshots
from bulkhead.snapshot.rollback import Rollback
from bulkhead.storage import lvm, mounts
from bulkhead.storage.mounts import MountInfo
from bulkhead.storage.processes import Process

from ..configs import config
from ..disk import LossyDisk
from ..fake_lvm import FakeGroup, FakeVolume
from ..power_cut import CUTS, PowerCut, Steps

NAME = "docker-lv-snapshot"
POLICY = {"web": "always", "db": "no", "idle": "always", "late": "no"}
SAVE, RECOVER, STAT = Journal.save, Rollback.recover, os.stat


class RollbackHost(Engine, Steps):
    """A host with a snapshot, and changes since. Every change of it is a step, and may be the last."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Steps.__init__(self)
        top.mkdir(exist_ok=True)
        self.group = FakeGroup()
        self.group.add()
        self.config = config()
        # Container → whether it runs. Of the snapshot: `idle` had been stopped by hand.
        self.kept = {"web": True, "db": True, "idle": False}
        self.now = {"db": True, "idle": False, "late": True}
        self.has_snapshots_content = False
        self.mounted = {*self.config.stores.values(), self.config.volume_mount}
        self.marked: set[str] = set()  # stores on the volume; the snapshot is older than their markers
        self.up = True
        self.breaks = ""  # what does not work
        self.reported: list[str] = []
        self.block = top / "block"
        self.recovery = top / "recover.service"
        for module in (outage, rollback, merge, daemon, command):
            monkeypatch.setattr(module, "run", self._run)
        devices = {f"/dev/{self.config.vg_name}/docker-lv": SimpleNamespace(st_rdev=7)}
        devices |= {path: SimpleNamespace(st_dev=7, st_mode=0o40755) for path in self.mounted}
        monkeypatch.setattr(os, "stat", lambda path, **how: devices.get(path) or STAT(path, **how))
        self.disk = LossyDisk(monkeypatch)
        self.is_recovery_enabled = False
        monkeypatch.setattr(Rollback, "recover", lambda *which, **how: self.refuse_dead() or RECOVER(*which, **how))
        monkeypatch.setattr(lvm, "output_of", self.group.output_of)
        self.patience = lambda seconds: monkeypatch.setattr(merge, "PATIENCE", seconds)
        self.patience(0)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        monkeypatch.setattr(journal, "ROLLBACK", f"{top}/rollback.json")
        monkeypatch.setattr(journal, "PATH", f"{top}/relocation.json")
        monkeypatch.setattr(files, "RESERVE", f"{top}/reserve")
        monkeypatch.setattr(files, "_RESERVE_SIZE", 1)
        monkeypatch.setattr(Journal, "save", lambda journal: self._save(journal))
        monkeypatch.setattr(state, "PERSISTENT", f"{top}/lib")
        monkeypatch.setattr(state, "VOLATILE", f"{top}/run")
        monkeypatch.setattr(unit, "LOG", f"{top}/run/log")
        for name, fake in {
            "is_mounted": lambda path: path in self.mounted,
            "mount_by_fstab": self._mount,
            "mark": self.marked.add,
            "mounted_elsewhere": lambda *_: [],
            "users_of": lambda _: [],
            "docker_runs": lambda: self.up,
            "is_shutting_down": lambda: False,
        }.items():
            monkeypatch.setattr(rollback, name, fake)
        for name, fake in {
            "under_way": lambda _: ["a build"],
            "programs_that_build": list,
            "mounts_within": lambda _: [],
            "sync_directory": self._sync_directory,
            "RESERVE": f"{top}/reserve",
            "BLOCK": str(self.block),
            "BLOCK_DROP_INS": {"docker": f"{top}/block.conf"},
            "RECOVERY_UNIT": str(self.recovery),
            "SETTLE_TIMEOUT": 0,
        }.items():
            monkeypatch.setattr(outage, name, fake)
        monkeypatch.setattr(daemon, "docker_runs", lambda: self.up)
        monkeypatch.setattr(start, "start_docker", lambda *_: self._await_docker())  # it has tests of its own
        monkeypatch.setattr(containers, "shims", list)
        monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 1, ""))
        state.save("snapshot", {"before": self._inventory(self.kept), "ran": ["web", "db"]})

    # -- the machine

    def _save(self, journal: Journal) -> None:
        self.step()
        SAVE(journal)
        self.disk.record(f"journal: {journal.phase}")

    def _run(self, *words: str, **_: object) -> str:
        self.step()
        self.disk.record(" ".join(words[:-1]), words[-1])
        if words[0] == self.breaks:
            raise Failed(f"`{words[0]}` failed: no")
        if words[:2] == ("systemctl", "show"):
            return "\n\n".join(["loaded"] * 3)
        if words[:2] == ("systemctl", "stop"):
            self.up = False
        elif words[0] == "umount":
            assert not self.up, "the ground was taken away under Docker"
            self.mounted.discard(words[-1])
            self.group.mount(mounted=bool(self.mounted))
        elif words[0].startswith("lv"):
            self.group.run(*words)
            self._observe_volume()
        return ""

    def _sync_directory(self, path: str) -> None:
        assert path == "/etc/systemd/system/multi-user.target.wants"
        self.is_recovery_enabled = self.recovery.exists()

    def _await_docker(self) -> None:
        self.step()
        self.disk.record("start Docker")
        if self.breaks == "systemctl":
            raise Failed("`systemctl` failed: no")
        self._start_docker()
        if not self.up:
            raise Failed("Docker has not started within 900 s")

    def _observe_volume(self) -> None:
        if self.group.volumes["docker-lv"].attributes[0] == "O" and self.group.volumes["docker-lv"].percent:
            self.has_snapshots_content = True

    def _mount(self, *paths: str) -> None:
        self.step()
        self.mounted |= {*paths}
        self.group.mount(mounted=True)

    def _has_markers(self) -> bool:
        return not self.has_snapshots_content or len(self.marked) == 2

    def _start_docker(self) -> None:
        assert len(self.mounted) == 3, "Docker was started off its volume"
        assert self._has_markers(), "Docker refuses to start"
        if self.block.exists():
            return
        if self.breaks == "docker":
            raise Failed("`systemctl start docker.service` failed")
        self.up = True
        self.content.update({name: POLICY[name] == "always" for name in self.content})

    @property
    def content(self) -> dict[str, bool]:
        return self.kept if self.has_snapshots_content else self.now

    def reboot(self, how: str = "power") -> None:
        self.last_step = 0
        if how == "unsynced":
            self.disk.lose_power()
        self.up = False
        self.block.unlink(missing_ok=True)
        self.group.activate()
        self._observe_volume()
        self._mount(*self.config.stores.values(), self.config.volume_mount)
        if self._has_markers():
            self._start_docker()

    # -- its engine

    def _refuse_down(self) -> None:
        if not self.up:
            raise EngineError("Docker did not answer")

    def inventory(self) -> Inventory:
        self._refuse_down()
        return self._inventory(self.content)

    def _inventory(self, content: dict[str, bool]) -> Inventory:
        return {
            "images": {"i": ["box"]} | ({"j": ["new"]} if "late" in content else {}),
            "containers": {
                name: {
                    "name": name,
                    "image": "i",
                    "restart": {"Name": POLICY[name]},
                    "status": "running" if running else "exited",
                    "started": "",
                }
                for name, running in content.items()
            },
            "volumes": {},
            "networks": {},
        }

    def containers(self) -> Any:
        return iter(())

    def running(self) -> list[str]:
        self._refuse_down()
        return [name for name, running in self.content.items() if running]

    def stop(self, containers: list[str]) -> None:
        self.step()
        self.disk.record("stop", *containers)
        self.content.update(dict.fromkeys(containers, False))

    def start(self, containers: list[str]) -> list[str]:
        for container in containers:
            self.step()
            self.content[container] = True
        return []

    # -- what must hold

    def rollback(self) -> Rollback:
        return Rollback(self.config, self.reported.append, self)

    def assert_waits(self) -> None:
        """LVM will go back, or may: what Docker wrote now would be lost."""
        assert not self.up
        assert self.block.exists()
        assert self.recovery.exists()
        assert self.rollback().journal.phase == journal.SWITCHING

    def assert_whole(self, *, back: bool, all_ran: bool = True) -> None:
        assert self.up
        assert len(self.mounted) == 3
        assert not self.block.exists(), "Docker stays blocked"
        assert not self.recovery.exists(), "the recovery unit is left over"
        assert self.has_snapshots_content == back
        expected = {"web", "db"} if back else {"db", "late"}
        if not all_ran:
            expected = {name for name in expected if POLICY[name] == "always"}
        assert expected <= {*self.running()}
        assert self.rollback().journal.phase == (journal.DONE if back else journal.FAILED)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RollbackHost:
    return RollbackHost(tmp_path / "host", monkeypatch)


def test_docker_comes_back_as_it_was_when_the_snapshot_was_taken(host: RollbackHost) -> None:
    host.rollback().roll_back()
    host.assert_whole(back=True)
    assert host.running() == ["web", "db"], "what had been stopped by hand runs"
    assert state.load("snapshot") == {}
    assert host.reported == [
        "stopping Docker and 2 containers",
        "restoring the volume to its snapshot",
        "starting Docker",
        "Docker runs on the snapshot's data",
    ]


def test_everything_is_on_the_disk_before_what_relies_on_it(host: RollbackHost) -> None:
    host.rollback().roll_back()
    shown = ("journal:", "stop", "start", "umount", "lv", "systemctl enable", "systemctl stop")
    assert [event for event in host.disk.events if event.startswith(shown)] == [
        "systemctl enable --quiet bulkhead-recover.service",
        "journal: stopping",
        "journal: stopping",  # with the batch that is about to be stopped
        "stop db late",
        "journal: stopping",
        "systemctl stop docker.socket docker.service containerd.service",
        "umount docker",
        "umount containerd",
        "umount docker-volume",
        "journal: switching",
        "lvconvert --merge --background --config global/wait_for_locks=0 docker-lv-snapshot",
        "journal: checking",
        "start Docker",
        "stop idle",
        "journal: done",
    ]


def test_journal_has_its_reserve_until_the_rollback_has_ended(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    run = host.group.run
    monkeypatch.setattr(host.group, "run", lambda *words: held.append(os.path.exists(files.RESERVE)) or run(*words))
    host.rollback().roll_back()
    assert held == [True]
    assert not os.path.exists(files.RESERVE)


def test_what_runs_now_and_was_stopped_then_goes_on(host: RollbackHost) -> None:
    host.now["idle"] = True
    host.rollback().roll_back()
    assert host.running() == ["web", "db", "idle"]


def test_nothing_is_committed_before_everything_has_stopped(host: RollbackHost) -> None:
    host.rollback().roll_back()
    words = [command[:2] for command in host.group.commands]
    assert words == [("lvconvert", "--merge")], "the merge had to be waited for"


@pytest.mark.parametrize("how", CUTS)
def test_rollback_that_is_cut_at_any_step_ends_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    whole = RollbackHost(tmp_path / "count", monkeypatch)
    whole.rollback().roll_back()
    assert whole.steps > 15
    ends = set()
    for last in range(1, whole.steps + 1):
        host = RollbackHost(tmp_path / f"{how}{last}", monkeypatch)
        host.last_step = last
        with pytest.raises(PowerCut):
            host.rollback().roll_back()
        if how != "kill":
            host.reboot(how)
        host.last_step = 0
        pending = host.rollback().is_pending
        assert not pending or (host.recovery.exists() and host.is_recovery_enabled), "nobody would recover it at boot"
        host.rollback().recover()
        if pending:
            host.assert_whole(back=host.has_snapshots_content)
        assert host.up
        assert not host.block.exists()
        ends.add(host.has_snapshots_content)
    assert ends == {True, False}


def test_recovery_looks_to_the_end_of_the_merge(host: RollbackHost) -> None:
    move, (taken,) = host.rollback(), snapshots.ours(host.config)
    move.stop()
    move.unmount()
    move.commit(taken)
    host.reboot()
    host.rollback().recover()
    assert ("lvchange", "--poll", "y", *merge.NO_WAIT, "ubuntu-vg/docker-lv") in host.group.commands


def test_recovery_is_left_to_the_next_boot_while_the_host_goes_down(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.rollback().journal.enter(journal.STOPPING)
    monkeypatch.setattr(rollback, "is_shutting_down", lambda: True)
    host.rollback().recover()
    assert host.rollback().is_pending


def hang(*_: object) -> str:
    raise TimeoutError("`lvs` did not end within 10 s")


def test_lvm_that_does_not_answer_does_not_keep_docker_down(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.rollback().stop()
    monkeypatch.setattr(lvm, "output_of", hang)
    host.rollback().recover()
    host.assert_whole(back=False)


@pytest.mark.parametrize("heard", [True, False])
def test_docker_stays_down_while_lvm_does_not_say_whether_it_was_told(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    move = host.rollback()
    move._outage.write_units()
    move.stop()
    move.unmount()
    move.journal.enter(journal.SWITCHING)
    if heard:
        host._run("lvconvert", "--merge", f"ubuntu-vg/{NAME}")
    with monkeypatch.context() as silent:
        silent.setattr(lvm, "output_of", hang)
        with pytest.raises(TimeoutError):
            host.rollback().recover()
    host.assert_waits()
    host.rollback().recover()
    host.assert_whole(back=heard)


def test_cut_between_the_word_to_lvm_and_its_beginning_goes_back(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: merge.Merge) -> None:
        raise PowerCut

    host.group.is_held = True
    with monkeypatch.context() as killed:
        killed.setattr(merge.Merge, "wait_until_begun", cut)
        killed.setattr(Rollback, "recover", lambda *_: None)
        with pytest.raises(PowerCut):
            host.rollback().roll_back()
    assert not host.has_snapshots_content
    host.group.is_held = False
    host.patience(60)
    host.rollback().recover()
    host.assert_whole(back=True)


def test_recovery_after_a_rollback_looks_after_the_extra_volumes_too(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.rollback().stop()
    recovered: list[str] = []
    others = [
        SimpleNamespace(path=name, recover=lambda name=name: recovered.append(name)) for name in ("a", "b", "docker")
    ]
    monkeypatch.setattr(unit, "is_under_way", lambda *_: False)
    monkeypatch.setattr(commands, "Rollback", lambda config, say: Rollback(config, say, host))
    monkeypatch.setattr(commands, "moves", lambda *_: others)
    assert commands.relocate(host.config, SimpleNamespace(recover=True)) == 0  # type: ignore[arg-type]
    assert recovered == ["b", "a"]
    host.assert_whole(back=False)


def test_recovery_after_a_rollback_removes_what_is_left_of_its_snapshot(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, (taken,) = host.rollback(), snapshots.ours(host.config)
    move.stop()
    move.unmount()
    move.commit(taken)
    host.reboot()
    host.group.end_merge()
    host.group.add(origin="", percent="", attributes="-wi-a-----")
    monkeypatch.setattr(unit, "is_under_way", lambda *_: False)
    monkeypatch.setattr(commands, "Rollback", lambda config, say: Rollback(config, say, host))
    monkeypatch.setattr(commands, "moves", lambda *_: [SimpleNamespace(path="docker")])
    assert commands.relocate(host.config, SimpleNamespace(recover=True)) == 0  # type: ignore[arg-type]
    assert [*host.group.volumes] == ["docker-lv"]


def test_recovery_of_the_unit_finds_it(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.rollback().stop()
    monkeypatch.setattr(unit, "is_under_way", lambda *_: False)
    monkeypatch.setattr(commands, "Rollback", lambda config, say: Rollback(config, say, host))
    assert commands.relocate(host.config, SimpleNamespace(recover=True)) == 0  # type: ignore[arg-type]
    assert "The volume was not restored to its snapshot: Docker runs as before." in Path(unit.LOG).read_text()
    host.assert_whole(back=False)


# -- what is refused


def refused(host: RollbackHost, match: str) -> None:
    with pytest.raises(Problem, match=match):
        host.rollback().roll_back()
    assert host.up
    assert host.steps == 0, "something was changed"


def test_without_a_snapshot_there_is_nothing_to_go_back_to(host: RollbackHost) -> None:
    del host.group.volumes[NAME]
    refused(host, "there is no snapshot of ubuntu-vg/docker-lv to go back to")


def test_lost_snapshot_is_refused(host: RollbackHost) -> None:
    host.group.add(percent="100.00")
    refused(host, "docker-lv-snapshot is lost: more was written to the volume than it could hold")


def test_snapshot_that_somebody_looks_into_is_refused(host: RollbackHost) -> None:
    host.group.mount(NAME, mounted=True)
    refused(host, r"ubuntu-vg/docker-lv-snapshot is open \(mounted\?\).*Nothing was changed")


def test_docker_that_is_off_its_volume_is_refused(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.stat

    def stat(path: Any, **how: Any) -> Any:
        return SimpleNamespace(st_dev=1) if path == "/var/lib/docker" else there(path, **how)

    monkeypatch.setattr(os, "stat", stat)
    refused(host, "/var/lib/docker is not on /srv/docker-volume: Docker's data is elsewhere")


def test_unfinished_move_is_refused(host: RollbackHost) -> None:
    Journal(journal.PATH).enter(journal.CHECKING)
    host.steps = 0
    refused(host, r"a move of Docker's data is not finished \(checking\)")


def test_other_programs_on_the_volume_are_named(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [Process(1, "containerd-shim", writes=True), Process(2, "rsync", writes=False)]
    monkeypatch.setattr(rollback, "users_of", lambda _: users)
    refused(host, r"other programs use Docker's volume: rsync \(process 2\). Stop them first")


def test_mount_of_somebodys_own_is_refused(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = MountInfo("0:40", "/", "/var/lib/docker/backup", "nfs", writable=True, closed=False, private=False)
    monkeypatch.setattr(outage, "mounts_within", lambda _: [backup])
    refused(host, r"/var/lib/docker/backup \(nfs\) is mounted in Docker's data, and not by Docker")


# -- what goes wrong


def failed(host: RollbackHost, match: str) -> None:
    with pytest.raises(Failed, match=match):
        host.rollback().roll_back()


def test_volume_that_somebody_holds_leaves_everything_as_it_was(host: RollbackHost) -> None:
    host.breaks = "umount"
    failed(host, r"`umount` failed: no. It is used by: unknown. The volume was not restored.*Docker runs as before")
    host.assert_whole(back=False)
    assert not host.group.commands


def test_who_has_the_volume_mounted_elsewhere_is_named(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    stays_open(host, monkeypatch)
    monkeypatch.setattr(rollback, "mounted_elsewhere", lambda *_: ["backupd (process 9), which has it on /mnt"])
    failed(host, r"ubuntu-vg/docker-lv is open. It is used by: backupd \(process 9\), which has it on /mnt")
    host.assert_whole(back=False)


def test_mounts_of_other_namespaces_are_found() -> None:
    device = os.stat("/").st_dev
    found = mounts.mounted_elsewhere(device)
    assert isinstance(found, list)
    assert mounts.mounted_elsewhere(os.makedev(4095, 4095)) == []


def test_merge_that_lvm_refuses_leaves_everything_as_it_was(host: RollbackHost) -> None:
    host.breaks = "lvconvert"
    failed(host, r"`lvconvert` failed: no. The volume was not restored to its snapshot: Docker runs as before")
    host.assert_whole(back=False)


def test_snapshot_that_is_opened_meanwhile_leaves_everything_as_it_was(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Rollback.stop
    monkeypatch.setattr(Rollback, "stop", lambda move: (stop(move), host.group.mount(NAME, mounted=True)))
    failed(host, "ubuntu-vg/docker-lv-snapshot is open.*Docker runs as before")
    host.assert_whole(back=False)
    assert not host.group.commands


@pytest.mark.parametrize("boots", [False, True])
def test_docker_stays_down_until_a_merge_that_was_told_has_begun(host: RollbackHost, boots: bool) -> None:
    host.group.is_held = True
    host.patience(0.01)
    failed(host, "something has the volume or its snapshot open: LVM restores the volume when it is closed")
    host.assert_waits()
    assert ("lvchange", "--refresh", *merge.NO_WAIT, "ubuntu-vg/docker-lv") in host.group.commands
    if boots:
        host.reboot()
        with pytest.raises(Failed):
            host.rollback().recover()
        host.assert_waits()
    host.group.is_held = False
    host.rollback().recover()
    host.assert_whole(back=True)


def test_lock_of_lvms_is_waited_for(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.breaks = "lvconvert"
    host.patience(60)
    monkeypatch.setattr(time, "sleep", lambda _: setattr(host, "breaks", ""))
    host.rollback().roll_back()
    host.assert_whole(back=True)


def passes(monkeypatch: pytest.MonkeyPatch, *, start: float, most: float) -> list[float]:
    """Let time pass with each wait, and no longer than so many seconds. Return the clock."""
    clock = [start]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        assert clock[0] < start + most, "it waits for ever"

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return clock


def test_lvm_is_waited_for_as_long_as_people_have_patience(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.group.is_held = True
    failed(host, "something has the volume or its snapshot open")
    host.group.volumes = {"a-lv": FakeVolume(1), "root-lv": FakeVolume(1), **host.group.volumes}
    host.patience(60)
    clock = passes(monkeypatch, start=100, most=500)
    with pytest.raises(Failed, match="something has the volume or its snapshot open"):
        merge.Merge(host.config).wait_until_begun()
    assert clock == [161]
    host.breaks = "lvchange"
    with pytest.raises(Failed, match="`lvchange` failed"):
        merge.Merge(host.config).resume()
    assert clock == [222]


def test_volume_that_stays_open_is_waited_for_as_long(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.up = False
    host.patience(60)
    clock = passes(monkeypatch, start=100, most=500)
    stays_open(host, monkeypatch)
    with pytest.raises(Failed, match=r"ubuntu-vg/docker-lv is open\. It is used by: unknown"):
        host.rollback().unmount()
    assert clock == [160.5]


def test_volumes_of_others_may_be_open(host: RollbackHost) -> None:
    open_snapshot = {"origin": "docker-lv", "attributes": "swi-aos---"}
    host.group.volumes |= {
        "a-lv": FakeVolume(1),
        "a-lv-snapshot": FakeVolume(1, **{**open_snapshot, "origin": "a-lv"}, tags="bulkhead-snapshot"),
        "docker-lv-by-hand": FakeVolume(1, **open_snapshot),
        "root-lv": FakeVolume(1),
        "root-lv-snapshot": FakeVolume(1, **{**open_snapshot, "origin": "root-lv"}, tags="bulkhead-snapshot"),
    }
    opened = merge.Merge(host.config).opened
    assert opened() == ["docker-lv"]
    host.group.mount(mounted=False)
    assert opened() == []
    host.group.mount(NAME, mounted=True)
    assert opened() == [NAME]
    host.group.mount(NAME, mounted=False)
    host.group.mount(mounted=True)
    host.rollback().roll_back()
    host.assert_whole(back=True)


def stays_open(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.group, "mount", lambda *_, **__: None)


def test_docker_that_was_down_before_is_left_down(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.up, host.breaks = False, "docker"
    stays_open(host, monkeypatch)
    failed(host, "docker-lv is open.*: Docker did not run before, and was not started")
    assert (host.rollback().journal.phase, len(host.mounted)) == (journal.FAILED, 3)
    assert not host.up
    assert not host.block.exists()
    assert not host.recovery.exists()


def test_docker_that_does_not_come_up_again_can_be_rolled_back_yet(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.now["idle"], host.breaks = True, "docker"
    with monkeypatch.context() as held:
        stays_open(host, held)
        failed(host, "`systemctl start docker.service` failed")
    assert (
        host.rollback().outcome().startswith("The volume was not restored to its snapshot, and Docker has not started")
    )
    host.breaks = ""
    host.rollback().roll_back()
    host.assert_whole(back=True)
    assert host.running() == ["web", "db", "idle"], "what ran before it began is forgotten"


def test_containers_that_outlive_docker_are_named_with_what_ends_them(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.up = False
    monkeypatch.setattr(containers, "shims", lambda: [Process(5, "containerd-shim", writes=False)])
    failed(host, r"containerd-shim \(process 5\) keeps a container running.*`ctr --namespace moby tasks rm --force")
    assert not host.group.commands


def test_docker_that_does_not_start_after_it_can_be_started_by_anybody(host: RollbackHost) -> None:
    host.breaks = "docker"
    failed(host, "`systemctl start docker.service` failed")
    assert not host.block.exists()
    assert (
        host.rollback().outcome().startswith("The volume has been restored to its snapshot, but Docker has not started")
    )
    host.breaks = ""
    host.rollback().recover()
    host.assert_whole(back=True)


def test_docker_that_is_not_whole_afterwards_is_said(host: RollbackHost) -> None:
    kept = host._inventory(host.kept)
    kept["images"]["gone"] = ["lost"]
    state.save("snapshot", {"before": kept, "ran": ["web", "db"]})
    failed(host, "Docker is not complete: the image gone is missing. Docker's volume has been restored to its snapshot")
    host.assert_whole(back=True)


def test_docker_that_hangs_is_not_touched(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang() -> Inventory:
        raise EngineError("Docker does not answer /images/json: timed out")

    monkeypatch.setattr(host, "inventory", hang)
    failed(host, "timed out. If Docker hangs, stop it with `systemctl stop docker.socket docker`, then roll back again")
    assert host.up
    assert not host.group.commands


def test_docker_that_is_down_is_rolled_back_and_started(host: RollbackHost) -> None:
    host.up = False
    host.rollback().roll_back()
    host.assert_whole(back=True)


def test_without_an_inventory_it_goes_back_all_the_same(host: RollbackHost) -> None:
    state.save("snapshot", {"note": ""})
    host.rollback().roll_back()
    assert host.has_snapshots_content
    assert host.running() == ["web", "db", "idle"], "what ran before, and what Docker starts itself"


def test_interruption_ends_on_what_was(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Rollback) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Rollback, "unmount", interrupt)
    with pytest.raises(KeyboardInterrupt):
        host.rollback().roll_back()
    host.assert_whole(back=False)


# -- what is told


def test_losses_are_told(host: RollbackHost) -> None:
    (taken,) = snapshots.ours(host.config)
    assert host.rollback().losses(taken) == [
        "327.6 MiB of the volume were written since the snapshot; all of it is lost",
        "new since then, and lost: 1 image: new",
        "new since then, and lost: 1 container: late",
        "changed since then, and restored: the container web is missing",
        "under way, and lost: a build",
    ]


@pytest.mark.parametrize(
    ("up", "kept", "words"),
    [(False, True, "Docker does not answer"), (True, False, "Docker did not answer when the snapshot was taken")],
)
def test_what_cannot_be_told_is_said(host: RollbackHost, up: bool, kept: bool, words: str) -> None:
    host.up = up
    if not kept:
        state.save("snapshot", {"note": ""})
    (taken,) = snapshots.ours(host.config)
    assert host.rollback().losses(taken)[1:] == [f"{words}: what was added since then is unknown"]


def test_nothing_to_recover_is_nothing(host: RollbackHost) -> None:
    host.rollback().recover()
    assert host.rollback().outcome() == "There has been no rollback to a snapshot."
    assert not host.group.commands


def test_merge_is_watched_until_it_has_ended(host: RollbackHost, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    host.rollback().roll_back()

    def sleep(_: float) -> None:
        host.group.end_merge()

    monkeypatch.setattr(time, "sleep", sleep)
    rollback.watch(host.config, reported.append)
    assert reported == ["merging the snapshot in the background: 40 % of its space left"]


def test_merge_that_stalls_for_five_minutes_is_no_longer_watched(
    host: RollbackHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = passes(monkeypatch, start=100, most=2000)
    reported: list[tuple[float, str]] = []

    def report(line: str) -> None:
        reported.append((clock[0], line))

    def list_volumes(_: str) -> list[lvm.VolumeRecord]:
        percent = 40 if clock[0] < 200 else 30 if clock[0] < 300 else 21
        return [lvm.VolumeRecord("docker-lv", "Owi-aos---", "1", "", str(percent), "", "1")]

    monkeypatch.setattr(lvm, "list_volumes", list_volumes)
    rollback.watch(host.config, report)
    text = "merging the snapshot in the background: {} % of its space left"
    assert reported == [(100, text.format(40)), (200, text.format(30))]
    assert clock == [200 + 302]
