"""What the guard does, on a volume that is simulated: builds, containers and Docker write to it, cache comes back."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import state
from bulkhead.config import Config
from bulkhead.docker import running_builds
from bulkhead.docker.running_builds import BuildStep, Client
from bulkhead.errors import Problem
from bulkhead.guard import ballast, jobs, loop
from bulkhead.guard.loop import Guard, Stopped, expected
from bulkhead.sizes import Size
from bulkhead.storage import volume
from bulkhead.storage.volume import floor_of
from bulkhead.watch.findings import CRITICAL, OK, WARNING

from ..configs import config
from ..fake_engine import Query, fake_engine

M, G = 2**20, 2**30
FLOOR = 2 * G
DOCKER = "docker"
OTHERS = "others"  # containers, people


class World:
    """A volume of 40 GiB, and who writes to it."""

    size = 40 * G

    def __init__(self, free: float) -> None:
        self.now = 1000.0
        self.free = self.lowest = free
        self.rates: dict[str, float] = {}  # bytes per second, by step, or DOCKER or OTHERS
        self.written: dict[str, float] = {}
        self.coming: list[tuple[float, float]] = []  # when how much comes back
        self.returns_after = 1.0
        self.aborted: list[str] = []
        self.interrupted: list[str] = []
        self.building: list[Client] = []
        self.pulling: list[Client] = []
        self.classic: list[str] = []
        self.similar: list[str] = []
        self.cache = 0.0
        self.said: list[str] = []
        self.news: list[tuple[int, str]] = []
        self.ballast = 0
        self.is_docker_up = True
        self.is_mounted = True

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        for name, rate in self.rates.items():
            self.written[name] = self.written.get(name, 0) + rate * seconds
            self.free -= rate * seconds
        self.free = max(self.free + sum(size for at, size in self.coming if at <= self.now), 0)
        self.coming = [(at, size) for at, size in self.coming if at > self.now]
        self.lowest = min(self.lowest, self.free)

    def build(self, name: str, rate: float, written: float = 0, classic: bool = False) -> None:
        self.rates[name], self.written[name] = rate, written
        if classic:
            self.classic.append(name)

    def step(self, name: str) -> BuildStep:
        container = f"container {name}" if name in self.classic else ""
        return BuildStep(name, 1, f"/cgroup/{name}", int(self.written[name]), f"make {name}", container)

    def steps(self) -> list[BuildStep]:
        return [self.step(name) for name in self.rates if name not in (DOCKER, OTHERS, *self.classic)]

    def again(self, step: BuildStep) -> BuildStep | None:
        return self.step(step.id) if step.id in self.rates else None

    def abort(self, step: BuildStep, why: str) -> None:
        assert "floor" in why
        self.aborted.append(step.id)
        del self.rates[step.id]
        if not step.container:
            self.coming.append((self.now + self.returns_after, self.written[step.id]))

    def remove(self, step: str) -> None:
        """Of a build without BuildKit a step that fails leaves its container."""
        self.coming.append((self.now + self.returns_after, self.written[step]))

    def interrupt(self, client: Client, why: str) -> bool:
        assert "floor" in why
        self.interrupted.append(client.words)
        self.building = [each for each in self.building if each != client]
        self.pulling = [each for each in self.pulling if each != client]
        if not self.building + self.pulling:
            self.rates.pop(DOCKER, None)
        return True

    def counts(self, _: str) -> Any:
        return SimpleNamespace(
            f_fsid=7,
            f_frsize=1,
            f_blocks=self.size,
            f_bfree=int(self.free),
            f_bavail=int(self.free),
        )

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


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World(20 * G)
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(loop, "CONFIGURATION", str(tmp_path / "bulkhead.json"))
    monkeypatch.setattr(os, "statvfs", world.counts)
    for module in (loop, volume):
        monkeypatch.setattr(module, "is_mounted", lambda _: world.is_mounted)
    for module in (jobs, loop):
        monkeypatch.setattr(module, "say", world.said.append)
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
    monkeypatch.setattr(loop, "Job", lambda work, _: Played(work))
    for module in (jobs, loop):
        monkeypatch.setattr(
            module,
            "classic_steps",
            lambda: ([world.step(name) for name in world.classic if name in world.rates], world.similar),
        )

    for module in (jobs, loop):
        monkeypatch.setattr(module, "remove_step", world.remove)

    def reclaim(_: Config, need: int) -> int:
        came = min(world.cache, max(need - world.free, 0))
        world.cache -= came
        world.free += came
        return int(came)

    for module in (jobs, loop):
        monkeypatch.setattr(module, "reclaim_cache", reclaim)

    def alert(_: Config, news: list[tuple[int, str, bool]]) -> int:
        world.news += [(level, text) for level, text, _ in news]
        return len(news)

    for module in (jobs, loop):
        monkeypatch.setattr(module, "send_alerts", alert)
    return world


class Endless:
    """A job that goes on until it is stopped."""

    result, error = None, ""

    def __init__(self, *_: Any) -> None:
        pass

    def has_ended(self) -> bool:
        return bool(self.error)

    def stop(self, why: str) -> None:
        self.error = why


class Played:
    """A job that is done at once."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result, self.error = None, ""
        try:
            self.result = json.loads(json.dumps(work()))
        except Exception as error:
            self.error = str(error)

    def has_ended(self) -> bool:
        return True


