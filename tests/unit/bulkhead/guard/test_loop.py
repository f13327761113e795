"""The loop goes on after failures, takes over a new configuration, and notifies systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state
from bulkhead.config import Config
from bulkhead.docker import cgroups, steps
from bulkhead.errors import Problem
from bulkhead.guard import job_runner, loop
from bulkhead.guard.loop import Guard
from bulkhead.sizes import Size
from bulkhead.watch.results import WARNING

from ..configs import config
from .world import OTHERS, G, M, World, assert_floor_kept, run_guard


def test_turn_that_fails_is_reported_once_and_the_loop_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "steps_of", lambda _: 1 / 0)
    world.free = 4 * G
    world.build("big", 100 * M)
    guard = run_guard(world, 10)
    assert len([line for line in world.journal if "ZeroDivisionError" in line]) == 1
    monkeypatch.setattr(steps, "steps_of", lambda _: world.steps())
    run_guard(world, 30, guard)
    assert world.aborted == ["big"]


def test_builds_are_stopped_on_a_host_that_cannot_fork(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(job_runner, "Job", fail)
    monkeypatch.setattr(state, "make_volatile", fail)
    world.free = 4 * G
    world.build("big", 100 * M)
    run_guard(world, 60)
    assert world.aborted == ["big"]
    assert_floor_kept(world, 0)


def test_changed_configuration_applies_within_seconds_and_a_broken_one_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = run_guard(world, 10)
    monkeypatch.setattr(Config, "load", lambda: config(guard_floor=Size.parse("10G")))
    Path(loop.CONFIGURATION).write_text("1")
    run_guard(world, 16, guard)
    assert guard.volume.space.floor == 10 * G

    def broken() -> Config:
        raise Problem("broken")

    monkeypatch.setattr(Config, "load", broken)
    Path(loop.CONFIGURATION).unlink()
    run_guard(world, 16, guard)
    assert guard.volume.space.floor == 10 * G
    assert any("broken" in line for line in world.journal)


def test_of_two_turns_at_rest_one_looks_at_nothing_but_the_volume(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = run_guard(world, 60)
    turns: list[float] = []
    monkeypatch.setattr(guard.build_limits, "check", turns.append)
    run_guard(world, 60, guard)
    assert 58 <= len(turns) <= 60
    world.rates[OTHERS] = 100 * M
    run_guard(world, 16, guard)
    assert len(turns) >= 75, "it still rests while the volume fills"


def test_volume_that_cannot_be_read_while_the_guard_rests_does_not_stop_its_sign_of_life(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = run_guard(world, 60)
    signs: list[float] = []
    monkeypatch.setattr(loop, "_notify", lambda _: signs.append(world.now))

    def fail(_: str) -> Any:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "statvfs", fail)
    world.is_mounted = False  # somebody has unmounted it, and removed the directory
    run_guard(world, 60, guard)
    assert len(signs) >= 6, "systemd would kill it"
    assert any("is not mounted" in line for line in world.journal)


def test_volume_that_lost_its_marker_is_guarded_within_seconds_of_its_return(world: World) -> None:
    guard = run_guard(world, 60)
    world.is_mounted = False
    while guard.volume.is_mounted:
        run_guard(world, 1, guard)
    world.is_mounted = True
    run_guard(world, 11, guard)
    assert guard.volume.is_mounted


def test_replaced_program_ends(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    monkeypatch.setattr("sys.argv", [str(program)])
    guard = run_guard(world, 60)
    program.unlink()
    run_guard(world, 16, guard)
    program.touch()
    os.utime(program, (1, 1))
    with pytest.raises(SystemExit) as ended:
        run_guard(world, 16, guard)
    assert ended.value.code == 0


def test_turn_that_fails_does_not_write_the_state_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = run_guard(world, 40)
    path = Path(state.VOLATILE) / "guard.json"
    path.unlink()
    world.rates[OTHERS] = M
    monkeypatch.setattr(guard.volume.space.rate, "add", lambda *_: 1 / 0)
    run_guard(world, 300, guard)
    assert not path.exists()


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify") if request.param == "file" else f"@bulkhead-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path.replace("@", "\0"))
        listener.settimeout(5)
        yield listener


@pytest.mark.parametrize(("version", "reported"), [(1, [WARNING]), (2, [])])
def test_host_without_cgroup_v2_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int, reported: list[int]
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", str(tmp_path))
    if version == 2:
        (tmp_path / "cgroup.controllers").touch()
    guard = Guard(config())
    guard.begin()
    run_guard(world, 10, guard)
    assert [level for level, text in world.news if "cgroup v2" in text] == reported


def test_systemd_is_notified_that_the_guard_is_ready_and_alive(world: World, systemd: socket.socket) -> None:
    guard = Guard(config())
    guard.begin()
    assert systemd.recv(100) == b"READY=1"
    run_guard(world, 1, guard)
    assert systemd.recv(100).startswith(b"WATCHDOG=1\nSTATUS=")
