"""An outage stops everything, remembers what ran, and refuses what it cannot stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state
from bulkhead.docker import containers, daemon
from bulkhead.docker.engine import Engine, Inventory
from bulkhead.errors import Failed
from bulkhead.outage import journal, outage
from bulkhead.outage.journal import Journal
from bulkhead.outage.outage import Outage
from bulkhead.storage.mounts import MountInfo
from bulkhead.storage.processes import Process

from ..configs import config


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


def test_volume_that_lies_elsewhere_is_dockers_own(tmp_path: Path) -> None:
    (tmp_path / "opts.json").touch()  # of `docker volume create --opt device=…`
    assert outage.is_dockers_mount(_mount(f"{tmp_path}/_data", "nfs"))


def _mount(target: str, fstype: str) -> MountInfo:
    return MountInfo("0:40", "/", target, fstype, writable=True, closed=False, private=False)


def test_programs_that_only_read_and_docker_itself_are_no_foreign_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    programs: list[Any] = [("dockerd", True), ("rsync", False), ("backupd", True)]
    users = [Process(pid, name, writes=writes) for pid, (name, writes) in enumerate(programs)]
    monkeypatch.setattr(outage, "users_of", lambda _: users)
    assert [user.name for user in outage.writers(["/var/lib/docker"])] == ["dockerd", "backupd"]
    assert [user.name for user in outage.foreign_writers(["/var/lib/docker"])] == ["backupd"]
