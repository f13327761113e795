"""Remove what Docker no longer needs, and nothing else.

Docker's own `system prune` measures age by the wrong clock (containers' by their creation, images' by their build), removes
images that are only not in use just now, and refuses an age together with `--volumes`. So this program decides what to
remove, and removes object by object, without force: Docker itself refuses to remove what has come into use since. A volume
that has a name is never touched.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bulkhead import state, uptime
from bulkhead.docker.clients import programs_that_build
from bulkhead.docker.daemon import docker_runs
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.layers import Layers
from bulkhead.docker.running_builds import builds_under_way
from bulkhead.docker.usage import FRESH, anonymous_volumes, is_dangling, last_use, log_bytes, own_bytes
from bulkhead.outage import lock
from bulkhead.prune.memory import Memory
from bulkhead.prune.remover import Remover
from bulkhead.prune.unused import (
    DAY,
    HOUR,
    Json,
    Removal,
    cache_bytes,
    idle_cache,
    image_removal,
    images_in_use,
    last_used,
    moment_to_free,
    networks_in_use,
    removable_images,
    stale_containers,
    time_ago,
    unused_networks,
    unused_volumes,
)
from bulkhead.storage.space import space_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bulkhead.config import Config

_PORTION = 2**30  # bytes that are reclaimed at once for the sake of inodes


class Pruner(Remover):
    """Removes what Docker no longer needs, in a ladder of steps, each of which removes objects of one kind."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        say: Callable[[str], None],
        *,
        dry_run: bool = False,
        need: int | None = None,
    ) -> None:
        super().__init__(config, engine, say, dry_run=dry_run, need=need)
        self.now = time.time()
        self._uptime = uptime.current()
        self._memory = Memory(self.now, self._uptime.boot)
        self._sizes: dict[str, int] = {}

    def prune(self) -> None:
        """Climb the nightly ladder."""
        volumes = [self.stale_volumes] if self.config.prune_anonymous_volumes else []
        self.climb([*self._ladder(), self.networks, *volumes])

    def prune_images(self) -> None:
        """Take the nightly steps again that a build was in the way of."""
        try:
            self._notice_builds(self._containers())
        except EngineError as error:
            self.hindrance = str(error)
        if not self.hindrance:
            self.climb([self.dangling_images, self.stale_images])

    def reclaim(self) -> None:
        """Climb the same ladder but for networks, which take no space. Then remove what is not in use at all.

        The least recently used goes first.
        """
        self.climb([*self._ladder(), self.idle_cache, self.idle_images])

    def reclaim_with_volumes(self) -> None:
        """Do the same. Then remove what nobody can bring back: the data of anonymous volumes that no container has."""
        self.climb([*self._ladder(), self.idle_cache, self.idle_images, self.idle_volumes])

    def _ladder(self) -> list[Callable[[], None]]:
        # Containers come before images: a container keeps its image.
        return [self.stale_cache, self.stale_containers, self.dangling_images, self.stale_images]

    def climb(self, steps: Sequence[Callable[[], None]]) -> None:
        """Ask Docker what it holds, then take steps."""
        super().climb([self._collect, *steps])

    def _collect(self) -> None:
        """Ask once what Docker takes long to count, and remember for the next run what is in use."""
        containers, images = self._containers(), self._images()
        self._memory.collect(containers, images, self._networks(), self.engine.ask("GET", "/volumes")["Volumes"] or [])
        if not self.dry_run:
            self._memory.save()
        usage = self.engine.usage("image", "container")
        self._sizes = {image["Id"]: own_bytes(image) for image in usage["image"]}
        self._sizes |= {row["Id"]: row.get("SizeRw", 0) for row in usage["container"]}
        if self.dry_run:
            chains = {image["Id"]: self._inspected(image).get("RootFS") or {} for image in usage["image"]}
            self._layers = Layers(
                usage["image"], {key: tuple(root.get("Layers") or ()) for key, root in chains.items()}
            )

    def _before(self, seconds: float) -> float:
        """Return the moment before which what was used last has been unused for so many seconds of uptime."""
        return self._uptime.before(seconds)

    def _containers(self) -> list[Json]:
        return self._without_removed(self.engine.containers())

    def _images(self) -> list[Json]:
        # With the intermediate images of classic builds: they show which image was made from which.
        return self._without_removed(self.engine.ask("GET", "/images/json", all="1"))

    def _networks(self) -> list[Json]:
        return list(self.engine.ask("GET", "/networks"))

    def _inspected(self, image: Json) -> Json:
        """Return an image as Docker inspects it; nothing if it is gone."""
        try:
            return dict(self.engine.ask("GET", f"/images/{image['Id']}/json"))
        except EngineError as error:
            if error.status != 404:
                raise
            return {}

    def _without_removed(self, objects: Iterable[Json]) -> list[Json]:
        removed = {removal.id for removal in self.removed}
        return [found for found in objects if found["Id"] not in removed]

    # -- the steps

    def stale_cache(self) -> None:
        hours = self.config.prune_hours
        before = self._before(hours * HOUR)
        # BuildKit takes what was never used for long unused, whatever the moment.
        self._prune_cache(f"build cache unused for {hours} h", self._records() if before else [], before)

    def idle_cache(self) -> None:
        assert self.need is not None
        title = "build cache that is not in use"
        self._prune_cache(title, records := self._records(), moment_to_free(records, self.need - self.free()))
        if not self.is_enough() and (records := self._records()):
            self._prune_cache(title, records, time.time())

    def _records(self) -> list[Json]:
        removed = {removal.id for removal in self.removed}
        records = self.engine.usage("build-cache")["build-cache"]
        return [record for record in records if record["ID"] not in removed]

    def _prune_cache(self, title: str, records: list[Json], before: float) -> None:
        free = self.free()
        idle = idle_cache(records, before)
        size = cache_bytes(idle)
        if idle and not self.dry_run:
            removed, size = self.engine.prune_cache(time.time() - before)
            idle = [record for record in records if record["ID"] in removed]
        self.removed += [
            Removal(
                "record",
                record["ID"],
                record.get("Description") or record["ID"],
                0 if record["Shared"] else record["Size"],
                f"last used {time_ago(self.now - last_used(record))}" if last_used(record) else "never used",
                (),
            )
            for record in idle
        ]
        self._expected = free + size
        self._print_total(title, "record", len(idle), size, free)

    def dangling_images(self) -> None:
        self._remove_images(
            "dangling images",
            lambda images: [image_removal(image, self._sizes, "dangling") for image in images if is_dangling(image)],
        )

    def stale_containers(self) -> None:
        containers = self._containers()
        sizes = {each["Id"]: self._sizes.get(each["Id"], 0) + log_bytes(each) for each in containers}
        hours, keep = self.config.prune_hours, self.config.prune_keep
        removals = stale_containers(containers, sizes, keep, self.now, self._before(hours * HOUR))
        self._remove(f"containers stopped for {hours} h", "container", removals)

    def stale_images(self) -> None:
        if days := self.config.prune_images_after_days:
            before = self._before(days * DAY)
            title = f"images in no container for {days} days"
            self._remove_images(title, lambda images: self._by_last_use(images, self._memory.images, self.now, before))

    def idle_images(self) -> None:
        # An image that is new to this run may still be old, so it counts as never used here. An image that others
        # were made from can be removed after them, hence the loop.
        while self._remove_images(
            "images in no container",
            lambda images: self._by_last_use(images, self._memory.images_before, 0.0, self.now),
        ):
            if self.is_enough():
                return

    def _by_last_use(
        self, images: Iterable[Json], known: Mapping[str, float], unknown: float, before: float
    ) -> list[Removal]:
        """Return the removals of images that nothing has used for a while, the least recently used first.

        Args:
            known: when each image was last seen in use, in seconds since the epoch, by identifier.
            unknown: the same for images that no run has recorded.
            before: the moment before which the last use must be.
        """
        uses = []
        for image in images:
            use = known.get(image["Id"], unknown)
            if use > before or not (inspected := self._inspected(image)):
                continue
            by_engine = last_use(inspected)
            use = max(use, by_engine)
            if use <= before:
                uses.append((use, by_engine, image))
        return [
            image_removal(image, self._sizes, f"last used {time_ago(self.now - use)}" if use else "no use is known")
            # All images that the first run has found have the same `use`: then the engine's knowledge decides.
            for use, _, image in sorted(uses, key=lambda found: found[:2])
        ]

    def _may_belong_to_a_build(self, image: Json) -> bool:
        """Return whether an image without a name has come just now. The date of its build says nothing: it may be loaded."""
        if not is_dangling(image):
            return False
        came = last_use(self._inspected(image)) or self._memory.images.get(image["Id"], self.now)
        return came > self._before(FRESH)

    def networks(self) -> None:
        hours, memory = self.config.prune_hours, self._memory
        removals = unused_networks(
            self._networks(),
            networks_in_use(self._containers()),
            memory.networks,
            self.config.prune_keep,
            self.now,
            self._before(hours * HOUR),
        )
        self._remove(f"networks unused for {hours} h", "network", removals)

    def stale_volumes(self) -> None:
        hours = self.config.prune_hours
        title = f"anonymous volumes in no container for {hours} h"
        # What this run has not taken in stays: it may have been in use just now.
        self._remove_volumes(title, self._memory.volumes, self.now, self._before(hours * HOUR))

    def idle_volumes(self) -> None:
        self._remove_volumes("anonymous volumes in no container", {}, 0.0, self._before(FRESH))

    def _remove_volumes(self, title: str, uses: Mapping[str, float], unknown: float, before: float) -> None:
        volumes = anonymous_volumes(self.engine.usage("volume")["volume"], self._memory.volumes)
        containers, keep = self._containers(), self.config.prune_keep
        removals = unused_volumes(volumes, containers, uses, unknown, keep, self.now, before)
        self._remove(title, "volume", removals)

    # -- how a step removes objects

    def _remove_images(self, title: str, chosen: Callable[[list[Json]], list[Removal]]) -> int:
        containers, images = self._containers(), self._images()
        removable = removable_images(images, images_in_use(images, containers), self.config.prune_keep)
        removals = chosen([image for image in removable if not self._may_belong_to_a_build(image)])
        # A classic build may go on from an image that has no name.
        if removals and self._notice_builds(containers):
            self.say(f"{title}: not removed: {self.hindrance}")
            return 0
        return self._remove(title, "image", removals)

    def _notice_builds(self, containers: Iterable[Json]) -> bool:
        """Return whether a build is under way."""
        builds = [
            *builds_under_way(self.engine, containers),
            *(f"{process}, which builds" for process in programs_that_build()),
        ]
        if builds:
            self.hindrance = f"images stay during a build: {', '.join(builds)}"
        return bool(builds)


