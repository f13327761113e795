"""What is removed from a fake engine, and what remains."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import errors, state
from bulkhead.config import Config
from bulkhead.docker import daemon
from bulkhead.docker.engine import Engine
from bulkhead.errors import Failed
from bulkhead.outage import journal, lock
from bulkhead.outage.journal import Journal
from bulkhead.prune import commands, pruner
from bulkhead.prune.unused import idle_cache, images_known, moment_to_free

from ..configs import config
from ..docker.building_host import classic_container
from ..fake_engine import Query, fake_engine

NOW = datetime(2026, 3, 1, 3, tzinfo=timezone.utc)
NEVER = "0001-01-01T00:00:00Z"
GIB = 2**30


def ago(hours: float) -> str:
    return (NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")


def container(name: str, image: str, **changed: Any) -> dict[str, Any]:
    """One that has been stopped for 60 hours, unless something is changed."""
    return {
        "Id": f"id-{name}",
        "Name": f"/{name}",
        "Image": f"sha256:{image}",
        "Created": changed.get("created", ago(900)),
        "State": {
            "Status": changed.get("status", "exited"),
            "Running": changed.get("status") == "running",
            "Paused": False,
            "StartedAt": changed.get("started", ago(800)),
            "FinishedAt": changed.get("finished", ago(60)),
        },
        "Config": {"Labels": changed.get("labels"), "Image": changed.get("of", image)},
        "HostConfig": {
            "RestartPolicy": {"Name": changed.get("restart", "no")},
            "LogConfig": {"Type": changed.get("log", "json-file")},
            "NetworkMode": changed.get("network", "default"),
            "Mounts": changed.get("mounts"),
            **changed.get("host", {}),
        },
        "NetworkSettings": {"Networks": changed.get("networks", {})},
    }


def image(name: str, *names: str, size: int = 0, **changed: Any) -> dict[str, Any]:
    return {
        "Id": f"sha256:{name}",
        "RepoTags": [tag for tag in names if "@" not in tag] or None,
        "RepoDigests": [tag for tag in names if "@" in tag],
        "ParentId": f"sha256:{changed['parent']}" if "parent" in changed else "",
        "Labels": changed.get("labels"),
        "Size": size,
        "SharedSize": -1,
        "Created": NOW.timestamp() - 3600 * changed.get("hours", 2000),
        "tagged": changed.get("tagged", ago(2000)),
    }


def record(name: str, hours: float, size: int = GIB, **changed: Any) -> dict[str, Any]:
    return {
        "ID": name,
        "Description": f"step {name}",
        "InUse": False,
        "Shared": False,
        "Size": size,
        "LastUsedAt": ago(hours),
        "Parents": None,
        **changed,
    }


def network(name: str, hours: float = 60, **changed: Any) -> dict[str, Any]:
    return {"Id": f"id-{name}", "Name": name, "Scope": "local", "Labels": {}, "Created": ago(hours), **changed}


class FakeContents:
    """An engine with what it holds; volumes too, so that a removal of one would show."""

    def __init__(self) -> None:
        self.containers: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.cache: list[dict[str, Any]] = []
        self.networks = [network("bridge", 900), network("host", 900), network("none", 900)]
        self.refused: dict[str, tuple[int, str]] = {}  # "METHOD path" → how; what is refused stays
        self.healed_by = ""  # the method that ends all refusals
        self.asked: list[str] = []
        self.stopped_after = ""  # a request with which somebody stops Docker
        self.free = 10 * GIB

    def names(self) -> set[str]:
        """What remains."""
        held = [*self.containers, *self.images, *self.networks, *self.cache]
        return {re.sub("^(id-|sha256:)", "", found.get("Id") or found["ID"]) for found in held} - {
            *("bridge", "host", "none")
        }

    def runs(self) -> bool:
        return self.stopped_after not in self.asked

    def answer(self, method: str, path: str, query: Query) -> tuple[int, Any]:
        request = f"{method} {path}"
        self.asked.append(request)
        assert "force" not in query
        assert "v" not in query, "the container's volumes would go with it"
        if method == self.healed_by:
            self.refused.clear()
        if request in self.refused:
            status, message = self.refused[request]
            return status, {"message": message}
        _, kind, *rest = path.split("/")
        name = "/".join(rest)
        if method == "DELETE":
            return self._remove(kind, name)
        if path == "/build/prune":
            return 200, self._prune_cache(json.loads(query["filters"][0]))
        if path == "/system/df":
            rows = [{"Id": c["Id"], "ImageID": c["Image"], "SizeRw": 5} for c in self.containers]
            return 200, {"LayersSize": 0, "Images": self.images, "Containers": rows, "BuildCache": self.cache}
        if path == "/images/json" and "filters" in query:
            return 200, [found for found in self.images if not found["RepoTags"] and not self._children(found)]
        if kind == "images" and name != "json":
            found = self._by(self.images, name.removesuffix("/json"))
            return (200, {"Metadata": {"LastTagTime": found["tagged"]}}) if found else (404, {"message": "no image"})
        if kind == "containers" and name != "json":
            found = self._by(self.containers, name.removesuffix("/json"))
            return (200, found) if found else (404, {"message": "No such container"})
        return 200, {"containers": self.containers, "images": self.images, "networks": self.networks}[kind]

    def _by(self, objects: list[dict[str, Any]], identifier: str) -> dict[str, Any] | None:
        return next((found for found in objects if found["Id"] == identifier), None)

    def _children(self, parent: dict[str, Any]) -> list[dict[str, Any]]:
        return [found for found in self.images if found["ParentId"] == parent["Id"]]

    def _remove(self, kind: str, name: str) -> tuple[int, Any]:
        objects: list[dict[str, Any]] = {
            "containers": self.containers,
            "images": self.images,
            "networks": self.networks,
        }[kind]
        for found in objects:
            references = [*(found.get("RepoTags") or []), *(found.get("RepoDigests") or [])]
            if name == found["Id"] and len(references) > 1:
                return 409, {"message": "image is referenced in multiple repositories"}
            if name in references:
                found["RepoTags"] = [tag for tag in found["RepoTags"] or [] if tag != name]
                # A repository's last tag takes its digests with it.
                gone = (name, f"{name.rpartition(':')[0]}@")
                found["RepoDigests"] = [digest for digest in found["RepoDigests"] if not digest.startswith(gone)]
                if found["RepoTags"] or found["RepoDigests"]:
                    return 200, [{"Untagged": name}]
            elif name != found["Id"]:
                continue
            objects.remove(found)
            self.free += found.get("Size", 0)
            return 204 if kind != "images" else 200, [{"Deleted": found["Id"]}]
        return 404, {"message": f"no such object: {name}"}

    def _prune_cache(self, filters: dict[str, list[str]]) -> dict[str, Any]:
        before = NOW.timestamp() - int(filters["until"][0].removesuffix("s"))
        gone = idle_cache(self.cache, before)
        self.cache = [found for found in self.cache if found not in gone]
        size = sum(found["Size"] for found in gone)
        self.free += size
        return {"CachesDeleted": [found["ID"] for found in gone] or None, "SpaceReclaimed": size}


@pytest.fixture
def contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeContents]:
    contents = FakeContents()
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setattr(pruner.time, "time", NOW.timestamp)
    monkeypatch.setattr(pruner.time, "sleep", lambda _: None)
    monkeypatch.setattr(pruner, "_SETTLING", 0)
    monkeypatch.setattr(pruner, "programs_that_build", list)
    monkeypatch.setattr(journal, "PATH", str(tmp_path / "lib/relocation.json"))
    monkeypatch.setattr(journal, "ROLLBACK", str(tmp_path / "lib/rollback.json"))
    for module in (daemon, commands, pruner):
        monkeypatch.setattr(module, "docker_runs", contents.runs)
    monkeypatch.setattr(lock, "lock", lambda: state.locked("move", 0))
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=contents.free, f_frsize=1))
    with fake_engine(tmp_path / "docker.sock", contents.answer) as engine:
        for module in (commands, pruner):
            monkeypatch.setattr(module, "Engine", lambda: engine)
        yield contents


def run(settings: Config | None = None, *, dry_run: bool = False, as_json: bool = False) -> int:
    return commands.run(settings or config(), argparse.Namespace(dry_run=dry_run, json=as_json))


def reclaim(need: int, settings: Config | None = None, *, dry_run: bool = False) -> int:
    return commands.reclaim(settings or config(), argparse.Namespace(need=need, dry_run=dry_run, json=False))


# -- prune


def test_cache_goes_that_was_unused_for_long_and_in_no_use(contents: FakeContents) -> None:
    contents.cache = [record("old", 49), record("recent", 47), record("record", 90, InUse=True)]
    run()
    assert contents.names() == {"recent", "record"}


@pytest.mark.parametrize("parents", [{"Parents": ["base"]}, {"Parent": "base"}])
def test_cache_stays_that_newer_cache_was_made_from(parents: dict[str, Any]) -> None:
    records = [record("base", 90), record("step", 1, **parents), record("other", 90)]
    assert [found["ID"] for found in idle_cache(records, NOW.timestamp() - 48 * 3600)] == ["other"]


def test_images_without_a_name_go_but_for_those_in_a_container_or_kept(contents: FakeContents) -> None:
    contents.images = [
        image("lost"),
        image("pulled-over", "web@sha256:7"),
        image("named", "web:1"),
        image("running"),
        image("labelled", labels={"bulkhead.keep": "false"}),
        image("pinned", "base@sha256:9"),
        image("between"),
        image("final", "app:1", parent="between"),
    ]
    contents.containers = [container("c", "running", status="running")]
    assert run(config(prune_keep=("base",))) == 0
    assert contents.names() == {"c", "named", "running", "labelled", "pinned", "between", "final"}


def test_image_that_a_build_may_have_made_just_now_stays(contents: FakeContents) -> None:
    contents.images = [
        image("step", hours=0.9),
        image("later", hours=-0.1),
        image("lost", hours=1.1),
        image("t", "t:1"),
    ]
    run()
    assert contents.names() == {"step", "later", "t"}
    assert reclaim(99 * GIB) == 1
    assert contents.names() == {"step", "later"}


def test_image_goes_with_the_last_container_that_had_it(contents: FakeContents) -> None:
    contents.images = [image("lost")]
    contents.containers = [container("old", "lost")]
    run()
    assert contents.names() == set()


@pytest.mark.parametrize("sign", ["cache in use", "classic step", "command line"])
def test_images_are_left_alone_beside_a_build(
    contents: FakeContents, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sign: str
) -> None:
    contents.images = [image("lost"), image("old", "old:1")]
    if sign == "cache in use":
        contents.cache = [record("step", 0, InUse=True)]
    elif sign == "classic step":
        step = container("step", "base", status="running")
        contents.containers = [{**step, **classic_container(Id="id-step", State=step["State"])}]
    else:
        monkeypatch.setattr(pruner, "programs_that_build", lambda: ["docker (process 7)"])
    run(config(prune_images_after_days=1))
    assert {"lost", "old"} <= contents.names()
    assert "dangling images: not removed during a build: " in capsys.readouterr().out


def test_containers_go_by_the_time_since_they_stopped(contents: FakeContents) -> None:
    contents.containers = [
        container("old", "i"),
        container("stopped-just-now", "i", finished=ago(1)),
        container("never-started", "i", status="created", created=ago(60), started=NEVER, finished=NEVER),
        container("made-just-now", "i", status="created", created=ago(1), started=NEVER, finished=NEVER),
        container("without-a-time", "i", created="", started="", finished=""),
        container("up", "i", status="running", finished=NEVER),
        container("paused", "i", status="paused"),
        container("restarts", "i", restart="unless-stopped"),
        container("labelled", "i", labels={"bulkhead.keep": ""}),
        container("ci-cache", "i"),
        container("cut", "i", started=ago(1), finished=ago(100)),
    ]
    assert run(config(prune_keep=("ci-*",))) == 0
    assert contents.names() == {
        *("stopped-just-now", "made-just-now", "without-a-time", "up", "paused"),
        *("restarts", "labelled", "ci-cache", "cut"),
    }


@pytest.mark.parametrize(
    "reference",
    [
        {"VolumesFrom": ["needed:ro"]},
        {"VolumesFrom": ["id-needed"]},
        {"NetworkMode": "container:id-need"},
        {"IpcMode": "container:needed"},
        {"PidMode": "container:needed"},
        {"Links": ["/needed:/user/db"]},
    ],
)
def test_container_stays_that_another_refers_to(contents: FakeContents, reference: dict[str, Any]) -> None:
    contents.containers = [
        container("base", "i"),
        container("needed", "i", host={"VolumesFrom": ["base"]}),
        container("user", "i", finished=ago(1), host=reference),
        container("other", "i"),
    ]
    run()
    assert contents.names() == {"base", "needed", "user"}


def test_containers_go_together_that_only_refer_to_each_other(contents: FakeContents) -> None:
    contents.containers = [container("a", "i"), container("b", "i", host={"NetworkMode": "container:a"})]
    run()
    assert contents.names() == set()


def test_size_of_a_container_is_what_it_has_written_and_its_logs(
    contents: FakeContents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x-json.log").write_bytes(bytes(30))
    (tmp_path / "x-json.log.1").write_bytes(bytes(40))
    contents.containers = [container("old", "i") | {"LogPath": str(tmp_path / "x-json.log")}]
    run()
    assert "  container old (75 bytes) removed: stopped 60 h ago" in capsys.readouterr().out


def test_networks_go_that_no_container_refers_to(contents: FakeContents) -> None:
    contents.networks += [
        network("old"),
        network("young", 1),
        network("kept"),
        network("labelled", Labels={"bulkhead.keep": "1"}),
        network("of-a-stopped"),
        network("by-mode"),
        network("swarm", Scope="swarm"),
        network("template", ConfigOnly=True),
        network("docker_gwbridge"),
    ]
    contents.containers = [
        container("a", "i", finished=ago(1), networks={"x": {"NetworkID": "id-of-a-stopped"}}),
        container("b", "i", finished=ago(1), network="by-mode"),
    ]
    run(config(prune_keep=("kept",)))
    assert {found["Name"] for found in contents.networks} == {
        *("bridge", "host", "none", "young", "kept", "labelled"),
        *("of-a-stopped", "by-mode", "swarm", "template", "docker_gwbridge"),
    }


def test_network_goes_with_the_last_container_that_had_it(contents: FakeContents) -> None:
    contents.containers = [container("old", "i", network="mine")]
    contents.networks.append(network("mine"))
    run()
    assert contents.names() == set()


def test_named_images_stay_by_default(contents: FakeContents) -> None:
    contents.images = [image("old", "old:1")]
    run()
    assert contents.names() == {"old"}


def test_image_goes_when_no_container_has_had_it_for_days(contents: FakeContents) -> None:
    long, short = (NOW - timedelta(days=31)).timestamp(), (NOW - timedelta(days=29)).timestamp()
    state.save(
        "images",
        {
            "sha256:unused": long,
            "sha256:twice": long,
            "sha256:used": short,
            "sha256:running": long,
            "sha256:tagged": long,
        }
        | {"sha256:kept": long},
    )
    contents.images = [
        image("unused", "unused:1"),
        image("twice", "a:1", "b:1", "a@sha256:5", "c@sha256:5"),
        image("used", "used:1"),
        image("running", "running:1"),
        image("tagged", "tagged:1", tagged=ago(2)),
        image("kept", "registry.example.com/base:1"),
        image("first-seen-now", "new:1"),
    ]
    contents.containers = [container("c", "running", status="running")]
    assert run(config(prune_images_after_days=30, prune_keep=("registry.example.com/base:*",))) == 0
    assert contents.names() == {"c", "used", "running", "tagged", "kept", "first-seen-now"}


def test_image_that_a_container_mounts_is_in_use(contents: FakeContents) -> None:
    state.save("images", {"sha256:models": 0})
    contents.images = [image("models", "models:1")]
    mounts = [{"Type": "image", "Source": "models:1"}]
    contents.containers = [container("c", "gone", status="running", mounts=mounts)]
    run(config(prune_images_after_days=30))
    assert contents.names() == {"c", "models"}


def test_use_of_an_image_is_remembered(contents: FakeContents) -> None:
    contents.images = [image("a", "a:1"), image("b", "b:1")]
    contents.containers = [container("c", "a", status="running")]
    state.save("images", {"sha256:a": 5, "sha256:b": 7, "sha256:gone": 9, "sha256:odd": "?"})
    run()
    assert state.load("images") == {"sha256:a": NOW.timestamp(), "sha256:b": 7}


def test_use_that_a_clock_has_put_into_the_future_counts_as_now() -> None:
    assert images_known([image("a")], set(), {"sha256:a": 100.0}, 50.0) == {"sha256:a": 50.0}


# -- what it says, and what goes wrong


def test_log_has_a_line_for_each_object_and_each_step(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.cache = [record("a", 60), record("b", 60)]
    contents.images = [image("0123456789abcdef", size=GIB)]
    contents.containers = [container("old", "i")]
    run()
    assert capsys.readouterr().out.splitlines() == [
        "build cache unused for 48 h: removed 2 records, 2.0 GiB; freed 2.0 GiB",
        "  container old (5 bytes) removed: stopped 60 h ago",
        "containers stopped for 48 h: removed 1 container, 5 bytes; freed 0 bytes",
        "  image 0123456789ab (1.0 GiB) removed: dangling",
        "dangling images: removed 1 image, 1.0 GiB; freed 1.0 GiB",
        "networks in no container, 48 h old: nothing",
        "3.0 GiB freed; 13.0 GiB are free on /srv/docker-volume",
    ]


def test_dry_run_says_what_a_run_would_do_and_changes_nothing(
    contents: FakeContents, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    contents.cache = [record("a", 60), record("shared", 60, Shared=True)]
    contents.images = [image("of-old", size=GIB)]
    contents.containers = [container("old", "of-old", network="mine")]
    contents.networks.append(network("mine"))
    before = contents.names()
    assert run(dry_run=True) == 0
    assert contents.names() == before
    assert not [request for request in contents.asked if not request.startswith("GET")]
    assert not (tmp_path / "lib").exists()
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out.splitlines() == [
        "build cache unused for 48 h: would remove 2 records, 1.0 GiB",
        "  container old (5 bytes) would be removed: stopped 60 h ago",
        "containers stopped for 48 h: would remove 1 container, 5 bytes",
        "  image of-old (1.0 GiB) would be removed: dangling",
        "dangling images: would remove 1 image, 1.0 GiB",
        "  network mine would be removed: made 60 h ago",
        "networks in no container, 48 h old: would remove 1 network",
        "2.0 GiB would be freed; 12.0 GiB would be free on /srv/docker-volume",
    ]


def test_result_is_remembered_for_status_and_metrics(contents: FakeContents) -> None:
    contents.images = [image("lost", size=GIB)]
    run()
    assert state.load("prune") == {"time": NOW.timestamp(), "freed": GIB, "removed": 1, "failed": []}


def test_json_has_what_was_removed(contents: FakeContents, capsys: pytest.CaptureFixture[str]) -> None:
    contents.images = [image("lost", size=7)]
    run(as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["removed"] == [{"kind": "image", "id": "sha256:lost", "name": "lost", "size": 7, "why": "dangling"}]
    assert (printed["freed"], printed["free"], printed["failed"], printed["dry_run"]) == (7, 10 * GIB + 7, [], False)


def test_failure_of_one_object_does_not_stop_the_rest(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.containers = [container("busy", "i"), container("old", "i")]
    contents.refused["DELETE /containers/id-busy"] = (500, "device or resource busy")
    assert run() == 1
    assert contents.names() == {"busy"}
    what = "container busy (5 bytes) could not be removed: Docker refuses /containers/id-busy: device or resource busy"
    assert what in capsys.readouterr().out
    assert state.load("prune")["failed"] == [what]


@pytest.mark.parametrize("status", [404, 409])
def test_object_that_is_gone_or_has_come_into_use_is_no_failure(contents: FakeContents, status: int) -> None:
    contents.containers = [container("old", "i")]
    contents.refused["DELETE /containers/id-old"] = (status, "no")
    assert run() == 0
    assert state.load("prune")["removed"] == 0


def test_network_that_something_is_attached_to_is_no_failure(contents: FakeContents) -> None:
    contents.networks.append(network("old"))
    contents.refused["DELETE /networks/id-old"] = (403, "network old has active endpoints")
    assert run() == 0


def test_what_a_full_volume_refuses_is_tried_once_more_when_there_is_room(contents: FakeContents) -> None:
    contents.free = 0
    contents.cache = [record("old", 60)]
    contents.images = [image("lost", size=GIB)]
    contents.refused["POST /build/prune"] = (500, "write cache.db: no space left on device")
    contents.healed_by = "DELETE"
    assert run() == 0
    assert contents.names() == set()


def test_volume_too_full_for_docker_to_remove_anything_is_reported(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.cache = [record("old", 60)]
    contents.refused["POST /build/prune"] = (500, "write cache.db: no space left on device")
    assert run() == 1
    assert "Make some: `lvextend --resizefs --size +1G ubuntu-vg/docker-lv`" in capsys.readouterr().out


def test_docker_that_hangs_ends_the_run_at_once(
    contents: FakeContents, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(commands, "Engine", lambda: Engine(str(tmp_path / "nobody")))
    assert run() == 1
    assert contents.asked == []
    (line, _) = capsys.readouterr().out.splitlines()
    assert line.startswith("Docker does not answer /containers/json: ")
    assert line.endswith("The remaining steps were not tried")
    assert state.load("prune")["failed"] == [line]


def test_answer_that_nobody_expected_is_a_failure_and_the_rest_is_done(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.containers = [container("old", "i")]
    contents.networks.append({"Name": "odd"})
    contents.images = [image("lost")]
    assert run() == 1
    failed = ["networks: not done: KeyError('Scope')"]
    assert state.load("prune") == {"time": NOW.timestamp(), "freed": 0, "removed": 2, "failed": failed}
    assert failed[0] in capsys.readouterr().out


def test_docker_that_was_stopped_is_not_started(contents: FakeContents, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (daemon, commands, pruner):
        monkeypatch.setattr(module, "docker_runs", lambda: False)
    with pytest.raises(errors.Failed, match="Docker does not run"):
        run()
    assert contents.asked == []
    (failure,) = state.load("prune")["failed"]
    assert failure.startswith("Docker does not run")


@pytest.mark.parametrize("last", ["GET /system/df", "DELETE /containers/id-a", "DELETE /containers/id-b"])
def test_docker_that_is_stopped_meanwhile_is_not_started(contents: FakeContents, last: str) -> None:
    contents.containers = [container("a", "i"), container("b", "i")]
    contents.stopped_after = last
    assert run() == 1
    assert contents.asked[-1] == last
    assert state.load("prune")["failed"] == ["docker.service is no longer active. The remaining steps were not tried"]


@pytest.mark.parametrize("phase", journal.UNFINISHED)
@pytest.mark.parametrize("command", [run, lambda: reclaim(99 * GIB)])
@pytest.mark.parametrize("what", ["PATH", "ROLLBACK"])
def test_nothing_goes_while_a_move_or_a_rollback_is_unfinished(
    contents: FakeContents, what: str, command: Callable[[], int], phase: str
) -> None:
    contents.containers = [container("stopped-by-the-move", "i")]
    Journal(getattr(journal, what)).enter(phase)
    with pytest.raises(errors.Failed, match=rf"not finished \({phase}\).*`bulkhead relocate --recover`"):
        command()
    assert contents.asked == []


@pytest.mark.parametrize("phase", [journal.DONE, journal.FINALIZING, journal.FINALIZED, journal.FAILED])
@pytest.mark.usefixtures("contents")
def test_move_that_has_ended_is_in_nobodys_way(phase: str) -> None:
    Journal(journal.PATH).enter(phase)
    assert run() == 0


@pytest.mark.usefixtures("contents")
def test_refusal_is_remembered_as_a_failure() -> None:
    Journal(journal.PATH).enter(journal.COPYING)
    with pytest.raises(errors.Failed) as refusal:
        run()
    assert state.load("prune") == {"time": NOW.timestamp(), "freed": 0, "removed": 0, "failed": [str(refusal.value)]}


def test_journal_that_cannot_be_read_is_a_reason_to_remove_nothing(contents: FakeContents) -> None:
    Path(journal.PATH).parent.mkdir()
    Path(journal.PATH).write_text("{")
    with pytest.raises(ValueError, match="is not a journal of a move"):
        run()
    assert contents.asked == []
    assert state.load("prune")["failed"]


@pytest.mark.usefixtures("contents")
def test_prune_beside_another_leaves_what_the_other_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    locked = state.locked
    monkeypatch.setattr(state, "locked", lambda name, _: locked(name, 0))
    with state.locked("prune", 0), pytest.raises(TimeoutError):
        run()
    assert state.load("prune") == {}


# -- reclaim


def test_reclaim_stops_as_soon_as_enough_is_free(contents: FakeContents) -> None:
    contents.cache = [record("old", 60, 2 * GIB), record("recent", 1, 2 * GIB)]
    contents.images = [image("lost", size=GIB)]
    assert reclaim(12 * GIB) == 0
    assert contents.names() == {"recent", "lost"}


def test_reclaim_does_nothing_where_enough_is_free(contents: FakeContents) -> None:
    assert reclaim(10 * GIB) == 0
    assert contents.asked == []


def test_reclaim_takes_the_least_recently_used_cache_first(contents: FakeContents) -> None:
    contents.cache = [record("a", 5), record("b", 20), record("c", 10), record("record", 40, InUse=True)]
    assert reclaim(12 * GIB) == 0
    assert contents.names() == {"a", "record"}


def test_reclaim_takes_all_idle_cache_where_the_count_was_too_high(contents: FakeContents) -> None:
    contents.cache = [record("a", 5), record("b", 20)]
    contents.free -= GIB  # what others have written meanwhile
    assert reclaim(11 * GIB) == 0
    assert contents.names() == set()


def test_reclaim_takes_the_least_recently_used_images_last_one_by_one(contents: FakeContents) -> None:
    state.save("images", {"sha256:a": NOW.timestamp() - 50, "sha256:b": NOW.timestamp() - 500})
    contents.cache = [record("cache", 1)]
    contents.images = [
        image("a", "a:1", size=GIB),
        image("b", "b:1", size=GIB),
        image("c", "c:1", size=GIB, tagged=ago(0.1)),
        image("used", "used:1", size=GIB),
    ]
    contents.containers = [container("c1", "used", finished=ago(1))]
    assert reclaim(13 * GIB) == 0
    assert contents.names() == {"a", "c1", "used"}


def test_reclaim_knows_the_least_recently_used_of_images_that_were_found_at_once(contents: FakeContents) -> None:
    state.save("images", {"sha256:new": NOW.timestamp() - 50, "sha256:old": NOW.timestamp() - 50})
    contents.images = [image("new", "a:1", size=GIB, tagged=ago(9)), image("old", "b:1", size=GIB, tagged=ago(99))]
    assert reclaim(11 * GIB) == 0
    assert contents.names() == {"new"}


def test_reclaim_takes_an_image_after_what_was_made_from_it(contents: FakeContents) -> None:
    contents.images = [image("base", "base:1", size=GIB), image("app", "app:1", size=GIB, parent="base")]
    assert reclaim(12 * GIB) == 0
    assert contents.names() == set()


def test_reclaim_says_what_is_missing(contents: FakeContents, capsys: pytest.CaptureFixture[str]) -> None:
    contents.images = [image("used", "used:1"), image("kept", "kept:1", labels={"bulkhead.keep": ""})]
    contents.containers = [container("c", "used", status="running")]
    contents.networks.append(network("old"))
    assert reclaim(12 * GIB) == 1
    assert contents.names() == {"used", "kept", "c", "old"}
    assert (
        "12.0 GiB are needed: 2.0 GiB are missing. The rest is in use, is kept by your settings or labels, or belongs to a running build"
        in capsys.readouterr().out
    )


def test_reclaim_that_is_dry_stops_where_a_real_one_would(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.cache = [record("a", 5), record("b", 20)]
    contents.images = [image("i", "i:1", size=GIB)]
    assert reclaim(12 * GIB, dry_run=True) == 0
    assert contents.names() == {"a", "b", "i"}
    assert "build cache that is not in use: would remove 2 records, 2.0 GiB" in capsys.readouterr().out


def test_moment_that_frees_enough_spares_what_is_shared_with_images() -> None:
    records = [record("shared", 30, Shared=True), record("b", 20), record("a", 10)]
    assert moment_to_free(records, GIB) == pytest.approx(NOW.timestamp() - 20 * 3600, abs=1)


# -- the cache alone


def test_cache_is_reclaimed_alone_and_counted_in_bytes(contents: FakeContents) -> None:
    contents.cache = [record("old", 90), record("recent", 1)]
    contents.images = [image("lost"), image("old-image", "old:1")]
    assert pruner.reclaim_cache(config(), 11 * GIB, print, wait=0) == GIB
    assert contents.names() == {"recent", "lost", "old-image"}
    assert pruner.reclaim_cache(config(), 11 * GIB, print, wait=0) == 0
    assert pruner.reclaim_cache(config(), 99 * GIB, print, wait=0) == GIB
    assert contents.names() == {"lost", "old-image"}


def test_cache_stays_where_docker_does_not_run_or_somebody_else_is_at_work(
    contents: FakeContents, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents.cache = [record("old", 90)]
    with state.locked("prune", 0), pytest.raises(TimeoutError):
        pruner.reclaim_cache(config(), 99 * GIB, print, wait=0)
    with state.locked("move", 0), pytest.raises(TimeoutError):
        pruner.reclaim_cache(config(), 99 * GIB, print, wait=0)
    for module in (daemon, commands, pruner):
        monkeypatch.setattr(module, "docker_runs", lambda: False)
    assert pruner.reclaim_cache(config(), 99 * GIB, print, wait=0) == 0
    assert contents.names() == {"old"}


def test_cache_stays_while_a_move_is_unfinished(contents: FakeContents) -> None:
    contents.cache = [record("old", 90)]
    Journal(journal.PATH).enter("copying")
    with pytest.raises(Failed, match="a move of Docker's data is not finished"):
        pruner.reclaim_cache(config(), 99 * GIB, print, wait=0)
    assert contents.names() == {"old"}
