"""Check, before a build starts, that this host is healthy and Docker's volume has room for it."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from bulkhead import names
from bulkhead.build import estimate, history
from bulkhead.build.estimate import Need, as_option
from bulkhead.docker import daemon, roots, usage
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.running_builds import programs_that_build
from bulkhead.errors import PROBLEMS, in_words
from bulkhead.guard import loop
from bulkhead.names import DOCKER, DOCKER_API
from bulkhead.prune import pruner
from bulkhead.sizes import human
from bulkhead.storage import filesystems
from bulkhead.storage.mounts import mounts_of
from bulkhead.storage.space import space_of
from bulkhead.storage.volume import floor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bulkhead.build.arguments import Arguments
    from bulkhead.config import Config

OK, WARNING, FAILED = "ok", "warning", "failed"
_NAMED = 3  # reclaimable items that are listed by name
_OUR_HOSTS = (f"unix://{DOCKER_API}", f"unix:///var{DOCKER_API}")


class Item(NamedTuple):
    """A line of the checklist."""

    name: str
    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.name}: {self.text}"


def room(free: int, floor: int, need: Need) -> Item:
    """Check that a build fits above what the guard keeps free."""
    figures = (
        f"free: {human(free)}; needed: {human(need.bytes)} ({need.source}) above the guard's floor of {human(floor)}"
    )
    missing = need.bytes + floor - free
    return Item("room", FAILED, f"{figures}: {human(missing)} missing") if missing > 0 else Item("room", OK, figures)


class Checklist:
    """The checks before a build.

    Args:
        need: bytes that the user has given.
        say: prints a line.
    """

    def __init__(self, config: Config, arguments: Arguments, need: int | None, say: Callable[[str], None]) -> None:
        self.config = config
        self.items: list[Item] = []
        self.need = Need(0, "")
        self.floor = self.free = 0
        self._arguments = arguments
        self._asked = need
        self._say = say

    @property
    def failed(self) -> list[str]:
        """Return the names of the failed items."""
        return [item.name for item in self.items if item.level == FAILED]

    @property
    def wanted(self) -> int:
        """Return the bytes that should be free."""
        return self.need.bytes + self.floor

    def add(self, item: Item) -> None:
        self.items.append(item)
        self._say(str(item))

    def inspect(self, *, makes_room: bool) -> None:
        """Check everything. Without Docker or its volume, stop there.

        Args:
            makes_room: remove idle build cache if the build does not fit.
        """
        self.add(_docker())
        self.add(_volume(self.config))
        if self.failed:
            return
        self.add(_inodes(self.config))
        self.add(_guard(self.config))
        self.add(_other_builds())
        self.need = estimate.need_of(self._asked, self._arguments, history.load(), has_image)
        self._measure()
        if self.free < self.wanted and makes_room and not self.failed:
            try:
                # Remove nothing else unasked: an image without a container may be the base image of this build.
                pruner.reclaim_cache(self.config, self.wanted, self._say, wait=5)
            except PROBLEMS as error:
                self._say(f"no build cache was removed: {in_words(error)}")
            self._measure()
        self.add(self._room(makes_room))

    def _measure(self) -> None:
        volume = space_of(self.config.volume_mount)
        self.free, self.floor = volume.available, floor_of(self.config.guard_floor, volume.size)

    def _room(self, makes_room: bool) -> Item:
        found = room(self.free, self.floor, self.need)
        if found.level == OK:
            return found
        try:
            reclaimable = usage.reclaimable(Engine())
        except PROBLEMS as error:
            return found._replace(text=f"{found.text}. Cannot tell what could be reclaimed: {in_words(error)}")
        if not reclaimable:
            return found._replace(text=f"{found.text}. Nothing can be reclaimed: grow the volume (setting volume_size)")
        if is_root() and not makes_room and dict(reclaimable).get("build cache", 0) >= self.wanted - self.free:
            return found._replace(
                level=WARNING, text=f"{found.text}. `bulkhead build` first removes that much idle build cache"
            )
        command = reclaim_command(self.wanted)
        return found._replace(text=f"{found.text}. Reclaimable: {in_short(reclaimable)}. Make room: {command}")


def in_short(reclaimable: Sequence[tuple[str, int]]) -> str:
    """
    >>> in_short([("build cache", 2**30), ("image a", 2**29), ("image b", 2**28), ("image c", 2**27), ("image d", 2**27)])
    'build cache 1.0 GiB, image a 512.0 MiB, image b 256.0 MiB, 2 more 256.0 MiB'
    """
    words = [f"{name} {human(size)}" for name, size in reclaimable[:_NAMED]]
    if more := reclaimable[_NAMED:]:
        words.append(f"{len(more)} more {human(sum(size for _, size in more))}")
    return ", ".join(words)


def _docker() -> Item:
    if not shutil.which("docker"):
        return Item("docker", FAILED, "the command docker is not installed")
    if not daemon.docker_runs():
        return Item("docker", FAILED, f"{DOCKER} is not active")
    try:
        if reason := daemon.silence():
            return Item("docker", FAILED, f"Docker {reason}")
    except PermissionError:
        return Item("docker", FAILED, "only root and members of the group docker may talk to Docker")
    if what := _elsewhere():
        return Item("docker", WARNING, f"{what} may send the build to an engine other than the one checked here")
    return Item("docker", OK, "answers")


def _elsewhere() -> str:
    """Return what sends a build to another engine than this host's, in docker's order of precedence; empty if nothing does."""
    if host := os.environ.get("DOCKER_HOST"):
        return "" if host in _OUR_HOSTS else "DOCKER_HOST"
    if context := os.environ.get("DOCKER_CONTEXT"):
        return "" if context == "default" else "DOCKER_CONTEXT"
    path = os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            context = json.load(file).get("currentContext")
    except (OSError, ValueError, AttributeError):  # there is none, or docker itself reports what is wrong with it
        return ""
    return f"the context {context} (`docker context use`)" if context not in (None, "", "default") else ""


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


def _other_builds() -> Item:
    if builds := programs_that_build():
        return Item("builds", WARNING, f"also running: {', '.join(map(str, builds))}; may need room too")
    return Item("builds", OK, "no other build is running")


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
