"""A fake engine with contents, and the host that it runs on."""

from __future__ import annotations

import argparse
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

from bulkhead import state
from bulkhead.config import Config
from bulkhead.prune import commands
from bulkhead.prune.unused import idle_cache
from bulkhead.uptime import Point, Uptime

from ..configs import config
from ..fake_engine import Query

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
        "ImageID": f"sha256:{image}",  # as the list has it
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
        "Mounts": [],
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
        "SharedSize": changed.get("shared", -1),
        "layers": changed.get("layers", [f"layer of {name}"]),
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


def network(name: str, **changed: Any) -> dict[str, Any]:
    return {"Id": f"id-{name}", "Name": name, "Scope": "local", "Labels": {}, "Created": ago(9000), **changed}


def volume(name: str, hours: float = 900, size: int = GIB, **changed: Any) -> dict[str, Any]:
    """An anonymous one, as Docker labels it from 23.0."""
    return {
        "Name": name,
        "Driver": "local",
        "Labels": {"com.docker.volume.anonymous": ""},
        "Options": None,
        "CreatedAt": ago(hours),
        "UsageData": {"Size": size, "RefCount": 0},
        **changed,
    }


def known(kind: str, **hours: float) -> None:
    """Let earlier runs have seen objects last so many hours ago."""
    prefix = {"images": "sha256:", "networks": "id-", "volumes": ""}[kind]
    state.save(kind, {f"{prefix}{name}": NOW.timestamp() - 3600 * ago for name, ago in hours.items()})


def up_for(hours: float, since_boot: float = 900) -> Uptime:
    """A host that was looked at for the first time so many hours ago, and was always up since."""
    now, up = NOW.timestamp(), hours * 3600
    points = [Point(now - up, 0.0), Point(now, up)]
    return Uptime("boot", since_boot * 3600, up, up - since_boot * 3600, points)


def step(name: str, image: str) -> dict[str, Any]:
    """A running step of a classic build, with everything that the builder gives one."""
    found = container(name, image, status="running", log="none", of=f"sha256:{image}")
    found["Config"] |= {"Healthcheck": {"Test": ["NONE"]}, "Env": ["PATH=/bin"]}
    unset = {"PortBindings": None, "Dns": None, "AutoRemove": False, "Privileged": False, "Binds": None}
    found["HostConfig"] |= {**unset, "VolumesFrom": None}
    return found


class FakeContents:
    """An engine with what it holds; volumes too, so that a removal of one would show."""

    def __init__(self) -> None:
        self.containers: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.cache: list[dict[str, Any]] = []
        self.networks = [network("bridge"), network("host"), network("none")]
        self.volumes: list[dict[str, Any]] = []
        self.uptime = up_for(2400)
        self.building: list[str] = []  # command lines
        self.refused: dict[str, tuple[int, str]] = {}  # "METHOD path" → how; what is refused stays
        self.healed_by = ""  # the method that ends all refusals
        self.asked: list[str] = []
        self.stopped_after = ""  # a request with which somebody stops Docker
        self.free = 10 * GIB

    def names(self) -> set[str]:
        """What remains."""
        held = [*self.containers, *self.images, *self.networks, *self.cache, *self.volumes]
        names = {re.sub("^(id-|sha256:)", "", found.get("Id") or found.get("ID") or found["Name"]) for found in held}
        return names - {"bridge", "host", "none"}

    def now(self) -> float:
        return NOW.timestamp()

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
            counted = {"Images": self.images, "Containers": rows, "Volumes": self.volumes, "BuildCache": self.cache}
            return 200, {"LayersSize": 0, **counted}
        if path == "/volumes":
            return 200, {"Volumes": self.volumes or None}
        if kind == "images" and name != "json":
            found = self._by(self.images, name.removesuffix("/json"))
            if not found:
                return 404, {"message": "no image"}
            return 200, {"Metadata": {"LastTagTime": found["tagged"]}, "RootFS": {"Layers": found["layers"]}}
        if kind == "containers" and name != "json":
            found = self._by(self.containers, name.removesuffix("/json"))
            return (200, found) if found else (404, {"message": "No such container"})
        if kind == "containers" and "all" not in query:
            return 200, [found for found in self.containers if found["State"]["Running"]]
        if kind == "images" and "all" not in query:
            return 200, [found for found in self.images if not self._is_intermediate(found)]
        return 200, {"containers": self.containers, "images": self.images, "networks": self.networks}[kind]

    def _is_intermediate(self, image: dict[str, Any]) -> bool:
        """Whether it only is a step of a classic build on the way to another image. Docker lists it with `all` alone."""
        return not image["RepoTags"] and image["Id"] in {each["ParentId"] for each in self.images}

    def _by(self, objects: list[dict[str, Any]], identifier: str) -> dict[str, Any] | None:
        return next((found for found in objects if found["Id"] == identifier), None)

    def _remove(self, kind: str, name: str) -> tuple[int, Any]:
        objects: list[dict[str, Any]] = {
            "containers": self.containers,
            "images": self.images,
            "networks": self.networks,
            "volumes": self.volumes,
        }[kind]
        for found in objects:
            references = [*(found.get("RepoTags") or []), *(found.get("RepoDigests") or [])]
            identifier = found.get("Id") or found["Name"]
            if name == identifier and len(references) > 1:
                return 409, {"message": "image is referenced in multiple repositories"}
            if name in references:
                found["RepoTags"] = [tag for tag in found["RepoTags"] or [] if tag != name]
                # A repository's last tag takes its digests with it.
                gone = (name, f"{name.rpartition(':')[0]}@")
                found["RepoDigests"] = [digest for digest in found["RepoDigests"] if not digest.startswith(gone)]
                if found["RepoTags"] or found["RepoDigests"]:
                    return 200, [{"Untagged": name}]
            elif name != identifier:
                continue
            objects.remove(found)
            self.free += self._freed(found)
            return 204 if kind != "images" else 200, [{"Deleted": identifier}]
        return 404, {"message": f"no such object: {name}"}

    def _freed(self, gone: dict[str, Any]) -> int:
        if "layers" not in gone:
            return int((gone.get("UsageData") or gone).get("Size", 0))
        left = {layer for image in self.images for layer in image["layers"]}
        return int(gone["Size"]) if not left & {*gone["layers"]} else int(gone["Size"]) - max(gone["SharedSize"], 0)

    def _prune_cache(self, filters: dict[str, list[str]]) -> dict[str, Any]:
        before = self.now() - int(filters["until"][0].removesuffix("s"))
        gone = idle_cache(self.cache, before)
        names = {found["ID"] for found in gone}
        self.cache = [found for found in self.cache if found["ID"] not in names]
        size = sum(found["Size"] for found in gone)
        self.free += size
        return {"CachesDeleted": [found["ID"] for found in gone] or None, "SpaceReclaimed": size}


def run(settings: Config | None = None, *, dry_run: bool = False, as_json: bool = False, nightly: bool = False) -> int:
    options = argparse.Namespace(dry_run=dry_run, json=as_json, nightly=nightly)
    return commands.run(settings or config(), options)


def reclaim(
    need: int | None,
    settings: Config | None = None,
    *,
    dry_run: bool = False,
    yes: bool = True,
    volumes: bool = False,
) -> int:
    options = argparse.Namespace(need=need, dry_run=dry_run, json=False, yes=yes, volumes=volumes)
    return commands.reclaim(settings or config(), options)


def result(**changed: Any) -> dict[str, Any]:
    """What a prune saves."""
    values = {"freed": 0, "removed": 0, "failed": [], "hindrance": "", "skipped_nights": 0}
    return {"time": NOW.timestamp(), **values, **changed}
