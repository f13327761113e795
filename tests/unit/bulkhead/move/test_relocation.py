"""A move that is cut at any of its steps, by the power or by a kill, ends on all of the data, and the next one goes on.

The host is a fake: what systemd, mounts, fstab and Docker do takes a few lines here. The trees are real.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Container
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import files, state
from bulkhead.docker import containers, daemon, start
from bulkhead.docker.engine import Engine, EngineError, Inventory
from bulkhead.errors import Failed
from bulkhead.move import move, relocation, rsync
from bulkhead.move.relocation import Relocation
from bulkhead.names import MARKER
from bulkhead.outage import journal, outage
from bulkhead.outage.journal import Journal
from bulkhead.storage.mounts import MountInfo
from bulkhead.storage.processes import Process
from pyinfra_lvm.model import FstabEntry

from ..configs import config
from ..disk import LossyDisk, read_tree
from ..power_cut import CUTS, POWER_CUTS, PowerCut, Steps

RAN = ("web", "plain")  # with a restart policy and without
ALWAYS = ("web", "stopped")  # Docker starts them at its own start, also what had been stopped by hand

ANY_STEP = range(1, 1000)
_WHEN = re.compile(rb'"(since|switched)": [0-9.]+')  # in the journal

SAVE, RECOVER = Journal.save, Relocation.recover
WANTS = "/etc/systemd/system/multi-user.target.wants"

STOPPED = (journal.STOPPING, journal.SWITCHING, journal.CHECKING, journal.RETURNING)


class RelocationHost(Engine, Steps):
    """A machine with Docker on its root disk, and an empty volume. Every change of it is a step, and may be the last."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Steps.__init__(self)
        self.top = str(top)
        self.stores = {name: f"{top}/lib/{name}" for name in ("docker", "containerd")}
        self.volume = f"{top}/volume"
        for path in (*self.stores.values(), *(f"{self.volume}/{name}" for name in self.stores)):
            os.makedirs(path)
        for name in ("", *self.stores):  # as the deploy makes them
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
        self.block_drop_in = Path(f"{top}/block.conf")
        self.is_recovery_enabled = False
        self.disk = LossyDisk(monkeypatch, before=self.step)
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
        # Without the indent, that only Python's own code can make, it takes a fifth of the time.
        compact = SimpleNamespace(loads=json.loads, dumps=lambda values, **_: json.dumps(values))
        monkeypatch.setattr(journal, "json", compact)
        monkeypatch.setattr(Journal, "save", lambda journal: self._save(journal))
        monkeypatch.setattr(Relocation, "recover", lambda *which, **how: self.refuse_dead() or RECOVER(*which, **how))
        for name, fake in {
            "under_way": lambda _: [],
            "programs_that_build": list,
            "users_of": lambda _: [],
            "mounts_within": lambda _: [],
            "read_fstab": lambda: self.fstab,
            "run": self._run,
            "sync_directory": self._sync_directory,
            "RESERVE": f"{top}/reserve",
            "BLOCK": str(self.blocked),
            "BLOCK_DROP_INS": {"docker": str(self.block_drop_in)},
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
        # rsync has tests of its own.
        monkeypatch.setattr(rsync, "copy", self._copy)
        monkeypatch.setattr(rsync, "compare", lambda *_: set())
        monkeypatch.setattr(rsync, "verify", self._verify)
        monkeypatch.setattr(rsync, "size_of", lambda _: 1)
        monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 1, ""))

    # -- the machine

    def _save(self, journal: Journal) -> None:
        self.step()
        SAVE(journal)
        self.disk.record(f"journal: {journal.phase}")

    def _run(self, *words: str, **_: object) -> str:
        self.step()
        self.disk.record(" ".join(words[:-1]), words[-1])
        if words[:2] == ("systemctl", "show"):
            return "\n\n".join(["loaded"] * 3)
        if words[:2] == ("systemctl", "stop"):
            self.up = False
        elif words[:2] == ("systemctl", "enable"):
            assert self.recovery.exists()
        elif words[0] == "mount":
            assert words[1] in self.fstab
            self.mounted.add(words[1])
        elif words[0] == "umount":
            assert not self.up, "the ground was taken away under Docker"
            self.mounted.discard(words[-1])
        return ""

    def _sync_directory(self, path: str) -> None:
        assert path == WANTS
        self.disk.record("fsync", path)
        self.is_recovery_enabled = True

    def _await_docker(self) -> None:
        self.step()
        self.disk.record("start Docker")
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
        self.disk.record("replace fstab")
        self.fstab = change(self.fstab)

    def _start_docker(self) -> None:
        """Docker starts where fstab lets it, with the containers that have a restart policy."""
        assert len(self.mounted) in (0, 2), "Docker was started on half of its data"
        if self.blocked.exists() and self.block_drop_in.exists():
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
        self.disk.record("copy", target)
        shutil.rmtree(target)
        shutil.copytree(source, target)

    def _verify(self, source: str, target: str, *_: object) -> None:
        self.step()
        self.disk.record("verify", target)
        assert filecmp.dircmp(source, target).diff_files == []
        assert not self.up, "what is verified may still change"

    def reboot(self, how: str = "power") -> None:
        self.last_step = 0  # nothing more is cut
        if how == "unsynced":
            self.disk.lose_power()
        self.boots += 1
        for path in (self.blocked, self.block_drop_in):
            path.unlink(missing_ok=True)
        self.mounted = {path for path in self.stores.values() if path in self.fstab}
        assert not self.mounted or self.drop_in.exists(), "nothing orders Docker after its mounts"
        self._start_docker()

    def cuts(self, program: Callable[[], object], at: Container[int] = ANY_STEP) -> list[Callable[[], None]]:
        """Run a program. Return what makes the host, for each of these steps, what it was before it: there it was cut."""
        cuts: list[Callable[[], None]] = []

        def keep() -> None:
            if self.steps in at:
                cuts.append(self._remember())

        self.steps, self.at_step = 0, keep
        program()
        self.at_step = lambda: None
        return cuts

    def _remember(self) -> Callable[[], None]:
        bring_back = self.disk.remember(self.top)
        kept, mounted = vars(self) | {"at_step": lambda: None}, {*self.mounted}

        def cut() -> None:
            bring_back()
            vars(self).update(kept, mounted={*mounted})

        return cut

    def store(self, name: str) -> Path:
        """A store as Docker sees it."""
        path = self.stores[name]
        return Path(self.volume, name) if path in self.mounted else Path(path)

    # -- its engine

    def _containers(self) -> dict[str, bool]:
        with open(f"{self.store('docker')}/containers", encoding="utf-8") as file:
            containers: dict[str, bool] = json.load(file)
        return containers

    def _set(self, running: dict[str, bool]) -> None:
        with open(f"{self.store('docker')}/containers", "w", encoding="utf-8") as file:
            json.dump(running, file)

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
        self.disk.record("stop", *containers)
        self._set(self._containers() | dict.fromkeys(containers, False))

    def start(self, containers: list[str]) -> list[str]:
        for container in containers:
            self.step()
            self.disk.record("start", container)
            self._set(self._containers() | {container: True})
        return []

    # -- what must hold

    def state(self) -> object:
        """Return all that decides what happens next: hosts of the same state go on alike."""
        files = [
            (path, mode, _WHEN.sub(b"", content) if isinstance(content, bytes) else content)
            for _, path, mode, content in read_tree(self.top)
        ]
        return (
            self.fstab,
            *sorted(self.mounted),
            self.up,
            self.is_recovery_enabled,
            self.written,
            self.boots > 0,
            frozenset(files),
        )

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
        assert (len(self.mounted) == 2, self.fstab.count(" none bind ") == 2) == (on_volume, on_volume)
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


