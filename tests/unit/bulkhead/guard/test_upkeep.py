"""The guard drops snapshots, rescues Docker, and notices that cron no longer checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state
from bulkhead.guard import job_runner, jobs
from bulkhead.guard.loop import Guard
from bulkhead.watch.results import CRITICAL, OK, WARNING

from ..configs import config
from .world import FLOOR, EndlessJob, InstantJob, M, World, run_guard


def test_missed_checks_are_reported_and_so_is_their_return(world: World) -> None:
    guard = run_guard(world, 46 * 60, check_interval=15)
    assert [text for level, text in world.news if level == WARNING] == [
        "check-disk has not run for 45 min: `systemctl status cron` may say why"
    ]
    Path(state.PERSISTENT).mkdir()
    (Path(state.PERSISTENT) / "check.json").write_text("{}")
    run_guard(world, 60, guard)
    assert (OK, "cron runs check-disk again") in world.news


def test_regular_checks_are_not_missed_whatever_the_clock_says(world: World) -> None:
    Path(state.PERSISTENT).mkdir()
    path = Path(state.PERSISTENT) / "check.json"
    guard = Guard(config())
    for number in range(8):
        path.write_text("{}")
        os.utime(path, (number * -9_000_000, number * -9_000_000 if number % 2 else 4_000_000_000))
        run_guard(world, 15 * 60, guard)
    assert world.news == []


def test_snapshot_that_is_due_is_dropped_and_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "due_snapshots", lambda _: [("s", "it was 91 % full")])
    monkeypatch.setattr(jobs, "drop_due_snapshots", lambda _: ["the snapshot s has been dropped: it was 91 % full"])
    exists = {"/dev/ubuntu-vg/docker-lv-snapshot"}
    monkeypatch.setattr(os.path, "lexists", lambda path: path in exists)
    guard = run_guard(world, 6)
    exists.clear()
    run_guard(world, 60, guard)
    assert world.news == [(WARNING, "the snapshot s has been dropped: it was 91 % full")]


@pytest.mark.parametrize(
    ("due", "is_killed"), [([], False), ([("s", "it is 91 % full, and would soon be lost")], True)]
)
def test_snapshot_stops_a_reclaim_only_when_it_must_go(
    world: World, monkeypatch: pytest.MonkeyPatch, due: list[tuple[str, str]], is_killed: bool
) -> None:
    monkeypatch.setattr(job_runner, "Job", EndlessJob)
    world.free = FLOOR - M
    guard = run_guard(world, 20)
    reclaim = guard.runner._jobs["reclaim"][0]
    monkeypatch.setattr(job_runner, "Job", lambda work, _: InstantJob(work))
    monkeypatch.setattr(jobs, "due_snapshots", lambda _: due)
    monkeypatch.setattr(jobs, "drop_due_snapshots", lambda _: [])
    monkeypatch.setattr(os.path, "lexists", lambda path: path == "/dev/ubuntu-vg/docker-lv-snapshot")
    run_guard(world, 40, guard)
    assert bool(reclaim.error) == is_killed


@pytest.mark.parametrize(("setting", "times"), [(True, 2), (False, 0)])
def test_docker_that_a_full_volume_stopped_is_rescued_every_ten_minutes(
    world: World, monkeypatch: pytest.MonkeyPatch, setting: bool, times: int
) -> None:
    rescued: list[float] = []
    monkeypatch.setattr(jobs, "rescue_docker", lambda _: rescued.append(world.now))
    world.free, world.is_docker_up = M, False
    run_guard(world, 900, guard_rescue=setting)
    assert len(rescued) == times


def test_docker_that_a_volume_without_inodes_stopped_is_rescued(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rescued: list[float] = []
    monkeypatch.setattr(jobs, "rescue_docker", lambda _: rescued.append(world.now))
    world.inodes_free, world.is_docker_up = 10.0, False
    run_guard(world, 60, guard_rescue=True)
    assert len(rescued) == 1


def test_running_rescue_is_not_started_again_and_gets_the_lock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "Job", EndlessJob)
    world.free = FLOOR - M
    guard = run_guard(world, 20, guard_rescue=True)
    assert {*guard.runner._jobs} == {"reclaim"}
    reclaim = guard.runner._jobs["reclaim"][0]
    world.is_docker_up = False
    run_guard(world, 60, guard)
    assert "more urgent" in reclaim.error
    rescue = guard.runner._jobs["rescue"][0]
    run_guard(world, 900, guard)
    assert guard.runner._jobs["rescue"][0] is rescue


def test_rescue_has_time_for_dockers_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: dict[str, float] = {}
    start = job_runner.JobRunner.start

    def spy(runner: job_runner.JobRunner, name: str, work: Any, seconds: float, then: Any) -> None:
        timeouts[name] = seconds
        start(runner, name, work, seconds, then)

    monkeypatch.setattr(job_runner.JobRunner, "start", spy)
    monkeypatch.setattr(jobs, "rescue_docker", lambda _: None)
    world.free, world.is_docker_up = M, False
    run_guard(world, 60, guard_rescue=True, docker_start_limit=7200)
    assert timeouts["rescue"] == 7200 + 900


@pytest.mark.parametrize(("wrong", "level", "end"), [([], WARNING, "has been"), (["no space"], CRITICAL, "no space")])
def test_result_of_a_rescue_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: list[str], level: int, end: str
) -> None:
    monkeypatch.setattr(jobs, "rescue_docker", lambda _: (["the ballast is given back"], wrong))
    world.free, world.is_docker_up = M, False
    run_guard(world, 60, guard_rescue=True)
    assert [(reported, end in text) for reported, text in world.news if "stopped by its full volume" in text] == [
        (level, True)
    ]


def test_rescue_that_keeps_failing_is_reported_as_often_as_reminders_are(world: World) -> None:
    guard = Guard(config(alert_reminder=1))
    for attempt in range(14):  # one every ten minutes
        guard.rescuer._last = attempt * 600.0
        guard.rescuer._report((["the ballast is given back"], ["no space"] if attempt < 13 else []))
    assert len([line for line in world.journal if "could not be brought back: no space" in line]) == 3
    assert "The guard tries it again every 10 min" in world.journal[0]
    assert "has been brought back" in world.journal[-1]
