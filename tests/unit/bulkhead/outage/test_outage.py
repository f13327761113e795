"""An outage stops everything, remembers what ran, and refuses what it cannot stop."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import files, state
from bulkhead.docker import containers, daemon, start
from bulkhead.docker.engine import Engine, Inventory
from bulkhead.errors import Failed
from bulkhead.outage import journal, outage
from bulkhead.outage.journal import Journal
from bulkhead.outage.outage import Outage
from bulkhead.storage.mounts import MountInfo
from bulkhead.storage.processes import Process

from ..configs import config
from ..disk import LossyDisk


class EngineThatStops(Engine):
    """Docker with a container `web`, while another program removes and starts containers as this one is stopped."""

    def __init__(self, started_meanwhile: list[list[str]], removed: str = "") -> None:
        self.containers_running = ["web"]
        self.started_meanwhile = started_meanwhile
        self.existing = {"web", *(name for batch in started_meanwhile for name in batch)}
        self.removed = removed

    def running(self) -> list[str]:
        return [*self.containers_running]

    def stop(self, containers: list[str]) -> None:
        assert containers == self.containers_running
        self.containers_running = self.started_meanwhile.pop(0) if self.started_meanwhile else []
        self.existing.discard(self.removed)

    def inventory(self) -> Inventory:
        return {"images": {}, "containers": {name: {"name": name} for name in self.existing}}


@pytest.fixture
def outage_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine], Outage]:
    monkeypatch.setattr(state, "VOLATILE", f"{tmp_path}/run")
    monkeypatch.setattr(outage, "BLOCK", f"{tmp_path}/block")
    monkeypatch.setattr(outage, "mounts_within", lambda _: [])
    monkeypatch.setattr(outage, "run", lambda *_: "")
    monkeypatch.setattr(daemon, "run", lambda *_: "loaded\nloaded\nloaded\n")
    monkeypatch.setattr(containers, "shims", list)
    return lambda engine: Outage(config(), Journal(f"{tmp_path}/journal.json"), lambda _: None, engine)


def written(tmp_path: Path) -> Journal:
    return Journal.load(f"{tmp_path}/journal.json")


def test_containers_that_are_started_meanwhile_are_stopped_too_and_remembered(
    outage_of: Callable[[Engine], Outage], tmp_path: Path
) -> None:
    outage_of(EngineThatStops([["late"]])).begin()
    assert (written(tmp_path).phase, written(tmp_path).ran) == (journal.STOPPING, ["web", "late"])
    assert Path(outage.BLOCK).exists()


def test_container_that_is_removed_as_it_stops_is_no_loss(
    outage_of: Callable[[Engine], Outage], tmp_path: Path
) -> None:
    outage_of(EngineThatStops([["late"]], removed="web")).begin()
    assert written(tmp_path).ran == ["late"]
    assert [*written(tmp_path).before["containers"]] == ["late"]


def test_containers_that_are_started_without_end_are_given_up(outage_of: Callable[[Engine], Outage]) -> None:
    with pytest.raises(Failed, match=r"started as fast as they are stopped\. Stop the program that starts them"):
        outage_of(EngineThatStops([[str(number)] for number in range(9)])).begin()


def test_container_that_outlives_docker_is_named(
    outage_of: Callable[[Engine], Outage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "shims", lambda: [Process(7, "containerd-shim", writes=False)])
    with pytest.raises(Failed, match=r"containerd-shim \(process 7\) still runs"):
        outage_of(EngineThatStops([])).begin()


@pytest.mark.parametrize(
    ("target", "fstype", "is_dockers"),
    [
        ("/var/lib/docker/overlay2/ab/merged", "overlay", True),
        ("/var/lib/docker/containers/ab/mounts/shm", "tmpfs", True),
        ("/var/lib/docker/volumes/db/_data", "nfs", False),
        ("/var/lib/docker/volumes/db/_data", "tmpfs", False),
        ("/var/lib/docker/tmp", "tmpfs", False),  # by fstab
        ("/var/lib/docker/backup", "ext4", False),
    ],
)
def test_mounts_that_docker_will_make_again_are_its_own(
    monkeypatch: pytest.MonkeyPatch, target: str, fstype: str, is_dockers: bool
) -> None:
    monkeypatch.setattr(outage, "read_fstab", lambda: "tmpfs\t/var/lib/docker/tmp\ttmpfs\tdefaults\t0 0\n")
    assert outage.is_dockers_mount(_mount(target, fstype)) == is_dockers


def test_volume_that_lies_elsewhere_is_dockers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "read_fstab", str)
    (tmp_path / "opts.json").touch()  # of `docker volume create --opt device=…`
    assert outage.is_dockers_mount(_mount(f"{tmp_path}/_data", "nfs"))
    for name in ("AAA", "backup"):
        assert not outage.is_dockers_mount(_mount(f"{tmp_path}/{name}", "nfs"))


def _mount(target: str, fstype: str) -> MountInfo:
    return MountInfo("0:40", "/", target, fstype, writable=True, closed=False, private=False)


def test_programs_that_only_read_and_docker_itself_are_no_foreign_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    programs: list[Any] = [("dockerd", True), ("rsync", False), ("backupd", True)]
    users = [Process(pid, name, writes=writes) for pid, (name, writes) in enumerate(programs)]
    monkeypatch.setattr(outage, "users_of", lambda _: users)
    assert [user.name for user in outage.writers(["/var/lib/docker"])] == ["dockerd", "backupd"]
    assert [user.name for user in outage.foreign_writers(["/var/lib/docker"])] == ["backupd"]


# -- what is on the disk, and when


class RecordedOutage:
    """An outage of which everything that it does is recorded, in order, on a disk that loses what was not synced."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.disk = LossyDisk(monkeypatch)
        self.events = self.disk.events
        self.journal = Journal(f"{top}/journal.json")
        for name, path in {"BLOCK": "block", "RESERVE": "reserve", "RECOVERY_UNIT": "recover.service"}.items():
            monkeypatch.setattr(outage, name, f"{top}/{path}")
        monkeypatch.setattr(files, "RESERVE", f"{top}/reserve")
        monkeypatch.setattr(outage, "BLOCK_DROP_INS", {"docker": f"{top}/block.conf"})
        monkeypatch.setattr(outage, "run", lambda *words: self.events.append(" ".join(words)) or "")
        monkeypatch.setattr(outage, "sync_directory", lambda path: self.events.append(f"fsync {path}"))
        monkeypatch.setattr(subprocess, "run", lambda words, **_: self.events.append(" ".join(words)))
        monkeypatch.setattr(start, "start_docker", lambda *_: self.events.append("start"))

    def outage(self, engine: Engine, **changed: Any) -> Outage:
        return Outage(config(**changed), self.journal, self.events.append, engine)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outage_of: Callable[[Engine], Outage]) -> RecordedOutage:
    del outage_of
    return RecordedOutage(tmp_path, monkeypatch)


