"""Remove what Docker no longer needs, and nothing else.

Docker's own `system prune` measures age by the wrong clock (containers' by their creation, images' by their build), removes
images that are only not in use just now, and refuses an age together with `--volumes`. So this program decides what to
remove, and removes object by object, without force: Docker itself refuses to remove what has come into use since. Volumes
are never touched.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.docker.clients import programs_that_build
from bulkhead.docker.daemon import docker_runs
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.running_builds import builds_under_way
from bulkhead.docker.usage import last_use, log_bytes, own_bytes
from bulkhead.names import DOCKER
from bulkhead.outage import lock
from bulkhead.prune.unused import (
    DAY,
    HOUR,
    Json,
    Removal,
    cache_bytes,
    idle_cache,
    image_removal,
    images_in_use,
    images_known,
    last_used,
    moment_to_free,
    removable_images,
    stale_containers,
    time_ago,
    unused_networks,
)
from bulkhead.sizes import human
from bulkhead.storage.space import space_of
from bulkhead.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bulkhead.config import Config

NO_SPACE = "no space left"
_SETTLING = 5  # seconds that the filesystem may take to free what Docker says it has removed
_IN_USE = (403, 409)  # 403: something is attached to the network


class Unanswered(Exception):
    """Docker hangs or has stopped: the run ends at once."""


class Pruner:
    """One run: a ladder of steps, each of which removes objects of one kind.

    Args:
        say: prints a line of the log.
        dry_run: whether only to say what a run would remove.
        need: bytes; the run stops as soon as so many are free. None: it does all of its steps.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        say: Callable[[str], None],
        *,
        dry_run: bool = False,
        need: int | None = None,
    ) -> None:
        self.config = config
        self.engine = engine
        self.say = say
        self.dry_run = dry_run
        self.need = need
        self.removed: list[Removal] = []
        self.failed: list[str] = []
        self.now = time.time()
        remembered = state.load("images").items()
        self._known = {image: float(use) for image, use in remembered if isinstance(use, (int, float))}
        self._last_seen: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._expected = 0  # bytes that should be free, by Docker's count, after what was removed last
        self._began_with = self.free()

    def free(self) -> int:
        """Return the bytes that are free on Docker's volume; in a dry run, that a run would have made free so far."""
        return space_of(self.config.volume_mount).available + (self.freed() if self.dry_run else 0)

    def freed(self) -> int:
        """Return the bytes that the run has freed; in a dry run, that a run would have freed so far."""
        if self.dry_run:
            return sum(removal.size for removal in self.removed)
        return max(self.free() - self._began_with, 0)

    def is_enough(self) -> bool:
        """Return whether enough is free. Wait a little for the space that Docker says it has freed."""
        if self.need is None:
            return False
        deadline = time.monotonic() + _SETTLING
        while (free := self.free()) < self.need <= self._expected and time.monotonic() < deadline:
            time.sleep(0.2)
        self._expected = 0
        return free >= self.need

    def prune(self) -> None:
        """Climb the nightly ladder."""
        self.climb([*self._ladder(), self.networks])

    def reclaim(self) -> None:
        """Climb the same ladder but for networks, which take no space. Then remove what is not in use at all.

        The least recently used goes first.
        """
        self.climb([*self._ladder(), self.idle_cache, self.idle_images])

    def _ladder(self) -> list[Callable[[], None]]:
        # Containers come before images: a container keeps its image.
        return [self.stale_cache, self.stale_containers, self.dangling_images, self.stale_images]

    def climb(self, steps: Sequence[Callable[[], None]]) -> None:
        """Take steps, the least costly first, until enough is free. A step that fails does not keep the next from it."""
        try:
            again = [step for step in [self._collect, *steps] if not self._succeeds(step)]
            if self.removed and any(NO_SPACE in failure for failure in self.failed):
                # On a full volume Docker cannot remove some objects until others have made a little room.
                self.say("Trying again what failed: the volume has some space now")
                self.failed.clear()
                for step in again:
                    self._succeeds(step)
        except Unanswered as error:
            self.failed.append(f"{error}. The remaining steps were not tried")
            self.say(self.failed[-1])

    def _succeeds(self, step: Callable[[], None]) -> bool:
        failures = len(self.failed)
        if not self.is_enough():
            self._refuse_to_start_docker()
            try:
                step()
            except EngineError as error:
                self._fail(str(error), error)
            except (LookupError, TypeError, AttributeError, ValueError, OSError) as error:
                # Docker's answer has an unexpected form. The other steps are worth trying.
                self._note(f"{step.__name__.strip('_').replace('_', ' ')}: not done: {error!r}")
        return len(self.failed) == failures

    def _fail(self, what: str, error: EngineError) -> None:
        if not error.status:
            raise Unanswered(what)
        self._note(what)

    def _note(self, failure: str) -> None:
        self.failed.append(failure)
        self.say(f"  {failure}")

    def _refuse_to_start_docker(self) -> None:
        if not docker_runs():
            raise Unanswered(f"{DOCKER} is no longer active")

    def _collect(self) -> None:
        """Ask once what Docker takes long to count, and remember for the next run which images are in use."""
        containers, images = self._containers(), self._images()
        self._last_seen = images_known(images, images_in_use(images, containers), self._known, self.now)
        if not self.dry_run:
            state.save("images", self._last_seen)
        usage = self.engine.usage("image", "container")
        self._sizes = {image["Id"]: own_bytes(image) for image in usage["image"]}
        self._sizes |= {row["Id"]: row.get("SizeRw", 0) for row in usage["container"]}

    def _containers(self) -> list[Json]:
        return self._without_removed(self.engine.containers())

    def _images(self) -> list[Json]:
        # With the intermediate images of classic builds: they show which image was made from which.
        return self._without_removed(self.engine.ask("GET", "/images/json", all="1"))

    def _without_removed(self, objects: Iterable[Json]) -> list[Json]:
        removed = {removal.id for removal in self.removed}
        return [found for found in objects if found["Id"] not in removed]

    # -- the steps

    def stale_cache(self) -> None:
        hours = self.config.prune_hours
        self._prune_cache(f"build cache unused for {hours} h", self._records(), self.now - hours * HOUR)

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
        filters = json.dumps({"dangling": ["true"]})
        dangling = {image["Id"] for image in self.engine.ask("GET", "/images/json", filters=filters)}
        self._remove_images(
            "dangling images",
            lambda images: [
                image_removal(image, self._sizes, "dangling") for image in images if image["Id"] in dangling
            ],
        )

    def stale_containers(self) -> None:
        containers = self._containers()
        sizes = {each["Id"]: self._sizes.get(each["Id"], 0) + log_bytes(each) for each in containers}
        removals = stale_containers(containers, sizes, self.config, self.now)
        self._remove(f"containers stopped for {self.config.prune_hours} h", "container", removals)

    def stale_images(self) -> None:
        if days := self.config.prune_images_after_days:
            title = f"images in no container for {days} days"
            self._remove_images(title, lambda images: self._by_last_use(images, self._last_seen, self.now, days * DAY))

    def idle_images(self) -> None:
        # An image that is new to this run may still be old, so it counts as never used here. An image that others
        # were made from can be removed after them, hence the loop.
        while self._remove_images(
            "images in no container", lambda images: self._by_last_use(images, self._known, 0.0, 0)
        ):
            if self.is_enough():
                return

    def _by_last_use(
        self, images: Iterable[Json], known: Mapping[str, float], unknown: float, unused_for: float
    ) -> list[Removal]:
        """Return the removals of images that nothing has used for a while, the least recently used first.

        Args:
            known: when each image was last seen in use, in seconds since the epoch, by identifier.
            unknown: the same for images that no run has recorded.
            unused_for: seconds.
        """
        uses = []
        for image in images:
            use = known.get(image["Id"], unknown)
            if use > self.now - unused_for:
                continue
            try:
                by_engine = last_use(self.engine.ask("GET", f"/images/{image['Id']}/json"))
            except EngineError as error:
                if error.status != 404:
                    raise
                continue
            use = max(use, by_engine)
            if use <= self.now - unused_for:
                uses.append((use, by_engine, image))
        return [
            image_removal(image, self._sizes, f"last used {time_ago(self.now - use)}" if use else "no use is known")
            # All images that the first run has found have the same `use`: then the engine's knowledge decides.
            for use, _, image in sorted(uses, key=lambda found: found[:2])
        ]

    def networks(self) -> None:
        networks = self.engine.ask("GET", "/networks")
        removals = unused_networks(networks, self._containers(), self.config, self.now)
        self._remove(f"networks in no container, {self.config.prune_hours} h old", "network", removals)

    # -- how a step removes objects

    def _remove_images(self, title: str, chosen: Callable[[list[Json]], list[Removal]]) -> int:
        containers = self._containers()
        # A classic build may go on from an image that has no name.
        builds = [
            *builds_under_way(self.engine, containers),
            *(f"{process}, which builds" for process in programs_that_build()),
        ]
        if builds:
            self.say(f"{title}: not removed during a build: {', '.join(builds)}")
            return 0
        images = self._images()
        removable = removable_images(images, images_in_use(images, containers), self.config.prune_keep, self.now)
        return self._remove(title, "image", chosen(removable))

    def _remove(self, title: str, noun: str, removals: list[Removal]) -> int:
        """Remove objects until enough is free.

        Returns:
            How many were removed.
        """
        began_with = self.free()
        done = []
        for removal in removals:
            if self.is_enough():
                break
            free = self.free()
            if self.dry_run or self._succeeds_in(removal):
                self.removed.append(removal)
                done.append(removal)
                self._expected = free + removal.size
                self.say(f"  {removal} {'would be removed' if self.dry_run else 'removed'}: {removal.why}")
        self._print_total(title, noun, len(done), sum(removal.size for removal in done), began_with)
        return len(done)

    def _succeeds_in(self, removal: Removal) -> bool:
        self._refuse_to_start_docker()
        is_removed = False
        for reference in removal.references:
            try:
                self.engine.remove(removal.kind, reference)
                is_removed = True
            except EngineError as error:
                if error.status in _IN_USE:
                    self.say(f"  {removal} is in use: {error}")
                    return False
                if error.status != 404:
                    self._fail(f"{removal} could not be removed: {error}", error)
                    return False
        return is_removed

    def _print_total(self, title: str, noun: str, number: int, size: int, began_with: int) -> None:
        """Print what a step has removed.

        Args:
            size: bytes, by Docker's count.
            began_with: bytes that were free before the step.
        """
        what = count(number, noun) + (f", {human(size)}" if size else "")
        if not number:
            self.say(f"{title}: nothing")
        elif self.dry_run:
            self.say(f"{title}: would remove {what}")
        else:
            self.say(f"{title}: removed {what}; freed {human(max(self.free() - began_with, 0))}")


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
