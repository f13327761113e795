"""Check, before a build starts, that this host is healthy and Docker's volume has room for it."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from bulkhead import names, procfs
from bulkhead.build import estimate, history
from bulkhead.build.estimate import Need, as_option
from bulkhead.docker import cgroups, daemon, roots, usage
from bulkhead.docker.client_engine import choice_of
from bulkhead.docker.clients import programs_that_build
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.running_builds import builds_under_way
from bulkhead.errors import PROBLEMS, in_words
from bulkhead.guard import loop, reservations
from bulkhead.names import DOCKER
from bulkhead.prune import pruner
from bulkhead.sizes import human
from bulkhead.storage import filesystems
from bulkhead.storage.mounts import mounts_of
from bulkhead.storage.space import space_of
from bulkhead.storage.volume import floor_of
from bulkhead.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bulkhead.build.arguments import Arguments
    from bulkhead.config import Config
    from bulkhead.guard.reservations import Reservation
    from bulkhead.storage.processes import Process

OK, WARNING, FAILED = "ok", "warning", "failed"
_NAMED = 3  # reclaimable items that are listed by name


class Item(NamedTuple):
    """A line of the checklist."""

    name: str
    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.name}: {self.text}"


def room(free: int, floor: int, need: Need, reserved: int = 0, ahead: int = 0) -> Item:
    """Check that a build fits above what the guard keeps free and what other builds have reserved.

    Args:
        free: bytes, like floor and reserved.
        ahead: builds that have reserved space.
    """
    figures = (
        f"free: {human(free)}; needed: {human(need.bytes)} ({need.source}) above the guard's floor of {human(floor)}"
    )
    if ahead:
        figures += f" and the {human(reserved)} that {count(ahead, 'other build')} may still need"
    missing = need.bytes + floor + reserved - free
    return Item("room", FAILED, f"{figures}: {human(missing)} missing") if missing > 0 else Item("room", OK, figures)


class Checklist:
    """The checks before a build.

    Args:
        need: bytes that the user has given.
        limit: bytes that the build may write; 0: no limit.
        say: prints a line.
    """

    def __init__(
        self, config: Config, arguments: Arguments, need: int | None, limit: int, say: Callable[[str], None]
    ) -> None:
        self.config = config
        self.items: list[Item] = []
        self.need = Need(0, "")
        self.floor = self.free = self.used = self.reserved = 0
        self._arguments = arguments
        self._asked = need
        self._limit = limit
        self._say = say

    @property
    def failed(self) -> list[str]:
        """Return the names of the failed items."""
        return [item.name for item in self.items if item.level == FAILED]

    @property
    def wanted(self) -> int:
        """Return the bytes that should be free."""
        return self.need.bytes + self.floor + self.reserved

    def add(self, item: Item) -> None:
        self.items.append(item)
        self._say(str(item))

    def inspect(self) -> None:
        """Check everything but the room. Without Docker or its volume, stop there."""
        engine = choice_of(self._arguments.command)
        elsewhere = "" if engine.is_here else engine.chosen_by
        self.add(_docker(elsewhere))
        self.add(_volume(self.config))
        if self.failed:
            return
        self.add(_inodes(self.config))
        self.add(_guard(self.config))
        self.add(_other_builds())
        if self._limit:
            self.add(_limit(self.config, self._limit, elsewhere, engine.container_builder))
        self.need = estimate.need_of(self._asked, self._arguments, history.load(), has_image)
        if self._limit and self._limit < self.need.bytes:
            self.need = Need(self._limit, f"--limit {as_option(self._limit)}")

    def room(self, ahead: Sequence[Reservation]) -> Item:
        """Check that the build fits now.

        Args:
            ahead: the builds that have reserved space before this one.
        """
        volume, accounts = space_of(self.config.volume_mount), reservations.accounts()
        self.free, self.used = volume.available, volume.used
        self.floor = floor_of(self.config.guard_floor, volume.size)
        self.reserved = sum(each.remaining(accounts.of(each), volume.used) for each in ahead)
        return room(self.free, self.floor, self.need, self.reserved, len(ahead))

    def make_room(self) -> None:
        """Remove idle build cache, if there is enough of it: the build would not start for less.

        Remove nothing else unasked: an image without a container may be this build's base.
        """
        try:
            if self._has_enough_cache():
                pruner.reclaim_cache(self.config, self.wanted, self._say, wait=5)
        except PROBLEMS as error:
            self._say(f"no build cache was removed: {in_words(error)}")

    def can_fit(self) -> bool:
        """Return whether the build would fit on an empty volume."""
        return self.need.bytes + self.floor <= space_of(self.config.volume_mount).size

    def advised(self, found: Item) -> Item:
        """Return a failed check of the room with what to do."""
        if not self.can_fit():
            size = human(space_of(self.config.volume_mount).size)
            return found._replace(
                text=f"{found.text}. The volume has only {size}: {self.config.way_to_grow}, or give a smaller --need"
            )
        wait = " Or wait for the other builds: --wait" if self.reserved else ""
        return found._replace(text=f"{found.text}. {advice(self.wanted, self.config)}{wait}")

    def check_room(self) -> None:
        """Add the check of the room, and reserve nothing."""
        if not self.need.source:
            return  # Docker or its volume is not there
        ahead: list[Reservation] = []
        with contextlib.suppress(OSError):  # this user has no access
            ahead = reservations.standing()
        found = self.room(ahead)
        self.add(found if found.level == OK else self._announced(found))

    def _announced(self, found: Item) -> Item:
        """Return a failed check of the room as a warning, if `bulkhead build` would make the room itself."""
        with contextlib.suppress(*PROBLEMS):
            if is_root() and self._has_enough_cache():
                text = f"{found.text}. `bulkhead build` first removes that much idle build cache"
                return found._replace(level=WARNING, text=text)
        return self.advised(found)

    def _has_enough_cache(self) -> bool:
        return dict(usage.reclaimable(Engine())).get("build cache", 0) >= self.wanted - self.free


def advice(wanted: int, config: Config) -> str:
    """Return what makes so many bytes free, in a sentence. Advise `bulkhead reclaim` only for what it does not refuse."""
    grow, missing = config.way_to_grow, wanted - space_of(config.volume_mount).available
    if missing <= 0:
        return "Enough is free now: build again"
    try:
        reclaimable = usage.reclaimable(Engine(), config.prune_keep)
        is_building = bool(other_builds() or builds_under_way(Engine(), ()))
    except PROBLEMS as error:
        return f"Cannot tell what could be reclaimed: {in_words(error)}"
    if not reclaimable:
        return f"Nothing can be reclaimed: {grow}"
    found = f"Reclaimable: {in_short(reclaimable)}"
    if sum(size for _, size in reclaimable) < missing:
        return f"{found}. That is not enough: {grow}"
    if is_building and dict(reclaimable).get("build cache", 0) < missing:
        return f"{found}. Images stay during a build. When the other builds have ended, make room: {reclaim_command(wanted)}"
    return f"{found}. Make room: {reclaim_command(wanted)}"


def in_short(reclaimable: Sequence[tuple[str, int]]) -> str:
    """
    >>> in_short([("build cache", 2**30), ("image a", 2**29), ("image b", 2**28), ("image c", 2**27), ("image d", 2**27)])
    'build cache 1.0 GiB, image a 512.0 MiB, image b 256.0 MiB, 2 more 256.0 MiB'
    """
    words = [f"{name} {human(size)}" for name, size in reclaimable[:_NAMED]]
    if more := reclaimable[_NAMED:]:
        words.append(f"{len(more)} more {human(sum(size for _, size in more))}")
    return ", ".join(words)


def _docker(elsewhere: str) -> Item:
    """
    Args:
        elsewhere: what may send the build to another engine; empty: nothing.
    """
    if not shutil.which("docker"):
        return Item("docker", FAILED, "the command docker is not installed")
    if not daemon.docker_runs():
        return Item("docker", FAILED, f"{DOCKER} is not active")
    try:
        if reason := daemon.silence():
            return Item("docker", FAILED, f"Docker {reason}")
    except PermissionError:
        return Item("docker", FAILED, "only root and members of the group docker may talk to Docker")
    if elsewhere:
        return Item("docker", WARNING, f"{elsewhere} may send the build to an engine other than the one checked here")
    return Item("docker", OK, "answers")


def _volume(config: Config) -> Item:
    elsewhere, unread = roots.off_the_volume(config, docker_answers=daemon.docker_runs())
    wrong = [*filesystems.out_of_place(mounts_of(), config), *elsewhere]
    if wrong := wrong or filesystems.unmarked(config):
        return Item("volume", FAILED, "; ".join(wrong))
    if unread:
        return Item("volume", WARNING, f"cannot tell whether Docker's data is on it: {'; '.join(unread)}")
    return Item("volume", OK, f"{config.volume_mount} is mounted, and Docker's data is on it")


def _inodes(config: Config) -> Item:
    space = space_of(config.volume_mount)
    if not space.inodes:
        return Item("inodes", OK, "no limit")
    percent = space.inodes_percent
    level = FAILED if percent >= config.check_critical else WARNING if percent >= config.check_threshold else OK
    return Item("inodes", level, f"{int(percent)} % used, {space.inodes_free} free")


def _guard(config: Config) -> Item:
    if names.GUARD_SERVICE not in config.watched_units:
        return Item("guard", WARNING, "switched off in the settings: nothing stops a build that fills the volume")
    if guard_is_alive():
        return Item("guard", OK, f"{names.GUARD_SERVICE} is active")
    return Item(
        "guard", FAILED, f"{names.GUARD_SERVICE} is not active. Start it: `systemctl start {names.GUARD_SERVICE}`"
    )


def guard_is_alive() -> bool:
    try:
        return loop.is_alive()
    except OSError:  # systemd does not answer
        return False


def _limit(config: Config, limit: int, elsewhere: str, container_builder: str) -> Item:
    if names.GUARD_SERVICE not in config.watched_units or not guard_is_alive():
        return Item("limit", FAILED, f"only the guard holds a limit, and {names.GUARD_SERVICE} does not run")
    if elsewhere:
        return Item(
            "limit", FAILED, f"{elsewhere} may send the build to another engine: the guard cannot count it there"
        )
    if container_builder:
        text = f"the builder {container_builder} runs in a container: the guard does not count its steps for this build"
        return Item("limit", FAILED, text)
    if not os.path.exists(f"{cgroups.ROOT}/cgroup.controllers"):
        return Item("limit", FAILED, "this host has no cgroup v2: the guard cannot tell the steps of builds apart")
    return Item("limit", OK, f"the guard ends this build if its steps write more than {human(limit)}")


def other_builds() -> list[Process]:
    """Return the command lines of others that build on this host: for a user other than root, only the user's own.

    What shows that another user's client works with this host's Docker is for root to see (proc(5): ptrace access mode).
    """
    return [each for each in programs_that_build() if os.getpid() not in procfs.ancestors(each.pid)]


def _other_builds() -> Item:
    if builds := other_builds():
        return Item("builds", WARNING, f"also running: {', '.join(map(str, builds))}; may need room too")
    of_whom = "" if is_root() else " of this user's"
    beside = "" if is_root() else ". Only root can see those of others"
    return Item("builds", OK, f"no other build{of_whom} is running{beside}")


def has_image(name: str) -> bool:
    return size_of(name) is not None


def reclaim_command(wanted: int) -> str:
    return f"`{'' if is_root() else 'sudo '}bulkhead reclaim --need {as_option(wanted)}`"


def is_root() -> bool:
    return os.geteuid() == 0


def size_of(name: str) -> int | None:
    """Return the bytes of an image; None if the engine does not have it, as after a build that only pushes it."""
    try:
        return int(Engine().ask("GET", f"/images/{quote(name, safe='/:@')}/json")["Size"])
    except EngineError:
        return None
