"""Remove objects one by one until enough is free, and count what that brings."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from bulkhead.docker.daemon import docker_runs
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.layers import Layers
from bulkhead.names import DOCKER
from bulkhead.sizes import human
from bulkhead.storage.space import space_of
from bulkhead.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bulkhead.config import Config
    from bulkhead.prune.unused import Removal

NO_SPACE = "no space left"
_SETTLING = 5  # seconds that the filesystem may take to free what Docker says it has removed
_IN_USE = (403, 409)  # 403: something is attached to the network


class Unanswered(Exception):
    """Docker hangs or has stopped: the run ends at once."""


class Remover:
    """One run, step by step.

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
        self.agreed: set[str] | None = None  # identifiers of what may go, beside build cache; None: everything
        self.removed: list[Removal] = []
        self.failed: list[str] = []
        self.hindrance = ""  # what kept a step from its work, and passes by itself
        self._layers = Layers((), {})  # of a dry run
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

    def climb(self, steps: Sequence[Callable[[], None]]) -> None:
        """Take steps, the least costly first, until enough is free. A step that fails does not keep the next from it."""
        try:
            again = [step for step in steps if not self._succeeds(step)]
            if self.removed and any(NO_SPACE in failure for failure in self.failed):
                # On a full volume Docker cannot remove some objects until others have made a little room.
                self.say("Trying again what failed: the volume has some space now")
                self.failed.clear()
                for step in again:
                    self._succeeds(step)
        except Unanswered as error:
            self.hindrance = str(error)
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

    def _remove(self, title: str, noun: str, removals: list[Removal]) -> int:
        """Remove objects until enough is free.

        Returns:
            How many were removed.
        """
        began_with = self.free()
        done = []
        for removal in removals if self.agreed is None else [each for each in removals if each.id in self.agreed]:
            if self.is_enough():
                break
            free = self.free()
            if self.dry_run and removal.kind == "image":
                removal = replace(removal, size=self._layers.remove(removal.id))
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
