"""A rescue brings Docker back from a full volume, with as few steps as possible."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import command, state, systemd
from bulkhead.docker import daemon
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.errors import Failed
from bulkhead.guard import ballast, jobs, rescue, rescued_host, volume_extender
from bulkhead.guard.rescued_host import RescuedDocker
from bulkhead.move import relocation
from bulkhead.outage import journal, lock
from bulkhead.outage.journal import Journal
from bulkhead.prune.pruner import Pruner
from bulkhead.sizes import Size
from bulkhead.snapshot import commands, snapshots
from bulkhead.storage import beneath, lvm, mounts
from bulkhead.watch import alert
from bulkhead.watch.alert_store import News

from ..configs import config
from ..fake_lvm import FakeGroup, FakeVolume

M, G = 2**20, 2**30
NAME = "docker-lv-snapshot"


class RescueHost:
    """A host with a volume of 60 GiB that is full, 20 GiB free in its group, and Docker down."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = config(guard_floor=Size.parse("3G"))
        self.group = FakeGroup()
        self.free = 0
        self.ballast = 256 * M
        self.up = self.answers = False
        self.hangs = False
        self.held_back = 0  # bytes that only root may have
        self.needs = 200 * M  # bytes that Docker needs to start
        self.cache = 0  # bytes of it
        self.inodes = self.inodes_free = 0  # 0: the filesystem does not limit them
        self.needs_inodes = 20  # that Docker needs to start
        self.cache_inodes = 0  # in each GiB of its cache
        self.reclaimed = 0  # bytes, by the last reclaim
        self.fstype = "ext4"
        self.grown = 60 * G  # what the filesystem has come to
        self.journal: list[str] = []
        self.did: list[str] = []
        self.reported: list[News] = []
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        for module in (command, lvm):
            monkeypatch.setattr(module, "output_of", self.group.output_of)
        for module in (beneath, relocation, daemon, command):
            monkeypatch.setattr(module, "run", self._run)
        monkeypatch.setattr(subprocess, "run", lambda words, **_: self.did.append(words[1]))
        monkeypatch.setattr(rescue, "is_mounted", lambda _: True)
        monkeypatch.setattr(
            volume_extender, "mounts_of", lambda: [SimpleNamespace(target=self.config.volume_mount, fstype=self.fstype)]
        )
        monkeypatch.setattr(rescued_host, "docker_runs", lambda: self.up)
        monkeypatch.setattr(ballast, "held", lambda _: self.ballast)
        monkeypatch.setattr(ballast, "give_back", self._give_back)
        monkeypatch.setattr(alert, "report_event", lambda _, news, __: self.reported.extend(news) or [])
        monkeypatch.setattr(Engine, "ask", self._ask)
        monkeypatch.setattr(rescued_host, "start_docker", lambda *_: self._start())
        monkeypatch.setattr(rescue._HarmlessPruner, "remove_harmless", lambda pruner: self._reclaim(pruner))
        monkeypatch.setattr(rescue._HarmlessPruner, "freed", lambda _: self.reclaimed)
        monkeypatch.setattr(Pruner, "free", lambda _: self.free)
        monkeypatch.setattr(os, "statvfs", self._statvfs)
        real = os.stat
        on_it = (self.config.volume_mount, *self.config.stores.values())
        devices = dict.fromkeys(on_it, SimpleNamespace(st_dev=7))
        devices["/dev/ubuntu-vg/docker-lv"] = SimpleNamespace(st_rdev=7)
        monkeypatch.setattr(os, "stat", lambda path, **how: devices.get(path) or real(path, **how))
        monkeypatch.setattr(journal, "PATH", f"{top}/relocation.json")
        monkeypatch.setattr(journal, "ROLLBACK", f"{top}/rollback.json")
        monkeypatch.setattr(state, "PERSISTENT", f"{top}/lib")
        monkeypatch.setattr(state, "VOLATILE", f"{top}/run")

    def _statvfs(self, path: str) -> Any:
        assert path == self.config.volume_mount
        return SimpleNamespace(
            f_bavail=max(self.free, 0),
            f_bfree=max(self.free + self.held_back, 0),
            f_blocks=self.grown,
            f_frsize=1,
            f_files=self.inodes,
            f_ffree=self.inodes_free,
        )

    def _give_back(self, _: object) -> int:
        size, self.ballast = self.ballast, 0
        self.free += size
        self.inodes_free += min(self.inodes, 1)
        self.did.append("ballast")
        return size

    def _run(self, *words: str, **_: object) -> str:
        if words[0] == "journalctl":
            return "starting\nno space left on device\n"
        if words[0] in ("resize2fs", "xfs_growfs"):
            self.did.append(words[0])
            more = self.group.volumes["docker-lv"].size - self.grown
            self.free += more
            inodes = more // 512 if words[0] == "xfs_growfs" and self.inodes else more * self.inodes // self.grown
            self.inodes, self.inodes_free = self.inodes + inodes, self.inodes_free + inodes
            self.grown += more
        else:
            self.did.append(words[0])
            self.group.run(*words)
        return ""

    def _ask(self, _: str, path: str, *__: object, **___: object) -> Any:
        if not self.answers:
            raise EngineError(f"Docker does not answer {path}: timed out")

    def _start(self) -> None:
        self.did += ["reset-failed", "start"]
        if self.free + self.held_back < self.needs or (self.inodes and self.inodes_free < self.needs_inodes):
            raise Failed("`systemctl start docker.service` failed")
        self.up, self.answers = True, not self.hangs
        if self.hangs:
            raise Failed("Docker has not started, and has made no progress for 180 s")

    def _reclaim(self, pruner: Pruner) -> None:
        assert pruner.need is not None
        self.reclaimed = min(max(pruner.need - self.free, 0), self.cache)
        if pruner.dry_run:
            return
        self.did.append("reclaim")
        self.cache -= self.reclaimed
        self.free += self.reclaimed
        self.inodes_free += self.reclaimed * self.cache_inodes // G

    def rescue(self, *, dry_run: bool = False) -> list[str]:
        return rescue.rescue(self.config, self.journal.append, dry_run=dry_run)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RescueHost:
    return RescueHost(tmp_path, monkeypatch)


