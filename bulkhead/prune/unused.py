"""Decide what Docker no longer needs. Pure."""

from __future__ import annotations

import bisect
import fnmatch
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bulkhead.docker.engine import moment
from bulkhead.docker.usage import digests, name_of, tags
from bulkhead.names import KEEP
from bulkhead.sizes import human

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bulkhead.config import Config

HOUR, DAY = 3600, 86400

# Seconds that an image without a name is kept. A classic build goes on from an image that it has just made, and between
# two of its steps nothing shows the build: there is no container, and no command line if the build came through the API.
_FRESH = HOUR
_PREDEFINED = ("bridge", "host", "none", "docker_gwbridge")
Json = dict[str, Any]


@dataclass(frozen=True)
class Removal:
    """An object of Docker's that is to be removed, and why."""

    kind: str  # "container", "image", "network"; "record": of the build cache
    id: str
    name: str
    size: int  # bytes that are freed, by Docker's count
    why: str
    references: tuple[str, ...] = field(repr=False)  # the object is gone when all of them are removed, in this order

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({human(self.size)})" if self.size else "")


def is_kept(names: Iterable[str], labels: Mapping[str, str] | None, patterns: Sequence[str]) -> bool:
    """Return whether the user wants to keep an object, by its label or one of its names."""
    return KEEP in (labels or {}) or any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


# -- the build cache


def idle_cache(records: Iterable[Json], before: float) -> list[Json]:
    """Return the records of the build cache that BuildKit would remove: not in use, and last used before a moment.

    BuildKit keeps a record as long as a record that was made from it.

    Args:
        before: seconds since the epoch.
    """
    parents = {record["ID"]: record.get("Parents") or [record.get("Parent")] for record in records}
    idle = {record["ID"]: record for record in records if not record["InUse"] and last_used(record) <= before}
    staying = [identifier for identifier in parents if identifier not in idle]
    while staying:
        for parent in parents.get(staying.pop(), []):
            if idle.pop(parent, None):
                staying.append(parent)
    return [*idle.values()]


def last_used(record: Json) -> float:
    """Return when a record was last used, in seconds since the epoch; 0 for never. BuildKit, too, takes that for long ago."""
    return moment(record.get("LastUsedAt") or "")


def cache_bytes(records: Iterable[Json]) -> int:
    """Return the bytes that are freed when these records are removed. What they share with images stays."""
    return sum(record["Size"] for record in records if not record["Shared"])


def moment_to_free(records: Sequence[Json], wanted: int) -> float:
    """Return the moment for `idle_cache` that frees so many bytes of cache and as little more as possible.

    Args:
        wanted: bytes.
    """
    moments = sorted({last_used(record) for record in records})
    enough = bisect.bisect_left(moments, wanted, key=lambda before: cache_bytes(idle_cache(records, before)))
    return moments[min(enough, len(moments) - 1)] if moments else 0.0


# -- containers


