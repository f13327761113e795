"""What a rescue works on: Docker's volume, and Docker. A dry run counts what its steps would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead import command
from bulkhead.docker.daemon import docker_runs
from bulkhead.docker.start import start_docker
from bulkhead.errors import Failed, in_words
from bulkhead.names import DOCKER
from bulkhead.sizes import human
from bulkhead.storage.space import Space, space_of
from bulkhead.storage.volume import floor_of, inode_floor_of

if TYPE_CHECKING:
    from bulkhead.config import Config
    from bulkhead.docker.engine import Engine

_ANSWER_TIMEOUT = 15  # seconds
_LOG_LINES = 5  # of Docker's log
_XFS_INODE = 512  # bytes of free space that xfs makes an inode of (mkfs.xfs(8), -i size)


class RescuedVolume:
    """The space and the inodes on Docker's volume. All sizes are bytes."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._would_come = self._inodes_would_come = 0  # by the steps of a dry run

    def add(self, size: int) -> None:
        """Count space that a step of a dry run would have freed."""
        self._would_come += size

    def extend(self, size: int, *, is_xfs: bool) -> None:
        """Count space that a dry run would have added to the volume, and the inodes that come with it."""
        space = self._space()
        self._would_come += size
        self._inodes_would_come += size // _XFS_INODE if is_xfs else size * space.inodes // space.size

    def free(self) -> int:
        return self._space().available + self._would_come

    def free_for_root(self) -> int:
        """Return the free space with what ext4 reserves for root: Docker is root."""
        return self._space().free_for_root + self._would_come

    def floor(self) -> int:
        return floor_of(self._config.guard_floor, self._space().size)

    def inodes_free(self) -> float:
        """Return how many inodes are free: infinitely many where the filesystem does not limit them."""
        space = self._space()
        return space.inodes_free + self._inodes_would_come if space.inodes else float("inf")

    def inode_floor(self) -> int:
        return inode_floor_of(self._space().inodes)

    def has_space(self) -> bool:
        """Whether the floor for space is free."""
        return self.free() >= self.floor()

    def has_inodes(self) -> bool:
        """Whether the floor for inodes is free."""
        return self.inodes_free() >= self.inode_floor()

    def is_enough(self) -> bool:
        """Whether both floors are free."""
        return self.has_space() and self.has_inodes()

    def missing(self) -> int:
        """Return the bytes by which the volume must grow: for its space and, once that is enough, for its inodes.

        xfs makes inodes of free space, so more space may be all that it lacks. ext4 gets them in proportion to its size: each
        of its block groups has as many (ext4(5)). So does an xfs whose inodes have reached their share (mkfs.xfs(8), maxpct).
        """
        if not self.has_space():
            return self.floor() - self.free()
        space = self._space()
        inodes = 0 if self.has_inodes() else int(self.inode_floor() - self.inodes_free())
        return inodes * space.size // (space.inodes or 1)

    def describe(self) -> str:
        space = self._space()
        free, size, floor = (human(each) for each in (self.free(), space.size, self.floor()))
        text = f"{self._config.volume_mount}: {free} of {size} free, {floor} must stay free"
        if space.inodes:
            text += f"; {self.inodes_free()} of {space.inodes} inodes free, {self.inode_floor()} must stay free"
        return text

    def _space(self) -> Space:
        return space_of(self._config.volume_mount)


class RescuedDocker:
    """Docker: whether it answers, its start, and its log."""

    def __init__(self, engine: Engine, start_limit: int | None) -> None:
        self.engine = engine
        self._start_limit = start_limit
        self.would_run = False  # after a dry run's start

    def problem(self) -> str:
        """Describe what is wrong with Docker; empty: it answers."""
        if self.would_run:
            return ""
        if not docker_runs():  # else a request to its socket would make systemd start it
            return "does not run"
        return "" if self.engine.answers(_ANSWER_TIMEOUT) else "runs and does not answer"

    def start(self, *, dry_run: bool) -> None:
        """Start Docker if it does not run. A Docker that hangs is left alone: its containers may still work.

        Raises:
            Failed: it does not start.
            EngineError: it does not answer.
        """
        if dry_run:
            self.would_run = True
        else:
            start_docker(self.engine, self._start_limit)

    def end_of_log(self) -> str:
        """Return the end of Docker's log, in one line."""
        words = ("journalctl", "--unit", DOCKER, "--lines", str(_LOG_LINES), "--no-pager", "--output", "cat")
        try:
            lines = command.run(*words, timeout=30)
        except Failed as failed:
            return in_words(failed)
        return " | ".join(line.strip() for line in lines.splitlines())[-1000:]
