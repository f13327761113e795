"""A move that is cut at any of its steps, by the power or by a kill, ends on all of the data, and the next one goes on.

The host is a fake: what systemd, mounts, fstab and Docker do takes a few lines here. The trees are real.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bulkhead import files, state
from bulkhead.docker import containers, daemon, start
from bulkhead.docker.engine import Engine, EngineError, Inventory
from bulkhead.errors import Failed
from bulkhead.move import relocation, rsync
from bulkhead.move.relocation import Relocation
from bulkhead.names import MARKER
from bulkhead.outage import journal, outage
from bulkhead.outage.journal import Journal
from bulkhead.storage.mounts import MountInfo
from pyinfra_lvm.model import FstabEntry

from ..configs import config
from ..power_cut import PowerCut, Steps

RAN = ("web", "plain")  # with a restart policy and without
ALWAYS = ("web", "stopped")  # Docker starts them at its own start, also what had been stopped by hand


SAVE = Journal.save
RENAME = os.rename


class RelocationHost(Engine, Steps):
    """A machine with Docker on its root disk, and an empty volume. Every change of it is a step, and may be the last."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Steps.__init__(self)
        self.stores = {name: f"{top}/lib/{name}" for name in ("docker", "containerd")}
        self.volume = f"{top}/volume"
        for path in (*self.stores.values(), *(f"{self.volume}/{name}" for name in self.stores)):
            os.makedirs(path)
        for name in self.stores:  # as the deploy makes them
            Path(self.volume, name, MARKER).touch()
        Path(self.stores["docker"], "images").write_text("all of them")
        Path(self.stores["containerd"], "content").write_text("all of it")
        entries = tuple(
            FstabEntry(f"{self.volume}/{name}", path, "none", ("bind",)) for name, path in self.stores.items()
        )
        drop_in = f"{top}/drop-in.conf"
        self.config = config(
            volume_mount=self.volume, stores=self.stores, store_fstab=entries, ordering_drop_ins={drop_in: "[Unit]\n"}
        )
        self.fstab = "# mine\n"
        self.mounted: set[str] = set()
        self.up = True  # Docker
        self.blocked = Path(f"{top}/block")
        self.recovery = Path(f"{top}/recover.service")
        self.drop_in = Path(drop_in)
        self.broken_on_volume = False
        self.slow = False  # Docker takes longer to start than the program waits
        self.is_lost = False  # the volume
        self.written = 0  # files, on the volume
        self.boots = 0
        self._set(dict.fromkeys(RAN, True) | {"ended": False, "stopped": False})

        monkeypatch.setattr(journal, "PATH", f"{top}/relocation.json")
        monkeypatch.setattr(state, "VOLATILE", f"{top}/run")
        monkeypatch.setattr(files, "RESERVE", f"{top}/reserve")
        monkeypatch.setattr(files, "_RESERVE_SIZE", 1)
        monkeypatch.setattr(Journal, "save", lambda journal: self.step() or SAVE(journal))
        for name, fake in {
            "under_way": lambda _: [],
            "programs_that_build": list,
            "users_of": lambda _: [],
            "mounts_within": lambda _: [],
            "read_fstab": lambda: self.fstab,
            "run": self._run,
            "sync_directory": lambda _: None,
            "RESERVE": f"{top}/reserve",
            "BLOCK": str(self.blocked),
            "BLOCK_DROP_INS": {"docker": f"{top}/block.conf"},
            "RECOVERY_UNIT": str(self.recovery),
            "SETTLE_TIMEOUT": 0,
        }.items():
            monkeypatch.setattr(outage, name, fake)
        for name, fake in {
            "is_shutting_down": lambda: False,
            "bound_elsewhere": lambda *_, **__: [],
            "mounts_within": lambda _: [],
            "mount_by_fstab": self._mount,
            "is_mounted": lambda path: (path == self.volume and not self.is_lost) or path in self.mounted,
            "read_fstab": lambda: self.fstab,
            "replace_fstab": self._replace_fstab,
            "run": self._run,
        }.items():
            monkeypatch.setattr(relocation, name, fake)
        monkeypatch.setattr(daemon, "run", self._run)
        monkeypatch.setattr(start, "start_docker", lambda *_: self._await_docker())  # it has tests of its own
        monkeypatch.setattr(containers, "shims", list)
        monkeypatch.setattr(os, "rename", lambda *paths: self.step() or RENAME(*paths))
        monkeypatch.setattr(os, "fsync", lambda _: None)
        # rsync has tests of its own.
        monkeypatch.setattr(rsync, "copy", self._copy)
        monkeypatch.setattr(rsync, "compare", lambda *_: set())
        monkeypatch.setattr(rsync, "verify", self._verify)
        monkeypatch.setattr(rsync, "size_of", lambda _: 1)
        monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 1, ""))

    # -- the machine

    def _run(self, *words: str, **_: object) -> str:
        self.step()
        if words[:2] == ("systemctl", "show"):
            return "\n\n".join(["loaded"] * 3)
        if words[:2] == ("systemctl", "stop"):
            self.up = False
        elif words[0] == "mount":
            assert words[1] in self.fstab
            self.mounted.add(words[1])
        elif words[0] == "umount":
            assert not self.up, "the ground was taken away under Docker"
            self.mounted.discard(words[-1])
        return ""

    def _await_docker(self) -> None:
        self.step()
        was_up = self.up
        if not was_up:
            self._start_docker()
        if not self.up or self.slow:
            self.up = was_up
            raise Failed("Docker has not started within 900 s")

    def _mount(self, *paths: str) -> None:
        for path in paths:
            self._run("mount", path)

    def _replace_fstab(self, change: Any) -> None:
        self.step()
        self.fstab = change(self.fstab)

    def _start_docker(self) -> None:
        """Docker starts where fstab lets it, with the containers that have a restart policy."""
        assert len(self.mounted) in (0, 2), "Docker was started on half of its data"
        if self.blocked.exists():
            return
        assert not self.mounted or all(Path(self.volume, name, MARKER).exists() for name in self.stores), "no marker"
        if self.broken_on_volume and self.mounted:
            raise Failed("`systemctl start docker.service` failed")
        self.up = True
        if self.mounted:
            self.written += 1
            (self.store("docker") / f"written-{self.written}").touch()  # by a container that starts by itself
        self._set({name: name in ALWAYS for name in self._containers()})

    def _copy(self, source: str, target: str, *_: object, **__: object) -> None:
        self.step()
        shutil.rmtree(target)
        shutil.copytree(source, target)

    def _verify(self, source: str, target: str, *_: object) -> None:
        self.step()
        assert filecmp.dircmp(source, target).diff_files == []
        assert not self.up, "what is verified may still change"

    def reboot(self) -> None:
        self.revive()
        self.boots += 1
        self.blocked.unlink(missing_ok=True)
        self.mounted = {path for path in self.stores.values() if path in self.fstab}
        assert not self.mounted or self.drop_in.exists(), "nothing orders Docker after its mounts"
        self._start_docker()

    def revive(self) -> None:
        """From now on nothing is cut."""
        self.last_step = 0

    def store(self, name: str) -> Path:
        """A store as Docker sees it."""
        path = self.stores[name]
        return Path(self.volume, name) if path in self.mounted else Path(path)

    # -- its engine

    def _containers(self) -> dict[str, bool]:
        containers: dict[str, bool] = json.loads((self.store("docker") / "containers").read_text())
        return containers

    def _set(self, running: dict[str, bool]) -> None:
        (self.store("docker") / "containers").write_text(json.dumps(running))

    def _refuse_down(self) -> None:
        if not self.up:
            raise EngineError("Docker did not answer")

    def inventory(self) -> Inventory:
        self._refuse_down()
        return {
            "images": {
                "all": (self.store("docker") / "images").read_text()
                + (self.store("containerd") / "content").read_text()
            },
            "containers": {
                name: {
                    "name": name,
                    "image": "i",
                    "restart": {"Name": "always" if name in ALWAYS else "no"},
                    "status": "running" if running else "exited",
                    "started": "",
                }
                for name, running in self._containers().items()
            },
            "volumes": {},
            "networks": {},
        }

    def running(self) -> list[str]:
        self._refuse_down()
        return [name for name, running in self._containers().items() if running]

    def stop(self, containers: list[str]) -> None:
        self.step()
        self._set(self._containers() | dict.fromkeys(containers, False))

    def start(self, containers: list[str]) -> list[str]:
        for container in containers:
            self.step()
            self._set(self._containers() | {container: True})
        return []

    # -- what must hold

    def move(self) -> Relocation:
        return Relocation(self.config, lambda _: None, self)

    def assert_whole(self, ran: set[str]) -> None:
        assert self.up
        assert not self.blocked.exists(), "Docker stays blocked"
        assert self.inventory()["images"] == {"all": "all of themall of it"}
        assert ran <= {name for name, running in self._containers().items() if running}
        assert not self._containers()["ended"]
        assert not self._containers()["stopped"] or self.boots, "what had been stopped runs"
        assert not self.recovery.exists(), "the recovery unit is left over"
        phase = self.move().journal.phase
        assert phase in (journal.DONE, journal.FAILED, journal.ROLLED_BACK, "")
        on_volume = phase == journal.DONE
        assert (len(self.mounted) == 2, self.fstab.count("bind") == 2) == (on_volume, on_volume)
        assert self.fstab.startswith("# mine\n")
        kept = list(Path(self.volume).glob("docker*/written-*"))
        assert len(kept) == self.written, "what was written on the volume is gone"
        place = f"{self.volume}/docker"
        in_place = [name for name in os.listdir(place) if name != MARKER] if os.path.isdir(place) else []
        assert on_volume or not in_place, "a copy that nobody uses is in Docker's place"
        assert self.drop_in.exists() == on_volume or phase == journal.FAILED