def stale_containers(containers: Sequence[Json], sizes: Mapping[str, int], config: Config, now: float) -> list[Removal]:
    """Return the containers that stopped long ago, or were created long ago and never started.

    A container that another one refers to is kept as long as that one.

    Args:
        containers: all, as Docker inspects them.
        sizes: bytes of each that are freed with it, by identifier.
        now: seconds since the epoch.
    """
    found = {}
    remaining = []
    for container in containers:
        status, name = container["State"], container["Name"].lstrip("/")
        # After a power cut, the end that Docker knows may be before the start.
        ran = max(moment(status["StartedAt"]), moment(status["FinishedAt"]))
        since = ran or moment(container["Created"])
        if (
            status["Status"] in ("exited", "created", "dead")
            and container["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
            and 0 < since <= now - config.prune_hours * HOUR
            and not is_kept([name], container["Config"]["Labels"], config.prune_keep)
        ):
            size = sizes.get(container["Id"], 0)
            why = f"stopped {time_ago(now - since)}" if ran else f"made {time_ago(now - since)}, never started"
            found[container["Id"]] = Removal("container", container["Id"], name, size, why, (container["Id"],))
        else:
            remaining.append(container)
    by_id = {container["Id"]: container for container in containers}
    while remaining:
        needed = _containers_of(remaining.pop())
        for removal in [each for each in found.values() if each.name in needed or each.id.startswith(needed)]:
            del found[removal.id]
            remaining.append(by_id[removal.id])
    return [*found.values()]


def _containers_of(container: Json) -> tuple[str, ...]:
    """Return the containers that one refers to, by name or by identifier, which may be shortened."""
    host = container["HostConfig"]
    modes = [host.get(mode) or "" for mode in ("NetworkMode", "IpcMode", "PidMode")]
    return (
        *(mode.partition(":")[2] for mode in modes if mode.startswith("container:")),
        *(source.partition(":")[0] for source in host.get("VolumesFrom") or []),
        *(link.partition(":")[0].lstrip("/") for link in host.get("Links") or []),
    )


# -- images


def images_in_use(images: Iterable[Json], containers: Iterable[Json]) -> set[str]:
    """Return the identifiers of the images that containers run on or mount. Stopped containers count."""
    used = set()
    for container in containers:
        used.add(container["Image"])
        # Docker itself refuses to remove a mounted image only when it is asked by name.
        used |= {mount["Source"] for mount in container["HostConfig"].get("Mounts") or [] if mount["Type"] == "image"}
    return {image["Id"] for image in images if used & {image["Id"], *_names(image)}}


def removable_images(images: Sequence[Json], used: set[str], keep: Sequence[str], now: float) -> list[Json]:
    """Return the images that no container uses and that no other image was made from.

    Left out are those that the user keeps, and those without a name that a build may have made just now.

    Args:
        used: identifiers of the images that containers use.
        keep: patterns of names (fnmatch).
        now: seconds since the epoch.
    """
    parents = {image["ParentId"] for image in images}
    return [
        image
        for image in images
        if image["Id"] not in used | parents
        and not is_kept(_names(image), image["Labels"], keep)
        and (tags(image) or image["Created"] <= now - _FRESH)
    ]


def _names(image: Json) -> list[str]:
    """Return an image's names, each with its tag or digest, and without."""
    names = [*tags(image), *digests(image)]
    return [*names, *map(_repository, names)]


def _repository(name: str) -> str:
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def image_removal(image: Json, sizes: Mapping[str, int], why: str) -> Removal:
    """Return how to remove an image.

    Args:
        sizes: bytes of each image that it does not share, by identifier.
    """
    tagged = tags(image)
    # With the last tag of a repository Docker removes the repository's digests too.
    tagless = [name for name in digests(image) if _repository(name) not in map(_repository, tagged)]
    size = sizes.get(image["Id"], image["Size"])
    return Removal("image", image["Id"], name_of(image), size, why, (*tagged, *tagless) or (image["Id"],))


def images_known(images: Iterable[Json], used: set[str], known: Mapping[str, float], now: float) -> dict[str, float]:
    """Return when each image was last seen in a container, or first seen at all, in seconds since the epoch.

    Args:
        used: identifiers of the images that containers use now.
        known: what the run before returned.
        now: seconds since the epoch.
    """
    # A clock that was ahead has left times in the future.
    return {image["Id"]: now if image["Id"] in used else min(known.get(image["Id"], now), now) for image in images}


# -- networks


def unused_networks(networks: Iterable[Json], containers: Iterable[Json], config: Config, now: float) -> list[Removal]:
    """Return the networks that people created long ago and that no container, running or not, refers to.

    Args:
        now: seconds since the epoch.
    """
    referred = set(_PREDEFINED)
    for container in containers:
        attached = container["NetworkSettings"]["Networks"] or {}
        referred |= {container["HostConfig"]["NetworkMode"], *attached}
        referred |= {endpoint["NetworkID"] for endpoint in attached.values() if endpoint}
    return [
        Removal("network", network["Id"], network["Name"], 0, f"made {time_ago(now - made)}", (network["Id"],))
        for network in networks
        if network["Scope"] == "local"
        and not network.get("ConfigOnly")
        and not {network["Id"], network["Name"]} & referred
        and 0 < (made := moment(network["Created"])) <= now - config.prune_hours * HOUR
        and not is_kept([network["Name"]], network["Labels"], config.prune_keep)
    ]


def time_ago(seconds: float) -> str:
    """
    >>> time_ago(95 * HOUR), time_ago(96 * HOUR)
    ('95 h ago', '4 days ago')
    """
    return f"{seconds / DAY:.0f} days ago" if seconds >= 4 * DAY else f"{seconds / HOUR:.0f} h ago"