def test_host_without_a_problem_is_reported_and_left_unchanged(host: RescueHost) -> None:
    host.up = host.answers = True
    host.free = 3 * G
    assert host.rescue() == []
    assert host.did == []
    assert host.journal == [
        "/srv/docker-volume: 3.0 GiB of 60.0 GiB free, 3.0 GiB must stay free; Docker answers",
        "nothing needs a rescue; nothing was changed",
    ]


def test_ballast_and_cache_come_first(host: RescueHost) -> None:
    host.group.add()
    host.cache = 5 * G
    assert host.rescue() == []
    assert host.did == ["ballast", "reset-failed", "start", "reclaim"]
    assert NAME in host.group.volumes, "the way back was taken without need"
    assert host.journal[1:] == [
        "ballast: 256.0 MiB given back",
        "Docker: started",
        "idle build cache and dangling images: reclaimed",
        "/srv/docker-volume: 3.0 GiB of 60.0 GiB free, 3.0 GiB must stay free; Docker answers",
    ]


def test_snapshot_goes_and_the_volume_grows_if_they_are_not_enough(host: RescueHost) -> None:
    host.group.add()
    assert host.rescue() == []
    assert host.did == ["ballast", "reset-failed", "start", "reclaim", "lvremove", "resize2fs", "lvextend", "resize2fs"]
    assert NAME not in host.group.volumes
    (news,) = host.reported
    assert (news.level, news.text) == (1, f"the snapshot ubuntu-vg/{NAME} kept the full volume from growing: removed")
    assert "volume: 3.0 GiB of the 20.0 GiB that are free in ubuntu-vg added" in host.journal
    assert (
        host.journal[-1]
        == "the volume has 63.0 GiB: set volume_size to at least that, or each run of the deploy warns about it"
    )


