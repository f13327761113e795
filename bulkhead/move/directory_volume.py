"""The volume that a directory is moved onto: its line in fstab, and where it is mounted."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.command import run
from bulkhead.files import sync_directory
from bulkhead.storage.fstab import read_fstab, replace_fstab
from bulkhead.storage.mounts import is_mounted
from pyinfra_lvm.fstab import fstab_lists, fstab_with, fstab_without

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyinfra_lvm.fstab import FstabEntry

STAGING = f"{state.VOLATILE}/volume"  # only root can enter it, whatever the mode of the directory that is copied
LOST_AND_FOUND = "lost+found"
LEFT = ".bulkhead-left"  # where a rollback puts what is on the volume
KEPT = frozenset({LOST_AND_FOUND, LEFT})  # on the volume: neither copied nor removed


class DirectoryVolume:
    """The volume of one directory.

    Args:
        entry: the line of fstab that mounts the volume on the directory.
    """

    def __init__(self, entry: FstabEntry) -> None:
        self._entry = entry

    @property
    def device(self) -> str:
        return self._entry.source

    @property
    def is_committed(self) -> bool:
        """Whether fstab mounts the volume on the directory."""
        return fstab_lists(read_fstab(), self._entry)

    def commit(self) -> None:
        """Have fstab mount the volume on the directory.

        Raises:
            Failed: the new fstab would have errors.
        """
        replace_fstab(lambda text: fstab_with(text, self._entry))

    def take_away(self) -> None:
        """Take the volume out of fstab, and unmount it from the directory."""
        replace_fstab(lambda text: fstab_without(text, self._entry.target))
        while is_mounted(self._entry.target):
            run("umount", "--lazy", self._entry.target)  # our own login may have its working directory there
        run("systemctl", "daemon-reload")

    def is_mounted_as(self, identity: str) -> bool:
        """Return whether the filesystem of a UUID is mounted on the directory."""
        return is_mounted(self._entry.target) and identity_of(self._entry.target) == identity

    @contextlib.contextmanager
    def staged(self) -> Iterator[str]:
        """Mount the volume where only root can enter it, and yield that path."""
        state.make_volatile()
        os.makedirs(STAGING, exist_ok=True)
        run("mount", "-t", self._entry.fstype, self._entry.source, STAGING)
        try:
            yield STAGING
        finally:
            run("umount", STAGING)

    def set_apart(self) -> None:
        """Move what is on the volume to a directory of its own, where it is not in the way of a later move."""
        with self.staged() as volume:
            left = Path(volume, LEFT)
            left.mkdir(mode=0o700, exist_ok=True)
            number = 1 + sum(1 for _ in left.iterdir())
            (left / str(number)).mkdir()
            for name in os.listdir(volume):
                if name not in KEPT:
                    os.rename(f"{volume}/{name}", left / str(number) / name)
            for directory in (left / str(number), left, volume):
                sync_directory(str(directory))


def unmount_staged() -> None:
    """Unmount the volume where a move that was interrupted has mounted it."""
    if is_mounted(STAGING):
        run("umount", STAGING)


def identity_of(mount: str) -> str:
    """Return the UUID of the filesystem that is mounted on a path; empty if it has none, such as ZFS or an overlay."""
    lines = run("findmnt", "--noheadings", "--output", "UUID", "--mountpoint", mount).splitlines()
    return "".join(lines[-1:]).strip()
