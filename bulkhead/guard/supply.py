"""What builds use up on Docker's volume: its space, and its inodes. How much is left, how fast it goes, and who takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead import procfs
from bulkhead.docker import cgroups, engines
from bulkhead.files import is_within
from bulkhead.guard.policy import Rate, WriteHistory
from bulkhead.names import CONTAINERD, DOCKER
from bulkhead.text import short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bulkhead.docker.engines import NestedEngine
    from bulkhead.docker.steps import BuildStep
    from bulkhead.storage.space import Space


class Supply:
    """One of the two. Space is counted in bytes.

    Args:
        least: growth per second; less counts as none.
        worthwhile: so much makes a reclaim worth it.
    """

    def __init__(self, least: float, worthwhile: int) -> None:
        self.least, self.worthwhile = least, worthwhile
        self.free = self.floor = 0
        self.used_up = 0  # since the guard began, whatever came back meanwhile
        self.rate = Rate(least)
        self.history = WriteHistory()
        self._used: int | None = None

    @property
    def is_growing(self) -> bool:
        return self.rate.value > 0

    def sample(self, now: float, space: Space) -> None:
        """Take over a sample. On xfs the free inodes fall with the free space too, so what is used gives the rate."""
        self.used_up += self.used_since_sample(space)
        self.free, self._used = self.read(space)
        self.rate.add(now, -self._used)

    def used_since_sample(self, space: Space) -> int:
        """Return how much more is used than at the last sample."""
        return 0 if self._used is None else max(self.read(space)[1] - self._used, 0)

    def read(self, space: Space) -> tuple[int, int]:
        """Return how much of it is free, and how much is used."""
        raise NotImplementedError

    def rest(self, at: float) -> None:
        """Note that nothing had changed at this time, in monotonic seconds."""
        if self._used is not None:
            self.rate.add(at, -self._used)

    def forget(self) -> None:
        """Forget what was sampled: another filesystem is there."""
        self.free, self._used = 0, None
        self.rate.forget()

    def taken_by(self, step: BuildStep) -> int:
        """Return how much a step has taken so far."""
        raise NotImplementedError

    def taken_by_docker(self, dockerd: int, builders: Iterable[NestedEngine], step_groups: frozenset[str], /) -> int:
        """Return how much Docker itself has taken so far.

        Args:
            dockerd: its PID.
            builders: those of buildx in containers, which count too.
            step_groups: directories of the steps' control groups. They do not count.
        """
        raise NotImplementedError

    def amount(self, size: float) -> str:
        """Return an amount as people read it."""
        raise NotImplementedError

    def describe(self, mount: str) -> str:
        """Describe how much the volume has left, how fast that goes, and where the floor is."""
        return (
            f"{mount} has {self.amount(self.free)} left, fills by {self.amount(self.rate.value)}/s "
            f"and {'is' if self.free < self.floor else 'would fall'} below its floor of {self.amount(self.floor)}"
        )


class SpaceSupply(Supply):
    def __init__(self) -> None:
        super().__init__(least=1024, worthwhile=64 * 2**20)

    def read(self, space: Space) -> tuple[int, int]:
        return space.available, space.used

    def taken_by(self, step: BuildStep) -> int:
        return step.written

    def taken_by_docker(self, dockerd: int, builders: Iterable[NestedEngine], step_groups: frozenset[str], /) -> int:
        return engines.written_by_docker(dockerd, builders, step_groups)

    def amount(self, size: float) -> str:
        return short(size)


class InodeSupply(Supply):
    """The kernel does not count the files that a process makes.

    But it keeps each new inode in memory, at first, and counts that memory for the process's control group. (Bytes and
    system calls would not do: `touch` and `mkdir` write nothing.) To read many files takes such memory too.
    """

    def __init__(self) -> None:
        super().__init__(least=10, worthwhile=10_000)

    def read(self, space: Space) -> tuple[int, int]:
        return space.inodes_free, space.inodes - space.inodes_free

    def taken_by(self, step: BuildStep) -> int:
        return _inodes_in_memory(step.cgroup)

    def taken_by_docker(self, _dockerd: int, builders: Iterable[NestedEngine], step_groups: frozenset[str], /) -> int:
        own = [cgroups.of_unit(unit) for unit in (DOCKER, CONTAINERD)]
        containers = {engine.container for engine in builders}
        below = [group for group in step_groups if is_within(group, containers)]
        return sum(map(_inodes_in_memory, (*own, *containers))) - sum(map(_inodes_in_memory, below))

    def amount(self, size: float) -> str:
        return f"{int(size)} inodes"


_INODE = 1024  # bytes in memory, at least, with its name: 1.3 KiB on ext4


def _inodes_in_memory(cgroup: str) -> int:
    """Return how many inodes the memory of a control group, and of those in it, can hold; 0 if the kernel does not count it."""
    for line in procfs.read(f"{cgroup}/memory.stat").splitlines():
        if line.startswith("slab_reclaimable "):
            return int(line.split()[1]) // _INODE
    return 0
