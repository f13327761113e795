"""Bring back a Docker that a full volume has stopped: `bulkhead rescue`.

Harmless steps come first: give back the ballast, start Docker, reclaim. Only if they are not enough, the rescue takes steps
that cannot be undone: it removes a snapshot that keeps the volume from growing, and grows the volume by the free space of its
group.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from bulkhead.docker.engine import Engine
from bulkhead.errors import Failed, in_words
from bulkhead.guard import ballast
from bulkhead.guard.rescued_host import RescuedDocker, RescuedVolume
from bulkhead.guard.volume_extender import VolumeExtender
from bulkhead.outage import lock
from bulkhead.prune.pruner import Pruner
from bulkhead.sizes import human
from bulkhead.storage.mounts import is_mounted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bulkhead.config import Config

_PLENTY = 2**30  # bytes: a Docker that does not start with so much free has another problem
_NEEDED_TO_START = 16 * 2**20  # bytes


def run(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead rescue`. Return the exit code: 0 if Docker answers and the floor is free."""
    wrong = rescue(config, print, dry_run=options.dry_run)
    for line in wrong:
        print(f"bulkhead: {line}", file=sys.stderr)
    return int(bool(wrong))


def rescue(config: Config, say: Callable[[str], None], *, dry_run: bool = False) -> list[str]:
    """Make space on Docker's volume until Docker answers, with as few steps as possible.

    Args:
        say: is called with a line for each change.
        dry_run: only say what would change.

    Returns:
        What is still wrong, in lines.

    Raises:
        Failed: nothing can be done now: the volume is not mounted, a move is unfinished, or another command runs.
    """
    with contextlib.nullcontext() if dry_run else lock.lock():
        lock.refuse_unfinished(but_stopped=True)
        if not is_mounted(config.volume_mount):
            raise Failed(
                f"{config.volume_mount} is not mounted: there is no volume to rescue. `systemctl status` shows why"
            )
        return Rescue(config, say, dry_run=dry_run).run()


class _HarmlessPruner(Pruner):
    def remove_harmless(self) -> None:
        """Remove what nobody would miss: idle build cache and dangling images. No other image, and no container."""
        self.climb([self.stale_cache, self.dangling_images, self.idle_cache])


class Rescue:
    """One rescue, step by step.

    Args:
        say: is called with a line for each change.
        dry_run: only say what would change.
    """

    def __init__(self, config: Config, say: Callable[[str], None], *, dry_run: bool = False) -> None:
        self._config = config
        self._say = say
        self._dry_run = dry_run
        self._volume = RescuedVolume(config)
        self._docker = RescuedDocker(Engine(), config.docker_start_limit)
        self._extender = VolumeExtender(config, self._volume, say, dry_run=dry_run)

    def run(self) -> list[str]:
        """Run the steps until Docker answers and the floor is free. Return what is still wrong, in lines."""
        problem = self._docker.problem()
        self._say(f"{self._volume.describe()}; Docker {problem or 'answers'}")
        if not problem and self._volume.is_enough():
            self._say("nothing needs a rescue; nothing was changed")
            return []
        again = [self.start, self.reclaim]
        for step in [self.give_back_ballast, *again, self.drop_snapshot, self.grow, *again]:
            if self._volume.is_enough() and not self._docker.problem():
                break
            try:
                step()
            except Exception as error:  # of any kind: the other steps may help
                self._say(f"{step.__name__.replace('_', ' ')}: {in_words(error)}")
        return self._end()

    # -- the steps

    def give_back_ballast(self) -> None:
        if self._volume.is_enough():
            return
        if self._dry_run:
            size = ballast.held(self._config)
            self._volume.add(size)
        else:
            size = ballast.give_back(self._config)
        self._say(f"ballast: {human(size)} {self._verb('given back')}" if size else "ballast: there is none")

    def start(self) -> None:
        if not (problem := self._docker.problem()):
            return
        if self._volume.free_for_root() < _NEEDED_TO_START:
            self._say(f"Docker {problem}: not started yet: it has no space")
            return
        self._docker.start(dry_run=self._dry_run)
        self._say(f"Docker: {self._verb('started')}")

    def reclaim(self) -> None:
        if self._docker.problem() or self._volume.is_enough():
            return
        self._say(f"idle build cache and dangling images: {self._verb('reclaimed')}")
        if self._docker.would_run:
            self._say("  only a running Docker can tell how much that is; if it is not enough:")
            return
        pruner = _HarmlessPruner(
            self._config, self._docker.engine, self._say, dry_run=self._dry_run, need=self._volume.floor()
        )
        pruner.remove_harmless()
        if self._dry_run:
            self._volume.add(pruner.freed())

    def drop_snapshot(self) -> None:
        if not self._volume.is_enough():
            self._refuse_in_vain()
            self._extender.remove_snapshots()

    def grow(self) -> None:
        if not self._volume.is_enough():
            self._refuse_in_vain()
            self._extender.extend()

    def _refuse_in_vain(self) -> None:
        """Refuse a step that cannot be undone if it would not help Docker.

        Raises:
            Failed: Docker has space, and still does not start.
        """
        if self._volume.free_for_root() >= _PLENTY and self._docker.problem():
            raise Failed("Docker does not start although the volume has free space: see its log")

    # -- the end

    def _end(self) -> list[str]:
        wrong = []
        if problem := self._docker.problem():
            wrong.append(f"Docker {problem}. The end of its log: {self._docker.end_of_log() or 'none'}")
        if not self._volume.is_enough():
            free, floor = human(self._volume.free()), human(self._volume.floor())
            wrong.append(
                f"{self._config.volume_mount} has {free} free, and {floor} must stay free: `bulkhead status` shows what fills it. "
                "Remove some of it, or set a larger volume_size and run the deploy"
            )
        if not self._dry_run:
            self._say(f"{self._volume.describe()}; Docker {problem or 'answers'}")
        if self._extender.extended_to:
            has = "would have" if self._dry_run else "has"
            self._say(
                f"the volume {has} {human(self._extender.extended_to)}: set volume_size to at least that, or each run of the "
                "deploy warns about it"
            )
        return wrong

    def _verb(self, done: str) -> str:
        return f"would be {done}" if self._dry_run else done