def watched(world: World, seconds: float, guarded: Guard | None = None, **changed: Any) -> Guard:
    """Have the guard at work for a while."""
    guarded = guarded or Guard(config(**changed))
    until = world.now + seconds
    while world.now < until:
        world.pass_(guarded.round(world.now) + 0.005)
    return guarded


def assert_floor_kept(world: World, missed: float) -> None:
    assert world.lowest > FLOOR - missed, f"{(FLOOR - world.lowest) / M:.0f} MiB below the floor"


# -- the floor


@pytest.mark.parametrize(
    ("text", "size", "floor"),
    [
        ("auto", 100 * G, 5 * G),
        ("auto", 20 * G, 2 * G),
        ("auto", 6 * G, G * 3 // 2),
        ("10%", 100 * G, 10 * G),
        ("10G", 100 * G, 10 * G),
        ("10G", 12 * G, 3 * G),
    ],
)
def test_floor_is_at_most_a_quarter_of_the_volume(text: str, size: int, floor: int) -> None:
    assert floor_of(None if text == "auto" else Size.parse(text), size) == floor


# -- builds


@pytest.mark.parametrize("rate", [10 * M, 100 * M, 500 * M, 1500 * M])
@pytest.mark.parametrize("classic", [False, True])
def test_build_that_would_fill_the_volume_is_stopped_above_the_floor(world: World, rate: float, classic: bool) -> None:
    world.free = 5 * G
    guarded = watched(world, 5)
    world.build("big", rate, classic=classic)
    watched(world, 5 * G / rate + 10, guarded)
    assert world.aborted == ["big"]
    assert_floor_kept(world, rate * 0.1)
    assert world.free > 4 * G


def test_build_that_fits_is_left_alone(world: World) -> None:
    world.free = 9 * G
    world.build("big", 200 * M)
    guarded = watched(world, 25)
    del world.rates["big"]
    watched(world, 30, guarded)
    assert world.aborted == []


def test_build_that_starts_beside_the_floor_is_stopped_within_the_second(world: World) -> None:
    world.free = FLOOR + 200 * M
    guarded = watched(world, 5)
    world.build("big", 400 * M)
    watched(world, 5, guarded)
    assert world.aborted == ["big"]
    assert_floor_kept(world, 400 * M)


def test_only_the_fastest_of_several_is_stopped_where_that_is_enough(world: World) -> None:
    world.free = 6 * G
    world.build("slow", 20 * M, written=5 * G)
    world.build("fast", 300 * M)
    world.build("idle", 0, written=9 * G)
    guarded = watched(world, 20)
    assert world.aborted == ["fast"]
    del world.rates["slow"]
    watched(world, 20, guarded)
    assert world.aborted == ["fast"]
    assert_floor_kept(world, 0)


@pytest.mark.parametrize("returns_after", [0.2, 1.0, 2.8])
def test_no_more_are_stopped_than_it_takes(world: World, returns_after: float) -> None:
    """Each has written a gigabyte when the floor is near: with one of them gone, the others have room."""
    world.free, world.returns_after = FLOOR + 4 * G, returns_after
    for name in ("a", "b", "c"):
        world.build(name, 100 * M + len(world.rates) * 20 * M)
    guarded = watched(world, 14)
    assert world.aborted == ["c"]
    world.rates.clear()
    watched(world, 10, guarded)
    assert world.aborted == ["c"]
    assert_floor_kept(world, 0)


def test_all_are_stopped_one_after_the_other_where_it_takes_all(world: World) -> None:
    world.free = FLOOR + G
    for number in range(5):
        world.build(f"b{number}", 100 * M + number * 10 * M)
    watched(world, 120)
    assert world.aborted == ["b4", "b3", "b2", "b1", "b0"]
    assert_floor_kept(world, 100 * M)


def test_many_slow_ones_together_do_not_pass_the_floor(world: World) -> None:
    world.free = FLOOR + 3 * G
    for number in range(25):
        world.build(f"b{number}", 10 * M)
    watched(world, 60)
    assert world.aborted
    assert_floor_kept(world, 0)


def test_old_slow_build_without_buildkit_is_not_taken_for_a_fast_one(world: World) -> None:
    world.free = 9 * G
    world.build("old", M, written=3 * G, classic=True)
    guarded = watched(world, 10)
    world.build("fast", 300 * M)
    watched(world, 40, guarded)
    assert world.aborted == ["fast"]


def test_space_that_does_not_come_back_is_not_waited_for_below_half_the_floor(world: World) -> None:
    world.free, world.returns_after = FLOOR + 2 * G, 60.0
    for name in ("a", "b"):
        world.build(name, 300 * M)
    watched(world, 20)
    assert sorted(world.aborted) == ["a", "b"]
    assert world.lowest > FLOOR / 2


def test_kernel_that_takes_its_time_to_return_space_makes_nobody_else_suffer(world: World) -> None:
    world.free, world.returns_after = FLOOR + 3 * G, 2.5
    world.build("fast", 500 * M)
    world.build("slow", 5 * M)
    watched(world, 20)
    assert world.aborted == ["fast"]


def test_build_is_not_stopped_for_what_a_container_writes(world: World) -> None:
    world.free = 4 * G
    world.build("idle", 0, written=G)
    world.rates[OTHERS] = 100 * M
    watched(world, 30)
    assert world.aborted == []
    told = [text for level, text in world.news if level == CRITICAL]
    assert len([text for text in told if "no build that could be stopped" in text]) == 1


def test_trickle_below_the_floor_is_told_seldom(world: World) -> None:
    world.free = FLOOR - 100 * M
    world.rates[OTHERS] = 2048
    guarded = watched(world, 2000, alert_reminder=0.1)
    told = [text for _, text in world.news if "no build that could be stopped" in text]
    assert len(told) == 3  # at once, after 6 minutes, after 12 more
    assert "is below its floor" in told[0]
    world.rates[OTHERS] = 2 * M
    watched(world, 250, guarded)  # a tenth of the floor every 100 s
    assert len([text for _, text in world.news if "no build that could be stopped" in text]) == 5
    del world.rates[OTHERS]
    world.free = 9 * G
    watched(world, 700, guarded)
    assert guarded._complaint is None


def test_what_fills_it_fast_above_the_floor_is_told_once(world: World) -> None:
    world.free, guarded = FLOOR + 8 * G, None
    for _ in range(2):
        world.free = FLOOR + 8 * G
        world.rates[OTHERS] = 4 * G
        guarded = watched(world, 1.7, guarded)
        del world.rates[OTHERS]
        watched(world, 8, guarded)
    assert len([text for _, text in world.news if "no build that could be stopped" in text]) == 1


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
    (told,) = [line for line in world.said if line.startswith("stops the build")]
    assert "`make big`, which has written 1." in told
    assert "below its floor of 2.0G" in told
    assert [level for level, text in world.news if "has stopped the build" in text] == [WARNING]


def saved() -> Any:
    return json.loads((Path(state.VOLATILE) / "guard.json").read_text())


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


@pytest.mark.parametrize("answers", [[(204, None)], [(404, {})], [(409, {"message": "running"}), (204, None)]])
def test_container_of_a_stopped_step_is_removed_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[tuple[int, Any]]
) -> None:
    asked = []

    def answer(method: str, path: str, query: Query) -> tuple[int, Any]:
        asked.append((method, path, query))
        return answers.pop(0)

    with fake_engine(tmp_path / "docker.sock", answer) as engine:
        monkeypatch.setattr("bulkhead.docker.engine.Engine", lambda: engine)
        jobs.remove_step("3f")
    assert answers == []
    assert {*map(str, asked)} == {str(("DELETE", "/containers/3f", {}))}  # not by force, and no volume


