"""Count what fills Docker's volume, and how much of it could be removed."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bulkhead.docker.engine import moment
from bulkhead.names import DOCKER_STORE, KEEP

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bulkhead.docker.engine import Engine

CONTAINERS = f"{DOCKER_STORE}/containers"
_TIMEOUT = 60  # seconds: people and alerts wait for the answer
_LOGS = ("*/*-json.log*", "*/local-logs/container.log*")  # of the drivers json-file and local


@dataclass(frozen=True)
class Usage:
    """How many bytes each kind of data takes on Docker's volume."""

    images: int
    containers: int  # written by containers, but not to their volumes
    build_cache: int  # without what it shares with images
    volumes: int
    logs: int  # of containers
    reclaimable: dict[str, int]  # by "images", "containers", "build cache"


def usage(engine: Engine, directory: str = CONTAINERS) -> Usage:
    """Return what Docker counts, and the containers' logs, which Docker does not count.

    Args:
        directory: where Docker keeps its containers, with their logs.

    Raises:
        EngineError: Docker cannot count, or takes more than a minute.
    """
    counted = engine.usage("image", "container", "volume", "build-cache", timeout=_TIMEOUT)
    cache = [record for record in counted["build-cache"] if not record["Shared"]]
    stopped = [row for row in counted["container"] if row["State"] not in ("running", "paused", "restarting")]
    return Usage(
        images=counted["layers"],
        containers=sum(row.get("SizeRw", 0) for row in counted["container"]),
        build_cache=sum(record["Size"] for record in cache),
        # -1: the volume's driver does not know
        volumes=sum(max(volume["UsageData"]["Size"], 0) for volume in counted["volume"] if volume.get("UsageData")),
        logs=_size(path for pattern in _LOGS for path in glob.glob(f"{directory}/{pattern}")),
        reclaimable={
            "images": sum(own_bytes(image) for image in _without_container(counted)),
            "containers": sum(row.get("SizeRw", 0) for row in stopped),
            "build cache": sum(record["Size"] for record in cache if not record["InUse"]),
        },
    )


def reclaimable(engine: Engine, keep: Sequence[str] = ()) -> list[tuple[str, int]]:
    """Return what `bulkhead reclaim` could remove, with its bytes, the largest first.

    That is the build cache, and images that no container uses.

    Args:
        keep: shell patterns of the names of images that stay (setting prune_keep).

    Raises:
        EngineError: Docker cannot count, or takes more than a minute.
    """
    counted = engine.usage("image", "container", "build-cache", timeout=_TIMEOUT)
    cache = sum(record["Size"] for record in counted["build-cache"] if not (record["InUse"] or record["Shared"]))
    images = [
        (f"image {name_of(image)}", own_bytes(image))
        for image in _without_container(counted)
        if KEEP not in (image["Labels"] or {})
        and not any(fnmatch.fnmatchcase(name, pattern) for name in tags(image) for pattern in keep)
    ]
    found = [("build cache", cache), *images]
    return sorted([(name, size) for name, size in found if size], key=lambda pair: pair[1], reverse=True)


# -- images, as Docker lists them


def tags(image: dict[str, Any]) -> list[str]:
    """Return an image's names with a tag."""
    return [name for name in image["RepoTags"] or [] if name != "<none>:<none>"]


def digests(image: dict[str, Any]) -> list[str]:
    """Return an image's names with a digest."""
    return [name for name in image["RepoDigests"] or [] if name != "<none>@<none>"]


def name_of(image: dict[str, Any]) -> str:
    """Return the name that people know an image by."""
    short = str(image["Id"]).removeprefix("sha256:")[:12]
    return next(iter(tags(image)), "") or next((f"{name.partition('@')[0]}@{short}" for name in digests(image)), short)


def own_bytes(image: dict[str, Any]) -> int:
    """Return the bytes that are freed with an image: what it does not share with others."""
    return int(image["Size"] - max(image["SharedSize"], 0))


def last_use(image: dict[str, Any]) -> float:
    """Return the latest use of an image that the engine knows of, in seconds since the epoch; 0 if it knows of none.

    Args:
        image: as Docker inspects it.
    """
    tagged = moment((image.get("Metadata") or {}).get("LastTagTime") or "")
    # overlay2 reads the file `link` of an image's last layer for each container and each build that begins with the image.
    # The file's time of access is right to a day (mount option relatime). Nothing else shows that an image was used by a
    # container with --rm between two prunes.
    upper = ((image.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir") or ""
    with contextlib.suppress(OSError):
        return max(tagged, os.stat(f"{os.path.dirname(upper)}/link").st_atime)
    return tagged


def _without_container(counted: dict[str, Any]) -> list[dict[str, Any]]:
    used = {row["ImageID"] for row in counted["container"]}
    return [image for image in counted["image"] if image["Id"] not in used]


def log_bytes(container: dict[str, Any]) -> int:
    """Return the bytes of a container's log files.

    Args:
        container: as Docker inspects it.
    """
    path = container.get("LogPath") or ""
    return _size(glob.glob(f"{glob.escape(path)}*")) if path else 0


def _size(paths: Iterable[str]) -> int:
    total = 0
    for path in paths:
        try:
            total += os.stat(path).st_size
        except OSError:  # Docker has rotated it away
            continue
    return total
