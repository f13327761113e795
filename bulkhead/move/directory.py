"""Move a directory onto an extra volume: copy it while it is in use, freeze it for the last comparison, and switch.

As with Docker's stores, the old data stays beneath the mount, and the rename of an fstab with the volume's line commits
the move. Nothing is stopped and started. Before the rename the old data is in use, and after it the volume. The next
run continues from either.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from typing import TYPE_CHECKING

from bulkhead.command import run
from bulkhead.errors import Failed, in_words
from bulkhead.files import is_within
from bulkhead.move import rsync
from bulkhead.move.directory_volume import KEPT, LEFT, LOST_AND_FOUND, DirectoryVolume, identity_of, unmount_staged
from bulkhead.move.move import LEFT_ON_VOLUME, Move, refuse_too_little_room
from bulkhead.move.tree_copy import TreeCopy
from bulkhead.names import move_journal
from bulkhead.outage import journal
from bulkhead.outage.journal import Journal
from bulkhead.procfs import boot_id
from bulkhead.storage.mounts import bound_elsewhere, is_mounted, kernel_uses, mount_by_fstab, mounts_within
from bulkhead.storage.processes import Process, users_of
from bulkhead.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bulkhead.login import Login
    from pyinfra_lvm.fstab import FstabEntry

_CLOCK_GRAIN = 0.05  # seconds; a filesystem's clock lags the system's by at most one tick of the kernel (10 ms)
_BEGUN = (journal.COPYING, journal.SWITCHING, journal.FAILED)  # the volume holds a copy that nobody has used
_USERS_SHOWN, _FILES_SHOWN = 10, 5


class DirectoryMove(Move):
    """The move of one directory onto its volume.

    Args:
        entry: the line of fstab that mounts the volume on the directory.
        say: receives each line that reports progress.
        login: of those who asked for the move. Its processes may have their working directory in the directory.
    """

    stops = f"Nothing is stopped. The rollback is refused while anybody uses the directory. {LEFT_ON_VOLUME}"

    def __init__(self, entry: FstabEntry, say: Callable[[str], None], login: Login) -> None:
        super().__init__(Journal.load(move_journal(entry.target)), say)
        self.path = entry.target
        self._volume = DirectoryVolume(entry)
        self._login = login

    # -- where it stands

    @property
    def is_pending(self) -> bool:
        if self.journal.phase in (journal.SWITCHING, journal.RETURNING):
            return True
        return (
            not self._volume.is_committed
            and os.path.isdir(self.path)
            and not is_mounted(self.path)
            and bool(os.listdir(self.path))
        )

    @property
    def is_on_volume(self) -> bool:
        return self._volume.is_committed and self._is_mounted()

    def outcome(self) -> str:
        if self._volume.is_committed:
            return f"{self.path} is on its volume{'; the old data is kept' if self.journal.old else ''}."
        return f"{self.path} is on its old data."

    def _is_mounted(self) -> bool:
        """Return whether the volume that the files were copied to is mounted on the directory."""
        return self._volume.is_mounted_as(self.journal.volume)

    def _is_of_this_boot(self) -> bool:
        """Return whether the journal's phase began since the host booted."""
        return self.journal.boot == boot_id()

    def _directories(self) -> list[str]:
        return [self.path]

    def _kept_beneath(self, path: str) -> list[str]:
        return [*_login_files(path)]

    # -- the move

    def relocate(self) -> None:
        self.recover()
        try:
            self._relocate()
        except (Failed, rsync.CopyError, OSError) as error:
            self.journal.reason = in_words(error)
            if self.journal.phase == journal.COPYING:
                self.journal.phase = journal.FAILED
            self.journal.save()
            raise Failed(f"{self.journal.reason}. {self.outcome()}") from error
        self.journal.enter(journal.DONE, reason="")
        self._say(f"{self.path} is on its volume")

    def _relocate(self) -> None:
        if self._volume.is_committed:
            mount_by_fstab(self.path)
            return
        size = rsync.size_of(self.path)
        with self._volume.staged() as volume:
            self._prepare(volume, size)
            copy = TreeCopy(self.path, volume, self._say)
            copy.copy_bulk(size, KEPT)
            with self._frozen() as since:
                self._refuse_users()
                copy.copy_difference(KEPT)
                old_tree = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                self.journal.enter(journal.SWITCHING, switched=since)
                self._say(f"switching {self.path} to its volume")
                self._volume.commit()
                time.sleep(2 * _CLOCK_GRAIN)  # from here on, a change of the volume is not our own: its time is later
            try:
                self._mount_over(old_tree, volume, since)
            finally:
                os.close(old_tree)

    def _prepare(self, volume: str, size: int) -> None:
        """Refuse what the move cannot handle, and begin it.

        Args:
            volume: where the volume is mounted for the copy.
            size: bytes of the directory.

        Raises:
            Failed: files are in the way, something is mounted in the directory, or the volume has too little room.
        """
        found = [name for name in os.listdir(volume) if name not in KEPT]
        identity = identity_of(volume)
        begun = self.journal.phase in _BEGUN and self.journal.volume == identity
        if found and not begun:
            raise Failed(
                f"{self.path} and its volume {self._volume.device} both hold data, and what is on the volume is not our "
                "copy. See what both hold, and move one of them away"
            )
        if os.path.isdir(f"{self.path}/{LOST_AND_FOUND}") and os.listdir(f"{self.path}/{LOST_AND_FOUND}"):
            raise Failed(f"{self.path}/{LOST_AND_FOUND} holds files. See what they are, and move them away")
        if os.path.lexists(f"{self.path}/{LEFT}"):
            raise Failed(f"{self.path}/{LEFT} is from a rollback on another volume. Move it away")
        if mounts := mounts_within([self.path]):
            raise Failed(f"{mounts[0].target} is a mount in {self.path}. Unmount it for the move")
        refuse_too_little_room(volume, size, [f"{volume}/{name}" for name in found])
        self.journal.enter(journal.COPYING, volume=identity, old={self.path: size})

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[float]:
        """Make the directory read-only for every file that is opened from now on, and yield since when it is."""
        run("mount", "--bind", self.path, self.path)
        try:
            run("mount", "-o", "remount,bind,ro", self.path)
            yield time.time()
        finally:
            # Lazily: who has opened a file meanwhile keeps it, and does not keep the directory read-only.
            run("umount", "--lazy", self.path)

    def _refuse_users(self) -> None:
        """Refuse everybody who uses the directory, but for our own login, as long as it does not write.

        Raises:
            Failed: somebody uses it.
        """
        users = [user for user in users_of([self.path]) if self._is_refused(user)]
        if others := [*map(str, users), *bound_elsewhere(self.path, readers=True), *kernel_uses(self.path)]:
            shown = ", ".join(others[:_USERS_SHOWN])
            raise Failed(f"{self.path} is in use: {shown}. End them, or log them out, and run again")

    def _is_refused(self, user: Process) -> bool:
        return user.writes or not self._login.includes(user.pid)

    def _mount_over(self, old_tree: int, volume: str, since: float) -> None:
        """Mount the volume on the directory. If somebody has used the old data during the switch, undo the switch.

        Args:
            old_tree: a file descriptor of the directory with the old data.
            volume: where the volume is mounted for the copy.
            since: when the old data was frozen.

        Raises:
            Failed: the volume cannot be mounted, or somebody has used the old data.
        """
        began = time.time() - _CLOCK_GRAIN
        try:
            run("mount", self.path)  # at once, and from fstab
            mount_by_fstab(self.path)
        except Failed as failed:
            self._undo_switch_unless_used(volume, began, in_words(failed))
            raise
        late = [entry.name for entry in rsync.changed(f"/proc/self/fd/{old_tree}/.", since, KEPT)]
        standing = [user for user in users_of([self.path]) if os.fstat(old_tree).st_dev in user.devices]
        late += [str(user) for user in standing if self._is_refused(user)]
        if late:
            found = f"{', '.join(late[:_FILES_SHOWN])} appeared in the old data of {self.path} during the switch"
            self._undo_switch_unless_used(volume, began, f"{found}: what they wrote is beneath the volume")
            raise Failed(f"{found}: run again")
        if standing:
            self._say(f"your own login is still in the old data of {self.path}: log in again")

    def _undo_switch_unless_used(self, volume: str, began: float, problem: str) -> None:
        """Undo the switch, unless somebody has written to the volume: the next move would remove that.

        Args:
            volume: where the volume is mounted for the copy.
            began: since when a change of the volume is not our own, in seconds since the epoch.

        Raises:
            Failed: somebody has written to it. It stays mounted.
        """
        if any(rsync.changed(volume, began, KEPT)):
            self.journal.enter(journal.DONE)
            raise Failed(f"{problem}. Others wrote to the volume already: it stays mounted, and nothing is lost")
        self._undo_switch()

    def _undo_switch(self) -> None:
        """Use the old data again. The volume holds a copy that nobody has used."""
        self._volume.take_away()
        self.journal.enter(journal.FAILED)

    # -- after a failure, a kill, a power cut

    def recover(self) -> None:
        """Finish or undo a move that was interrupted: the directory is writable, and on what fstab names."""
        if self.journal.phase == journal.RETURNING:
            if self._volume.is_committed:
                self.journal.enter(journal.DONE)  # the rollback had not begun, and the volume has been in use since
            else:
                self._go_back()
        if self.journal.phase in (journal.COPYING, journal.SWITCHING):
            while self._is_of_this_boot() and is_mounted(self.path) and not self._is_mounted():
                run("umount", "--lazy", self.path)  # the mount that froze it
            if self.journal.phase == journal.SWITCHING:
                self._recover_switch()
        unmount_staged()

    def _recover_switch(self) -> None:
        if not self._volume.is_committed:
            self.journal.enter(journal.FAILED, reason="it was interrupted")
        elif self._is_mounted():
            self.journal.enter(journal.DONE)
        elif self._is_of_this_boot():
            self._undo_switch()  # the old data is in use, and the volume has not been
        # Otherwise the volume has been in use since an earlier boot, and is missing in this one.

    # -- afterwards

    def written_since(self) -> list[str]:
        files = rsync.changed_files(self.path, self.journal.since, KEPT)
        return [f"{self.path}: {count(len(files), 'file')} written since the move"]

    def roll_back(self) -> None:
        """Use the old data again. What is on the volume stays there, in a directory of its own.

        Raises:
            Failed: there is no old data, or somebody uses the directory.
        """
        self.refuse_impossible_rollback()
        self._refuse_users()
        self.journal.enter(journal.RETURNING)
        self._go_back()

    def _go_back(self) -> None:
        self._volume.take_away()
        try:
            self._volume.set_apart()
        except (Failed, OSError) as error:  # the volume is lost, or fails. The next move refuses what it finds there
            self._say(f"what is on the volume could not be set apart: {in_words(error)}")
        self.journal.enter(journal.ROLLED_BACK, old={})


def _login_files(path: str) -> Iterator[str]:
    """Yield the keys of the accounts whose homes are in a directory: without them nobody could log in."""
    for account in pwd.getpwall():
        if is_within(home := os.path.normpath(account.pw_dir), [path]):
            for name in ("authorized_keys", "authorized_keys2"):
                if os.path.isfile(file := f"{home}/.ssh/{name}"):
                    yield file
