"""A CI host from Friday to Thursday, off at the weekend: nothing that is needed is removed, and nothing is stopped."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import state, uptime
from bulkhead.config import Config
from bulkhead.docker import daemon, sightings
from bulkhead.docker.engine import Engine
from bulkhead.docker.running_builds import builds_under_way
from bulkhead.outage import journal, lock
from bulkhead.prune import attempt, memory, night, pruner, remover
from bulkhead.prune.unused import idle_cache
from bulkhead.uptime import Clocks, Uptime

from ..configs import config
from ..fake_engine import Query, fake_engine
from .contents import GIB, NEVER, FakeContents, container, image, network, record, step, volume

MINUTE, HOUR, DAY = 60, 3600, 86400
FRIDAY = datetime(2026, 11, 27, tzinfo=timezone.utc).timestamp()
SATURDAY, MONDAY = FRIDAY + DAY, FRIDAY + 3 * DAY
BUILDS, FEWER = 2000, 400  # on Friday, and on the other days
SETTINGS: Config = config(prune_images_after_days=2, prune_anonymous_volumes=False)


def text(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")


class CiHost(FakeContents):
    """A host that builds and runs jobs, with its clocks.

    Args:
        devices: the directory of its network devices.
    """

    def __init__(self, devices: Path) -> None:
        super().__init__()
        self.time = FRIDAY
        self.boot, self.awake = 1, 90.0 * DAY
        self.up = 0.0  # seconds that it was up since Friday
        self.used = {"debugged": 17.0 * HOUR}  # name → `up` at the last use: the truth
        self.counts: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.engine: Engine
        self._devices = devices
        self._carriers: Counter[str] = Counter()
        self._jobs: list[tuple[float, dict[str, Any], str]] = []  # end, container, image
        self._steps: list[tuple[float, dict[str, Any]]] = []
        self._next_build = self._next_job = self._next_check = 0.0
        used_long_ago = text(FRIDAY - 9 * DAY)
        self.images = [
            image("base", "base:1", size=GIB, tagged=used_long_ago),
            image("runner", "runner@sha256:1", size=GIB, tagged=NEVER),
            image("tool", "tool@sha256:2", size=GIB, tagged=NEVER),
            image("fridays", "fridays:1", size=GIB, tagged=used_long_ago),
            image("forgotten", "forgotten:1", size=GIB, tagged=used_long_ago),
            image("service", "service:1", size=GIB, tagged=used_long_ago),
        ]
        service = {"status": "running", "finished": NEVER, "restart": "always"}
        stopped = {"created": text(FRIDAY - 20 * DAY), "started": text(FRIDAY - 20 * DAY)}
        self.containers = [
            container("service", "service", **service),
            container("looks-like-a-step", "service", **service, log="none", of="sha256:service"),
            container("debugged", "base", **stopped, finished=text(FRIDAY + 17 * HOUR)),
            container("stale", "base", **stopped, finished=text(FRIDAY - 6 * DAY)),
        ]
        self.networks += [network("shared"), network("macvlan", Driver="macvlan"), network("abandoned")]
        self.volumes = [volume("named", Labels={}), volume("anonymous")]
        self._carrier("shared", 0)
        self._carrier("abandoned", 0)

    def now(self) -> float:
        return self.time

    # -- what happens

    def wait(self, seconds: float) -> None:
        """Let time pass on the host that is up: builds, jobs, and a check every 15 minutes."""
        until = self.time + seconds
        while self.time < until:
            moments = [self._next_build, self._next_job, self._next_check, *(end for end, *_ in self._jobs)]
            moments += [end for end, _ in self._steps]
            moment = max(min(moments), self.time)
            passed = min(moment, until) - self.time
            self.time, self.awake, self.up = self.time + passed, self.awake + passed, self.up + passed
            if moment <= until:
                self._happen()

    def is_off(self, until: float) -> None:
        self._jobs, self._steps, self.containers = (
            [],
            [],
            [c for c in self.containers if not c["HostConfig"].get("AutoRemove")],
        )
        self.cache = [each | {"InUse": False} for each in self.cache if not each["InUse"]]
        for each in self.networks[3:]:
            self._carrier(each["Name"], 0)
        self.time, self.boot, self.awake = until, self.boot + 1, 20.0
        self._next_build = self._next_job = self._next_check = until

    def _happen(self) -> None:
        for job in [each for each in self._jobs if each[0] <= self.time]:
            self._jobs.remove(job)
            self.containers.remove(job[1])
            self._use(job[2], *job[1]["NetworkSettings"]["Networks"])
            self._carrier("shared", -1)
        for step_ in [each for each in self._steps if each[0] <= self.time]:
            self._steps.remove(step_)
            self.containers.remove(step_[1])
        if self._next_build <= self.time:
            self._build()
            self._next_build = self.time + DAY / (BUILDS if self.time < SATURDAY else FEWER)
        if self._next_job <= self.time:
            self._next_job = self.time + 6 * MINUTE
            # No job runs when the prune comes.
            if not 2.8 <= self.time % DAY / HOUR <= 3.2:
                self._job()
        if self._next_check <= self.time:
            self._next_check = self.time + 15 * MINUTE
            self.counts["checks"] += 1
            uptime.remember()
            sightings.remember(self.time)

    def _build(self) -> None:
        number = self.counts["builds"]
        self.counts["builds"] += 1
        if self.cache:
            self.cache[-1]["InUse"] = False
        # Some builds are still at work at 03:00 and long after. In the other nights there are a few minutes between them.
        is_long = FRIDAY + 2 * HOUR < self.time < FRIDAY + 4.5 * HOUR
        self.cache.append(record(f"cache-{number}", 0, GIB // 1000, LastUsedAt=text(self.time), InUse=is_long))
        self._use(f"cache-{number}", "base")
        if number % 20 == 0:  # one that replaces the image of the build before it, by the classic builder
            for old in self.images:
                if old["RepoTags"] == ["app:latest"]:
                    old["RepoTags"] = None
            name = f"app-{number}"
            self.images.append(image(name, "app:latest", size=GIB // 100, tagged=text(self.time), hours=20000))
            self._use(name)
            self._steps.append((self.time + 20, step(f"silly_name{number % 10}", "base")))
            self.containers.append(self._steps[-1][1])

    def _job(self) -> None:
        number = self.counts["jobs"]
        self.counts["jobs"] += 1
        name = "runner" if number % 3 else "tool"
        if SATURDAY - 9 * HOUR < self.time < SATURDAY - 8 * HOUR:
            name = "fridays"
        networks = {"shared": {"NetworkID": "id-shared"}}
        if number % 2:
            networks["macvlan"] = {"NetworkID": "id-macvlan"}
        job = container(
            f"job-{number}", name, status="running", finished=NEVER, networks=networks, host={"AutoRemove": True}
        )
        self._jobs.append((self.time + 4 * MINUTE, job, name))
        self.containers.append(job)
        self._use(name, *networks)
        self._carrier("shared", 1)

    def _use(self, *names: str) -> None:
        self.used |= dict.fromkeys(names, self.up)

    def _carrier(self, name: str, change: int) -> None:
        """Count a change of a bridge's carrier, as the kernel does."""
        if name == "macvlan":
            return
        self._carriers[name] = self._carriers[name] + 1 if change else 0
        path = self._devices / f"br-id-{name}"[:15] / "carrier_changes"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(self._carriers[name]))

    # -- what is removed

    def answer(self, method: str, path: str, query: Query) -> tuple[int, Any]:
        if method not in ("GET", "DELETE") and path != "/build/prune":
            self.wrong.append(f"{method} {path}: something is stopped")
        if method == "DELETE":
            name = path.split("/")[-1]
            held = {"id-": "", "sha256:": ""}
            for prefix in held:
                name = name.removeprefix(prefix)
            self._judge(path.split("/")[1], self._name_of(name))
        return super().answer(method, path, query)

    def _name_of(self, reference: str) -> str:
        for found in self.images:
            if reference in [*(found["RepoTags"] or []), *found["RepoDigests"]]:
                return str(found["Id"].removeprefix("sha256:"))
        return reference

    def _prune_cache(self, filters: dict[str, list[str]]) -> dict[str, Any]:
        for gone in idle_cache(self.cache, self.now() - int(filters["until"][0].removesuffix("s"))):
            self._judge("cache", gone["ID"])
        return super()._prune_cache(filters)

    def _judge(self, kind: str, name: str) -> None:
        """Note an object that somebody needs and that is about to be removed."""
        self.removed[kind] += 1
        unused = self.up - self.used.get(name, -9 * DAY)
        dangling = any(found["Id"] == f"sha256:{name}" and not found["RepoTags"] for found in self.images)
        grace = HOUR if dangling and name.startswith("app-") else 48 * HOUR - MINUTE
        if unused < grace or kind == "volumes" or name in ("service", "looks-like-a-step"):
            self.wrong.append(f"{kind} {name}: unused for {unused / HOUR:.1f} h")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CiHost]:
    memory_directory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory_directory) as directory:
        host = CiHost(Path(directory, "net"))
        monkeypatch.setattr(state, "PERSISTENT", f"{directory}/lib")
        monkeypatch.setattr(state, "VOLATILE", f"{directory}/run")
        monkeypatch.setattr(memory, "DEVICES", f"{directory}/net")
        monkeypatch.setattr(journal, "PATH", f"{directory}/lib/relocation.json")
        monkeypatch.setattr(journal, "ROLLBACK", f"{directory}/lib/rollback.json")
        monkeypatch.setattr(daemon, "DOCKER_API", str(tmp_path / "docker.sock"))
        monkeypatch.setattr(Clocks, "read", lambda: Clocks(f"boot-{host.boot}", host.awake, host.time))
        monkeypatch.setattr(time, "time", lambda: host.time)
        monkeypatch.setattr(time, "monotonic", lambda: host.awake)
        monkeypatch.setattr(night, "_is_ended", host.wait)
        monkeypatch.setattr(lock, "lock", lambda: state.locked("move", 0))
        monkeypatch.setattr(pruner, "programs_that_build", list)
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=host.free, f_frsize=1))
        for module in (attempt, remover):
            monkeypatch.setattr(module, "docker_runs", lambda: True)
        # It has been looked after for a month.
        month = 30 * DAY
        points = [uptime.Point(FRIDAY - month, 0.0), uptime.Point(FRIDAY, float(month))]
        state.save("uptime", Uptime("boot-1", host.awake, month, month - host.awake, points)._asdict())
        known = FRIDAY - 20 * DAY
        state.save("images", {found["Id"]: known for found in host.images} | {"sha256:fridays": FRIDAY - HOUR})
        state.save("networks", {found["Id"]: known for found in host.networks if found["Name"] == "abandoned"})
        with fake_engine(tmp_path / "docker.sock", host.answer) as engine:
            host.engine = engine
            monkeypatch.setattr(attempt, "Engine", lambda: engine)
            yield host