def test_everything_is_on_the_disk_before_what_relies_on_it(host: RelocationHost) -> None:
    host.move().relocate()
    shown = ("journal:", "copy", "verify", "replace", "start", "stop", "mount", "systemctl enable", "systemctl stop")
    shown += (
        "rename drop-in",
        "rename recover",
        "rename docker",
        "rename containerd",
        "fsync volume",
        "fsync multi-user",
    )
    assert [event for event in host.disk.events if event.startswith(shown)] == [
        "journal: copying",
        "rename drop-in.conf.new drop-in.conf",
        "rename recover.service.new recover.service",
        "systemctl enable --quiet bulkhead-recover.service",
        "fsync multi-user.target.wants",
        "copy docker.moving",
        "copy containerd.moving",
        "journal: stopping",
        "journal: stopping",  # with the batch that is about to be stopped
        "stop web plain",
        "journal: stopping",
        "systemctl stop docker.socket docker.service containerd.service",
        "copy docker.moving",
        "verify docker.moving",
        "copy containerd.moving",
        "verify containerd.moving",
        "journal: switching",
        "rename docker.moving docker",
        "rename containerd.moving containerd",
        "fsync volume",
        "replace fstab",
        "journal: checking",
        "mount docker",
        "mount containerd",
        "journal: checking",
        "start Docker",
        "start web",
        "start plain",
        "stop stopped",
        "journal: done",
    ]


