"""A snapshot of Docker's volume: what it takes, what is printed, and when it is removed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import syslog
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import command as bulkhead_command
from bulkhead import state
from bulkhead.config import Config
from bulkhead.docker import inventory as docker_inventory
from bulkhead.docker.engine import Inventory
from bulkhead.errors import Failed, Problem
from bulkhead.guard import jobs
from bulkhead.move import commands as move_commands
from bulkhead.move.relocation import Relocation
from bulkhead.names import GUARD_SERVICE
from bulkhead.outage import journal, lock, prompt, unit
from bulkhead.outage.journal import Journal
from bulkhead.snapshot import commands, rollback, snapshots
from bulkhead.snapshot.snapshots import Snapshot
from bulkhead.storage import beneath, lvm
from bulkhead.storage import mounts as storage_mounts

from ..configs import config
from ..fake_lvm import FakeGroup, FakeVolume

G = 2**30
NAME = "docker-lv-snapshot"
INVENTORY: Inventory = {"images": {"i": ["box"]}, "containers": {"c": {"name": "web"}}, "volumes": {}, "networks": {}}


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGroup:
    group = FakeGroup()
    for module in (bulkhead_command, lvm):
        monkeypatch.setattr(module, "output_of", group.output_of)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for module in (bulkhead_command, beneath, storage_mounts):
        monkeypatch.setattr(module, "run", group.run)
    monkeypatch.setattr(state, "PERSISTENT", f"{tmp_path}/lib")
    monkeypatch.setattr(state, "VOLATILE", f"{tmp_path}/run")
    monkeypatch.setattr(journal, "PATH", f"{tmp_path}/relocation.json")
    monkeypatch.setattr(journal, "ROLLBACK", f"{tmp_path}/rollback.json")
    monkeypatch.setattr(syslog, "syslog", lambda *_: None)
    for module in (docker_inventory, snapshots):
        monkeypatch.setattr(module, "record", lambda _: {"before": INVENTORY, "ran": ["c"]})
    monkeypatch.setattr(time, "time", lambda: 1000 + 2 * 3600)
    free = SimpleNamespace(f_bfree=5 * G // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    mounted(monkeypatch, 7)
    return group


def mounted(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The volume's device is number 7; this one is mounted in its place."""
    real = os.stat

    def stat(path: Any, **options: Any) -> Any:
        if path in (config().volume_mount, *config().stores.values()):
            return SimpleNamespace(st_dev=number)
        return SimpleNamespace(st_rdev=7) if path == "/dev/ubuntu-vg/docker-lv" else real(path, **options)

    monkeypatch.setattr(os, "stat", stat)


def guarded() -> Config:
    return config(watched_units=(GUARD_SERVICE,))


def options(action: str, **values: Any) -> argparse.Namespace:
    return argparse.Namespace(
        action=action, **{"size": None, "json": False, "yes": False, "foreground": False} | values
    )


# -- how large


def size_for(asked: int | None = None, volume: int = 60 * G, free: int = 50 * G, group_free: int = 100 * G) -> int:
    return snapshots.size_for(asked, group="ubuntu-vg", volume=volume, free=free, group_free=group_free)


def test_it_has_room_for_all_that_can_be_written() -> None:
    assert 50 * G < size_for() * 0.9 * 0.99 < 53 * G
    assert 60 * G < size_for(free=60 * G) < 61 * G, "more than the whole volume is never needed"


def test_it_takes_what_the_group_has_if_that_is_less() -> None:
    assert size_for(group_free=10 * G) == 10 * G


