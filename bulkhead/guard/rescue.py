"""Bring back a Docker that a volume without space, or without inodes, has stopped: `bulkhead rescue`.

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
from bulkhead.prune.pruner import Pruner, reclaim_in_portions
from bulkhead.sizes import human
from bulkhead.storage.mounts import is_mounted
from bulkhead.storage.volume import NO_LOGICAL_VOLUME
from bulkhead.text import count
from bulkhead.watch.advice import largest_directories

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bulkhead.config import Config

# Bytes and inodes: a Docker that does not start with so many free has another problem.
_PLENTY, _PLENTY_OF_INODES = 2**30, 10_000
# Bytes and inodes. dockerd makes a directory at each start (moby, daemon/daemon.go: prepareTempDir).
_NEEDED_TO_START, _INODES_TO_START = 16 * 2**20, 1


def run(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead rescue`. Return the exit code: 0 if Docker answers and the floors are free."""
    wrong = rescue(config, print, dry_run=options.dry_run)
    for line in wrong:
        print(f"bulkhead: {line}", file=sys.stderr)
    return int(bool(wrong))


def rescue(config: Config, say: Callable[[str], None], *, dry_run: bool = False) -> list[str]:
    """Make space and inodes free on Docker's volume until Docker answers, with as few steps as possible.

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
        """Run the steps until Docker answers and the floors are free. Return what is still wrong, in lines."""
        problem = self._docker.problem()
        self._say(f"{self._volume.describe()}; Docker {problem or 'answers'}")
        if not problem and self._volume.is_enough():
            self._say("nothing needs a rescue; nothing was changed")
            return []
        again = [self.start, self.reclaim]
        extending = [self.drop_snapshot, self.grow] if self._config.vg_name else [self.say_that_it_cannot_grow]
        for step in [self.give_back_ballast, *again, *extending, *again]:
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
        has_space = self._volume.free_for_root() >= _NEEDED_TO_START
        if not has_space or self._volume.inodes_free() < _INODES_TO_START:
            self._say(f"Docker {problem}: not started yet: it has no {'inodes' if has_space else 'space'}")
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
        if not self._dry_run:
            reclaim_in_portions(self._config, self._volume.floor(), self._volume.inode_floor(), self._remove_harmless)
            return
        self._volume.add(self._remove_harmless(self._volume.floor()))
        if not self._volume.has_inodes():
            self._say("  Docker does not say how many inodes that frees; if it is not enough:")

    def _remove_harmless(self, need: int) -> int:
        """Remove what nobody would miss until so many bytes are free. Return the bytes that were freed."""
        pruner = _HarmlessPruner(self._config, self._docker.engine, self._say, dry_run=self._dry_run, need=need)
        pruner.remove_harmless()
        return pruner.freed()

    def drop_snapshot(self) -> None:
        if not self._volume.is_enough():
            self._refuse_in_vain()
            self._extender.remove_snapshots()

    def grow(self) -> None:
        if not self._volume.is_enough():
            self._refuse_in_vain()
            self._extender.extend()

    def say_that_it_cannot_grow(self) -> None:
        if not self._volume.is_enough():
            self._say(NO_LOGICAL_VOLUME)

    def _refuse_in_vain(self) -> None:
        """Refuse a step that cannot be undone if it would not help Docker.

        Raises:
            Failed: Docker has space and inodes, and still does not start.
        """
        has_plenty = self._volume.free_for_root() >= _PLENTY and self._volume.inodes_free() >= _PLENTY_OF_INODES
        if has_plenty and self._docker.problem():
            raise Failed("Docker does not start although the volume has free space: see its log")

    # -- the end

    def _end(self) -> list[str]:
        wrong = []
        if problem := self._docker.problem():
            wrong.append(f"Docker {problem}. The end of its log: {self._docker.end_of_log() or 'none'}")
        mount, volume = self._config.volume_mount, self._volume
        way_out = f"Remove some of it, or {self._config.way_to_grow}"
        if not volume.has_space():
            free, floor = human(volume.free()), human(volume.floor())
            wrong.append(
                f"{mount} has {free} free, and {floor} must stay free: `bulkhead status` shows what fills it. {way_out}"
            )
        if not volume.has_inodes():
            wrong.append(
                f"{mount} has {count(int(volume.inodes_free()), 'inode')} free, and {volume.inode_floor()} must stay free: `{largest_directories(mount, of_inodes=True)}` "
                f"shows where the files are. {way_out}"
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
