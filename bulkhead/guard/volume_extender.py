"""Extend Docker's volume by the free space of its volume group, online."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bulkhead import command
from bulkhead.errors import Failed
from bulkhead.sizes import human
from bulkhead.snapshot import snapshots
from bulkhead.storage import lvm
from bulkhead.storage.mounts import mounts_of
from bulkhead.storage.volume import docker_volume
from bulkhead.watch import alert, alert_store, results

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.config import Config
    from bulkhead.guard.rescued_host import RescuedVolume

_LEAST = 2**30  # bytes by which the volume grows at least, if the group has them: less would soon be full again
_SLACK = 10  # the volume grows by a tenth more: the filesystem takes some of it for itself
_ATTEMPTS = 3  # what root has used of ext4's reserve shows only after some space is free again


def size_to_add(missing: int, free: int) -> int:
    """Return the bytes by which the volume grows.

    Args:
        missing: bytes that must become free on it.
        free: bytes of its group, in whole extents.

    >>> size_to_add(2**20, 2**32) == 2**30, size_to_add(2**31, 2**30) == 2**30
    (True, True)
    """
    wanted = max(missing + missing // _SLACK, _LEAST)
    return min(-(-wanted // 512) * 512, free)  # LVM takes multiples of 512 bytes, and rounds up to extents


class VolumeExtender:
    """Extends the volume, and removes the snapshots of bulkhead that prevent it.

    Args:
        say: is called with a line for each change.
        dry_run: only say what would change.
    """

    def __init__(self, config: Config, volume: RescuedVolume, say: Callable[[str], None], *, dry_run: bool) -> None:
        self.extended_to = 0  # bytes; 0: the volume has not grown
        self._config = config
        self._volume = volume
        self._say = say
        self._dry_run = dry_run
        self._would_go: dict[str, int] = {}  # snapshots that a dry run would remove, and their bytes in the group

    def remove_snapshots(self) -> None:
        """Remove the snapshots of bulkhead: LVM does not extend a volume that has one.

        Raises:
            Problem: it would be in vain: the volume is not mounted in its place, or has a snapshot that bulkhead did not take.
            OSError: LVM does not answer.
        """
        ours = snapshots.ours(self._config)
        self._refuse_snapshots({each.name for each in ours})
        for each in ours:
            text = f"the snapshot {self._config.vg_name}/{each.name} kept the full volume from growing: "
            if self._dry_run:
                self._would_go[each.name] = each.size
                self._say(f"{text}would be removed")
                continue
            snapshots.remove(self._config, each.name)
            self._say(f"{text}removed")
            news = alert_store.News(results.WARNING, f"{text}removed")
            for problem in alert.report_event(self._config, [news], time.time()):
                self._say(problem)

    def extend(self) -> None:
        """Extend the volume and its filesystem until the floors are free.

        Raises:
            Failed: it has a snapshot that bulkhead did not take, its group has no free space, or a command failed.
            OSError: LVM does not answer.
        """
        # Growing shows how much of its reserve root has used, and raises a floor that is a percentage of the volume.
        for _ in range(1 if self._dry_run else _ATTEMPTS):
            self._extend_once()
            if self._volume.is_enough():
                return

    def _extend_once(self) -> None:
        group, volume = self._config.vg_name, self._refuse_snapshots({*self._would_go})
        name = f"{group}/{volume.name}"
        if not self._dry_run:
            self._extend_filesystem(name)  # a power cut may have kept an earlier rescue from doing it
        disks: list[str] = []
        if volume.is_raid:  # where the space of a snapshot that goes would come back, LVM does not tell
            disks, free = lvm.room_for_raid(group, volume.name)
        else:
            free = next(each.free for each in lvm.list_groups()[0] if each.name == group)
            free += sum(self._would_go.values())
        size = size_to_add(self._volume.missing(), free)
        if size <= 0:
            raise Failed(f"volume group {group} has no free space: {name} cannot grow")
        if self._dry_run:
            self._volume.extend(size, is_xfs=self._is_xfs())
        else:
            command.run("lvextend", "--size", f"+{size}b", name, *disks)
            self._extend_filesystem(name)
        self.extended_to = volume.size + size
        added = "would be added" if self._dry_run else "added"
        self._say(f"volume: {human(size)} of the {human(free)} that are free in {group} {added}")

    def _refuse_snapshots(self, but: set[str]) -> lvm.VolumeRecord:
        """Return Docker's volume, if it has no other snapshots than these: LVM does not extend a volume that has one.

        Raises:
            Problem: it has another, or is not mounted in its place.
            OSError: LVM does not answer.
        """
        volume = docker_volume(self._config)
        every = {each.name for each in lvm.list_volumes(self._config.vg_name) if each.origin == volume.name}
        if others := every - but:
            raise Failed(
                f"{self._config.vg_name}/{volume.name} cannot grow while it has the snapshot {', '.join(sorted(others))}, "
                "which is not ours"
            )
        return volume

    def _extend_filesystem(self, name: str) -> None:
        grow = ("xfs_growfs", self._config.volume_mount) if self._is_xfs() else ("resize2fs", f"/dev/{name}")
        command.run(*grow)

    def _is_xfs(self) -> bool:
        return any(each.fstype == "xfs" for each in mounts_of() if each.target == self._config.volume_mount)