def test_group_with_next_to_nothing_is_refused_with_figures() -> None:
    with pytest.raises(Problem, match=r"ubuntu-vg has 512.0 MiB free.* should have 58.2 GiB, and must have 1.0 GiB"):
        size_for(group_free=G // 2)
    assert size_for(volume=6 * G, free=4 * G, group_free=G // 2) == G // 2, "for a small volume it is something"


def test_size_that_is_asked_for_is_had_or_refused() -> None:
    assert size_for(16 * 2**20 + 1) == 16 * 2**20, "LVM takes whole sectors"
    with pytest.raises(
        Problem, match=r"there is no space for a snapshot of 11.0 GiB: volume group ubuntu-vg has 10.0 GiB free"
    ):
        size_for(11 * G, group_free=10 * G)


# -- taking it


def test_it_is_tagged_from_the_start_and_what_docker_holds_is_kept(group: FakeGroup) -> None:
    taken = snapshots.create(config(), note="before a build")
    (command,) = group.commands
    assert command[:7] == ("lvcreate", "--yes", "--snapshot", "--name", NAME, "--addtag", "bulkhead-snapshot")
    assert command[-1] == "ubuntu-vg/docker-lv"
    assert (taken.name, taken.size) == (NAME, int(command[8][:-1]))
    assert state.load("snapshot") == {"before": INVENTORY, "ran": ["c"], "note": "before a build"}


def test_snapshot_of_a_mirror_is_on_one_disk_and_no_larger_than_what_that_has_free(group: FakeGroup) -> None:
    group.volumes["docker-lv"] = FakeVolume(60 * G, attributes="rwi-aor---")
    group.disks = {"/dev/vdb": 2 * G, "/dev/vdc": 3 * G}
    snapshots.create(config())
    (command,) = group.commands
    assert command[8:] == (f"{3 * G}b", "ubuntu-vg/docker-lv", "/dev/vdc")
    group.volumes.pop(NAME)
    with pytest.raises(Problem, match=r"volume group ubuntu-vg, on its disk /dev/vdc, has 3\.0 GiB free"):
        snapshots.create(config(), size=4 * G)


def test_what_docker_holds_is_kept_before_there_is_a_snapshot(
    group: FakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(
        bulkhead_command, "run", lambda *words: kept.append(state.load("snapshot")) or group.run(*words)
    )
    snapshots.create(config(), note="before a build")
    assert kept == [{"before": INVENTORY, "ran": ["c"], "note": "before a build"}]


def test_what_comes_or_goes_meanwhile_is_not_counted_on(group: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    del group
    later = {**INVENTORY, "images": {"i": ["box", "new"]}, "containers": {"c": {"name": "web"}, "d": {"name": "new"}}}
    answers = [{"before": INVENTORY, "ran": ["c"]}, {"before": later, "ran": ["d", "c"]}]
    for module in (docker_inventory, snapshots):
        monkeypatch.setattr(module, "record", lambda _: answers.pop(0))
    snapshots.create(config())
    kept = state.load("snapshot")
    assert (kept["before"]["images"], [*kept["before"]["containers"]], kept["ran"]) == ({}, ["c"], ["c"])


def test_docker_that_does_not_answer_is_no_hindrance(group: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (docker_inventory, snapshots):
        monkeypatch.setattr(module, "record", lambda _: {})
    snapshots.create(config())
    assert NAME in group.volumes
    assert state.load("snapshot") == {"note": ""}


def test_only_one_stands(group: FakeGroup) -> None:
    group.add()
    with pytest.raises(Problem, match=f"ubuntu-vg/{NAME} exists already. Remove it first: `bulkhead snapshot drop`"):
        snapshots.create(config())


@pytest.mark.parametrize("path", ["relocation.json", "rollback.json"])
def test_none_is_taken_while_a_move_is_unfinished(group: FakeGroup, tmp_path: Path, path: str) -> None:
    Journal(f"{tmp_path}/{path}").enter(journal.STOPPING)
    with pytest.raises(Problem, match=r"is not finished \(stopping\): `bulkhead relocate --recover`"):
        snapshots.create(config())
    assert not group.commands


def test_none_is_taken_while_another_changes_the_host(group: FakeGroup) -> None:
    with lock.lock(), pytest.raises(Failed, match="another bulkhead command is changing this host"):
        snapshots.create(config())
    assert not group.commands


def test_volume_that_is_not_in_its_place_is_refused(group: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, 8)
    with pytest.raises(Problem, match="ubuntu-vg/docker-lv is not mounted on /srv/docker-volume"):
        snapshots.create(config())
    group.volumes.clear()
    with pytest.raises(Problem, match="there is no logical volume ubuntu-vg/docker-lv"):
        snapshots.create(config())


def test_volume_that_is_going_back_is_refused(group: FakeGroup) -> None:
    group.add()
    group.run("lvconvert", "--merge", f"ubuntu-vg/{NAME}")
    with pytest.raises(Problem, match="docker-lv is being merged with its snapshot: `lvs -a ubuntu-vg`"):
        snapshots.create(config())


@pytest.mark.parametrize("store", ["docker", "containerd"])
def test_docker_that_is_off_its_volume_is_refused(
    group: FakeGroup, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    there, path = os.stat, config().stores[store]
    monkeypatch.setattr(os, "stat", lambda p, **how: SimpleNamespace(st_dev=8) if p == path else there(p, **how))
    with pytest.raises(Problem, match=f"{path} is not on /srv/docker-volume: Docker's data is elsewhere"):
        snapshots.create(config())
    assert not group.commands


def test_it_holds_what_will_be_written(group: FakeGroup) -> None:
    taken = snapshots.create(config(), writes=6 * G)
    assert taken.size == snapshots.to_hold(6 * G, 60 * G) // 512 * 512
    assert (6 * G + 60 * G // 32) / taken.size < 0.9, "it would go while it is needed"
    group.volumes.pop(NAME)
    with pytest.raises(Problem, match="there is no space"):
        snapshots.create(config(), writes=30 * G)


def test_what_people_should_know_is_printed(group: FakeGroup, capsys: pytest.CaptureFixture[str]) -> None:
    del group
    assert commands.run(guarded(), options("create", size=10 * G)) == 0
    printed = capsys.readouterr().out
    for words in (
        "docker-lv-snapshot taken, 10.0 GiB",
        "8.9 GiB can be written",
        "check-disk alerts when it fills. The guard removes it when it is 90 % full, before it is lost, or 24 h old",
    ):
        assert words in printed
    for words in ("cannot grow", "`bulkhead snapshot rollback`", "`bulkhead snapshot drop`"):
        assert words in printed
    assert "less than is free there" not in printed


def test_nobody_is_promised_to_remove_it_where_there_is_no_guard(
    group: FakeGroup, capsys: pytest.CaptureFixture[str]
) -> None:
    line = commands.created_lines(config(), Snapshot(NAME, 3 * G, 0, 0))[1]
    assert line.endswith("check-disk alerts when it fills. Nothing removes it by itself: there is no guard")
    group.add()
    commands.run(config(), options("list"))
    assert capsys.readouterr().out.endswith("3 % of 10.0 GiB full; nothing removes it by itself: there is no guard\n")
    commands.run(config(), options("list", json=True))
    assert json.loads(capsys.readouterr().out)[0]["goes"] is None


def test_snapshot_that_is_smaller_than_what_can_be_written_says_so(group: FakeGroup) -> None:
    del group
    assert "less than is free there (5.0 GiB)" in commands.created_lines(config(), Snapshot(NAME, 3 * G, 0, 0))[1]


# -- when it goes


@pytest.mark.parametrize(
    ("percent", "hours", "why"),
    [
        (89.9, 23.9, ""),
        (90, 1, "it is 90 % full, and would soon be lost"),
        (100, 1, "it is lost: more was written to the volume than it could hold"),
        (3, 24, "it is more than 24 h old"),
        (3, -5, ""),  # the clock was ahead when it was taken
    ],
)
def test_it_goes_before_it_is_full_and_when_it_is_old(percent: float, hours: float, why: str) -> None:
    found = snapshots.due(config(), [Snapshot(NAME, G, percent, 10**6)], 10**6 + hours * 3600)
    assert found == ([(NAME, why)] if why else [])


def test_only_our_own_is_ours(group: FakeGroup) -> None:
    group.add("before-upgrade", tags="")
    group.add("of-root", origin="ubuntu-lv")
    assert snapshots.ours(config()) == []
    group.add()
    assert snapshots.ours(config()) == [Snapshot(NAME, 10 * G, 3.2, 1000)]
    assert snapshots.ours(config())[0].written == int(10 * G * 0.032)


def test_snapshot_of_somebody_else_is_never_removed(group: FakeGroup) -> None:
    group.add("before-upgrade", tags="")
    with pytest.raises(
        Problem, match="ubuntu-vg/before-upgrade is not a snapshot of docker-lv that bulkhead has taken"
    ):
        snapshots.drop(config(), "before-upgrade", "test")
    assert not group.commands


def test_merge_is_not_taken_for_a_snapshot(group: FakeGroup) -> None:
    group.add()
    group.run("lvconvert", "--merge", f"ubuntu-vg/{NAME}")
    with pytest.raises(Problem, match="is not a snapshot"):
        snapshots.drop(config(), NAME, "test")


def test_dropped_it_is_gone_with_what_was_kept(group: FakeGroup, capsys: pytest.CaptureFixture[str]) -> None:
    snapshots.create(config())
    assert commands.run(config(), options("drop")) == 0
    assert [*group.volumes] == ["docker-lv"]
    assert state.load("snapshot") == {}
    assert "snapshot ubuntu-vg/docker-lv-snapshot is removed" in capsys.readouterr().out
    assert commands.run(config(), options("drop")) == 0
    assert "there is no snapshot of ubuntu-vg/docker-lv" in capsys.readouterr().out


# As LVM leaves it between the two steps in which it ends a merge, or removes a snapshot (seen after a power cut).
LEFT = {"origin": "", "percent": "", "attributes": "-wi-a-----"}


def test_what_a_power_cut_has_left_of_one_makes_way(group: FakeGroup, capsys: pytest.CaptureFixture[str]) -> None:
    group.add(**LEFT)
    assert snapshots.ours(config()) == []
    assert jobs.drop_due_snapshots(config()) == [f"the snapshot {NAME} has been dropped: {snapshots.LEFT}"]
    assert NAME not in group.volumes
    group.add(**LEFT)
    assert commands.run(config(), options("drop")) == 0
    assert f"snapshot ubuntu-vg/{NAME} is removed" in capsys.readouterr().out
    group.add(**LEFT)
    snapshots.create(config())
    assert group.volumes[NAME].origin == "docker-lv"


@pytest.mark.parametrize(
    "changed",
    [{"tags": ""}, {"attributes": "-wi-ao----"}, {"attributes": "Swi-a-s---"}],
    ids="foreign open merging".split(),
)
def test_volume_of_that_name_that_is_something_else_stays(group: FakeGroup, changed: dict[str, str]) -> None:
    group.add(**{"tags": "bulkhead-snapshot", **LEFT, **changed})
    assert jobs.drop_due_snapshots(config()) == []
    with pytest.raises(Problem, match="is not a snapshot"):
        snapshots.drop(config(), NAME, "test")
    assert NAME in group.volumes


def test_removal_that_lvm_refuses_is_an_error(group: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    group.add()
    group.refuses = "lvremove"
    with pytest.raises(Failed, match="`lvremove` failed: no"):
        snapshots.drop(config(), NAME, "test")
    for module in (bulkhead_command, beneath, storage_mounts):
        monkeypatch.setattr(module, "run", lambda *_: "nothing matches")
    with pytest.raises(OSError, match="could not be removed: nothing matches"):
        snapshots.drop(config(), NAME, "test")


def test_none_is_dropped_while_a_rollback_is_unfinished(group: FakeGroup) -> None:
    group.add()
    Journal(journal.ROLLBACK).enter(journal.STOPPING)
    with pytest.raises(Failed, match=r"a rollback of Docker's data is not finished \(stopping\)"):
        snapshots.drop(config(), NAME, "test")
    assert NAME in group.volumes


def test_none_is_dropped_while_another_changes_the_host(group: FakeGroup) -> None:
    group.add()
    with lock.lock(), pytest.raises(Failed, match="another bulkhead"):
        snapshots.drop(config(), NAME, "test")
    assert NAME in group.volumes


# -- what is shown


def shown(group: FakeGroup, capsys: pytest.CaptureFixture[str], **values: Any) -> str:
    group.add(**values)
    commands.run(guarded(), options("list"))
    return capsys.readouterr().out


def test_it_is_shown_with_its_age_and_fill(group: FakeGroup, capsys: pytest.CaptureFixture[str]) -> None:
    line = "ubuntu-vg/docker-lv-snapshot: taken 2 h ago, 3 % of 10.0 GiB full; the guard removes it in 22 h, or when it is 90 % full\n"
    assert shown(group, capsys) == line


def test_lost_one_is_shown_as_lost(group: FakeGroup, capsys: pytest.CaptureFixture[str]) -> None:
    assert "lost: more was written than its 10.0 GiB" in shown(group, capsys, percent="100.00")


def test_old_one_goes_now(group: FakeGroup, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the guard removes it now" in shown(group, capsys, made=-(10**6))


def test_programs_are_shown_it_too(group: FakeGroup, capsys: pytest.CaptureFixture[str]) -> None:
    group.add()
    state.save("snapshot", {"note": "before a build"})
    commands.run(guarded(), options("list", json=True))
    (values,) = json.loads(capsys.readouterr().out)
    assert (values["name"], values["percent"], values["goes"]) == (NAME, 3.2, 1000 + 24 * 3600)
    assert values["note"] == "before a build"


def test_nothing_is_shown_as_nothing(group: FakeGroup, capsys: pytest.CaptureFixture[str]) -> None:
    del group
    commands.run(config(), options("list"))
    commands.run(config(), options("list", json=True))
    assert capsys.readouterr().out == "there is no snapshot of ubuntu-vg/docker-lv\n[]\n"


# -- the command that goes back


class FakeRollback:
    """Stands in for the rollback and its unit."""

    def __init__(self, config: Config, say: Any) -> None:
        del config, say

    stops = "Docker stops."
    begun: tuple[tuple[str, ...], ...] = ()
    journal = Journal("", phase=journal.DONE, since=1e12)

    def snapshot(self) -> Snapshot:
        return Snapshot(NAME, G, 1, 0)

    def losses(self, _: Snapshot) -> list[str]:
        return ["one image is lost"]

    def roll_back(self) -> None:
        raise Failed("the volume is in use")


@pytest.fixture
def asked(group: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> type[FakeRollback]:
    del group
    monkeypatch.setattr(FakeRollback, "begun", ())
    monkeypatch.setattr(rollback, "Rollback", FakeRollback)
    monkeypatch.setattr(rollback, "watch", lambda *_: None)
    monkeypatch.setattr(unit, "is_under_way", lambda *_: False)
    monkeypatch.setattr(unit, "begin", lambda *words: setattr(FakeRollback, "begun", (*FakeRollback.begun, words)))
    monkeypatch.setattr(unit, "follow", lambda: None)
    monkeypatch.setattr(unit, "has_failed", lambda: False)
    monkeypatch.setattr(unit, "LOG", f"{state.VOLATILE}/log")
    return FakeRollback


def test_rollback_says_what_is_lost_before_it_asks(
    asked: type[FakeRollback], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (move_commands, prompt):
        monkeypatch.setattr(module, "consents", lambda _, question: print(question) is not None)
    assert commands.run(config(), options("rollback")) == 1
    assert capsys.readouterr().out == "one image is lost\nDocker stops.\n"
    assert not asked.begun


def test_rollback_with_consent_goes_on_in_a_unit(asked: type[FakeRollback], monkeypatch: pytest.MonkeyPatch) -> None:
    assert commands.run(config(), options("rollback", yes=True)) == 0
    assert asked.begun == (("snapshot", "rollback", "--foreground"),)
    monkeypatch.setattr(unit, "has_failed", lambda: True)
    assert commands.run(config(), options("rollback", yes=True)) == 1


@pytest.mark.parametrize("ended", [Journal(""), Journal("", phase=journal.DONE, since=1)])
def test_rollback_that_another_move_forestalled_is_none(
    asked: type[FakeRollback], monkeypatch: pytest.MonkeyPatch, ended: Journal
) -> None:
    monkeypatch.setattr(asked, "journal", ended)
    with pytest.raises(Failed, match="did not return to its snapshot: another move began"):
        commands.run(config(), options("rollback", yes=True))


def test_rollback_beside_a_move_is_refused(asked: type[FakeRollback], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "is_under_way", lambda *_: True)
    with pytest.raises(Failed, match="another move or rollback is under way: `bulkhead relocate --join` watches it"):
        commands.run(config(), options("rollback", yes=True))
    assert not asked.begun


def test_failure_in_the_unit_is_written_for_those_who_watch(asked: type[FakeRollback]) -> None:
    del asked
    with contextlib.suppress(FileNotFoundError):
        os.remove(unit.LOG)
    assert commands.run(config(), options("rollback", foreground=True)) == 1
    assert "failed: the volume is in use" in Path(unit.LOG).read_text()


# -- moves of Docker's data


def test_docker_moves_neither_on_nor_off_its_volume_while_one_stands(
    group: FakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    monkeypatch.setattr(Relocation, "is_pending", True)
    monkeypatch.setattr(Relocation, "relocate", lambda _: moved.append("on"))
    monkeypatch.setattr(Relocation, "roll_back", lambda _: moved.append("off"))
    group.add()
    back = argparse.Namespace(directory="/var/lib/docker", foreground=False, yes=True)
    Journal(journal.PATH).enter(journal.DONE)
    for move in (
        lambda: move_commands._move(config(), []),
        lambda: move_commands._roll_back(config(), back.directory),
        lambda: move_commands.rollback(config(), back),
    ):
        with pytest.raises(
            Failed, match=f"the snapshot ubuntu-vg/{NAME} is older than the move.*`bulkhead snapshot drop`"
        ):
            move()
    assert not moved
    assert "is older than the move" in Journal.load(journal.PATH).reason
    group.volumes.pop(NAME)
    move_commands._move(config(), [])
    move_commands._roll_back(config(), back.directory)
    assert moved == ["on", "off"]


def test_move_goes_back_without_the_volumes_group(group: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    monkeypatch.setattr(Relocation, "roll_back", lambda _: moved.append("off"))
    group.volumes.clear()
    group.is_gone = True
    move_commands._roll_back(config(), "/var/lib/docker")
    assert moved == ["off"]


@pytest.mark.parametrize("action", ["list", "drop", "create", "rollback"])
def test_volume_that_is_no_logical_volume_has_no_snapshots(
    group: FakeGroup, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    options = argparse.Namespace(action=action, json=False, size=None, foreground=False, yes=True)
    adopted = config(vg_name="")
    del group
    if action in ("list", "drop"):
        assert commands.run(adopted, options) == 0
        assert capsys.readouterr().out.startswith("This host's Docker volume is no logical volume")
    else:
        with pytest.raises(Problem, match="This host's Docker volume is no logical volume"):
            commands.run(adopted, options)
    assert snapshots.ours(adopted) == []