def test_mirror_grows_on_its_own_disks_by_no_more_than_both_have(host: RescueHost) -> None:
    host.group.volumes["docker-lv"] = FakeVolume(60 * G, attributes="rwi-aor---")
    host.group.disks = {"/dev/vda": 18 * G, "/dev/vdb": 18 * G, "/dev/vdc": 2 * G}
    host.group.copies = ("/dev/vdb", "/dev/vdc")
    host.rescue()
    assert "volume: 2.0 GiB of the 2.0 GiB that are free in ubuntu-vg added" in host.journal
    extended = [words for words in host.group.commands if words[0] == "lvextend"]
    assert extended[0] == ("lvextend", "--size", f"+{2 * G}b", "ubuntu-vg/docker-lv", "/dev/vdb", "/dev/vdc")


def test_docker_without_space_to_start_starts_after_the_volume_has_grown(host: RescueHost) -> None:
    host.ballast = 0
    assert host.rescue() == []
    assert host.did == ["ballast", "resize2fs", "lvextend", "resize2fs", "reset-failed", "start"]
    assert "ballast: there is none" in host.journal
    assert "Docker does not run: not started yet: it has no space" in host.journal


def test_failed_start_is_tried_again_when_there_is_more_space(host: RescueHost) -> None:
    host.needs = 2 * G
    assert host.rescue() == []
    assert host.did.count("start") == 2
    assert "start: `systemctl start docker.service` failed" in host.journal


def test_docker_that_is_down_on_a_volume_with_space_is_only_started(host: RescueHost) -> None:
    host.free = 10 * G
    assert host.rescue() == []
    assert host.did == ["reset-failed", "start"]


def test_docker_that_answers_is_not_started(host: RescueHost) -> None:
    host.up = host.answers = True
    host.cache = 5 * G
    assert host.rescue() == []
    assert "start" not in host.did


def test_volume_grows_by_what_root_has_used_of_the_reserve(host: RescueHost) -> None:
    host.held_back = 3 * G
    host.free = -2 * G
    assert host.rescue() == []
    assert host.did[:3] == ["ballast", "reset-failed", "start"], "Docker is root, and has room"
    assert host.did.count("lvextend") == 2


def test_volume_grows_until_it_is_enough_before_docker_is_started(host: RescueHost) -> None:
    host.ballast, host.held_back, host.needs = 0, 3 * G, 5 * G
    host.free = -3 * G
    assert host.rescue() == []
    assert host.did[-2:] == ["reset-failed", "start"]
    assert host.did.count("lvextend") == 2


def test_xfs_grows_where_it_is_mounted(host: RescueHost) -> None:
    host.fstype = "xfs"
    host.ballast = 0
    assert host.rescue() == []
    assert "xfs_growfs" in host.did
    assert "resize2fs" not in host.did


def test_interrupted_growth_of_an_earlier_rescue_is_finished(host: RescueHost) -> None:
    host.group.volumes["docker-lv"] = FakeVolume(64 * G)  # the filesystem has 60
    host.ballast = 0
    host.rescue()
    assert host.did[:2] == ["ballast", "resize2fs"]
    assert host.group.volumes["docker-lv"].size == 65 * G, "one GiB more at the least"


# -- inodes


@pytest.fixture
def host_without_inodes(host: RescueHost) -> RescueHost:
    """A host whose volume has half of its space free, and no inode."""
    host.free, host.inodes = 30 * G, 60 * G // 16384
    return host


def test_volume_without_inodes_is_rescued_by_its_cache(host_without_inodes: RescueHost) -> None:
    host = host_without_inodes
    host.group.add()
    host.cache, host.cache_inodes, host.needs_inodes = 10 * G, 50_000, 1
    assert host.rescue() == []
    assert host.did == ["ballast", "reset-failed", "start", *["reclaim"] * 5], "the floor, and then a GiB at once"
    assert host.cache == 6 * G, "no more than it takes"
    assert NAME in host.group.volumes, "the way back was taken without need"
    lines = [line for line in host.journal if line.startswith("/srv/docker-volume: ")]
    assert lines == [
        "/srv/docker-volume: 30.0 GiB of 60.0 GiB free, 3.0 GiB must stay free; 0 of 3932160 inodes free, 196608 must stay "
        "free; Docker does not run",
        "/srv/docker-volume: 34.2 GiB of 60.0 GiB free, 3.0 GiB must stay free; 200001 of 3932160 inodes free, 196608 must "
        "stay free; Docker answers",
    ]


