"""Brings back a Docker that a full volume has stopped: `bulkhead rescue`.

What costs nothing comes first: the ballast, a start, a reclaim. Only if that is not enough, what cannot be taken back: a
snapshot that keeps the volume from growing goes, and the volume grows by what is free in its group.
"""

from __future__ import annotations

import contextlib
import os
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
from bulkhead.storage.volume import docker_volume
from bulkhead.watch import alert, alert_store, findings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bulkhead.config import Config

_LEAST = 2**30  # bytes by which a volume grows, if the group has them: less would soon be full again
_PLENTY = 2**30  # bytes with which a Docker that does not start lacks something else
_SLACK = 10  # one part of so many more: what the filesystem itself takes of it
_GROWTHS = 3  # what ext4 holds back for root is only seen when it is there again
_ROOM = 16 * 2**20  # bytes without which a start of Docker is not tried
_ANSWER_TIMEOUT = 15  # seconds
_LINES = 5  # of Docker's log


def run(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead rescue`; the exit code: 0 if Docker answers and the floor is free."""
    wrong = rescue(config, print, dry_run=options.dry_run)
    for line in wrong:
        print(f"bulkhead: {line}", file=sys.stderr)
    return int(bool(wrong))


def rescue(config: Config, say: Callable[[str], None], *, dry_run: bool = False) -> list[str]:
    """Make room on Docker's volume and have Docker answer, with as little as that takes.

    Args:
        say: is told what is done, a line each.
        dry_run: only tell what would be done.

    Returns:
        What is still wrong, in words.

    Raises:
        Failed: nothing can be done now: the volume is not mounted, a move is unfinished, something else is at work.
    """
    with contextlib.nullcontext() if dry_run else lock.lock():
        lock.refuse_unfinished(but_stopped=True)
        if not is_mounted(config.volume_mount):
            raise Failed(
                f"{config.volume_mount} is not mounted: there is nothing to make room on. `systemctl status` shows why"
            )
        return Rescue(config, say, dry_run=dry_run).run()


def growth(missing: int, free: int) -> int:
    """Bytes by which a volume grows.

    Args:
        missing: bytes that shall come free on it.
        free: bytes of its group, in whole extents.

    >>> growth(2**20, 2**32) == 2**30, growth(2**31, 2**30) == 2**30
    (True, True)
    """
    wanted = max(missing + missing // _SLACK, _LEAST)
    return min(-(-wanted // 512) * 512, free)  # LVM takes nothing between, and makes whole extents of it


class _Reclaim(Pruner):
    def reclaim(self) -> None:
        """What nobody would miss: build cache that is not in use, and dangling images; no other image and no container."""
        self._climb([self.stale_cache, self.dangling_images, self.idle_cache])


class Rescue:
    """One rescue."""

    def __init__(
        self, config: Config, say: Callable[[str], None], *, dry_run: bool = False, engine: Engine | None = None
    ) -> None:
        self.config = config
        self.say = say
        self.dry_run = dry_run
        self.engine = engine or Engine()
        self.grown_to = 0  # bytes; 0: it has not grown
        self._would_come = 0  # bytes, in a dry run
        self._would_answer = False
        self._would_go: dict[str, int] = {}  # snapshots, and the bytes that the group would get back

    def run(self) -> list[str]:
        """All of it; what is still wrong, in words."""
        problem = self._docker()
        self.say(f"{self._room()}; Docker {problem or 'answers'}")
        if not problem and self.free() >= self.floor():
            self.say("nothing is to be rescued, nothing was changed")
            return []
        again = [self.start, self.reclaim]
        for step in [self.give_back_ballast, *again, self.drop_snapshot, self.grow, *again]:
            if self.free() >= self.floor() and not self._docker():
                break
            try:
                step()
            except Exception as error:  # whatever it is: the other steps may help
                self.say(f"{step.__name__.replace('_', ' ')}: {in_words(error)}")
        return self._end()

    def free(self) -> int:
        volume = os.statvfs(self.config.volume_mount)
        return volume.f_bavail * volume.f_frsize + self._would_come

    def _free_to_root(self) -> int:
        """With what ext4 holds back, which is Docker's too."""
        volume = os.statvfs(self.config.volume_mount)
        return volume.f_bfree * volume.f_frsize + self._would_come

    def floor(self) -> int:
        from bulkhead.storage.volume import floor_of

        return floor_of(self.config.guard_floor, self._size())

    def _size(self) -> int:
        volume = os.statvfs(self.config.volume_mount)
        return volume.f_blocks * volume.f_frsize

    def _room(self) -> str:
        sizes = [human(size) for size in (self.free(), self._size(), self.floor())]
        return f"{self.config.volume_mount}: {sizes[0]} of {sizes[1]} free, {sizes[2]} shall be"

    def _docker(self) -> str:
        """What is wrong with Docker; empty: it answers."""
        if self._would_answer:
            return ""
        if not docker_runs():  # while it does not, a word to its socket makes systemd start it
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
            self.say(f"Docker {problem}: not started yet, it has no room")
            return
        if self.dry_run:
            self._would_answer = True
        else:
            start_docker(self.engine)  # one that hangs is left alone: its containers may be at work
        self.say(f"Docker: {self._verb('started')}")

    def reclaim(self) -> None:
        if self._docker() or self.free() >= self.floor():
            return
        self.say(f"build cache that is not in use, and dangling images: {self._verb('reclaimed')}")
        if self._would_answer:
            self.say("  how much that is, only a Docker that runs can tell; if it is not enough:")
            return
        pruner = _Reclaim(self.config, self.engine, self.say, dry_run=self.dry_run, need=self.floor())
        pruner.reclaim()
        if self.dry_run:
            self._would_come += pruner.freed()

    def drop_snapshot(self) -> None:
        """LVM does not let a volume grow that has one."""
        if self.free() >= self.floor():
            return
        self._refuse_for_nothing()
        for each in snapshots.ours(self.config):
            if self.dry_run:
                self._would_go[each.name] = each.size
            else:
                snapshots.remove(self.config, each.name)
            text = f"the snapshot {self.config.vg_name}/{each.name} kept a full volume from growing: {self._verb('removed')}"
            self.say(text)
            if not self.dry_run:
                for problem in alert.tell(self.config, [alert_store.News(findings.WARNING, text)], time.time()):
                    self.say(problem)

    def grow(self) -> None:
        """Volume and filesystem, both while they are in use."""
        if self.free() >= self.floor():
            return
        self._refuse_for_nothing()
        # What root has taken of its reserve shows only as it grows, and so does a floor that is a share of the volume.
        for _ in range(1 if self.dry_run else _GROWTHS):
            self._grow()
            if self.free() >= self.floor():
                return

    def _refuse_for_nothing(self) -> None:
        """See that what cannot be taken back is done for a Docker that it helps.

        Raises:
            Failed: Docker has room, and does not start all the same.
        """
        if self._free_to_root() >= _PLENTY and self._docker():
            raise Failed("Docker does not start, and room is not what it lacks: see its log")

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
            self._grow_filesystem(name)  # what an earlier rescue has not come to
        free = next(group.free for group in lvm.list_groups()[0] if group.name == self.config.vg_name)
        free += sum(self._would_go.values())
        size = growth(self.floor() - self.free(), free)
        if size <= 0:
            raise Failed(f"volume group {self.config.vg_name} has nothing free: {name} cannot grow")
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
            wrong.append(f"Docker {problem}. Its last words: {_last_words() or 'none'}")
        if (free := self.free()) < (floor := self.floor()):
            wrong.append(
                f"{human(free)} are free on {self.config.volume_mount}, and {human(floor)} shall be: `bulkhead status` shows what "
                "fills it; remove some, or give the volume more (volume_size)"
            )
        if not self.dry_run:
            self.say(f"{self._room()}; Docker {problem or 'answers'}")
        if self.grown_to:
            size = human(self.grown_to)
            self.say(
                f"the volume {'would have' if self.dry_run else 'has'} {size}: set volume_size to at least that, or it is reported"
            )
        return wrong

    def _verb(self, done: str) -> str:
        return f"would be {done}" if self.dry_run else done


def _last_words() -> str:
    """The end of Docker's log, in one line."""
    try:
        lines = command.run(
            "journalctl", "--unit", DOCKER, "--lines", str(_LINES), "--no-pager", "--output", "cat", timeout=30
        )
    except Failed as failed:
        return in_words(failed)
    return " | ".join(line.strip() for line in lines.splitlines())[-1000:]
