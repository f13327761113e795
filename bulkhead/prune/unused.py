"""Decide what Docker no longer needs. Pure."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bulkhead.docker.engine import moment
from bulkhead.docker.usage import (
    digests,
    is_kept,
    mounted_volumes,
    name_of,
    names_of,
    repository,
    tags,
    volume_bytes,
)
from bulkhead.sizes import human

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HOUR, DAY = 3600, 86400

_PREDEFINED = ("bridge", "host", "none", "docker_gwbridge")
Json = dict[str, Any]


@dataclass(frozen=True)
class Removal:
    """An object of Docker's that is to be removed, and why."""

    kind: str  # "container", "image", "network", "volume"; "record": of the build cache
    id: str
    name: str
    size: int  # bytes that are freed, by Docker's count
    why: str
    references: tuple[str, ...] = field(repr=False)  # the object is gone when all of them are removed, in this order

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({human(self.size)})" if self.size else "")


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


def stale_containers(
    containers: Sequence[Json], sizes: Mapping[str, int], keep: Sequence[str], now: float, before: float
) -> list[Removal]:
    """Return the containers that stopped long ago, or were created long ago and never started.

    A container that another one refers to is kept as long as that one.

    Args:
        containers: all, as Docker inspects them.
        sizes: bytes of each that are freed with it, by identifier.
        keep: patterns of names (fnmatch).
        now: seconds since the epoch.
        before: the moment before which it is long ago.
    """
    found = {}
    remaining = []
    for container in containers:
        status, name = container["State"], container["Name"].lstrip("/")
        # After a power cut, the end that Docker knows may be before the start.
        ran = max(moment(status["StartedAt"]), moment(status["FinishedAt"]))
        since = max(ran, moment(container["Created"]))
        if (
            status["Status"] in ("exited", "created", "dead")
            and container["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
            and 0 < since <= before
            and not is_kept([name], container["Config"]["Labels"], keep)
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
    return {image["Id"] for image in images if used & {image["Id"], *names_of(image)}}


def removable_images(images: Sequence[Json], used: set[str], keep: Sequence[str]) -> list[Json]:
    """Return the images that no container uses, that no other image was made from, and that the user does not keep.

    Args:
        used: identifiers of the images that containers use.
        keep: patterns of names (fnmatch).
    """
    parents = {image["ParentId"] for image in images}
    return [
        image
        for image in images
        if image["Id"] not in used | parents and not is_kept(names_of(image), image["Labels"], keep)
    ]


def image_removal(image: Json, sizes: Mapping[str, int], why: str) -> Removal:
    """Return how to remove an image.

    Args:
        sizes: bytes of each image that it does not share, by identifier.
    """
    tagged = tags(image)
    # With the last tag of a repository Docker removes the repository's digests too.
    tagless = [name for name in digests(image) if repository(name) not in map(repository, tagged)]
    size = sizes.get(image["Id"], image["Size"])
    return Removal("image", image["Id"], name_of(image), size, why, (*tagged, *tagless) or (image["Id"],))


# -- networks


def networks_in_use(containers: Iterable[Json]) -> set[str]:
    """Return the names and identifiers of the networks that containers refer to, running or not."""
    used = set(_PREDEFINED)
    for container in containers:
        attached = container["NetworkSettings"]["Networks"] or {}
        used |= {container["HostConfig"]["NetworkMode"], *attached}
        used |= {endpoint["NetworkID"] for endpoint in attached.values() if endpoint}
    return used


def unused_networks(
    networks: Iterable[Json], used: set[str], uses: Mapping[str, float], keep: Sequence[str], now: float, before: float
) -> list[Removal]:
    """Return the networks that people created and that no container has used for long.

    Args:
        used: names and identifiers of the networks that containers refer to.
        uses: when each was last seen in use, or first seen at all, by identifier.
        keep: patterns of names (fnmatch).
        now: seconds since the epoch.
        before: the moment before which it is long ago.
    """
    return [
        Removal("network", network["Id"], network["Name"], 0, f"unused for {age(now - use)}", (network["Id"],))
        for network in networks
        if network["Scope"] == "local"
        and not network.get("ConfigOnly")
        and not {network["Id"], network["Name"]} & used
        and (use := uses.get(network["Id"], now)) <= before
        and not is_kept([network["Name"]], network["Labels"], keep)
    ]


# -- volumes


def unused_volumes(
    volumes: Iterable[Json],
    containers: Iterable[Json],
    uses: Mapping[str, float],
    unknown: float,
    keep: Sequence[str],
    now: float,
    before: float,
) -> list[Removal]:
    """Return the volumes that no container has had for long, the longest unused first.

    Args:
        volumes: anonymous ones.
        containers: all, as Docker inspects them.
        uses: when each was last seen in a container, or first seen at all, by name.
        unknown: the same for volumes that are not among them. The making of a volume counts too: that is a moment before
            its container's.
        keep: patterns of names (fnmatch).
        now: seconds since the epoch.
        before: the moment before which it is long ago.
    """
    had = {name for container in containers for name in mounted_volumes(container)}
    found = []
    for volume in volumes:
        name, made = volume["Name"], moment(volume.get("CreatedAt") or "")
        use = max(uses.get(name, unknown), made)
        if name not in had and use <= before and not is_kept([name], volume.get("Labels"), keep):
            why = f"unused for {age(now - use)}" if name in uses else f"in no container, made {time_ago(now - made)}"
            found.append((use, Removal("volume", name, name, volume_bytes(volume), why, (name,))))
    return [removal for _, removal in sorted(found, key=lambda each: each[0])]


def age(seconds: float) -> str:
    """
    >>> age(95 * HOUR), age(96 * HOUR)
    ('95 h', '4 days')
    """
    return f"{seconds / DAY:.0f} days" if seconds >= 4 * DAY else f"{seconds / HOUR:.0f} h"


def time_ago(seconds: float) -> str:
    """Return when it was, so many seconds ago."""
    return f"{age(seconds)} ago"