# -- where no step writes


def client(pid: int, words: str) -> Client:
    return Client(pid, pid, words)


def test_client_whose_build_copies_is_interrupted(world: World) -> None:
    world.free = 4 * G
    world.rates[DOCKER] = 100 * M
    world.building = [client(1, "docker build .")]
    watched(world, 40)
    assert world.interrupted == ["docker build ."]
    assert_floor_kept(world, 0)


def test_clients_are_interrupted_one_at_a_time(world: World) -> None:
    world.free = 4 * G
    world.rates[DOCKER] = 100 * M
    world.building = [client(2, "docker build new"), client(1, "docker build old")]
    guarded = watched(world, 17)
    assert world.interrupted == []
    world.free = FLOOR
    watched(world, 1.5, guarded)
    assert world.interrupted == ["docker build new"]
    watched(world, 5, guarded)
    assert world.interrupted == ["docker build new", "docker build old"]


def test_client_whose_build_is_at_a_step_that_rests_is_left_alone(world: World) -> None:
    world.free = 4 * G
    world.build("rests", 0)
    world.rates[OTHERS] = 100 * M
    world.building = [client(1, "docker build .")]
    watched(world, 25)
    assert world.interrupted == []


def test_client_whose_step_was_stopped_and_which_ends_stands_for_nobody(world: World) -> None:
    world.free, world.returns_after = FLOOR + 2 * G, 60.0
    world.build("fast", 300 * M)
    world.build("slow", 0)
    world.building = [client(2, "docker build fast"), client(1, "docker build slow")]
    guarded = watched(world, 7)
    assert world.aborted == ["fast"]
    world.rates[DOCKER] = 50 * M
    watched(world, 4, guarded)
    assert world.interrupted == []


