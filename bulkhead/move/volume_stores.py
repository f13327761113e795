"""The directories of Docker's stores on the volume.

A store is copied to NAME.moving. The complete copy is renamed to NAME, so NAME never holds half a copy. Each NAME has a
marker: Docker does not start without it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead.errors import Failed
from bulkhead.files import sync_directory
from bulkhead.names import MARKER
from bulkhead.storage.volume import mark

if TYPE_CHECKING:
    from collections.abc import Container

    from bulkhead.config import Config


class VolumeStores:
    """The stores' directories on the volume. A store is named by its path, where Docker uses it."""

    def __init__(self, config: Config) -> None:
        self._volume = config.volume_mount
        self._names = {path: name for name, path in config.stores.items()}

    def place_of(self, path: str) -> str:
        """Return the directory on the volume that is mounted on a store's path."""
        return f"{self._volume}/{self._names[path]}"

    def copy_of(self, path: str) -> str:
        """Return the directory that a store is copied to."""
        return f"{self.place_of(path)}.moving"

    def copies(self) -> list[str]:
        """Return the directories that the stores are copied to."""
        return [self.copy_of(path) for path in self._names]

    def refuse_foreign_volume(self) -> None:
        """Refuse another filesystem in the volume's place.

        Raises:
            Failed: what is mounted there has no marker.
            OSError: it cannot be read.
        """
        marker = Path(self._volume, MARKER)
        try:
            marker.stat()
        except FileNotFoundError:
            text = f"{self._volume} is not Docker's volume: {marker} is missing. See what is mounted there"
            raise Failed(text) from None

    def refuse_unknown_data(self, begun: Container[str]) -> None:
        """Refuse data on the volume that is not our copy.

        Args:
            begun: stores that an earlier move has begun to copy.

        Raises:
            Failed: there is such data.
        """
        for path in self._names:
            for target in (self.place_of(path), *(() if path in begun else (self.copy_of(path),))):
                if _holds_data(target):
                    raise Failed(f"{target} is not empty, and not our copy. See what it holds, and move it away")

    def put_in_place(self, moved: Container[str]) -> None:
        """Rename the complete copies of these stores: NAME.moving becomes NAME."""
        for path in self._names:
            if path in moved:
                mark(self.copy_of(path))
                Path(self.place_of(path), MARKER).unlink(missing_ok=True)
                os.rename(self.copy_of(path), self.place_of(path))  # replaces an empty directory
        sync_directory(self._volume)

    def take_back(self, moved: Container[str]) -> None:
        """Turn stores that Docker was never started on into copies again, so that nobody takes them for Docker's data."""
        for path in self._names:
            copy, place = self.copy_of(path), self.place_of(path)
            if path in moved and not os.path.exists(copy) and _holds_data(place):
                os.rename(place, copy)
                os.mkdir(place, 0o711)
        sync_directory(self._volume)

    def set_apart(self) -> None:
        """Rename stores that Docker has written to: to NAME.left-1 and so on. Only people remove them."""
        for path in self._names:
            place, number = self.place_of(path), 1
            while os.path.exists(left := f"{place}.left-{number}"):
                number += 1
            if os.path.exists(place):
                os.rename(place, left)
        sync_directory(self._volume)


def _holds_data(place: str) -> bool:
    return os.path.isdir(place) and any(name != MARKER for name in os.listdir(place))