def test_volume_without_inodes_grows_by_what_brings_enough_of_them(host_without_inodes: RescueHost) -> None:
    host = host_without_inodes
    host.cache, host.cache_inodes = G // 2, 50_000
    assert host.rescue() == []
    assert host.did == [
        "ballast",
        "reset-failed",
        "start",
        "resize2fs",
        "lvextend",
        "resize2fs",
        "reset-failed",
        "start",
    ]
    assert "volume: 3.2 GiB of the 20.0 GiB that are free in ubuntu-vg added" in host.journal
    assert host.inodes_free >= host.inodes * 5 // 100


def test_docker_without_an_inode_is_not_started(host_without_inodes: RescueHost) -> None:
    host_without_inodes.ballast, host_without_inodes.inodes_free = 0, -1  # what a ballast would have brought
    host_without_inodes.group.size = 60 * G
    host_without_inodes.rescue()
    assert "start" not in host_without_inodes.did
    assert "Docker does not run: not started yet: it has no inodes" in host_without_inodes.journal


def test_volume_that_stays_without_inodes_is_reported(host_without_inodes: RescueHost) -> None:
    host_without_inodes.group.size, host_without_inodes.needs_inodes = 60 * G, 1
    assert host_without_inodes.rescue() == [
        "/srv/docker-volume has 1 inode free, and 196608 must stay free: "
        "`du --inodes -x --max-depth=2 /srv/docker-volume | sort -n | tail` shows where the files are. Remove some of it, or "
        "grow the volume (setting volume_size)"
    ]


@pytest.mark.parametrize(("inodes_free", "goes"), [(9_999, True), (10_000, False)])
def test_snapshot_goes_for_inodes_only_if_docker_may_lack_them(
    host_without_inodes: RescueHost, inodes_free: int, goes: bool
) -> None:
    host_without_inodes.group.add()
    host_without_inodes.needs_inodes, host_without_inodes.ballast = 10**9, 0
    host_without_inodes.inodes_free = inodes_free - 1  # the ballast's comes
    assert host_without_inodes.rescue()
    assert (NAME not in host_without_inodes.group.volumes) == goes


def test_dry_run_counts_the_inodes_that_a_larger_volume_would_have(host_without_inodes: RescueHost) -> None:
    host = host_without_inodes
    host.up = host.answers = True
    host.cache, host.cache_inodes = 10 * G, 50_000
    assert host.rescue(dry_run=True) == []
    assert (host.did, host.group.commands) == ([], [])
    assert host.journal[1:] == [
        "ballast: 256.0 MiB would be given back",
        "idle build cache and dangling images: would be reclaimed",
        "  Docker does not say how many inodes that frees; if it is not enough:",
        "volume: 3.3 GiB of the 20.0 GiB that are free in ubuntu-vg would be added",
        "the volume would have 63.3 GiB: set volume_size to at least that, or each run of the deploy warns about it",
    ]


@pytest.mark.parametrize("dry_run", [True, False])
def test_xfs_without_space_has_no_inodes_either_and_grows_by_the_space_alone(host: RescueHost, dry_run: bool) -> None:
    host.fstype, host.ballast, host.needs = "xfs", 0, 0
    host.inodes = 100_000  # as many as it uses: it makes others of free space, and there is none
    host.up = host.answers = True
    assert host.rescue(dry_run=dry_run) == []
    added = "would be added" if dry_run else "added"
    assert f"volume: 3.3 GiB of the 20.0 GiB that are free in ubuntu-vg {added}" in host.journal


def test_volume_without_space_and_inodes_grows_for_both(host: RescueHost) -> None:
    host.ballast, host.needs_inodes = 0, 1
    host.inodes = 60 * G // 16384
    host.config = config(guard_floor=Size.parse("1G"))
    assert host.rescue() == []
    assert host.did.count("lvextend") == 2
    assert host.inodes_free >= host.inodes * 5 // 100


