"""Simulate a volume, and those who write to it: builds, containers and Docker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bulkhead import state
from bulkhead.config import Config
from bulkhead.docker.clients import Client
from bulkhead.docker.steps import BuildStep
from bulkhead.guard.loop import Guard

from ..configs import config

M, G = 2**20, 2**30
FLOOR = 2 * G
INODE_FLOOR = 130_000
DOCKER = "docker"
OTHERS = "others"  # containers, people


class World:
    """A volume of 40 GiB, and those who write to it."""

    size = 40 * G
    inodes = 2_600_000

    def __init__(self, free: float) -> None:
        self.now = 1000.0
        self.free = self.lowest = free
        self.rates: dict[str, float] = {}  # bytes per second, by step, or DOCKER or OTHERS
        self.written: dict[str, float] = {}
        self.inodes_free = self.fewest_inodes = 2_000_000.0
        self.file_rates: dict[str, float] = {}  # files per second, by step, or DOCKER or OTHERS
        self.files: dict[str, float] = {}
        self.cached_files = 0.0
        self.coming: list[tuple[float, float, float]] = []  # when space and inodes come back, and how much
        self.returns_after = 1.0
        self.aborted: list[str] = []
        self.interrupted: list[str] = []
        self.building: list[Client] = []
        self.pulling: list[Client] = []
        self.classic: list[str] = []
        self.similar: list[str] = []
        self.nested: list[str] = []  # steps of a Docker in a container
        self.cache = 0.0
        self.journal: list[str] = []
        self.news: list[tuple[int, str]] = []
        self.ballast = 0
        self.is_docker_up = True
        self.is_mounted = True

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.free -= grow(self.written, self.rates, seconds, self.free)
        self.inodes_free -= grow(self.files, self.file_rates, seconds, self.inodes_free)
        come = [each for each in self.coming if each[0] <= self.now]
        self.free = max(self.free + sum(size for _, size, _ in come), 0)
        self.inodes_free = max(self.inodes_free + sum(files for *_, files in come), 0)
        self.coming = [each for each in self.coming if each[0] > self.now]
        self.lowest = min(self.lowest, self.free)
        self.fewest_inodes = min(self.fewest_inodes, self.inodes_free)

    def build(
        self,
        name: str,
        rate: float,
        written: float = 0,
        classic: bool = False,
        nested: bool = False,
        files: float = 0,
    ) -> None:
        self.rates[name], self.written[name] = rate, written
        self.file_rates[name] = files
        if nested:
            self.nested.append(name)
        if classic:
            self.classic.append(name)

    def step(self, name: str) -> BuildStep:
        container = f"container {name}" if name in self.classic else ""
        return BuildStep(
            name, 1, f"/cgroup/{name}", int(self.written[name]), f"make {name}", container, name in self.nested
        )

    def steps(self) -> list[BuildStep]:
        return [self.step(name) for name in self.rates if name not in (DOCKER, OTHERS, *self.classic, *self.nested)]

    def nested_steps(self) -> list[BuildStep]:
        return [self.step(name) for name in self.nested if name in self.rates]

    def inspect(self, step: BuildStep) -> BuildStep | None:
        return self.step(step.id) if step.id in self.rates else None

    def abort(self, step: BuildStep, why: str) -> None:
        assert "floor" in why
        self.aborted.append(step.id)
        del self.rates[step.id], self.file_rates[step.id]
        if not step.container:
            self.remove(step.id)

    def remove(self, step: str) -> None:
        """Remove the container that a failed step of the classic builder leaves."""
        self.coming.append((self.now + self.returns_after, self.written[step], self.files.get(step, 0)))

    def interrupt(self, client: Client, why: str) -> bool:
        assert "floor" in why
        self.interrupted.append(client.words)
        self.building = [each for each in self.building if each != client]
        self.pulling = [each for each in self.pulling if each != client]
        if not self.building + self.pulling:
            self.rates.pop(DOCKER, None)
            self.file_rates.pop(DOCKER, None)
        return True

    def counts(self, _: str) -> Any:
        return SimpleNamespace(
            f_fsid=7,
            f_frsize=1,
            f_blocks=self.size,
            f_bfree=int(self.free),
            f_bavail=int(self.free),
            f_files=self.inodes,
            f_ffree=int(self.inodes_free),
        )

    def inodes_in_memory(self, cgroup: str) -> int:
        name = cgroup.rpartition("/")[2]
        return int(self.files.get(DOCKER if name == "docker.service" else name, 0))

    def give_back(self, _: Config) -> int:
        size, self.ballast = self.ballast, 0
        self.free += size
        return size

    def take(self, config: Config) -> bool:
        if self.ballast:
            return False
        self.ballast = config.guard_ballast
        self.free -= config.guard_ballast
        return True


def grow(amounts: dict[str, float], rates: dict[str, float], seconds: float, free: float) -> float:
    """Let everybody write. Nobody can write more than is free: all get their share of it."""
    wanted = sum(rates.values()) * seconds
    for name, rate in rates.items():
        amounts[name] = amounts.get(name, 0) + rate * seconds * min(free / (wanted or 1), 1)
    return min(wanted, free)


class EndlessJob:
    """A job that runs until it is stopped."""

    result, error = None, ""

    def __init__(self, *_: Any) -> None:
        pass

    def has_ended(self) -> bool:
        return bool(self.error)

    def stop(self, why: str) -> None:
        self.error = why


class InstantJob:
    """A job that ends at once."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result, self.error = None, ""
        try:
            self.result = json.loads(json.dumps(work()))
        except Exception as error:
            self.error = str(error)

    def has_ended(self) -> bool:
        return True


def run_guard(world: World, seconds: float, guard: Guard | None = None, **changed: Any) -> Guard:
    """Let a guard work for so many seconds; without one, start it with the changed settings."""
    guard = guard or Guard(config(**changed))
    until = world.now + seconds
    while world.now < until:
        world.advance(guard.round(world.now) + 0.005)
    return guard


def assert_floor_kept(world: World, missed: float) -> None:
    assert world.lowest > FLOOR - missed, f"{(FLOOR - world.lowest) / M:.0f} MiB below the floor"


def saved() -> Any:
    """Return the content of the guard's state file."""
    return json.loads((Path(state.VOLATILE) / "guard.json").read_text())
