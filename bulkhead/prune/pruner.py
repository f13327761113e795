"""What Docker no longer needs goes, and nothing else: `bulkhead prune` and `bulkhead reclaim`.

Docker's own `system prune` tells age by the wrong clock (containers' by their creation, images' by their build), takes
images that are only not in use just now, and with `--volumes` refuses an age. So what goes is decided here, and removed
object by object, without force: Docker itself refuses what has come into use meanwhile. Volumes are never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.docker.daemon import docker_runs
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.running_builds import builds_under_way, programs_that_build
from bulkhead.docker.usage import own_bytes
from bulkhead.errors import PROBLEMS, Failed
from bulkhead.names import DOCKER
from bulkhead.outage import lock
from bulkhead.prune.unused import (
    DAY,
    HOUR,
    Json,
    Removal,
    ago,
    cache_bytes,
    idle_cache,
    images_in_use,
    images_known,
    last_use,
    last_used,
    moment_to_free,
    of_image,
    removable_images,
    stale_containers,
    unused_networks,
)
from bulkhead.sizes import human
from bulkhead.text import count

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bulkhead.config import Config

_SETTLING = 5  # seconds in which space comes back after Docker has said that it does
_IN_USE = (403, 409)  # 403: a network that something is attached to
_NO_SPACE = "no space left"


# -- removing it


class Unanswered(Exception):
    """Docker hangs, or has gone: nothing more is tried."""


class Pruner:
    """One run of the ladder.

    Args:
        say: takes the lines of the log.
        dry_run: only tell what would go.
        need: bytes that shall be free: it stops as soon as they are.
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
        self._known = {image: float(seen) for image, seen in remembered if isinstance(seen, (int, float))}
        self._seen: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._expected = 0  # bytes that should be free by Docker's count
        self._began_with = self.free()

    def free(self) -> int:
        """Bytes that are free on Docker's volume; in a dry run, that would be."""
        volume = os.statvfs(self.config.volume_mount)
        return volume.f_bavail * volume.f_frsize + (self.freed() if self.dry_run else 0)

    def freed(self) -> int:
        if self.dry_run:
            return sum(thing.size for thing in self.removed)
        return max(self.free() - self._began_with, 0)

    def is_enough(self) -> bool:
        """Whether as much is free as is needed. Space that Docker says it has freed is waited for, for a while."""
        if self.need is None:
            return False
        deadline = time.monotonic() + _SETTLING
        while (free := self.free()) < self.need <= self._expected and time.monotonic() < deadline:
            time.sleep(0.2)
        self._expected = 0
        return free >= self.need

    def prune(self) -> None:
        """The nightly ladder."""
        self._climb([*self._ladder(), self.networks])

    def reclaim(self) -> None:
        """The same, but for networks, which take no space; then what is in no use at all, the least recently used first."""
        self._climb([*self._ladder(), self.idle_cache, self.idle_images])

    def _ladder(self) -> list[Callable[[], None]]:
        # A container keeps its image.
        return [self.stale_cache, self.stale_containers, self.dangling_images, self.stale_images]

    def _climb(self, steps: Sequence[Callable[[], None]]) -> None:
        try:
            again = [step for step in [self._look, *steps] if not self._succeeds(step)]
            if self.removed and any(_NO_SPACE in failure for failure in self.failed):
                # On a full volume some things cannot even be removed, until others have made a little room.
                self.say("Once more, with the room that there is now:")
                self.failed.clear()
                for step in again:
                    self._succeeds(step)
        except Unanswered as error:
            self.failed.append(f"{error}. What was left has not been tried")
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
                # Docker's answer has a form that nobody expected: the other steps are worth trying.
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

    def _look(self) -> None:
        """What is asked only once, because Docker counts for long, and what is remembered for the next time."""
        containers, images = self._containers(), self._images()
        self._seen = images_known(images, images_in_use(images, containers), self._known, self.now)
        if not self.dry_run:
            state.save("images", self._seen)
        usage = self.engine.usage("image", "container")
        self._sizes = {image["Id"]: own_bytes(image) for image in usage["image"]}
        self._sizes |= {row["Id"]: row.get("SizeRw", 0) for row in usage["container"]}

    def _containers(self) -> list[Json]:
        return self._without_removed(self.engine.containers())

    def _images(self) -> list[Json]:
        # With those in between, of builds without BuildKit: they tell what was made from what.
        return self._without_removed(self.engine.ask("GET", "/images/json", all="1"))

    def _without_removed(self, objects: Iterable[Json]) -> list[Json]:
        removed = {thing.id for thing in self.removed}
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
        removed = {thing.id for thing in self.removed}
        records = self.engine.usage("build-cache")["build-cache"]
        return [record for record in records if record["ID"] not in removed]

    def _prune_cache(self, title: str, records: list[Json], before: float) -> None:
        free = self.free()
        idle = idle_cache(records, before)
        size = cache_bytes(idle)
        if idle and not self.dry_run:
            gone, size = self.engine.prune_cache(time.time() - before)
            idle = [record for record in records if record["ID"] in gone]
        things = [
            Removal(
                "record",
                record["ID"],
                record.get("Description") or record["ID"],
                0 if record["Shared"] else record["Size"],
                f"last used {ago(self.now - last_used(record))}" if last_used(record) else "never used",
                (),
            )
            for record in idle
        ]
        self.removed += things
        self._expected = free + size
        self._total(title, "record", len(things), size, free)

    def dangling_images(self) -> None:
        filters = json.dumps({"dangling": ["true"]})
        dangling = {image["Id"] for image in self.engine.ask("GET", "/images/json", filters=filters)}
        self._remove_images(
            "dangling images",
            lambda images: [of_image(image, self._sizes, "dangling") for image in images if image["Id"] in dangling],
        )

    def stale_containers(self) -> None:
        things = stale_containers([*self._containers()], self._sizes, self.config, self.now)
        self._remove(f"containers stopped for {self.config.prune_hours} h", "container", things)

    def stale_images(self) -> None:
        if days := self.config.prune_images_after_days:
            title = f"images in no container for {days} days"
            self._remove_images(title, lambda images: self._by_last_use(images, self._seen, self.now, days * DAY))

    def idle_images(self) -> None:
        # What this run is the first to see may have been there for long. An image that others were made from can go
        # when they have gone.
        while self._remove_images(
            "images in no container", lambda images: self._by_last_use(images, self._known, 0.0, 0)
        ):
            if self.is_enough():
                return

    def _by_last_use(
        self, images: Iterable[Json], known: Mapping[str, float], unknown: float, unused_for: float
    ) -> list[Removal]:
        """
        Args:
            known: when each was used, as far as it was seen.
            unknown: when the others were.
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
            of_image(image, self._sizes, f"last used {ago(self.now - use)}" if use else "no use is known")
            # Those that the first run has found are all as old, by what is remembered.
            for use, _, image in sorted(uses, key=lambda found: found[:2])
        ]

    def networks(self) -> None:
        networks = self.engine.ask("GET", "/networks")
        things = unused_networks(networks, self._containers(), self.config, self.now)
        self._remove(f"networks in no container, {self.config.prune_hours} h old", "network", things)

    # -- how they remove

    def _remove_images(self, title: str, chosen: Callable[[list[Json]], list[Removal]]) -> int:
        containers = self._containers()
        # An image without a name may be what a build without BuildKit goes on from.
        builds = [
            *builds_under_way(self.engine, containers),
            *(f"{user}, which builds" for user in programs_that_build()),
        ]
        if builds:
            self.say(f"{title}: left alone beside {', '.join(builds)}")
            return 0
        images = self._images()
        removable = removable_images(images, images_in_use(images, containers), self.config.prune_keep, self.now)
        return self._remove(title, "image", chosen(removable))

    def _remove(self, title: str, noun: str, things: list[Removal]) -> int:
        began_with = self.free()
        gone = []
        for thing in things:
            if self.is_enough():
                break
            free = self.free()
            if self.dry_run or self._is_removed(thing):
                self.removed.append(thing)
                gone.append(thing)
                self._expected = free + thing.size
                self.say(f"  {thing} {'would go' if self.dry_run else 'removed'}: {thing.why}")
        self._total(title, noun, len(gone), sum(thing.size for thing in gone), began_with)
        return len(gone)

    def _is_removed(self, thing: Removal) -> bool:
        self._refuse_to_start_docker()
        removed = False
        for reference in thing.references:
            try:
                self.engine.remove(thing.kind, reference)
                removed = True
            except EngineError as error:
                if error.status in _IN_USE:
                    self.say(f"  {thing} stays: {error}")
                    return False
                if error.status != 404:
                    self._fail(f"{thing} could not be removed: {error}", error)
                    return False
        return removed

    def _total(self, title: str, noun: str, number: int, size: int, began_with: int) -> None:
        """The line of a step.

        Args:
            size: bytes by Docker's count.
            began_with: bytes that were free before it.
        """
        what = f"{title}: {count(number, noun)}" + (f", {human(size)}" if size else "")
        if not number:
            self.say(f"{title}: nothing")
        elif self.dry_run:
            self.say(f"{what} would go")
        else:
            self.say(f"{what} removed, {human(max(self.free() - began_with, 0))} came back")


# -- the commands


def run(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead prune`; the exit code: 1 if something could not be removed."""
    with _alone(options):
        try:
            pruner = _run(config, options, Pruner.prune)
        except PROBLEMS as error:
            if not options.dry_run:
                _remember(0, 0, [str(error)])
            raise
        if not options.dry_run:
            _remember(pruner.freed(), len(pruner.removed), pruner.failed)
    return _end(pruner, options, not pruner.failed)


