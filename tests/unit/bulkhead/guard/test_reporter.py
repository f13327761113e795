"""The guard reports what it does, and what it leaves alone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from bulkhead import state
from bulkhead.guard import jobs
from bulkhead.watch.results import WARNING

from .world import FLOOR, OTHERS, G, M, World, saved, watched


def test_trickle_below_the_floor_is_told_seldom(world: World) -> None:
    world.free = FLOOR - 100 * M
    world.rates[OTHERS] = 2048
    guarded = watched(world, 2000, alert_reminder=0.1)
    reported = [text for _, text in world.news if "no build that the guard may stop" in text]
    assert len(reported) == 3  # at once, after 6 minutes, after 12 more
    assert "is below its floor" in reported[0]
    world.rates[OTHERS] = 2 * M
    watched(world, 250, guarded)  # a tenth of the floor every 100 s
    assert len([text for _, text in world.news if "no build that the guard may stop" in text]) == 5
    del world.rates[OTHERS]
    world.free = 9 * G
    watched(world, 700, guarded)
    assert guarded.unstoppable._reported is None


def test_what_fills_it_fast_above_the_floor_is_told_once(world: World) -> None:
    world.free, guarded = FLOOR + 8 * G, None
    for _ in range(2):
        world.free = FLOOR + 8 * G
        world.rates[OTHERS] = 4 * G
        guarded = watched(world, 1.7, guarded)
        del world.rates[OTHERS]
        watched(world, 8, guarded)
    assert len([text for _, text in world.news if "no build that the guard may stop" in text]) == 1


def test_file_that_is_put_there_all_at_once_is_told_only_if_it_goes_on_to_grow(world: World) -> None:
    guarded = watched(world, 10)
    world.free = FLOOR + 500 * M
    watched(world, 20, guarded)
    assert world.news == []


def test_containers_that_only_look_like_steps_are_told_and_left_alone(world: World) -> None:
    world.free, world.similar = 4 * G, ["database"]
    world.rates[OTHERS] = 100 * M
    watched(world, 30)
    assert world.aborted == []
    assert any("look like a build's steps: database" in text for _, text in world.news)


def test_stopped_build_is_told_with_what_it_wrote_and_why(world: World) -> None:
    world.free = 4 * G
    world.build("big", 100 * M)
    watched(world, 60)
    (reported,) = [line for line in world.journal if line.startswith("stops the build")]
    assert "`make big`, which has written 1." in reported
    assert "below its floor of 2.0G" in reported
    assert [level for level, text in world.news if "has stopped the build" in text] == [WARNING]


def test_what_was_stopped_is_remembered_over_a_restart(world: World) -> None:
    world.free = 4 * G
    world.build("big", 100 * M)
    watched(world, 60)
    watched(world, 1)
    assert saved()["aborted"][0]["words"] == "make big"
    assert saved()["aborted"][0]["written"] > G
    assert saved()["aborted_total"] == 1
    assert saved()["floor"] == FLOOR


@pytest.mark.parametrize("content", ["", "[]", '{"aborted": 7, "aborted_total": "x", "reclaimed": []}', "\0"])
def test_damaged_state_is_no_obstacle(world: World, content: str) -> None:
    Path(state.VOLATILE).mkdir()
    (Path(state.VOLATILE) / "guard.json").write_text(content)
    watched(world, 40)
    assert saved()["aborted"] == []


def test_alert_that_fails_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "send_alerts", lambda *_: 1 / 0)
    world.free = 4 * G
    for name in ("a", "b"):
        world.build(name, 100 * M)
    watched(world, 60)
    assert sorted(world.aborted) == ["a", "b"]


def test_news_that_could_not_be_told_are_told_later_and_the_last_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = jobs.send_alerts
    monkeypatch.setattr(jobs, "send_alerts", lambda *_: 1 / 0)
    guarded = watched(world, 1)
    for number in range(60):
        guarded.reporter.alert(WARNING, f"news {number}")
    watched(world, 30, guarded)
    assert world.news == []
    monkeypatch.setattr(jobs, "send_alerts", tell)
    watched(world, 30, guarded)
    assert world.news == [(WARNING, f"news {number}") for number in range(10, 60)]


def test_journal_that_takes_nothing_is_not_waited_for() -> None:
    kept = os.dup(1)
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"x" * 4096)
    os.dup2(write, 1)
    try:
        jobs.say("a line")
    finally:
        os.dup2(kept, 1)
        for descriptor in (kept, read, write):
            os.close(descriptor)
