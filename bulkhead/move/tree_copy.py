"""Copy a tree that is in use: the bulk first, and what has changed since when nobody writes any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead.move import rsync
from bulkhead.sizes import human
from bulkhead.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class TreeCopy:
    """One copy of a tree.

    Args:
        source: the tree.
        target: the directory that becomes its copy.
        say: receives each line that reports progress.
    """

    def __init__(self, source: str, target: str, say: Callable[[str], None]) -> None:
        self._source = source
        self._target = target
        self._say = say
        self._began = 0.0  # seconds since the epoch
        self._suspects: set[str] = set()  # files that differed from their copies, and were copied again unverified

    def copy_bulk(self, size: int, exclude: Collection[str] = (), note: str = "") -> None:
        """Copy the tree while it is in use, and compare the copy with it.

        Args:
            size: bytes of the tree.
            exclude: directories, relative to the tree, that are neither copied nor removed.
            note: what else to report, as a part of a sentence.

        Raises:
            CopyError: rsync failed.
        """
        self._began = rsync.moment()
        self._say(f"copying {self._source}, {human(size)}{note}")
        rsync.copy(self._source, self._target, rsync.progress(self._say, size), exclude, polite=True)
        self._say(f"verifying {self._source} on the disk")
        self._suspects = rsync.compare(self._source, self._target, exclude)

    def is_verified(self, directory: str) -> bool:
        """Return whether no file of a directory, relative to the tree, differed from its copy."""
        return not any(name.startswith(f"{directory}/") for name in self._suspects)

    def copy_difference(self, exclude: Collection[str]) -> None:
        """Copy what has changed since the bulk was copied, and verify it. Nobody writes to the tree any more.

        Args:
            exclude: directories, relative to the tree, that are neither copied, nor removed, nor verified.

        Raises:
            CopyError: rsync failed, or something does write.
        """
        files = rsync.to_be_verified(self._source, self._began, self._suspects, exclude)
        self._say(f"copying the difference in {self._source}: {count(len(files), 'file')}")
        rsync.distrust(self._target, files)
        rsync.copy(self._source, self._target, lambda *_: None, exclude)
        rsync.verify(self._source, self._target, files, exclude)