def test_step_goes_before_what_docker_writes(world: World) -> None:
    world.free = 4 * G
    world.build("big", 100 * M)
    world.rates[DOCKER] = 50 * M
    world.building = [client(2, "docker build a"), client(1, "docker build b")]
    watched(world, 60)
    assert world.aborted == ["big"]
    assert world.interrupted == ["docker build a", "docker build b"]


@pytest.mark.parametrize(("setting", "interrupted"), [(True, ["docker pull big"]), (False, [])])
def test_pull_is_interrupted_where_the_settings_say_so(world: World, setting: bool, interrupted: list[str]) -> None:
    world.free = 4 * G
    world.rates[DOCKER] = 100 * M
    world.pulling = [client(1, "docker pull big")]
    watched(world, 30, guard_stop_pulls=setting)
    assert world.interrupted == interrupted


# -- room


def test_cache_is_reclaimed_before_any_build_is_stopped(world: World) -> None:
    world.free, world.cache = 5 * G, 3 * G
    world.build("big", 100 * M)
    guarded = watched(world, 45)
    del world.rates["big"]
    watched(world, 5, guarded)
    assert world.aborted == []
    assert world.cache < 3 * G
    assert saved()["reclaimed"]["freed"] > 0


def test_cache_stays_where_there_is_room(world: World) -> None:
    world.cache = 3 * G
    watched(world, 60)
    assert world.cache == 3 * G


def test_nothing_to_reclaim_is_not_looked_for_all_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    for module in (jobs, loop):
        monkeypatch.setattr(module, "reclaim_cache", lambda *_: asked.append(world.now) or 0)
    world.free = 3 * G
    watched(world, 900)
    assert len(asked) == 2


def test_cache_that_a_stopped_build_leaves_is_reclaimed_when_it_has_let_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    for module in (jobs, loop):
        monkeypatch.setattr(module, "reclaim_cache", lambda *_: asked.append(world.now) or 0)
    world.free, world.returns_after = FLOOR + G, 60.0
    world.build("fast", 500 * M)
    watched(world, 50)
    assert world.aborted == ["fast"]
    assert 3 <= len(asked) <= 6


def test_hosts_that_rest_are_not_asked_for_steps_all_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    for module in (jobs, loop):
        monkeypatch.setattr(module, "classic_steps", lambda: asked.append(world.now) or ([], []))
    world.free = FLOOR - 100 * M
    world.rates[OTHERS] = M
    watched(world, 60)
    assert 4 <= len(asked) <= 7


def test_docker_that_does_not_run_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.free, world.is_docker_up = FLOOR - M, False
    world.rates[OTHERS] = M
    for module in (jobs, loop):
        monkeypatch.setattr(module, "reclaim_cache", lambda *_: pytest.fail("asked"))
    for module in (jobs, loop):
        monkeypatch.setattr(module, "classic_steps", lambda: pytest.fail("asked"))
    watched(world, 60)


