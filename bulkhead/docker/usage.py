"""What fills Docker's volume, and how much of it could go."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bulkhead.names import DOCKER_STORE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bulkhead.docker.engine import Engine

CONTAINERS = f"{DOCKER_STORE}/containers"
_PATIENCE = 60  # seconds: people and alerts wait for the answer
_LOGS = ("*/*-json.log*", "*/local-logs/container.log*")  # of the drivers json-file and local


@dataclass(frozen=True)
class Usage:
    """Bytes on Docker's volume."""

    images: int
    containers: int  # what they have written beside their volumes
    build_cache: int  # beyond what it shares with images
    volumes: int
    logs: int  # of containers
    reclaimable: dict[str, int]  # by "images", "containers", "build cache"


def usage(engine: Engine, directory: str = CONTAINERS) -> Usage:
    """What Docker counts, and its containers' logs, which it does not.

    Args:
        directory: of the containers, with their logs.

    Raises:
        EngineError: Docker does not count, or not within a minute.
    """
    counted = engine.usage("image", "container", "volume", "build-cache", timeout=_PATIENCE)
    cache = [record for record in counted["build-cache"] if not record["Shared"]]
    stopped = [row for row in counted["container"] if row["State"] not in ("running", "paused", "restarting")]
    return Usage(
        images=counted["layers"],
        containers=sum(row.get("SizeRw", 0) for row in counted["container"]),
        build_cache=sum(record["Size"] for record in cache),
        # -1: a driver that does not tell
        volumes=sum(max(volume["UsageData"]["Size"], 0) for volume in counted["volume"] if volume.get("UsageData")),
        logs=_size(path for pattern in _LOGS for path in glob.glob(f"{directory}/{pattern}")),
        reclaimable={
            "images": sum(own_bytes(image) for image in _without_container(counted)),
            "containers": sum(row.get("SizeRw", 0) for row in stopped),
            "build cache": sum(record["Size"] for record in cache if not record["InUse"]),
        },
    )


def reclaimable(engine: Engine) -> list[tuple[str, int]]:
    """What `bulkhead reclaim` could remove, the largest first: the build cache, and images that no container has.

    Raises:
        EngineError: Docker does not count, or not within a minute.
    """
    counted = engine.usage("image", "container", "build-cache", timeout=_PATIENCE)
    cache = sum(record["Size"] for record in counted["build-cache"] if not (record["InUse"] or record["Shared"]))
    images = [
        (f"image {name_of(image)}", own_bytes(image))
        for image in _without_container(counted)
        if KEEP not in (image["Labels"] or {})
    ]
    found = [("build cache", cache), *images]
    return sorted([(name, size) for name, size in found if size], key=lambda pair: pair[1], reverse=True)


# -- images, as Docker lists them

KEEP = "bulkhead.keep"  # a label: what carries it is not removed, whatever its value


def tags(image: dict[str, Any]) -> list[str]:
    return [name for name in image["RepoTags"] or [] if name != "<none>:<none>"]


def digests(image: dict[str, Any]) -> list[str]:
    return [name for name in image["RepoDigests"] or [] if name != "<none>@<none>"]


def name_of(image: dict[str, Any]) -> str:
    """The name that a person knows it by."""
    short = str(image["Id"]).removeprefix("sha256:")[:12]
    return next(iter(tags(image)), "") or next((f"{name.partition('@')[0]}@{short}" for name in digests(image)), short)


def own_bytes(image: dict[str, Any]) -> int:
    """What comes back when it goes, in bytes: what it does not share with others."""
    return int(image["Size"] - max(image["SharedSize"], 0))


def _without_container(counted: dict[str, Any]) -> list[dict[str, Any]]:
    used = {row["ImageID"] for row in counted["container"]}
    return [image for image in counted["image"] if image["Id"] not in used]


def log_bytes(container: dict[str, Any]) -> int:
    """Bytes of a container's log files.

    Args:
        container: inspected.
    """
    path = container.get("LogPath") or ""
    return _size(glob.glob(f"{glob.escape(path)}*")) if path else 0


def _size(paths: Iterable[str]) -> int:
    total = 0
    for path in paths:
        try:
            total += os.stat(path).st_size
        except OSError:  # rotated away meanwhile
            continue
    return total
