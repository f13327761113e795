"""Bring back a Docker that a full volume has stopped: `bulkhead rescue`.

Steps that cost nothing come first: the ballast, a start, a reclaim. Only if they are not enough, steps follow that cannot be
undone: a snapshot that keeps the volume from growing is removed, and the volume grows by the free space of its group.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from bulkhead import command
from bulkhead.docker.daemon import docker_runs, start_docker
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.errors import Failed, in_words
from bulkhead.guard import ballast
from bulkhead.names import DOCKER
from bulkhead.outage import lock
from bulkhead.prune.pruner import Pruner
from bulkhead.sizes import human
from bulkhead.snapshot import snapshots
from bulkhead.storage import lvm
from bulkhead.storage.mounts import is_mounted, mounts_of
from bulkhead.storage.space import space_of
from bulkhead.storage.volume import docker_volume
from bulkhead.watch import alert, alert_store, results

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bulkhead.config import Config

_LEAST = 2**30  # bytes by which a volume grows at least, if the group has them: less would soon be full again
_PLENTY = 2**30  # bytes: with so much free, a Docker that does not start has another problem
_SLACK = 10  # grow by a tenth more: the filesystem takes some of it for itself
_GROWTHS = 3  # attempts: space that ext4 reserves for root shows only once it is free again
_ROOM = 16 * 2**20  # bytes that must be free before Docker is started
_ANSWER_TIMEOUT = 15  # seconds
_LINES = 5  # of Docker's log


def run(config: Config, options: argparse.Namespace) -> int:
    """Run `bulkhead rescue`. Return the exit code: 0 if Docker answers and the floor is free."""
    wrong = rescue(config, print, dry_run=options.dry_run)
    for line in wrong:
        print(f"bulkhead: {line}", file=sys.stderr)
    return int(bool(wrong))


def rescue(config: Config, say: Callable[[str], None], *, dry_run: bool = False) -> list[str]:
    """Make space on Docker's volume until Docker answers, with as few steps as possible.

    Args:
        say: gets a line for each thing that is done.
        dry_run: only say what would be done.

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