def test_ballast_is_taken_and_given_back_when_nothing_else_helped(world: World) -> None:
    guarded = watched(world, 8)
    assert world.ballast == 256 * M
    world.free = 0
    watched(world, 1, guarded)
    assert (world.ballast, world.free) == (0, 256 * M)
    world.free = 4 * G + 100 * M
    watched(world, 120, guarded)
    assert world.ballast == 0
    assert [level for level, text in world.news if "ballast" in text] == [CRITICAL]
    world.free = 5 * G
    watched(world, 120, guarded)
    assert world.ballast == 256 * M


def test_ballast_is_not_taken_while_the_volume_fills(world: World) -> None:
    world.rates[OTHERS] = M
    watched(world, 60)
    assert world.ballast == 0


# -- what else it watches


def test_volume_that_is_not_mounted_is_waited_for(world: World) -> None:
    world.is_mounted = False
    guarded = watched(world, 60)
    assert len([line for line in world.said if "not mounted" in line]) == 1
    world.is_mounted, world.free = True, FLOOR + G
    world.build("big", 100 * M)
    watched(world, 30, guarded)
    assert world.aborted == ["big"]


def test_filesystem_that_is_another_one_all_at_once_is_no_growth(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.build("big", M)
    guarded = watched(world, 6)
    monkeypatch.setattr(
        os, "statvfs", lambda _: SimpleNamespace(**{**vars(world.counts("")), "f_fsid": 8, "f_bavail": M})
    )
    world.is_mounted = False
    watched(world, 6, guarded)
    assert world.aborted == []


def test_turn_that_fails_is_told_once_and_followed_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_builds, "steps", lambda _: 1 / 0)
    world.free = 4 * G
    world.build("big", 100 * M)
    guarded = watched(world, 10)
    assert len([line for line in world.said if "ZeroDivisionError" in line]) == 1
    monkeypatch.setattr(running_builds, "steps", lambda _: world.steps())
    watched(world, 30, guarded)
    assert world.aborted == ["big"]


def test_alert_that_fails_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (jobs, loop):
        monkeypatch.setattr(module, "send_alerts", lambda *_: 1 / 0)
    world.free = 4 * G
    for name in ("a", "b"):
        world.build(name, 100 * M)
    watched(world, 60)
    assert sorted(world.aborted) == ["a", "b"]


def test_news_that_could_not_be_told_are_told_later_and_the_last_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = jobs.send_alerts
    for module in (jobs, loop):
        monkeypatch.setattr(module, "send_alerts", lambda *_: 1 / 0)
    guarded = watched(world, 1)
    for number in range(60):
        guarded._tell(WARNING, f"news {number}")
    watched(world, 30, guarded)
    assert world.news == []
    for module in (jobs, loop):
        monkeypatch.setattr(module, "send_alerts", tell)
    watched(world, 30, guarded)
    assert world.news == [(WARNING, f"news {number}") for number in range(10, 60)]


def test_host_that_can_make_no_process_still_stops_builds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(loop, "Job", fail)
    monkeypatch.setattr(state, "make_volatile", fail)
    world.free = 4 * G
    world.build("big", 100 * M)
    watched(world, 60)
    assert world.aborted == ["big"]
    assert_floor_kept(world, 0)


def test_cron_that_no_longer_checks_is_told_and_so_is_its_return(world: World) -> None:
    guarded = watched(world, 46 * 60, check_interval=15)
    assert [text for level, text in world.news if level == WARNING] == [
        "check-disk has not looked for 45 min: `systemctl status cron` may say why"
    ]
    Path(state.PERSISTENT).mkdir()
    (Path(state.PERSISTENT) / "check.json").write_text("{}")
    watched(world, 60, guarded)
    assert (OK, "check-disk is called by cron again") in world.news


def test_check_that_goes_on_is_not_missed_whatever_the_clock_says(world: World) -> None:
    Path(state.PERSISTENT).mkdir()
    path = Path(state.PERSISTENT) / "check.json"
    guarded = Guard(config())
    for number in range(8):
        path.write_text("{}")
        os.utime(path, (number * -9_000_000, number * -9_000_000 if number % 2 else 4_000_000_000))
        watched(world, 15 * 60, guarded)
    assert world.news == []


def test_changed_configuration_counts_at_once_and_a_broken_one_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = watched(world, 10)
    monkeypatch.setattr(Config, "load", lambda: config(guard_floor=Size.parse("10G")))
    Path(loop.CONFIGURATION).write_text("1")
    watched(world, 10, guarded)
    assert guarded.floor == 10 * G

    def broken() -> Config:
        raise Problem("broken")

    monkeypatch.setattr(Config, "load", broken)
    Path(loop.CONFIGURATION).unlink()
    watched(world, 10, guarded)
    assert guarded.floor == 10 * G
    assert any("broken" in line for line in world.said)


