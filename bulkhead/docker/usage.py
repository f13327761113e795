"""Count what fills Docker's volume, and how much of it could be removed."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bulkhead import state
from bulkhead.docker.engine import moment
from bulkhead.names import DOCKER_STORE, KEEP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bulkhead.docker.engine import Engine

CONTAINERS = f"{DOCKER_STORE}/containers"
# Seconds that an image without a name is kept. A classic build goes on from an image that it has just made, and between
# two of its steps nothing shows the build: there is no container, and no command line if the build came through the API.
FRESH = 3600
ANONYMOUS = "volumes"  # the state that the prune saves: the anonymous volumes that it knows
_TIMEOUT = 60  # seconds: people and alerts wait for the answer
_LOGS = ("*/*-json.log*", "*/local-logs/container.log*")  # of the drivers json-file and local
_ANONYMOUS_LABEL = "com.docker.volume.anonymous"  # Docker gives it to them from 23.0
_GENERATED = re.compile(r"[0-9a-f]{64}")  # the names of volumes that Docker makes up


@dataclass(frozen=True)
class Usage:
    """How many bytes each kind of data takes on Docker's volume."""

    images: int
    containers: int  # written by containers, but not to their volumes
    build_cache: int  # without what it shares with images
    volumes: int
    logs: int  # of containers
    reclaimable: dict[str, int]  # by "images", "containers", "build cache"
    anonymous: int = 0  # number of anonymous volumes that no container has
    anonymous_bytes: int = 0


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
    lost = [
        volume
        for volume in anonymous_volumes(counted["volume"], state.load(ANONYMOUS))
        if (volume.get("UsageData") or {}).get("RefCount") == 0
    ]
    return Usage(
        images=counted["layers"],
        containers=sum(row.get("SizeRw", 0) for row in counted["container"]),
        build_cache=sum(record["Size"] for record in cache),
        volumes=sum(map(volume_bytes, counted["volume"])),
        logs=_size(path for pattern in _LOGS for path in glob.glob(f"{directory}/{pattern}")),
        anonymous=len(lost),
        anonymous_bytes=sum(map(volume_bytes, lost)),
        reclaimable={
            "images": sum(own_bytes(image) for image in _without_container(counted)),
            "containers": sum(row.get("SizeRw", 0) for row in stopped),
            "build cache": sum(record["Size"] for record in cache if not record["InUse"]),
        },
    )


def reclaimable(engine: Engine, keep: Sequence[str] = ()) -> list[tuple[str, int]]:
    """Return what `bulkhead reclaim` could remove, with its bytes, the largest first.

    That is the build cache, and images that no container uses. While no build runs, their sum can be had for certain:
    layers that several images share are not counted.

    Args:
        keep: patterns of names (fnmatch).

    Raises:
        EngineError: Docker cannot count, or takes more than a minute.
    """
    counted = engine.usage("image", "container", "build-cache", timeout=_TIMEOUT)
    cache = sum(record["Size"] for record in counted["build-cache"] if not (record["InUse"] or record["Shared"]))
    images = [
        (f"image {name_of(image)}", own_bytes(image))
        for image in _without_container(counted)
        if not is_kept(names_of(image), image["Labels"], keep)
        and (not is_dangling(image) or image["Created"] <= time.time() - FRESH)
    ]
    found = [("build cache", cache), *images]
    return sorted([(name, size) for name, size in found if size], key=lambda pair: pair[1], reverse=True)


def is_kept(names: Iterable[str], labels: Mapping[str, str] | None, patterns: Sequence[str]) -> bool:
    """Return whether the user wants to keep an object, by its label or one of its names."""
    return KEEP in (labels or {}) or any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


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


def names_of(image: dict[str, Any]) -> list[str]:
    """Return an image's names, each with its tag or digest, and without."""
    names = [*tags(image), *digests(image)]
    return [*names, *map(repository, names)]


def repository(name: str) -> str:
    """Return an image's name without its tag or digest."""
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def is_dangling(image: dict[str, Any]) -> bool:
    """Return whether an image has neither a tag nor a digest.

    On overlay2, Docker itself also calls an image dangling that was pulled by its digest.
    """
    return not (tags(image) or digests(image))


def own_bytes(image: dict[str, Any]) -> int:
    """Return the bytes that are freed at least with an image: what it does not share with others."""
    size, shared = int(image["Size"]), max(int(image["SharedSize"]), 0)
    if any(name.endswith(f"@{image['Id']}") for name in digests(image)):
        # containerd's store also has the layers as they were pulled. Their bytes are in Size, and never in SharedSize.
        shared *= 2
    return max(size - shared, 0)


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


# -- volumes


def anonymous_volumes(volumes: Iterable[dict[str, Any]], known: Iterable[str]) -> list[dict[str, Any]]:
    """Return the volumes that Docker made because a container wanted one and nobody named it.

    From 23.0 Docker labels them. Before, a name of 64 digits shows nothing for certain: `docker volume create` makes such
    names too, and people use them. There a volume counts only if the prune has seen the container that it was made for.

    Args:
        volumes: as Docker lists them.
        known: the names of the volumes of `made_for_containers`.
    """
    known = {*known}
    return [
        volume
        for volume in volumes
        if (_ANONYMOUS_LABEL in (volume.get("Labels") or {}) or volume["Name"] in known)
        and volume.get("Driver") == "local"
        and not volume.get("Options")
    ]


def made_for_containers(containers: Iterable[dict[str, Any]]) -> set[str]:
    """Return the names of the volumes that Docker made for one container, and that no container has by name.

    Args:
        containers: all, as Docker inspects them.
    """
    made, named = set(), set()
    for container in containers:
        host = container["HostConfig"]
        by_name = {bind.partition(":")[0] for bind in host.get("Binds") or []}
        by_name |= {mount.get("Source") for mount in host.get("Mounts") or []}
        found = {name for name in mounted_volumes(container) if _GENERATED.fullmatch(name)}
        named |= found & by_name
        if not host.get("VolumesFrom"):  # else they may be another's, who has named them
            made |= found
    return made - named


def mounted_volumes(container: dict[str, Any]) -> set[str]:
    """Return the names of the volumes that a container has.

    Args:
        container: as Docker inspects it.
    """
    return {mount.get("Name") or "" for mount in container.get("Mounts") or [] if mount["Type"] == "volume"}


def volume_bytes(volume: dict[str, Any]) -> int:
    """Return the bytes of a volume; 0 if its driver does not know (-1)."""
    size: int = (volume.get("UsageData") or {}).get("Size", 0)
    return max(size, 0)


# -- logs


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
