"""The guard reports what it does, and what it leaves alone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from bulkhead import state
from bulkhead.guard import jobs
from bulkhead.watch.results import WARNING

from .world import FLOOR, INODE_FLOOR, OTHERS, G, M, World, run_guard, saved


def test_slow_growth_below_the_floor_is_reported_seldom(world: World) -> None:
    world.free = FLOOR - 100 * M
    world.rates[OTHERS] = 2048
    guard = run_guard(world, 300, alert_reminder=0.02)
    reported = [text for _, text in world.news if "no build that the guard may stop" in text]
    assert len(reported) == 3  # at once, after 72 seconds, after 144 more
    assert "is below its floor" in reported[0]
    world.rates[OTHERS] = 2 * M
    run_guard(world, 250, guard)  # a tenth of the floor every 100 s
    assert len([text for _, text in world.news if "no build that the guard may stop" in text]) == 5
    del world.rates[OTHERS]
    world.free = 9 * G
    run_guard(world, 700, guard)
    assert guard.unstoppable[guard.volume.space]._reported is None


def test_two_fast_bursts_above_the_floor_are_reported_once(world: World) -> None:
    world.free, guard = FLOOR + 8 * G, None
    for _ in range(2):
        world.free = FLOOR + 8 * G
        world.rates[OTHERS] = 4 * G
        guard = run_guard(world, 1.7, guard)
        del world.rates[OTHERS]
        run_guard(world, 8, guard)
    assert len([text for _, text in world.news if "no build that the guard may stop" in text]) == 1


def test_file_that_appears_all_at_once_is_not_reported_unless_it_grows(world: World) -> None:
    guard = run_guard(world, 10)
    world.free = FLOOR + 500 * M
    run_guard(world, 20, guard)
    assert world.news == []


def test_containers_that_only_look_like_steps_are_named_and_left_alone(world: World) -> None:
    world.free, world.similar = 4 * G, ["database"]
    world.rates[OTHERS] = 100 * M
    run_guard(world, 30)
    assert world.aborted == []
    assert any("look like a build's steps: database" in text for _, text in world.news)


def test_stopped_build_is_reported_with_what_it_wrote_and_why(world: World) -> None:
    world.free = 4 * G
    world.build("big", 100 * M)
    run_guard(world, 60)
    (reported,) = [line for line in world.journal if line.startswith("stops the build")]
    assert "`make big`, which has written 1." in reported
    assert "below its floor of 2.0G" in reported
    assert [level for level, text in world.news if "has stopped the build" in text] == [WARNING]


def test_stopped_builds_are_remembered_over_a_restart(world: World) -> None:
    world.free = 4 * G
    world.build("big", 100 * M)
    run_guard(world, 60)
    run_guard(world, 1)
    assert saved()["aborted"][0]["words"] == "make big"
    assert saved()["aborted"][0]["written"] > G
    assert saved()["aborted_total"] == 1
    assert saved()["floor"] == FLOOR


def test_state_file_has_the_floor_for_inodes_and_what_is_free(world: World) -> None:
    run_guard(world, 1)
    assert (saved()["inode_floor"], saved()["inodes_free"]) == (INODE_FLOOR, 2_000_000)


@pytest.mark.parametrize("content", ["", "[]", '{"aborted": 7, "aborted_total": "x", "reclaimed": []}', "\0"])
def test_damaged_state_is_no_obstacle(world: World, content: str) -> None:
    Path(state.VOLATILE).mkdir()
    (Path(state.VOLATILE) / "guard.json").write_text(content)
    run_guard(world, 40)
    assert saved()["aborted"] == []


def test_alert_that_fails_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "send_alerts", lambda *_: 1 / 0)
    world.free = 4 * G
    for name in ("a", "b"):
        world.build(name, 100 * M)
    run_guard(world, 60)
    assert sorted(world.aborted) == ["a", "b"]


def test_alerts_that_could_not_be_sent_are_sent_later_up_to_the_last_fifty(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_alerts = jobs.send_alerts
    monkeypatch.setattr(jobs, "send_alerts", lambda *_: 1 / 0)
    guard = run_guard(world, 1)
    for number in range(60):
        guard.reporter.alert(WARNING, f"news {number}")
    run_guard(world, 30, guard)
    assert world.news == []
    monkeypatch.setattr(jobs, "send_alerts", send_alerts)
    run_guard(world, 30, guard)
    assert world.news == [(WARNING, f"news {number}") for number in range(10, 60)]


def test_guard_does_not_wait_for_a_journal_that_takes_nothing() -> None:
    kept = os.dup(1)
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"x" * 4096)
    os.dup2(write, 1)
    try:
        jobs.say("a line")
        assert os.read(read, 8192) == b"x" * 4096
    finally:
        os.dup2(kept, 1)
        for descriptor in (kept, read, write):
            os.close(descriptor)