def test_recovery_is_on_the_disk_and_enabled_when_the_outage_may_begin(
    recorded: RecordedOutage, tmp_path: Path
) -> None:
    recorded.outage(EngineThatStops([])).write_units()
    assert recorded.events == [
        "fsync recover.service.new",
        "rename recover.service.new recover.service",
        f"fsync {tmp_path.name}",
        "fsync block.conf.new",
        "rename block.conf.new block.conf",
        f"fsync {tmp_path.name}",
        "systemctl daemon-reload",
        "systemctl enable --quiet bulkhead-recover.service",
        "fsync /etc/systemd/system/multi-user.target.wants",
    ]
    recorded.disk.lose_power()
    unit = (tmp_path / "recover.service").read_text()
    assert "ExecStart=/usr/local/bin/bulkhead relocate --recover\n" in unit
    assert "After=docker.service containerd.service\n" in unit
    assert (tmp_path / "block.conf").read_text() == outage.BLOCK_DROP_IN


def test_what_ran_is_on_the_disk_and_starts_are_blocked_before_anything_stops(
    recorded: RecordedOutage, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[list[str]] = []
    stop = EngineThatStops.stop

    def stop_recorded(engine: EngineThatStops, running: list[str]) -> None:
        recorded.disk.lose_power()
        written = Journal.load(recorded.journal.path)
        assert written.phase == journal.STOPPING
        assert {"web", *running} <= {*written.before["containers"]}
        assert Path(outage.BLOCK).exists()
        known.append(written.ran)
        stop(engine, running)

    monkeypatch.setattr(EngineThatStops, "stop", stop_recorded)
    recorded.outage(EngineThatStops([["late"], ["later"]])).begin()
    assert known == [["web"], ["web", "late"], ["web", "late", "later"]]
    assert recorded.events[-1] == "systemctl stop docker.socket docker.service containerd.service"
    recorded.disk.lose_power()
    assert Journal.load(recorded.journal.path) == recorded.journal


def test_end_leaves_nothing_behind(recorded: RecordedOutage, tmp_path: Path) -> None:
    one = recorded.outage(EngineThatStops([]))
    one.write_units()
    one.block_starts()
    files.hold_reserve()
    recorded.events.clear()
    one.end()
    assert recorded.events == ["systemctl disable --quiet bulkhead-recover.service", "systemctl daemon-reload"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    one.end()
    assert recorded.events[2:] == ["systemctl daemon-reload"], "there is nothing to disable"


def test_what_docker_left_mounted_is_unmounted_after_it_has_stopped(
    recorded: RecordedOutage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = [_mount("/var/lib/docker/b", "overlay"), _mount("/var/lib/docker/a", "shm")]
    monkeypatch.setattr(outage, "mounts_within", lambda paths: mounted if "/var/lib/docker" in paths else [])
    monkeypatch.setattr(outage, "read_fstab", str)
    recorded.outage(EngineThatStops([])).stop_docker()
    assert recorded.events[1:] == ["umount /var/lib/docker/b", "umount /var/lib/docker/a"]
    mounted.append(_mount("/var/lib/docker/backup", "nfs"))
    with pytest.raises(Failed, match=r"^/var/lib/docker/backup \(nfs\) is mounted in Docker's data, and not by Docker"):
        recorded.outage(EngineThatStops([])).stop_docker()
    assert recorded.events[3:] == recorded.events[:1], "something was unmounted"


def test_store_that_is_on_another_filesystem_is_refused(
    recorded: RecordedOutage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = {"docker": f"{tmp_path}/docker", "containerd": f"{tmp_path}/containerd"}
    devices = dict.fromkeys([str(tmp_path), *stores.values()], 7)
    there = os.stat

    def stat(path: Any, **how: Any) -> Any:
        return SimpleNamespace(st_dev=devices[path]) if path in devices else there(path, **how)

    monkeypatch.setattr(os, "stat", stat)
    one = recorded.outage(EngineThatStops([]), volume_mount=str(tmp_path), stores=stores)
    one.refuse_other_mounts()
    devices[stores["containerd"]] = 8
    with pytest.raises(Failed, match=rf"^{tmp_path}/containerd is not mounted from {tmp_path}$"):
        one.refuse_other_mounts()


# -- up again


class EngineThatStarts(Engine):
    """Docker with containers, each in a state; it starts those that it may."""

    def __init__(self, **states: str) -> None:
        self.states = states
        self.refuses: set[str] = set()
        self.stopped: list[str] = []
        self.started: list[list[str]] = []

    def running(self) -> list[str]:
        return [name for name, is_in in self.states.items() if is_in == "running"]

    def start(self, containers: list[str]) -> list[str]:
        self.started.append(containers)
        self.states.update({name: "running" for name in containers if name not in self.refuses})
        return [f"the container {name} does not start" for name in containers if name in self.refuses]

    def stop(self, containers: list[str]) -> None:
        self.stopped += containers

    def inventory(self) -> Inventory:
        shown = {
            name: {"name": name, "image": "i", "restart": {"Name": name}, "status": is_in, "started": ""}
            for name, is_in in self.states.items()
        }
        return {"images": {}, "containers": shown, "volumes": {}, "networks": {}}


def test_container_that_somebody_had_stopped_is_stopped_again_if_docker_always_starts_it(
    recorded: RecordedOutage,
) -> None:
    engine = EngineThatStarts(web="exited", always="exited", other="exited")
    recorded.journal.before, recorded.journal.ran = engine.inventory(), ["web"]
    engine.states |= {"always": "running", "other": "running", "new": "running"}
    recorded.outage(engine).start_what_ran()
    assert engine.stopped == ["always"]
    assert engine.started == [["web"]]


def test_container_that_does_not_start_is_tried_until_time_is_up(
    recorded: RecordedOutage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    engine = EngineThatStarts(web="running", db="running")
    recorded.journal.before, recorded.journal.ran = engine.inventory(), ["web", "db"]
    engine.states, engine.refuses = {"web": "exited", "db": "exited"}, {"db"}
    missing = recorded.outage(engine).start_what_ran()
    assert missing[0] == "the container db does not start"
    assert len(missing) == 2
    assert engine.started[:2] == [["web", "db"], ["db"]]
    assert now == [100 + outage.SETTLE_TIMEOUT + 1]


def test_docker_is_started_after_it_may_be(recorded: RecordedOutage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = recorded.outage(EngineThatStarts(), docker_start_limit=7)
    one.block_starts()
    given: list[Any] = []
    monkeypatch.setattr(start, "start_docker", lambda _, limit: given.append((limit, Path(outage.BLOCK).exists())))
    one.start_docker()
    assert given == [(7, False)]
