"""The one reader of a filesystem's space and inodes."""

from __future__ import annotations

import os


class Space:
    """The space and the inodes of a filesystem. Sizes are bytes, as df counts them."""

    def __init__(self, counts: os.statvfs_result) -> None:
        self.counts = counts

    @property
    def size(self) -> int:
        return self.counts.f_blocks * self.counts.f_frsize

    @property
    def used(self) -> int:
        return (self.counts.f_blocks - self.counts.f_bfree) * self.counts.f_frsize

    @property
    def free_for_root(self) -> int:
        """Bytes that are free, with those that only root may fill."""
        return self.counts.f_bfree * self.counts.f_frsize

    @property
    def available(self) -> int:
        """Bytes that are free to users other than root."""
        return self.counts.f_bavail * self.counts.f_frsize

    @property
    def percent(self) -> float:
        return percent_used(self.used, self.available)

    @property
    def inodes(self) -> int:
        """How many inodes the filesystem can have; 0: it does not limit them."""
        return self.counts.f_files

    @property
    def inodes_free(self) -> int:
        return self.counts.f_ffree

    @property
    def inodes_percent(self) -> float:
        return inodes_percent_used(self.inodes, self.inodes_free)

    @property
    def filesystem(self) -> int:
        """The filesystem's identifier: when it changes, another filesystem is mounted there."""
        return self.counts.f_fsid


def space_of(path: str) -> Space:
    """Return the space of the filesystem that a path is on.

    Raises:
        OSError: nothing is there, this user may not see it, or the device is gone.
    """
    return Space(os.statvfs(path))


def percent_used(used: int, available: int) -> float:
    """Return the percentage in use, as df has it: what only root may fill counts as neither used nor available."""
    return 100 * used / ((used + available) or 1)


def inodes_percent_used(inodes: int, free: int) -> float:
    """Return the percentage of inodes in use; 0 where the filesystem does not limit them."""
    return 100 * (inodes - free) / (inodes or 1)