def _remember(freed: int, removed: int, failed: list[str]) -> None:
    state.save("prune", {"time": time.time(), "freed": freed, "removed": removed, "failed": failed})


def reclaim(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead reclaim`; the exit code: 0 if as much is free as is needed."""
    with _alone(options):
        pruner = _run(config, options, Pruner.reclaim, options.need)
    return _end(pruner, options, pruner.free() >= options.need)


def _alone(options: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """
    Raises:
        TimeoutError: another prune is at work. What comes of that is what there is to remember.
    """
    return contextlib.nullcontext() if options.dry_run else state.locked("prune", 5)


def _run(
    config: Config, options: argparse.Namespace, work: Callable[[Pruner], None], need: int | None = None
) -> Pruner:
    """
    Raises:
        Failed: a move or a rollback is under way or unfinished, or Docker does not run.
        ValueError: the journal of the move cannot be read.
    """
    if not docker_runs():
        raise Failed("Docker does not run (docker.service is not active): nothing was removed")

    def say(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    # A move compares what Docker holds before and after, and has stopped containers that will run again; so does a rollback.
    with contextlib.nullcontext() if options.dry_run else lock.alone():
        pruner = Pruner(config, Engine(), say, dry_run=options.dry_run, need=need)
        if not pruner.is_enough():
            work(pruner)
    return pruner


def reclaim_cache(config: Config, need: int, say: Callable[[str], None], *, wait: float) -> int:
    """Remove idle build cache and nothing else, the least recently used first; the bytes that came back.

    Args:
        need: bytes that shall be free.
        wait: seconds, for another prune to end.

    Raises:
        TimeoutError: it has not.
        Failed: a move or a rollback is under way or unfinished.
        ValueError: its journal cannot be read.
        EngineError: Docker refuses, or does not answer.
    """
    if not docker_runs():
        return 0
    with state.locked("prune", wait), lock.alone():
        pruner = Pruner(config, Engine(), say, need=need)
        if not pruner.is_enough():
            pruner.idle_cache()
        # Beside it other space may come back: a build has ended.
        return min(pruner.freed(), sum(thing.size for thing in pruner.removed))


def _end(pruner: Pruner, options: argparse.Namespace, succeeded: bool) -> int:
    free, config = pruner.free(), pruner.config
    if options.json:
        values = {
            "dry_run": pruner.dry_run,
            "removed": [
                {"kind": thing.kind, "id": thing.id, "name": thing.name, "size": thing.size, "why": thing.why}
                for thing in pruner.removed
            ],
            "freed": pruner.freed(),
            "free": free,
            "failed": pruner.failed,
        }
        print(json.dumps(values))
        return int(not succeeded)
    verbs = ("would come back", "would be") if pruner.dry_run else ("came back", "are")
    print(f"{human(pruner.freed())} {verbs[0]}; {human(free)} {verbs[1]} free on {config.volume_mount}")
    if pruner.need is not None and not succeeded:
        print(
            f"{human(pruner.need)} are needed: {human(pruner.need - free)} are missing. What is left is in use, kept, or beside a build"
        )
    if any(_NO_SPACE in failure for failure in pruner.failed):
        name = f"{config.vg_name}/{config.logical_volume}"
        print(f"Docker needs a little room to remove things: `lvextend --resizefs --size +1G {name}` makes it")
    return int(not succeeded)
