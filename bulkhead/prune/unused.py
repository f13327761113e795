"""Decide what is unused. Pure."""

from __future__ import annotations

import bisect
import contextlib
import fnmatch
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bulkhead.docker.engine import moment
from bulkhead.docker.usage import KEEP, digests, log_bytes, name_of, tags
from bulkhead.sizes import human

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bulkhead.config import Config

HOUR, DAY = 3600, 86400

# Seconds that an image without a name stays. A build without BuildKit goes on from one that it has just made, and between
# two of its steps nothing shows it: no container, and on this host no command line where it came through the API.
_FRESH = HOUR
_PREDEFINED = ("bridge", "host", "none", "docker_gwbridge")
Json = dict[str, Any]


@dataclass(frozen=True)
class Removal:
    """What goes."""

    kind: str  # "container", "image", "network"; "record" of the build cache
    id: str
    name: str
    size: int  # bytes that come back, by Docker's count
    why: str
    references: tuple[str, ...] = field(repr=False)  # it has gone when all of them are removed, in this order

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({human(self.size)})" if self.size else "")


# -- what goes: decided from what Docker lists


def is_kept(names: Iterable[str], labels: Mapping[str, str] | None, patterns: Sequence[str]) -> bool:
    """Whether an object is not to be removed, by its label or one of its names."""
    return KEEP in (labels or {}) or any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def idle_cache(records: Iterable[Json], before: float) -> list[Json]:
    """Records of the build cache that BuildKit would remove: not in use, last used before a moment.

    A record stays as long as one that was made from it does.
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
    return moment(record.get("LastUsedAt") or "")  # 0: never, which is long ago for BuildKit too


def cache_bytes(records: Iterable[Json]) -> int:
    """What comes back when these records go: what images share with them stays."""
    return sum(record["Size"] for record in records if not record["Shared"])


def moment_to_free(records: Sequence[Json], wanted: int) -> float:
    """The moment up to which cache must go, the least recently used first, for so many bytes to come back."""
    moments = sorted({last_used(record) for record in records})
    enough = bisect.bisect_left(moments, wanted, key=lambda before: cache_bytes(idle_cache(records, before)))
    return moments[min(enough, len(moments) - 1)] if moments else 0.0


def stale_containers(
    containers: Sequence[Json], written: Mapping[str, int], config: Config, now: float
) -> list[Removal]:
    """Containers that stopped, or were made and never started, long ago, and that none which remains needs.

    Args:
        containers: all, inspected.
        written: bytes of each beside its volumes, by identifier.
    """
    found = {}
    remaining = []
    for container in containers:
        status, name = container["State"], container["Name"].lstrip("/")
        # A host that lost its power leaves an end before the start.
        ran = max(moment(status["StartedAt"]), moment(status["FinishedAt"]))
        since = ran or moment(container["Created"])
        if (
            status["Status"] in ("exited", "created", "dead")
            and container["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
            and 0 < since <= now - config.prune_hours * HOUR
            and not is_kept([name], container["Config"]["Labels"], config.prune_keep)
        ):
            size = written.get(container["Id"], 0) + log_bytes(container)
            why = f"stopped {ago(now - since)}" if ran else f"made {ago(now - since)}, never started"
            found[container["Id"]] = Removal("container", container["Id"], name, size, why, (container["Id"],))
        else:
            remaining.append(container)
    by_id = {container["Id"]: container for container in containers}
    while remaining:
        needed = _containers_of(remaining.pop())
        for thing in [thing for thing in found.values() if thing.name in needed or thing.id.startswith(needed)]:
            del found[thing.id]
            remaining.append(by_id[thing.id])
    return [*found.values()]


def _containers_of(container: Json) -> tuple[str, ...]:
    """The other containers that one refers to, by name or identifier, which may be shortened."""
    host = container["HostConfig"]
    modes = [host.get(mode) or "" for mode in ("NetworkMode", "IpcMode", "PidMode")]
    return (
        *(mode.partition(":")[2] for mode in modes if mode.startswith("container:")),
        *(source.partition(":")[0] for source in host.get("VolumesFrom") or []),
        *(link.partition(":")[0].lstrip("/") for link in host.get("Links") or []),
    )


def images_in_use(images: Iterable[Json], containers: Iterable[Json]) -> set[str]:
    """Identifiers of the images that containers have, running or not, as their own or mounted."""
    used = set()
    for container in containers:
        used.add(container["Image"])
        # Docker counts these only when the image is removed by name.
        used |= {mount["Source"] for mount in container["HostConfig"].get("Mounts") or [] if mount["Type"] == "image"}
    return {image["Id"] for image in images if used & {image["Id"], *_names(image)}}


def removable_images(images: Sequence[Json], used: set[str], keep: Sequence[str], now: float) -> list[Json]:
    """Images that no container has and that no other image was made from, but for those that are kept, and those
    without a name that a build may have made just now.
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
    """With a tag or a digest, and without."""
    names = [*tags(image), *digests(image)]
    return [*names, *map(_repository, names)]


def _repository(name: str) -> str:
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def of_image(image: Json, sizes: Mapping[str, int], why: str) -> Removal:
    tagged = tags(image)
    # The last tag of a repository takes the repository's digests with it.
    tagless = [name for name in digests(image) if _repository(name) not in map(_repository, tagged)]
    size = sizes.get(image["Id"], image["Size"])
    return Removal("image", image["Id"], name_of(image), size, why, (*tagged, *tagless) or (image["Id"],))


def images_known(images: Iterable[Json], used: set[str], known: Mapping[str, float], now: float) -> dict[str, float]:
    """When each image was last seen in a container, or first seen at all.

    Args:
        known: the same, as it was remembered the last time.
    """
    # A clock that was ahead has left times that are still to come.
    return {image["Id"]: now if image["Id"] in used else min(known.get(image["Id"], now), now) for image in images}


def last_use(image: Json) -> float:
    """The latest use of an image that the engine knows of.

    Args:
        image: inspected.
    """
    tagged = moment((image.get("Metadata") or {}).get("LastTagTime") or "")
    # overlay2 reads the file `link` of an image's last layer for each container and each build that begins with it; its
    # time of access is right to a day (mount option relatime). What runs with --rm between two prunes shows nowhere else.
    upper = ((image.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir") or ""
    with contextlib.suppress(OSError):
        return max(tagged, os.stat(f"{os.path.dirname(upper)}/link").st_atime)
    return tagged


def unused_networks(networks: Iterable[Json], containers: Iterable[Json], config: Config, now: float) -> list[Removal]:
    """Networks that people made long ago and that no container refers to, running or not."""
    referred = set(_PREDEFINED)
    for container in containers:
        attached = container["NetworkSettings"]["Networks"] or {}
        referred |= {container["HostConfig"]["NetworkMode"], *attached}
        referred |= {endpoint["NetworkID"] for endpoint in attached.values() if endpoint}
    return [
        Removal("network", network["Id"], network["Name"], 0, f"made {ago(now - made)}", (network["Id"],))
        for network in networks
        if network["Scope"] == "local"
        and not network.get("ConfigOnly")
        and not {network["Id"], network["Name"]} & referred
        and 0 < (made := moment(network["Created"])) <= now - config.prune_hours * HOUR
        and not is_kept([network["Name"]], network["Labels"], config.prune_keep)
    ]


def ago(seconds: float) -> str:
    return f"{seconds / DAY:.0f} days ago" if seconds >= 4 * DAY else f"{seconds / HOUR:.0f} h ago"