def size_to_add(missing: int, free: int) -> int:
    """Return the bytes by which the volume grows.

    Args:
        missing: bytes that must come free on it.
        free: bytes of its group, in whole extents.

    >>> size_to_add(2**20, 2**32) == 2**30, size_to_add(2**31, 2**30) == 2**30
    (True, True)
    """
    wanted = max(missing + missing // _SLACK, _LEAST)
    return min(-(-wanted // 512) * 512, free)  # LVM takes multiples of 512 bytes, and rounds up to extents


class _Reclaim(Pruner):
    def reclaim(self) -> None:
        """Remove what nobody would miss: idle build cache and dangling images; no other image, and no container."""
        self._climb([self.stale_cache, self.dangling_images, self.idle_cache])


class Rescue:
    """One rescue, step by step."""

    def __init__(
        self, config: Config, say: Callable[[str], None], *, dry_run: bool = False, engine: Engine | None = None
    ) -> None:
        self.config = config
        self.say = say
        self.dry_run = dry_run
        self.engine = engine or Engine()
        self.grown_to = 0  # bytes; 0: the volume has not grown
        self._would_come = 0  # bytes that a dry run counts as free
        self._would_answer = False
        self._would_go: dict[str, int] = {}  # snapshots, and the bytes that the group would get back

    def run(self) -> list[str]:
        """Run the steps until Docker answers and the floor is free. Return what is still wrong, in lines."""
        problem = self._docker()
        self.say(f"{self._room()}; Docker {problem or 'answers'}")
        if not problem and self.free() >= self.floor():
            self.say("nothing needs a rescue; nothing was changed")
            return []
        again = [self.start, self.reclaim]
        for step in [self.give_back_ballast, *again, self.drop_snapshot, self.grow, *again]:
            if self.free() >= self.floor() and not self._docker():
                break
            try:
                step()
            except Exception as error:  # of any kind: the other steps may help
                self.say(f"{step.__name__.replace('_', ' ')}: {in_words(error)}")
        return self._end()

    def free(self) -> int:
        return space_of(self.config.volume_mount).available + self._would_come

    def _free_to_root(self) -> int:
        """Return the free bytes with those that ext4 reserves for root: Docker is root."""
        return space_of(self.config.volume_mount).free + self._would_come

    def floor(self) -> int:
        from bulkhead.storage.volume import floor_of

        return floor_of(self.config.guard_floor, self._size())

    def _size(self) -> int:
        return space_of(self.config.volume_mount).size

    def _room(self) -> str:
        sizes = [human(size) for size in (self.free(), self._size(), self.floor())]
        return f"{self.config.volume_mount}: {sizes[0]} of {sizes[1]} free, {sizes[2]} must stay free"

    def _docker(self) -> str:
        """Say what is wrong with Docker; empty: it answers."""
        if self._would_answer:
            return ""
        if not docker_runs():  # else a request to its socket would make systemd start it
            return "does not run"
        try:
            self.engine.ask("GET", "/containers/json", _ANSWER_TIMEOUT, limit="1")
        except EngineError:
            return "runs and does not answer"
        return ""

    # -- the steps

    def give_back_ballast(self) -> None:
        if self.free() >= self.floor():
            return
        if self.dry_run:
            size = ballast.held(self.config)
            self._would_come += size
        else:
            size = ballast.give_back(self.config)
        given = self._verb("given back")
        self.say(f"ballast: {human(size)} {given}" if size else "ballast: there is none")

    def start(self) -> None:
        if not (problem := self._docker()):
            return
        if self._free_to_root() < _ROOM:
            self.say(f"Docker {problem}: not started yet: it has no space")
            return
        if self.dry_run:
            self._would_answer = True
        else:
            start_docker(self.engine)  # a Docker that hangs is left alone: its containers may still work
        self.say(f"Docker: {self._verb('started')}")

    def reclaim(self) -> None:
        if self._docker() or self.free() >= self.floor():
            return
        self.say(f"idle build cache and dangling images: {self._verb('reclaimed')}")
        if self._would_answer:
            self.say("  only a running Docker can tell how much that is; if it is not enough:")
            return
        pruner = _Reclaim(self.config, self.engine, self.say, dry_run=self.dry_run, need=self.floor())
        pruner.reclaim()
        if self.dry_run:
            self._would_come += pruner.freed()

    def drop_snapshot(self) -> None:
        """Remove our snapshot: LVM does not extend a volume that has one."""
        if self.free() >= self.floor():
            return
        self._refuse_for_nothing()
        for each in snapshots.ours(self.config):
            if self.dry_run:
                self._would_go[each.name] = each.size
            else:
                snapshots.remove(self.config, each.name)
            text = f"the snapshot {self.config.vg_name}/{each.name} kept the full volume from growing: {self._verb('removed')}"
            self.say(text)
            if not self.dry_run:
                for problem in alert.tell(self.config, [alert_store.News(results.WARNING, text)], time.time()):
                    self.say(problem)

    def grow(self) -> None:
        """Grow the volume and its filesystem online."""
        if self.free() >= self.floor():
            return
        self._refuse_for_nothing()
        # Growing shows how much of its reserve root has used, and raises a floor that is a percentage of the volume.
        for _ in range(1 if self.dry_run else _GROWTHS):
            self._grow()
            if self.free() >= self.floor():
                return

    def _refuse_for_nothing(self) -> None:
        """Refuse a step that cannot be undone if it would not help Docker.

        Raises:
            Failed: Docker has space, and still does not start.
        """
        if self._free_to_root() >= _PLENTY and self._docker():
            raise Failed("Docker does not start although the volume has free space: see its log")

    def _grow(self) -> None:
        volume = docker_volume(self.config)
        name = f"{self.config.vg_name}/{volume.name}"
        standing = {v.name for v in lvm.list_volumes(self.config.vg_name) if v.origin == volume.name} - {
            *self._would_go
        }
        if standing:
            raise Failed(
                f"{name} cannot grow while it has the snapshot {', '.join(sorted(standing))}, which is not ours"
            )
        if not self.dry_run:
            self._grow_filesystem(name)  # an earlier rescue may have been cut before this
        free = next(group.free for group in lvm.list_groups()[0] if group.name == self.config.vg_name)
        free += sum(self._would_go.values())
        size = size_to_add(self.floor() - self.free(), free)
        if size <= 0:
            raise Failed(f"volume group {self.config.vg_name} has no free space: {name} cannot grow")
        if self.dry_run:
            self._would_come += size
        else:
            command.run("lvextend", "--size", f"+{size}b", name)
            self._grow_filesystem(name)
        self.grown_to = volume.size + size
        self.say(f"volume: {human(size)} of {human(free)} that {self.config.vg_name} has free {self._verb('taken')}")

    def _grow_filesystem(self, name: str) -> None:
        fstype = next(mount.fstype for mount in mounts_of() if mount.target == self.config.volume_mount)
        command.run(*(("xfs_growfs", self.config.volume_mount) if fstype == "xfs" else ("resize2fs", f"/dev/{name}")))

    # -- the end

    def _end(self) -> list[str]:
        wrong = []
        if problem := self._docker():
            wrong.append(f"Docker {problem}. The end of its log: {_end_of_log() or 'none'}")
        if (free := self.free()) < (floor := self.floor()):
            wrong.append(
                f"{human(free)} are free on {self.config.volume_mount}, and {human(floor)} must be: `bulkhead status` shows what "
                "fills it; remove some, or give the volume more (volume_size)"
            )
        if not self.dry_run:
            self.say(f"{self._room()}; Docker {problem or 'answers'}")
        if self.grown_to:
            size = human(self.grown_to)
            self.say(
                f"the volume {'would have' if self.dry_run else 'has'} {size}: set volume_size to at least that, or each run warns of it"
            )
        return wrong

    def _verb(self, done: str) -> str:
        return f"would be {done}" if self.dry_run else done


def _end_of_log() -> str:
    """Return the end of Docker's log, in one line."""
    try:
        lines = command.run(
            "journalctl", "--unit", DOCKER, "--lines", str(_LINES), "--no-pager", "--output", "cat", timeout=30
        )
    except Failed as failed:
        return in_words(failed)
    return " | ".join(line.strip() for line in lines.splitlines())[-1000:]