@pytest.mark.parametrize("how", CUTS)
def test_move_that_is_cut_at_any_step_ends_on_all_of_the_data(host: RelocationHost, how: str) -> None:
    cuts = host.cuts(host.move().relocate)
    assert len(cuts) > 15
    ends, went_on = set(), set()
    for cut in cuts:
        cut()
        stopped = host.move().journal.phase in STOPPED
        if how != "kill":
            host.reboot(how)
        is_found = host.recovery.exists() and host.is_recovery_enabled
        assert is_found or host.move().journal.phase not in STOPPED, "nobody would recover it at boot"
        host.move().recover()
        # What the program did not stop, a cut has stopped: those without a restart policy stay down after it.
        host.assert_whole(set(RAN) if stopped or how == "kill" else {"web"})
        ends.add(host.move().journal.phase)
        if (state := host.state()) in went_on:
            continue
        went_on.add(state)
        if host.move().is_pending:
            host.move().relocate()
        assert host.move().journal.phase == journal.DONE
        host.assert_whole({"web"})
    assert {journal.FAILED, journal.DONE} <= ends


@pytest.mark.parametrize("how", ["power", "kill"])
def test_recovery_that_is_cut_itself_goes_on(host: RelocationHost, how: str) -> None:
    went_on = set()

    def go_on() -> None:
        host.assert_whole({"web"})
        host.broken_on_volume = False
        if host.move().is_pending and (state := host.state()) not in went_on:
            went_on.add(state)
            host.move().relocate()
            host.assert_whole({"web"})

    for last, cut in enumerate(host.cuts(host.move().relocate), 1):
        cut()
        if how == "power":
            host.reboot()
        host.broken_on_volume = last % 2 == 0
        cuts_again = host.cuts(host.move().recover, at=(1, 4, 7, 10))
        go_on()
        for cut_again in cuts_again:
            cut_again()
            host.broken_on_volume = False
            host.reboot()
            host.move().recover()
            go_on()


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


def test_move_that_fails_after_a_rollback_is_no_rollback(host: RelocationHost) -> None:
    host.move().relocate()
    host.move().roll_back()
    host.broken_on_volume = True
    with pytest.raises(Failed, match="Docker runs on its old data"):
        host.move().relocate()
    assert host.move().journal.phase == journal.FAILED


@pytest.mark.parametrize("name", ["docker", "containerd"])
def test_rollback_also_unbinds_a_store_that_fstab_no_longer_lists(host: RelocationHost, name: str) -> None:
    host.move().relocate()
    host.fstab = "# mine\n"
    host.mounted = {host.stores[name]}
    host.move().roll_back()
    assert (host.mounted, host.up) == (set(), True)


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


@pytest.mark.parametrize("how", POWER_CUTS)
def test_rollback_that_is_cut_at_any_step_is_finished(host: RelocationHost, how: str) -> None:
    host.move().relocate()
    cuts = host.cuts(host.move().roll_back)
    host.assert_whole({"web"})
    assert len(cuts) > 10
    for cut in cuts:
        cut()
        host.reboot(how)
        host.move().recover()
        host.assert_whole({"web"})


