"""Sample Docker's volume: whether it is mounted, what is left of its space and its inodes, how fast that goes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bulkhead.guard import jobs
from bulkhead.guard.supply import InodeSupply, SpaceSupply
from bulkhead.names import MARKER
from bulkhead.storage.space import space_of
from bulkhead.storage.volume import floor_of, inode_floor_of, is_mounted

if TYPE_CHECKING:
    from bulkhead.config import Config
    from bulkhead.guard.supply import Supply


class VolumeMonitor:
    """The volume at its last sample. All sizes are bytes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.space, self.inodes = SpaceSupply(), InodeSupply()
        self.supplies: list[Supply] = [self.space]  # and inodes, if the filesystem limits them
        self.size = 0
        self.free_for_root = 0
        self.last_growth = float("-inf")  # monotonic seconds
        self._counts: os.statvfs_result | None = None  # at the last sample
        self._unchanged_at = float("-inf")  # when they were last seen again
        self._filesystem: int | None = None  # its f_fsid; None: the volume is not mounted
        self._is_reported_missing = False

    @property
    def is_mounted(self) -> bool:
        return self._filesystem is not None

    @property
    def is_sampled(self) -> bool:
        """Whether it is mounted, and its first sample is there."""
        return self.is_mounted and self.size > 0

    @property
    def is_growing(self) -> bool:
        return any(supply.is_growing for supply in self.supplies)

    def configure(self, config: Config) -> None:
        """Take over a new configuration. The next sample computes the floor anew."""
        self.config = config
        self.size, self._counts = 0, None

    def check_mount(self) -> None:
        """Notice that the volume was mounted or unmounted, or replaced by another."""
        mount = self.config.volume_mount
        filesystem = space_of(mount).filesystem if is_mounted(mount) else None
        if filesystem != self._filesystem:
            self._filesystem, self.size = filesystem, 0
            for supply in (self.space, self.inodes):
                supply.forget()
        if self._is_reported_missing != (filesystem is None):
            self._is_reported_missing = filesystem is None
            missing = f"not mounted, or lacks its {MARKER}: the guard waits until it is back"
            jobs.say(f"{mount} is {missing if self._is_reported_missing else 'mounted'}")

    def is_unchanged(self, now: float) -> bool:
        """Tell whether all is as at the last sample. At rest this is most of what the guard does."""
        counts = os.statvfs(self.config.volume_mount)
        if counts == self._counts and counts.f_fsid == self._filesystem:
            self._unchanged_at = now
            return True
        return False

    def sample(self, now: float) -> bool:
        """Read what is free, and update the rates.

        Args:
            now: monotonic seconds.

        Returns:
            False if another filesystem is mounted there now. Then there is no sample yet.
        """
        space = space_of(self.config.volume_mount)
        if space.filesystem != self._filesystem:
            self.check_mount()
            return False
        self._counts = space.counts
        if (size := space.size) != self.size:  # it was grown online
            self.size, self.space.floor = size, floor_of(self.config.guard_floor, size)
            self.supplies = [self.space, self.inodes] if space.inodes else [self.space]
        self.inodes.floor = inode_floor_of(space.inodes)
        self.free_for_root = space.free_for_root
        for supply in (self.space, self.inodes):
            if self._unchanged_at > float("-inf"):
                supply.rest(self._unchanged_at)
            supply.sample(now, space)
        self._unchanged_at = float("-inf")
        if self.is_growing:
            self.last_growth = now
        return True

    def used_up_by_now(self, supply: Supply) -> int:
        """Return how much of a supply is used up, with what was taken since the last sample."""
        return supply.used_up + supply.used_since_sample(space_of(self.config.volume_mount))

    def note_growth(self, now: float) -> None:
        """Count the volume as growing at this moment, whatever its samples say."""
        self.last_growth = now

    def forget_rates(self) -> None:
        """Forget the rates: a build was stopped, or much space came or went at once, so they predict nothing."""
        self._unchanged_at = float("-inf")
        for supply in (self.space, self.inodes):
            supply.rate.forget()
