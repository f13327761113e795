"""The simulated volume, in place of the host's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bulkhead import state
from bulkhead.config import Config
from bulkhead.docker import running_builds
from bulkhead.guard import ballast, job_runner, jobs, loop, volume_monitor

from .world import DOCKER, G, InstantJob, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World(20 * G)
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(loop, "CONFIGURATION", str(tmp_path / "bulkhead.json"))
    monkeypatch.setattr(os, "statvfs", world.counts)
    monkeypatch.setattr(volume_monitor, "is_mounted", lambda _: world.is_mounted)
    monkeypatch.setattr(jobs, "say", world.journal.append)
    monkeypatch.setattr(running_builds, "dockerd", lambda: int(world.is_docker_up))
    monkeypatch.setattr(running_builds, "steps", lambda _: world.steps())
    monkeypatch.setattr(running_builds, "refreshed", world.again)
    monkeypatch.setattr(running_builds, "written_by_docker", lambda _: int(world.written.get(DOCKER, 0)))
    monkeypatch.setattr(running_builds, "abort", world.abort)
    monkeypatch.setattr(running_builds, "clients", lambda: (world.building, world.pulling))
    monkeypatch.setattr(running_builds, "interrupt", world.interrupt)
    monkeypatch.setattr(ballast, "take", world.take)
    monkeypatch.setattr(ballast, "give_back", world.give_back)
    monkeypatch.setattr(ballast, "held", lambda _: world.ballast)
    monkeypatch.setattr(job_runner, "Job", lambda work, _: InstantJob(work))
    monkeypatch.setattr(
        jobs,
        "classic_steps",
        lambda: ([world.step(name) for name in world.classic if name in world.rates], world.similar),
    )

    monkeypatch.setattr(jobs, "remove_step", world.remove)

    def reclaim(_: Config, need: int) -> int:
        came = min(world.cache, max(need - world.free, 0))
        world.cache -= came
        world.free += came
        return int(came)

    monkeypatch.setattr(jobs, "reclaim_cache", reclaim)

    def alert(_: Config, news: list[tuple[int, str, bool]]) -> int:
        world.news += [(level, text) for level, text, _ in news]
        return len(news)

    monkeypatch.setattr(jobs, "send_alerts", alert)
    return world