def test_volume_that_is_no_logical_volume_is_rescued_without_growing(host: RescueHost) -> None:
    host.config = config(guard_floor=Size.parse("3G"), vg_name="")
    wrong = host.rescue()
    assert any(line.startswith("This host's Docker volume is no logical volume") for line in host.journal)
    assert "ballast" in host.did
    assert not [step for step in host.did if step.startswith(("lv", "resize", "xfs"))]
    assert wrong[-1].endswith("Remove some of it, or grow its disk and filesystem (docs/adopt.md)")


# -- what stays wrong


def test_group_without_free_space_is_reported(host: RescueHost) -> None:
    host.group.size = 60 * G
    wrong = host.rescue()
    assert "grow: volume group ubuntu-vg has no free space: ubuntu-vg/docker-lv cannot grow" in host.journal
    assert wrong == [
        "/srv/docker-volume has 256.0 MiB free, and 3.0 GiB must stay free: `bulkhead status` shows what fills it. Remove some "
        "of it, or grow the volume (setting volume_size)"
    ]


def test_snapshot_of_somebody_else_stays_and_is_reported(host: RescueHost) -> None:
    host.group.add("before-upgrade", tags="")
    assert host.rescue()
    assert "before-upgrade" in host.group.volumes
    assert not host.reported
    line = "grow: ubuntu-vg/docker-lv cannot grow while it has the snapshot before-upgrade, which is not ours"
    assert line in host.journal


def test_our_snapshot_stays_where_that_of_somebody_else_keeps_the_volume_from_growing(host: RescueHost) -> None:
    host.group.add()
    host.group.add("before-upgrade", tags="", size=G)
    assert host.rescue()
    assert {NAME, "before-upgrade"} <= host.group.volumes.keys()
    line = "drop snapshot: ubuntu-vg/docker-lv cannot grow while it has the snapshot before-upgrade, which is not ours"
    assert line in host.journal


def test_docker_that_stays_down_is_reported_with_the_end_of_its_log(host: RescueHost) -> None:
    host.needs = 100 * G
    (wrong,) = host.rescue()
    assert wrong == "Docker does not run. The end of its log: starting | no space left on device"


def test_snapshot_stays_if_docker_lacks_something_else_than_space(host: RescueHost) -> None:
    host.group.add()
    host.free, host.needs = 2 * G, 100 * G
    assert host.rescue()
    assert NAME in host.group.volumes
    assert "lvextend" not in host.did
    for step in ("drop snapshot", "grow"):
        assert f"{step}: Docker does not start although the volume has free space: see its log" in host.journal


def test_hanging_docker_is_left_alone_for_its_containers(host: RescueHost) -> None:
    host.up = host.hangs = True
    host.free = 10 * G
    (wrong,) = host.rescue()
    assert wrong.startswith("Docker runs and does not answer. ")
    assert "start: Docker has not started, and has made no progress for 180 s" in host.journal


def test_step_that_fails_does_not_stop_the_others(host: RescueHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError("read-only")

    monkeypatch.setattr(ballast, "give_back", fail)
    for module in (commands, snapshots):
        monkeypatch.setattr(module, "ours", fail)
    assert host.rescue() == []
    assert "give back ballast: read-only" in host.journal
    assert "drop snapshot: read-only" in host.journal


def test_log_that_cannot_be_read_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: str, **__: object) -> str:
        raise Failed("`journalctl` failed")

    for module in (command, beneath, mounts):
        monkeypatch.setattr(module, "run", fail)
    assert RescuedDocker(Engine(), None).end_of_log() == "`journalctl` failed"


# -- what is refused


@pytest.mark.parametrize(
    ("docker_is", "rescued"),
    [("inactive", False), ("deactivating", False), ("active", False), ("failed", True), ("activating", True)],
)
def test_docker_that_somebody_has_stopped_on_purpose_is_not_rescued(
    host: RescueHost, monkeypatch: pytest.MonkeyPatch, docker_is: str, rescued: bool
) -> None:
    monkeypatch.setattr(systemd, "unit_states", lambda units, _: dict.fromkeys(units, docker_is))
    result = jobs.rescue_docker(host.config)
    assert (result is not None, "start" in host.did) == (rescued, rescued)
    if result:
        assert (result[0][1], result[1]) == ("ballast: 256.0 MiB given back", [])


