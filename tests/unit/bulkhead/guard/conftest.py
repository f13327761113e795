"""Replace the host's volume, processes and Docker with a simulated world."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bulkhead import state
from bulkhead.config import Config
from bulkhead.docker import clients, engines, steps
from bulkhead.guard import (
    ballast,
    build_limits,
    job_runner,
    jobs,
    loop,
    reservations,
    stopper,
    supply,
    volume_monitor,
    writers,
)

from .world import DOCKER, G, InstantJob, World

MEMORY = "/dev/shm"


@pytest.fixture
def run_directory(tmp_path: Path) -> Iterator[Path]:
    """Yield a directory in memory, as /run is: the guard writes there once a second."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path) as directory:
        (Path(directory) / "builds").mkdir()
        os.utime(Path(directory) / "builds", (1, 1))
        yield Path(directory)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_directory: Path) -> World:
    world = World(20 * G)
    monkeypatch.setattr(state, "VOLATILE", str(run_directory / "bulkhead"))
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(reservations, "DIRECTORY", str(run_directory / "builds"))
    monkeypatch.setattr(reservations, "DOCKER_API", str(run_directory / "docker.sock"))
    monkeypatch.setattr(loop, "CONFIGURATION", str(tmp_path / "bulkhead.json"))
    monkeypatch.setattr(os, "statvfs", world.counts)
    for module in (stopper, writers, build_limits):  # what a scan costs on a busy machine is no part of the world
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: world.now, time=time.time))
    monkeypatch.setattr(volume_monitor, "is_mounted", lambda _: world.is_mounted)
    monkeypatch.setattr(jobs, "say", world.journal.append)
    monkeypatch.setattr(engines, "dockerd", lambda: int(world.is_docker_up))
    monkeypatch.setattr(steps, "steps_of", lambda _: world.steps())
    monkeypatch.setattr(steps, "refreshed", world.inspect)
    monkeypatch.setattr(engines, "nested_engines", list)
    monkeypatch.setattr(steps, "nested_steps", lambda *_: world.nested_steps())
    monkeypatch.setattr(engines, "written_by_docker", lambda *_: int(world.written.get(DOCKER, 0)))
    monkeypatch.setattr(supply, "_inodes_in_memory", world.inodes_in_memory)
    monkeypatch.setattr(steps, "abort", world.abort)
    monkeypatch.setattr(clients, "find_clients", lambda: (world.building, world.pulling))
    monkeypatch.setattr(clients, "interrupt", world.interrupt)
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

    def reclaim(_: Config, space: int, inodes: int) -> tuple[int, int]:
        came = min(world.cache, max(space - world.free, 0))
        files = min(world.cached_files, max(inodes - world.inodes_free, 0))
        world.cache -= came
        world.cached_files -= files
        world.free += came
        world.inodes_free += files
        return int(came), int(files)

    monkeypatch.setattr(jobs, "reclaim_cache", reclaim)

    def alert(_: Config, news: list[tuple[int, str, bool, bool]]) -> int:
        world.news += [(level, text) for level, text, *_ in news]
        return len(news)

    monkeypatch.setattr(jobs, "send_alerts", alert)
    return world