@pytest.mark.parametrize("name", ["of somebody", ".Trash-0"])
def test_volume_that_holds_something_else_is_not_written_to(host: RelocationHost, name: str) -> None:
    Path(host.volume, "docker", name).write_text("x")
    with pytest.raises(Failed, match=r"is not empty, and not our copy"):
        host.move().relocate()
    assert Path(host.volume, "docker", name).read_text() == "x"
    assert set(host.running()) == set(RAN)


def test_copy_that_docker_was_never_started_on_leaves_its_place_as_docker_makes_it(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise Failed("fstab is not valid")

    monkeypatch.setattr(relocation, "replace_fstab", fail)
    with pytest.raises(Failed, match="fstab is not valid"):
        host.move().relocate()
    for name in host.stores:
        assert Path(host.volume, f"{name}.moving").is_dir()
        assert Path(host.volume, name).stat().st_mode & 0o777 == 0o711


def test_container_that_does_not_start_on_the_old_data_is_named(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.broken_on_volume = True
    monkeypatch.setattr(host, "start", lambda _: ["the container plain does not start"])
    reported: list[str] = []
    with pytest.raises(Failed, match=r"Docker runs on its old data\."):
        Relocation(host.config, reported.append, host).relocate()
    assert "on the old data: the container plain does not start" in reported


def test_nothing_to_move_is_no_failure_of_the_data(host: RelocationHost) -> None:
    for path in host.stores.values():
        shutil.rmtree(path)
        os.mkdir(path)
    assert not host.move().is_pending


# -- before Docker is stopped


def refused(host: RelocationHost, match: str) -> None:
    """Assert that a move fails, and that Docker was not touched."""
    with pytest.raises(Failed, match=match):
        host.move().relocate()
    assert host.up
    assert set(host.running()) == set(RAN)
    assert not host.blocked.exists()
    assert not host.recovery.exists()
    assert host.fstab == "# mine\n"


def test_volume_that_is_not_mounted_is_not_written_to(host: RelocationHost) -> None:
    host.is_lost = True
    refused(host, rf"^{host.volume} is not mounted\. Docker's data has not been moved\.$")
    assert not Path(host.volume, "docker.moving").exists()


def test_filesystem_of_somebody_else_under_the_volumes_path_is_not_written_to(host: RelocationHost) -> None:
    Path(host.volume, MARKER).unlink()
    refused(host, rf"^{host.volume} is not Docker's volume: {host.volume}/{MARKER} is missing\. See what is")
    assert not Path(host.volume, "docker.moving").exists()


def test_volume_that_cannot_be_read_speaks_for_itself(host: RelocationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, **_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as failing:
        failing.setattr(Path, "stat", fail)
        with pytest.raises(OSError, match="Input/output error"):
            host.move().copy()


def test_reason_of_a_move_that_could_not_begin_is_not_that_of_an_earlier_one(host: RelocationHost) -> None:
    host.move().journal.enter(journal.FAILED, reason="an earlier one", old={})
    Path(host.volume, MARKER).unlink()
    with pytest.raises(Failed):
        host.move().relocate()
    assert "is not Docker's volume" in host.move().journal.reason


@pytest.mark.parametrize(
    ("phase", "old", "outcome"),
    [
        ("", {}, "Docker's data has not been moved."),
        (journal.ROLLED_BACK, {}, "Docker runs on its old data: the move was rolled back."),
        (journal.DONE, {"/var/lib/docker": 1}, "Docker runs on the volume; the old data is kept."),
    ],
)
def test_move_that_could_not_begin_leaves_its_reason_and_changes_nothing_else(
    host: RelocationHost, phase: str, old: dict[str, int], outcome: str
) -> None:
    if phase:
        host.move().journal.enter(phase, reason="an earlier one", old=old)
    before = vars(host.move().journal)
    host.is_lost = True
    with pytest.raises(Failed, match=f"{host.volume} is not mounted. {outcome}"):
        host.move().relocate()
    assert vars(host.move().journal) == {**before, "reason": f"{host.volume} is not mounted"}
    host.is_lost = False
    if not phase:
        host.move().relocate()
        assert host.move().journal.reason == ""


def test_move_that_the_full_disk_keeps_from_its_journal_still_says_why(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Journal) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "save", full)
    host.is_lost = True
    refused(host, "is not mounted")


def test_copy_that_was_begun_counts_as_room_for_the_next(host: RelocationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: Any) -> None:
        raise PowerCut

    with monkeypatch.context() as cutting:
        cutting.setattr(rsync, "compare", cut)
        with pytest.raises(PowerCut):
            host.move().relocate()
    begun = f"{host.volume}/docker.moving"
    assert os.path.exists(begun)
    sizes = dict.fromkeys([*host.stores.values(), begun], 10)
    monkeypatch.setattr(rsync, "size_of", lambda path: sizes.get(path, 0))
    monkeypatch.setattr(move, "space_of", lambda _: SimpleNamespace(available=9))
    with pytest.raises(Failed, match=r"^the data takes 20 bytes, and its volume has 19 bytes for it\. If nobody needs"):
        host.move().copy()
    monkeypatch.setattr(move, "space_of", lambda _: SimpleNamespace(available=10))
    host.move().relocate()
    host.assert_whole({"web"})


def test_move_waits_until_nothing_would_be_destroyed(host: RelocationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    builds = [["a build"], ["a build"], ["a build", "a paused container"], []]
    docker, backup = Process(1, "dockerd", writes=True), Process(2, "backupd", writes=True)
    users = [[], [docker], [docker, backup], [docker]]
    monkeypatch.setattr(outage, "under_way", lambda _: builds.pop(0))
    monkeypatch.setattr(outage, "users_of", lambda _: users.pop(0) if builds or users else [])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    host.config = host.config._replace(relocation_patience=60)
    Relocation(host.config, reported.append, host).relocate()
    assert [line for line in reported if line.startswith("waiting")] == [
        "waiting for a build",
        "waiting for a build, a paused container, backupd (process 2), which writes to Docker's data",
    ]


def test_docker_is_not_stopped_when_it_takes_too_long(host: RelocationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def bound(path: str, *, but_of: tuple[str, ...] = ()) -> list[str]:
        assert but_of == ("dockerd", "containerd-shim")
        return ["bound to /mnt"] if path == host.stores["docker"] else []

    monkeypatch.setattr(relocation, "bound_elsewhere", bound)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    refused(
        host,
        rf"^still under way after 0 s: {host.stores['docker']}, which is bound to /mnt\. Docker was not stopped: run again "
        r"when this has ended\. Docker runs on its old data\.$",
    )


def test_filesystems_in_the_stores_are_not_copied(host: RelocationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def within(paths: list[str]) -> list[MountInfo]:
        (path,) = paths
        return [MountInfo("0:40", "/", f"{path}/a/merged", "overlay", writable=True, closed=False, private=False)]

    left_out: list[Any] = []
    monkeypatch.setattr(relocation, "mounts_within", within)
    monkeypatch.setattr(rsync, "compare", lambda *given: left_out.append(given[2]) or set())
    host.move().relocate()
    assert left_out == [["a/merged"], ["a/merged"]]


def test_layers_that_were_verified_and_are_still_there_are_not_copied_again(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [{"overlay2/same/diff", "overlay2/bad/diff", "overlay2/removed/diff"}, {"x"}]
    layers += [{"overlay2/same/diff", "overlay2/bad/diff", "overlay2/new/diff"}, set()]
    left_out: list[Any] = []
    verify = host._verify
    monkeypatch.setattr(rsync, "immutable_layers", lambda _: layers.pop(0))
    monkeypatch.setattr(rsync, "compare", lambda *_: {"overlay2/bad/diff/file"})
    monkeypatch.setattr(rsync, "verify", lambda *given: left_out.append(given[3]) or verify(*given))
    host.move().relocate()
    assert left_out == [{"overlay2/same/diff"}, set()]


# -- while it is down


@pytest.mark.parametrize(
    ("module", "name", "found", "match"),
    [
        (
            outage,
            "users_of",
            [Process(2, "backupd", writes=True)],
            r"other programs write to Docker's data: backupd \(process 2\)",
        ),
        (
            relocation,
            "bound_elsewhere",
            ["bound to /mnt"],
            r"would continue on Docker's old data: \S+/docker is bound to /mnt, \S+",
        ),
    ],
    ids=["writes", "bound"],
)
def test_whoever_would_go_on_with_the_old_data_ends_the_move(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, found: list[Any], match: str
) -> None:
    monkeypatch.setattr(module, name, lambda *_, **__: [] if host.up else found)
    with pytest.raises(Failed, match=match):
        host.move().relocate()
    host.assert_whole(set(RAN))
    assert host.fstab == "# mine\n"


def test_journal_has_its_reserve_until_the_move_has_ended(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    verify = host._verify
    monkeypatch.setattr(rsync, "verify", lambda *given: held.append(os.path.exists(files.RESERVE)) or verify(*given))
    host.move().relocate()
    assert held == [True, True]
    assert not os.path.exists(files.RESERVE)


def test_start_by_somebody_else_is_held_back(host: RelocationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    verify, switch = host._verify, host._replace_fstab
    monkeypatch.setattr(rsync, "verify", lambda *given: host._start_docker() or verify(*given))
    monkeypatch.setattr(relocation, "replace_fstab", lambda change: host._start_docker() or switch(change))
    host.move().relocate()
    assert host.move().journal.phase == journal.DONE
    assert not host.block_drop_in.exists()
    host.move().roll_back()
    host.assert_whole(set(RAN))


def test_store_on_another_filesystem_than_the_volumes_ends_the_move(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = os.stat

    def stat(path: Any, **how: Any) -> Any:
        return (
            SimpleNamespace(st_dev=1)
            if path == host.stores["containerd"] and path in host.mounted
            else there(path, **how)
        )

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(
        Failed, match=rf"^{host.stores['containerd']} is not mounted from {host.volume}\. Docker runs on"
    ):
        host.move().relocate()
    host.assert_whole(set(RAN))


def test_signal_that_asks_to_stop_ends_on_the_old_data(host: RelocationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Relocation, "switch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        host.move().relocate()
    host.assert_whole(set(RAN))
    assert host.move().journal.reason == "the move was interrupted"


# -- recovery


@pytest.mark.parametrize("phase", journal.UNFINISHED)
def test_recovery_is_left_to_the_next_boot_while_the_host_goes_down(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    host.move()._outage.write_units()
    host.move().journal.enter(phase, before=host.inventory(), ran=list(RAN))
    host.steps = 0
    monkeypatch.setattr(relocation, "is_shutting_down", lambda: True)
    host.move().recover()
    assert (host.steps, host.move().journal.phase, host.recovery.exists()) == (0, phase, True)
    monkeypatch.setattr(relocation, "is_shutting_down", lambda: False)
    host.move().recover()
    host.assert_whole(set(RAN))


def test_move_that_has_ended_is_ended_while_the_host_goes_down(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.move()._outage.write_units()
    monkeypatch.setattr(relocation, "is_shutting_down", lambda: True)
    host.move().recover()
    assert not host.recovery.exists()


def test_volume_that_fails_does_not_keep_docker_down(host: RelocationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("Input/output error")

    reported: list[str] = []
    host.broken_on_volume = True
    monkeypatch.setattr(relocation.VolumeStores, "set_apart", fail)
    with pytest.raises(Failed):
        Relocation(host.config, reported.append, host).relocate()
    assert host.up
    assert not host.blocked.exists()
    assert "what is on the volume could not be renamed: Input/output error" in reported
    assert host.move().journal.phase == journal.FAILED


# -- afterwards


def test_what_a_rollback_leaves_behind_is_told(host: RelocationHost) -> None:
    host.move().relocate()
    inventory = host.inventory()
    for name in "abcdef":
        host._set(host._containers() | {name: False})
    (host.store("docker") / "new").touch()
    lines = host.move().written_since()
    assert inventory["images"] == host.inventory()["images"]
    assert lines[0] == "new since the move, and not in the old data: 6 containers: a, b, c, d, e"
    assert [line.partition(":")[0] for line in lines[1:]] == [*host.stores.values()]
    assert lines[2].endswith(": 0 files written since the move")
    host.up = False
    assert host.move().written_since()[0] == "Docker did not answer: what was added since the move is unknown"
    assert len(host.move().written_since()) == 3


def test_rollback_is_refused_while_others_write_to_the_volume(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Failed, match=r"^no rollback is possible: Docker's data has not been moved\.$"):
        host.move().roll_back()
    host.move().relocate()
    monkeypatch.setattr(outage, "users_of", lambda _: [Process(2, "backupd", writes=True)])
    with pytest.raises(
        Failed, match=r"^other programs write to Docker's data: backupd \(process 2\)\. Stop them first$"
    ):
        host.move().roll_back()
    assert host.move().journal.phase == journal.DONE
    host.assert_whole(set(RAN))


def test_container_that_was_stopped_since_the_move_stays_down_after_a_rollback(host: RelocationHost) -> None:
    host.move().relocate()
    host.stop(["plain"])
    host.move().roll_back()
    assert host.running() == ["web"]


def test_old_data_is_removed_once_the_volume_is_in_place(host: RelocationHost, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    since: list[Any] = []

    def remove(path: str, keep: object) -> None:
        assert keep == ()
        assert host.move().journal.phase == journal.FINALIZING, "after a cut it would look like data to go back to"
        removed.append(path)

    monkeypatch.setattr(move, "empty_beneath", remove)
    monkeypatch.setattr(move, "refuse_changed", lambda path, moment: since.append((path, moment)))
    host.move().relocate()
    switched = host.move().journal.switched
    host.mounted.discard(host.stores["containerd"])
    with pytest.raises(
        Failed, match=r"^the volume is not mounted on \S+/docker and \S+/containerd; nothing was removed$"
    ):
        host.move().finalize()
    assert removed == []
    host.mounted.add(host.stores["containerd"])
    fstab, host.fstab = host.fstab, host.fstab.replace("containerd", "elsewhere")
    with pytest.raises(Failed, match="nothing was removed"):
        host.move().finalize()
    host.fstab = fstab
    host.move().finalize()
    paths = [*host.stores.values()]
    assert (removed, since) == (paths, [(path, switched) for path in paths])
    assert (host.move().journal.phase, host.move().journal.old) == (journal.FINALIZED, {})
    host.move().finalize()
    assert removed == paths, "it was removed twice"
    with pytest.raises(Failed, match=r"^no rollback is possible: Docker runs on the volume\.$"):
        host.move().roll_back()


def test_removal_that_was_cut_goes_on_although_files_have_changed(
    host: RelocationHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(move, "empty_beneath", lambda path, **_: removed.append(path))
    monkeypatch.setattr(move, "refuse_changed", lambda *_: pytest.fail("it removes them itself"))
    host.move().relocate()
    host.move().journal.enter(journal.FINALIZING)
    host.move().finalize()
    assert removed == [*host.stores.values()]


@pytest.mark.parametrize(
    ("phase", "text"),
    [
        ("", "Docker's data has not been moved."),
        (journal.FAILED, "Docker runs on its old data."),
        (journal.ROLLED_BACK, "Docker runs on its old data: the move was rolled back."),
        (journal.DONE, "Docker runs on the volume; the old data is kept."),
        (journal.FINALIZING, "Docker runs on the volume; the old data is being removed."),
        (journal.FINALIZED, "Docker runs on the volume."),
        (journal.CHECKING, "The move is unfinished (checking)."),
    ],
)
def test_outcome_says_where_docker_runs(host: RelocationHost, phase: str, text: str) -> None:
    host.move().journal.enter(phase)
    assert host.move().outcome() == text


@pytest.mark.parametrize("lived", [True, False])
def test_what_goes_back_is_on_the_disk(host: RelocationHost, monkeypatch: pytest.MonkeyPatch, lived: bool) -> None:
    host.broken_on_volume = lived
    if not lived:
        monkeypatch.setattr(Relocation, "check", lambda _: (_ for _ in ()).throw(Failed("no")))
    with pytest.raises(Failed):
        host.move().relocate()
    ended = host.disk.events.index("journal: failed")
    renamed = "rename docker docker.left-1" if lived else "rename docker docker.moving"
    assert [event for event in host.disk.events[:ended] if event in (renamed, "fsync volume")][-2:] == [
        renamed,
        "fsync volume",
    ]