def test_program_that_is_replaced_makes_way(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    monkeypatch.setattr("sys.argv", [str(program)])
    guarded = watched(world, 60)
    program.unlink()
    watched(world, 10, guarded)
    program.touch()
    os.utime(program, (1, 1))
    with pytest.raises(SystemExit) as ended:
        watched(world, 10, guarded)
    assert ended.value.code == 0


def test_turn_that_fails_is_no_sign_of_life(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = watched(world, 40)
    path = Path(state.VOLATILE) / "guard.json"
    path.unlink()
    monkeypatch.setattr(guarded.rate, "add", lambda *_: 1 / 0)
    watched(world, 300, guarded)
    assert not path.exists()


def test_snapshot_that_is_due_is_dropped_and_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (jobs, loop):
        monkeypatch.setattr(
            module, "drop_due_snapshots", lambda _: ["the snapshot s has been dropped: it was 91 % full"]
        )
    exists = {"/dev/ubuntu-vg/docker-lv-snapshot"}
    monkeypatch.setattr(os.path, "lexists", lambda path: path in exists)
    guarded = watched(world, 6)
    exists.clear()
    watched(world, 60, guarded)
    assert world.news == [(WARNING, "the snapshot s has been dropped: it was 91 % full")]


@pytest.mark.parametrize(("setting", "times"), [(True, 2), (False, 0)])
def test_docker_that_a_full_volume_has_stopped_is_rescued_now_and_then(
    world: World, monkeypatch: pytest.MonkeyPatch, setting: bool, times: int
) -> None:
    rescued: list[float] = []
    for module in (jobs, loop):
        monkeypatch.setattr(module, "rescue_docker", lambda _: rescued.append(world.now))
    world.free, world.is_docker_up = M, False
    watched(world, 900, guard_rescue=setting)
    assert len(rescued) == times


def test_rescue_that_goes_on_is_not_begun_again_and_has_the_lock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Job", Endless)
    world.free = FLOOR - M
    guarded = watched(world, 20, guard_rescue=True)
    assert {*guarded._jobs} == {"reclaim"}
    reclaim = guarded._jobs["reclaim"][0]
    world.is_docker_up = False
    watched(world, 60, guarded)
    assert "greater hurry" in reclaim.error
    rescue = guarded._jobs["rescue"][0]
    watched(world, 900, guarded)
    assert guarded._jobs["rescue"][0] is rescue


@pytest.mark.parametrize(("wrong", "level", "end"), [([], WARNING, "has been"), (["no room"], CRITICAL, "no room")])
def test_end_of_a_rescue_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: list[str], level: int, end: str
) -> None:
    for module in (jobs, loop):
        monkeypatch.setattr(module, "rescue_docker", lambda _: (["the ballast is given back"], wrong))
    world.free, world.is_docker_up = M, False
    watched(world, 60, guard_rescue=True)
    assert [(told, end in text) for told, text in world.news if "stopped by its full volume" in text] == [(level, True)]


def test_what_comes_back_is_expected_for_a_while() -> None:
    stopped = [Stopped(10.0, 5 * G, G)]
    assert expected(stopped, G, 11.0) == 5 * G
    assert expected(stopped, 4 * G, 11.0) == 2 * G
    assert expected(stopped, G, 14.0) == 0


# -- systemd


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify") if request.param == "file" else f"@bulkhead-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path.replace("@", "\0"))
        listener.settimeout(5)
        yield listener


@pytest.mark.parametrize(("version", "told"), [(1, [WARNING]), (2, [])])
def test_host_without_the_control_groups_that_it_takes_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int, told: list[int]
) -> None:
    monkeypatch.setattr(running_builds, "CGROUPS", str(tmp_path))
    if version == 2:
        (tmp_path / "cgroup.controllers").touch()
    guarded = Guard(config())
    guarded.begin()
    watched(world, 10, guarded)
    assert [level for level, text in world.news if "cgroup v2" in text] == told


def test_systemd_is_told_that_it_is_ready_and_alive(world: World, systemd: socket.socket) -> None:
    guarded = Guard(config())
    guarded.begin()
    assert systemd.recv(100) == b"READY=1"
    watched(world, 1, guarded)
    assert systemd.recv(100).startswith(b"WATCHDOG=1\nSTATUS=")


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
