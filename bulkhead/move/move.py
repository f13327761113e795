"""The parts that every move shares: whether a rollback is possible, the removal of the old data, the check for room.

After a move the old data is kept beneath the mount, until `finalize` removes it.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from bulkhead.errors import Failed
from bulkhead.move import rsync
from bulkhead.outage import journal
from bulkhead.sizes import human
from bulkhead.storage.beneath import empty_beneath, refuse_changed
from bulkhead.storage.space import space_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bulkhead.outage.journal import Journal


LEFT_ON_VOLUME = "Data written since the move stays on the volume, set apart."


class Move(ABC):
    """One move of data onto a volume.

    Args:
        journal: the move's.
        say: receives each line that reports progress.
    """

    path: str  # the directory that is moved, as it is named on a command line
    stops: str  # sentences that say what a rollback stops, and leaves behind

    def __init__(self, journal: Journal, say: Callable[[str], None]) -> None:
        self.journal = journal
        self._say = say

    # -- where it stands

    @property
    @abstractmethod
    def is_pending(self) -> bool:
        """Whether there is something to move, or a move to finish or undo."""

    @property
    @abstractmethod
    def is_on_volume(self) -> bool:
        """Whether fstab has the volume, and the volume is mounted."""

    @abstractmethod
    def outcome(self) -> str:
        """Return where the data is, in a sentence."""

    # -- there, and back

    @abstractmethod
    def relocate(self) -> None:
        """Move the data onto the volume.

        Raises:
            Failed: the data was not moved. It is in use where it was.
        """

    @abstractmethod
    def recover(self) -> None:
        """Finish or undo a move that was interrupted."""

    @abstractmethod
    def written_since(self) -> list[str]:
        """Describe the data that a rollback would leave behind on the volume."""

    @abstractmethod
    def roll_back(self) -> None:
        """Use the old data again. The data on the volume stays there, set apart.

        Raises:
            Failed: there is no old data, or somebody uses the data on the volume.
        """

    def keep_reason(self, reason: str) -> None:
        """Keep in the journal why a move failed before it began. The phase stays: nothing has changed."""
        if self.journal.phase in journal.UNFINISHED:
            return  # its reason is why it goes back
        self.journal.reason = reason
        with contextlib.suppress(OSError):  # a full disk does not hide the reason from who waits for the move
            self.journal.save()

    def refuse_impossible_rollback(self) -> None:
        """Refuse a rollback unless a move has ended and its old data is kept.

        Raises:
            Failed: there is nothing to go back to.
        """
        if self.journal.phase != journal.DONE:
            raise Failed(f"no rollback is possible: {self.outcome()}")

    # -- the old data

    def finalize(self, *, force: bool = False) -> None:
        """Remove the old data. After that a rollback is no longer possible.

        Args:
            force: also remove what was written to the old data since the move.

        Raises:
            Failed: the volume is not mounted, there is no old data, it has been changed since the move, or it cannot
                be removed.
        """
        if self.journal.phase == journal.FINALIZED:
            return
        if self.journal.phase not in (journal.DONE, journal.FINALIZING):
            raise Failed(f"there is nothing to finalize: {self.outcome()}")
        if not self.is_on_volume:
            raise Failed(f"the volume is not mounted on {' and '.join(self._directories())}; nothing was removed")
        if self.journal.phase == journal.DONE and not force:
            for path in self.journal.old or self._directories():
                refuse_changed(path, self.journal.switched)
        self.journal.enter(journal.FINALIZING)
        for path in self._directories():
            self._say(f"removing the old data beneath {path}, {human(self.journal.old.get(path, 0))}")
            empty_beneath(path, keep=self._kept_beneath(path))
        self.journal.enter(journal.FINALIZED, old={}, before={})
        self._say("the old data has been removed")

    @abstractmethod
    def _directories(self) -> Sequence[str]:
        """Return the directories that the volume is mounted on."""

    def _kept_beneath(self, path: str) -> Sequence[str]:
        """Return the files of the old data that `finalize` keeps."""
        del path
        return ()


def refuse_too_little_room(volume: str, needed: int, begun: Iterable[str], advice: str = "") -> None:
    """Refuse a copy that does not fit on a volume.

    Args:
        volume: where it is mounted.
        needed: bytes of the copy.
        begun: copies of an interrupted move, which the copy replaces.
        advice: a sentence that says what to do.

    Raises:
        Failed: it does not fit.
    """
    free = space_of(volume).available + sum(map(rsync.size_of, begun))
    if free < needed:
        raise Failed(f"the data takes {human(needed)}, and its volume has {human(free)} for it. {advice}".rstrip())