@pytest.fixture
def host(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> RelocationHost:
    return RelocationHost(memory_path, monkeypatch)


def test_move_that_is_not_cut_ends_on_the_volume(host: RelocationHost) -> None:
    host.move().relocate()
    host.assert_whole(set(RAN))
    assert host.move().journal.phase == journal.DONE
    assert (Path(host.stores["docker"]) / "images").read_text() == "all of them", "the old tree is gone"


def _steps(host: RelocationHost) -> int:
    host.move().relocate()
    return host.steps


@pytest.mark.parametrize("how", ["power", "kill"])
def test_move_that_is_cut_at_any_step_ends_on_all_of_the_data(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    steps = _steps(RelocationHost(memory_path / "count", monkeypatch))
    assert steps > 15
    ends = set()
    for last in range(1, steps + 1):
        host = RelocationHost(memory_path / f"{how}{last}", monkeypatch)
        host.last_step = last
        with pytest.raises(PowerCut):
            host.move().relocate()
        stopped = host.move().journal.phase in (journal.STOPPING, journal.SWITCHING, journal.CHECKING)
        if how == "power":
            host.reboot()
        else:
            host.revive()
        host.move().recover()
        # What the program did not stop, a cut has stopped: those without a restart policy stay down after it.
        host.assert_whole(set(RAN) if stopped or how == "kill" else {"web"})
        ends.add(host.move().journal.phase)
        if host.move().is_pending:
            host.move().relocate()
        assert host.move().journal.phase == journal.DONE
        host.assert_whole({"web"})
    assert {journal.FAILED, journal.DONE} <= ends


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["power", "kill"])
def test_recovery_that_is_cut_itself_goes_on(memory_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    steps = _steps(RelocationHost(memory_path / "count", monkeypatch))
    for last in range(1, steps + 1):
        for again in (1, 4, 7, 10, 99):
            host = RelocationHost(memory_path / f"{last}-{again}", monkeypatch)
            host.last_step = last
            with pytest.raises(PowerCut):
                host.move().relocate()
            host.reboot() if how == "power" else host.revive()
            host.steps, host.last_step = 0, again
            host.broken_on_volume = last % 2 == 0
            try:
                host.move().recover()
            except PowerCut:
                host.broken_on_volume = False
                host.reboot()
                host.move().recover()
            host.revive()
            host.assert_whole({"web"})
            host.broken_on_volume = False
            if host.move().is_pending:
                host.move().relocate()
            host.assert_whole({"web"})


def test_stop_that_a_killed_move_had_asked_for_does_not_win(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Docker goes on with it: the container still runs when it is "started" again, and is down a moment later.
    host.move().journal.enter(journal.STOPPING, before=host.inventory(), ran=list(RAN))
    stops, inventory = ["web"], host.inventory

    def late() -> Inventory:
        host._set(host._containers() | {stops.pop(): False} if stops else host._containers())
        return inventory()

    monkeypatch.setattr(host, "inventory", late)
    monkeypatch.setattr(outage, "SETTLE_TIMEOUT", 60)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    host.move().recover()
    host.assert_whole(set(RAN))


def test_mount_of_somebodys_own_is_refused_before_docker_is_touched(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = MountInfo(
        "0:40", "/", f"{host.stores['docker']}/volumes/db/backup", "nfs", writable=True, closed=False, private=False
    )
    monkeypatch.setattr(outage, "mounts_within", lambda _: [backup])
    with pytest.raises(Failed, match=r"volumes/db/backup \(nfs\) is mounted in Docker's data, and not by Docker"):
        host.move().relocate()
    assert host.move().journal.phase == ""
    assert not host.recovery.exists()


def test_docker_that_does_not_come_back_on_the_volume_comes_back_on_its_old_data(host: RelocationHost) -> None:
    host.broken_on_volume = True
    with pytest.raises(Failed, match=r"`systemctl start docker.service` failed. Docker runs on its old data."):
        host.move().relocate()
    host.assert_whole(set(RAN))
    assert host.move().journal.phase == journal.FAILED


def test_docker_that_needs_more_time_on_its_old_data_is_finished_by_hand(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, stopped = host.stop, [0]
    host.slow = True
    with pytest.raises(Failed) as failed:
        host.move().relocate()
    assert str(failed.value) == (
        "Docker has not started within 900 s. If Docker only needs more time, finish by hand, in this order: "
        "`systemctl start docker.service`; wait until `docker info` answers; `bulkhead relocate --recover`"
    )
    assert host.move().journal.phase == journal.RETURNING

    def count_stops(containers: list[str]) -> None:
        stopped[0] += len(containers)
        stop(containers)

    monkeypatch.setattr(host, "stop", count_stops)
    # A recovery that comes too early waits again, and stops nothing.
    host.up = True
    for is_slow in (True, False):
        host.slow = is_slow
        with contextlib.suppress(Failed):
            host.move().recover()
        assert host.up
    host.assert_whole(set(RAN))
    assert stopped == [1], "more was stopped than the container that had been stopped by hand"


def test_systemd_gives_docker_as_long_to_start_at_boot_as_the_move_does(host: RelocationHost) -> None:
    host.config = host.config._replace(docker_start_limit=1200)
    host.move().relocate()
    assert host.drop_in.read_text() == (
        "[Unit]\n[Service]\n# The recovery is ordered after Docker: a Docker that hangs at boot must not block it for ever.\n"
        "TimeoutStartSec=1260\n"
    )


def test_image_that_is_missing_on_the_volume_brings_the_old_data_back(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = Relocation.switch

    def lose(move: Relocation) -> None:
        switch(move)
        (host.store("docker") / "images").write_text("")

    monkeypatch.setattr(Relocation, "switch", lose)
    with pytest.raises(
        Failed, match=r"Docker did not come back complete on the volume: the image all is not what it was"
    ):
        host.move().relocate()
    host.assert_whole(set(RAN))
    assert Path(host.volume, "docker.left-1").is_dir(), "what was written on the volume is gone"


def test_rollback_goes_back_to_the_old_data_and_keeps_the_new(host: RelocationHost) -> None:
    host.move().relocate()
    (host.store("docker") / "later").write_text("written since")
    host.move().roll_back()
    host.assert_whole(set(RAN))
    assert host.move().journal.phase == journal.ROLLED_BACK
    assert Path(host.volume, "docker.left-1", "later").read_text() == "written since"
    host.move().relocate()
    host.assert_whole(set(RAN))
    assert not (host.store("docker") / "later").exists()
    assert Path(host.volume, "docker.left-1", "later").exists()


def test_rollback_goes_back_to_the_old_data_of_a_volume_that_is_lost(host: RelocationHost) -> None:
    host.move().relocate()
    shutil.rmtree(host.volume)
    os.mkdir(host.volume)  # the directory beneath the mount
    host.is_lost, host.mounted, host.up = True, set(), False
    assert f"{host.volume} is not mounted: what was written since the move is unknown" in host.move().written_since()
    host.move().roll_back()
    assert host.up
    assert host.move().journal.phase == journal.ROLLED_BACK
    assert host.inventory()["images"] == {"all": "all of themall of it"}
    assert "bind" not in host.fstab


def test_rollback_that_is_cut_at_any_step_is_finished(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for last in range(1, 30):
        host = RelocationHost(memory_path / str(last), monkeypatch)
        host.move().relocate()
        host.steps, host.last_step = 0, last
        try:
            host.move().roll_back()
        except PowerCut:
            host.reboot()
            host.move().recover()
        host.revive()
        host.assert_whole({"web"})


def test_volume_that_holds_something_else_is_not_written_to(host: RelocationHost) -> None:
    Path(host.volume, "docker", "of somebody").write_text("x")
    with pytest.raises(Failed, match=r"is not empty, and not our copy"):
        host.move().relocate()
    assert Path(host.volume, "docker", "of somebody").read_text() == "x"
    assert set(host.running()) == set(RAN)


def test_nothing_to_move_is_no_failure_of_the_data(host: RelocationHost) -> None:
    for path in host.stores.values():
        shutil.rmtree(path)
        os.mkdir(path)
    assert not host.move().is_pending