def reclaim_cache(config: Config, need: int, say: Callable[[str], None], *, wait: float) -> int:
    """Remove idle build cache and nothing else, the least recently used first, until enough is free.

    Args:
        need: bytes that should be free.
        wait: seconds that another prune may take to end.

    Returns:
        The bytes that were freed; 0 if Docker does not run.

    Raises:
        TimeoutError: another prune is still at work.
        Failed: a move or a rollback is under way or unfinished.
        ValueError: the journal of a move or a rollback cannot be read.
        EngineError: Docker refuses, or does not answer.
    """
    if not docker_runs():
        return 0
    with state.locked("prune", wait), lock.alone():
        pruner = Pruner(config, Engine(), say, need=need)
        if not pruner.is_enough():
            pruner.idle_cache()
        # Others may have freed space too: a build has ended.
        return min(pruner.freed(), sum(removal.size for removal in pruner.removed))


def reclaim_in_portions(config: Config, space: int, inodes: int, reclaim: Callable[[int], int]) -> int:
    """Reclaim until enough bytes are free, and then in portions until enough inodes are.

    Docker does not say how many inodes a record of its cache has.

    Args:
        space: bytes that should be free.
        inodes: that should be free.
        reclaim: makes so many bytes free if it can, and returns how many it has freed.

    Returns:
        The bytes that were freed.
    """
    freed = reclaim(space)
    while (now := space_of(config.volume_mount)).inodes_free < inodes:
        portion = reclaim(now.available + _PORTION)
        freed += portion
        if portion < _PORTION:
            break
    return freed