def test_filesystem_of_somebody_else_under_the_volumes_path_does_not_grow(
    host: RescueHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.group.add()
    there = os.stat
    other = SimpleNamespace(st_dev=8)
    monkeypatch.setattr(
        os, "stat", lambda path, **how: other if path == host.config.volume_mount else there(path, **how)
    )
    assert host.rescue()
    for step in ("drop snapshot", "grow"):
        assert f"{step}: ubuntu-vg/docker-lv is not mounted on /srv/docker-volume" in host.journal
    assert not {"lvextend", "resize2fs", "lvremove"} & {*host.did}


def test_volume_that_is_not_mounted_is_refused(host: RescueHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "is_mounted", lambda _: False)
    with pytest.raises(Failed, match="/srv/docker-volume is not mounted"):
        host.rescue()
    assert host.did == []


def test_unfinished_move_is_refused(host: RescueHost) -> None:
    Journal(journal.PATH).enter(journal.COPYING)
    with pytest.raises(Failed, match=r"a move of Docker's data is not finished \(copying\)"):
        host.rescue()
    assert host.did == []


def test_rollback_that_has_only_stopped_docker_does_not_prevent_a_rescue(host: RescueHost) -> None:
    Journal(journal.ROLLBACK).enter(journal.STOPPING)
    assert host.rescue() == []
    Journal(journal.ROLLBACK).enter(journal.SWITCHING)
    with pytest.raises(Failed, match=r"a rollback of Docker's data is not finished \(switching\)"):
        host.rescue()


def test_rescue_beside_another_command_is_refused(host: RescueHost) -> None:
    with lock.lock(), pytest.raises(Failed, match="another bulkhead"):
        host.rescue()
    assert host.did == []


# -- a dry run


def test_dry_run_reports_all_steps_and_changes_nothing(host: RescueHost) -> None:
    host.group.add()
    assert host.rescue(dry_run=True) == []
    assert (host.did, host.reported, host.group.commands) == ([], [], [])
    assert host.journal == [
        "/srv/docker-volume: 0 bytes of 60.0 GiB free, 3.0 GiB must stay free; Docker does not run",
        "ballast: 256.0 MiB would be given back",
        "Docker: would be started",
        "idle build cache and dangling images: would be reclaimed",
        "  only a running Docker can tell how much that is; if it is not enough:",
        f"the snapshot ubuntu-vg/{NAME} kept the full volume from growing: would be removed",
        "volume: 3.0 GiB of the 20.0 GiB that are free in ubuntu-vg would be added",
        "the volume would have 63.0 GiB: set volume_size to at least that, or each run of the deploy warns about it",
    ]


def test_dry_run_with_a_running_docker_counts_the_space_that_would_come_back(host: RescueHost) -> None:
    host.up = host.answers = True
    host.cache = 5 * G
    assert host.rescue(dry_run=True) == []
    assert "lvextend" not in host.did


# -- the command


@pytest.mark.parametrize(("needs", "code"), [(0, 0), (100 * G, 1)])
def test_exit_code_says_whether_the_rescue_succeeded(
    host: RescueHost, capsys: pytest.CaptureFixture[str], needs: int, code: int
) -> None:
    host.needs = needs
    assert rescue.run(host.config, argparse.Namespace(dry_run=False)) == code
    assert ("bulkhead: Docker does not run" in capsys.readouterr().err) == bool(code)


def test_reclaim_removes_no_tagged_image_and_no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Callable[[], None]] = []
    monkeypatch.setattr(Pruner, "__init__", lambda _: None)
    monkeypatch.setattr(Pruner, "climb", lambda _, climbed: steps.extend(climbed))
    rescue._HarmlessPruner().remove_harmless()  # type: ignore[call-arg]
    assert [step.__name__ for step in steps] == ["stale_cache", "dangling_images", "idle_cache"]