def prune() -> list[str]:
    """Run the nightly prune, and return the lines of its log."""
    lines: list[str] = []
    assert night.run(SETTINGS, lines.append) == 0, lines
    return lines


def test_needed_objects_outlive_a_week(host: CiHost, record_property: Any) -> None:
    host.wait(3 * HOUR)
    steps = [each for each in host.containers if each["Name"].startswith("/silly_name")]
    described = builds_under_way(host.engine, host.containers)
    assert len(described) == len(steps) + 1, "a service counts as a build"
    lines = prune()
    assert any("images stay during a build: " in line for line in lines)
    assert host.time >= FRIDAY + 4.5 * HOUR, "it did not come back"
    friday = host.names()
    assert {"debugged", "runner", "tool", "fridays", "shared", "macvlan"} <= friday
    assert not {"stale", "abandoned", "forgotten"} & friday
    host.wait(SATURDAY - host.time)
    assert host.counts["builds"] == BUILDS

    host.is_off(until=MONDAY + 7 * HOUR)
    before = host.names()
    lines = prune()  # the timer starts it at once
    assert host.time >= MONDAY + 10 * HOUR, "it did not wait after the boot"
    gone = before - host.names()
    assert all(name.startswith(("app-", "cache-")) for name in gone), gone

    host.wait(MONDAY + DAY + 3 * HOUR - host.time)
    prune()
    assert {"debugged", "runner", "tool", "fridays", "shared", "macvlan", "base"} <= host.names()
    host.wait(2 * DAY)
    removed = {"images": host.removed["images"], "cache": host.removed["cache"]}
    lines = prune()
    assert {"runner", "tool", "shared", "macvlan", "base", "service", "looks-like-a-step"} <= host.names()
    assert {"named", "anonymous"} <= host.names()
    assert host.removed["cache"] > removed["cache"], "the cache grows for ever"
    assert host.removed["images"] > removed["images"], "dangling images stay for ever"
    assert host.wrong == []
    summary = {**host.counts, "removed": dict(host.removed), "days": (host.time - FRIDAY) / DAY}
    record_property("week", summary)
    print(summary)
