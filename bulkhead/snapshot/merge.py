"""Have LVM merge a snapshot into Docker's volume: the volume's content becomes the snapshot's."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from bulkhead.command import run
from bulkhead.errors import Failed
from bulkhead.names import SNAPSHOT_TAG
from bulkhead.storage import lvm

if TYPE_CHECKING:
    from bulkhead.config import Config

PATIENCE = 15  # seconds that somebody may hold the volume open, or LVM's lock
NO_WAIT = ("--config", "global/wait_for_locks=0")  # otherwise LVM waits for its lock without limit, with Docker down
_INTERVAL = 1  # seconds between two attempts


class Merge:
    """The merge of a snapshot into Docker's volume."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._name = f"{config.vg_name}/{config.logical_volume}"

    def opened(self) -> list[str]:
        """Return the names of the volume and its snapshots that somebody has open.

        Raises:
            OSError: LVM does not answer.
        """
        return [
            volume.name
            for volume in lvm.list_volumes(self._config.vg_name)
            if volume.is_open
            and (
                volume.name == self._config.logical_volume
                or (SNAPSHOT_TAG in volume.tags and volume.origin == self._config.logical_volume)
            )
        ]

    def request(self, snapshot: str) -> None:
        """Have LVM merge a snapshot, now or, if the volume is open, when it is next activated. There is no way back.

        Args:
            snapshot: its name.

        Raises:
            Failed: LVM refuses.
        """
        self._change("lvconvert", "--merge", "--background", f"{self._config.vg_name}/{snapshot}")

    def has_begun(self) -> bool:
        """Return whether the volume shows the snapshot's content, for a merge that was requested.

        Raises:
            OSError: LVM does not answer.
        """
        volume = next(v for v in lvm.list_volumes(self._config.vg_name) if v.name == self._config.logical_volume)
        return not volume.is_merging or volume.percent is not None

    def wait_until_begun(self) -> None:
        """Have LVM begin a merge that was requested. Somebody may have opened the volume at just that moment.

        Raises:
            Failed: it has not begun.
            OSError: LVM does not answer.
        """
        deadline = time.monotonic() + PATIENCE
        while not self.has_begun():
            if time.monotonic() > deadline:
                raise Failed("something has the volume or its snapshot open: LVM restores the volume when it is closed")
            time.sleep(_INTERVAL)
            with contextlib.suppress(Failed):  # another command has LVM's lock
                run("lvchange", "--refresh", *NO_WAIT, self._name)

    def resume(self) -> None:
        """Have LVM finish a merge that a reboot interrupted.

        Raises:
            Failed: LVM refuses.
        """
        self._change("lvchange", "--poll", "y", self._name)

    def _change(self, *command: str) -> None:
        """Run a command of LVM, and wait for a while if another one has LVM's lock.

        Raises:
            Failed: LVM refuses, or its lock does not become free.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                run(*command[:-1], *NO_WAIT, command[-1])
                return
            except Failed:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_INTERVAL)
