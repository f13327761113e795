"""Sample Docker's volume: whether it is mounted, its space, its floor, how fast it fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead.guard import jobs
from bulkhead.guard.policy import Rate
from bulkhead.names import MARKER
from bulkhead.storage.space import space_of
from bulkhead.storage.volume import floor_of, is_mounted
from bulkhead.text import short

if TYPE_CHECKING:
    from bulkhead.config import Config


class VolumeMonitor:
    """The volume at its last sample. All sizes are bytes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.rate = Rate()
        self.size = self.floor = 0
        self.free = 0  # for others than root
        self.free_for_root = 0
        self.last_growth = float("-inf")  # monotonic seconds
        self._filesystem: int | None = None  # its f_fsid; None: the volume is not mounted
        self._is_reported_missing = False

    @property
    def is_mounted(self) -> bool:
        return self._filesystem is not None

    @property
    def is_sampled(self) -> bool:
        """Whether it is mounted, and its first sample is there."""
        return self.is_mounted and self.size > 0

    def configure(self, config: Config) -> None:
        """Take over a new configuration. The next sample computes the floor anew."""
        self.config = config
        self.size = 0

    def check_mount(self) -> None:
        """Notice that the volume was mounted or unmounted, or replaced by another."""
        mount = self.config.volume_mount
        filesystem = space_of(mount).filesystem if is_mounted(mount) else None
        if filesystem != self._filesystem:
            self._filesystem, self.size, self.free = filesystem, 0, 0
            self.rate.forget()
        if self._is_reported_missing != (filesystem is None):
            self._is_reported_missing = filesystem is None
            missing = f"not mounted, or lacks its {MARKER}: the guard waits until it is back"
            jobs.say(f"{mount} is {missing if self._is_reported_missing else 'mounted'}")

    def sample(self, now: float) -> bool:
        """Read the free space, and update the rate.

        Args:
            now: monotonic seconds.

        Returns:
            False if another filesystem is mounted there now. Then there is no sample yet.
        """
        space = space_of(self.config.volume_mount)
        if space.filesystem != self._filesystem:
            self.check_mount()
            return False
        self.free = space.available
        self.free_for_root = space.free_for_root
        if (size := space.size) != self.size:  # it was grown online
            self.size, self.floor = size, floor_of(self.config.guard_floor, size)
        self.rate.add(now, self.free)
        if self.rate.value:
            self.last_growth = now
        return True

    def note_growth(self, now: float) -> None:
        """Count the volume as growing at this moment, whatever its samples say."""
        self.last_growth = now

    def describe(self) -> str:
        """Describe how full the volume is, how fast it fills, and where its floor is."""
        return (
            f"{self.config.volume_mount} has {short(self.free)} left, fills by {short(self.rate.value)}/s "
            f"and {'is' if self.free < self.floor else 'would fall'} below its floor of {short(self.floor)}"
        )
