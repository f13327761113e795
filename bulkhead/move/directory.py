"""A directory moves onto an extra volume: copied as it is used, looked at once more while nobody can write, switched.

As with Docker's stores the old tree stays beneath the mount, and the rename of an fstab that has the volume's line
commits. There is nothing to start again: before the rename the old tree is what is used, after it the volume. The next
run goes on from either.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.command import run
from bulkhead.errors import Failed, in_words
from bulkhead.files import is_within
from bulkhead.move import rsync
from bulkhead.names import move_journal
from bulkhead.outage import journal
from bulkhead.outage.journal import Journal
from bulkhead.procfs import Login, Process, boot_time, users_of
from bulkhead.sizes import human
from bulkhead.storage.beneath import empty_beneath, refuse_changed
from bulkhead.storage.fstab import read_fstab, replace_fstab
from bulkhead.storage.mounts import bound_elsewhere, is_mounted, kernel_uses, mount_by_fstab, mounts_within
from bulkhead.text import count
from pyinfra_lvm.fstab import fstab_lists, fstab_with, fstab_without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyinfra_lvm.fstab import FstabEntry

STAGING = f"{state.VOLATILE}/volume"  # for root alone: whatever the mode of the directory that is copied, nobody looks
_LOST_AND_FOUND = "lost+found"
_LEFT = ".bulkhead-left"  # where a rollback puts what is on the volume
_CLOCK_GRAIN = 0.05  # seconds; a filesystem's clock is behind the system's by a tick of the kernel (10 ms at most)
_BEGUN = (journal.COPYING, journal.SWITCHING, journal.FAILED)  # what is on the volume is a copy, which nobody has used


class DirectoryMove:
    """The move of one directory onto its volume.

    Args:
        entry: the line of fstab that mounts the volume there.
        say: is told what happens, a line each.
        login: of those who asked for the move; it may stand in the directory.
    """

    stops = "Nothing is stopped: whoever uses the directory keeps it from going back."

    def __init__(self, entry: FstabEntry, say: Callable[[str], None], login: Login) -> None:
        self.path = entry.target
        self._entry = entry
        self._say = say
        self._login = login
        self.journal = Journal.load(move_journal(self.path))

    # -- where it stands

    @property
    def is_committed(self) -> bool:
        """fstab mounts the volume there."""
        return fstab_lists(read_fstab(), self._entry)

    @property
    def is_pending(self) -> bool:
        """There is something to move, or a move to end."""
        if self.journal.phase in (journal.SWITCHING, journal.RETURNING):
            return True
        return (
            not self.is_committed
            and os.path.isdir(self.path)
            and not is_mounted(self.path)
            and bool(os.listdir(self.path))
        )

    def outcome(self) -> str:
        """Where the directory is, in a sentence."""
        if self.is_committed:
            return f"{self.path} is on its volume{'; the old tree is kept' if self.journal.old else ''}."
        return f"{self.path} is on its old data."

    # -- the move

    def relocate(self) -> None:
        """Move the directory.

        Raises:
            Failed: it could not be moved, and is what it was.
        """
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
        if self.is_committed:
            mount_by_fstab(self.path)
            return
        old = rsync.size_of(self.path)
        with self._staged() as volume:
            self._prepare(volume, old)
            began, suspects = self._copy(volume, old)
            with self._frozen() as since:
                self._refuse_users()
                self._copy_difference(volume, began, suspects)
                old_tree = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                self.journal.enter(journal.SWITCHING, switched=since)
                self._say(f"switching {self.path} to its volume")
                replace_fstab(lambda text: fstab_with(text, self._entry))
                time.sleep(2 * _CLOCK_GRAIN)  # our own last change of the volume is told from others' by its time
            try:
                self._mount_over(old_tree, volume, since)
            finally:
                os.close(old_tree)

    def recover(self) -> None:
        """End what was killed, or cut: the directory is writable, and on what fstab says."""
        if self.journal.phase == journal.RETURNING:
            if self.is_committed:
                self.journal.enter(journal.DONE)  # the rollback had not begun, and the volume has been used since
            else:
                self._unmount()
                self._put_aside()
        if self.journal.phase in (journal.COPYING, journal.SWITCHING):
            while self._is_of_this_boot and is_mounted(self.path) and not self._is_on_volume():
                run("umount", "--lazy", self.path)  # it was held read-only
            if self.journal.phase == journal.SWITCHING:
                self._recover_switch()
        if is_mounted(STAGING):
            run("umount", STAGING)

    def _recover_switch(self) -> None:
        if not self.is_committed:
            self.journal.enter(journal.FAILED, reason="it was cut")
        elif self._is_on_volume():
            self.journal.enter(journal.DONE)
        elif self._is_of_this_boot:
            self._uncommit()  # the old tree is in use, and the volume has not been
        # Else the volume has been used since an earlier boot, and is not there in this one.

    @property
    def _is_of_this_boot(self) -> bool:
        """Whether the journal's phase began since the host was booted."""
        return self.journal.since > boot_time()

    def _prepare(self, volume: str, old: int) -> None:
        there = [name for name in os.listdir(volume) if name not in (_LOST_AND_FOUND, _LEFT)]
        identity = self._identity(volume)
        begun = self.journal.phase in _BEGUN and self.journal.volume == identity
        if there and not begun:
            raise Failed(
                f"{self.path} and its volume {self._entry.source} both hold data, and what is on the volume is no copy of "
                "ours: look at what is there and move one of them away"
            )
        if os.path.isdir(f"{self.path}/{_LOST_AND_FOUND}") and os.listdir(f"{self.path}/{_LOST_AND_FOUND}"):
            raise Failed(f"{self.path}/{_LOST_AND_FOUND} holds files: look at what they are and move them")
        if os.path.lexists(f"{self.path}/{_LEFT}"):
            raise Failed(f"{self.path}/{_LEFT} is what a rollback has left on another volume: move it away")
        if mounts := mounts_within([self.path]):
            raise Failed(f"{mounts[0].target} is a mount in {self.path}: unmount it for the move")
        space = os.statvfs(volume)
        free = space.f_bavail * space.f_frsize + sum(rsync.size_of(f"{volume}/{name}") for name in there)
        if free < old:
            raise Failed(f"{self.path} takes {human(old)}, and its volume has {human(free)} for it")
        self.journal.enter(journal.COPYING, volume=identity, old={self.path: old})

    def _copy(self, volume: str, old: int) -> tuple[float, set[str]]:
        began = rsync.moment()
        self._say(f"copying {self.path}, {human(old)}")
        rsync.copy(self.path, volume, rsync.progress(self._say, old), _KEPT, polite=True)
        self._say(f"verifying {self.path} on the disk")
        return began, rsync.compare(self.path, volume, _KEPT)

    def _refuse_users(self) -> None:
        """Nobody may stand in the directory but our own login, and that must not write."""
        users = [user for user in users_of([self.path]) if user.writes or not self._login.includes(user.pid)]
        if others := [*map(str, users), *bound_elsewhere(self.path, readers=True), *kernel_uses(self.path)]:
            raise Failed(f"{self.path} is in use: {', '.join(others[:10])}. End them, or log them out, and run again")

    def _copy_difference(self, volume: str, began: float, suspects: set[str]) -> None:
        files = rsync.to_be_verified(self.path, began, suspects, _KEPT)
        self._say(f"copying the difference in {self.path}: {count(len(files), 'file')}")
        rsync.distrust(volume, files)
        rsync.copy(self.path, volume, lambda *_: None, _KEPT)
        rsync.verify(self.path, volume, files, _KEPT)

    def _mount_over(self, old_tree: int, volume: str, since: float) -> None:
        """The volume in its place. What somebody did to the old tree in this very moment undoes it.

        Args:
            old_tree: a descriptor of it.
            volume: where it is mounted beside.
            since: nothing of the old tree has changed from this moment on.
        """
        began = time.time() - _CLOCK_GRAIN
        try:
            run("mount", self.path)  # by fstab, and at once
            mount_by_fstab(self.path)
        except Failed:
            self._uncommit()
            raise
        late = [entry.name for entry in rsync.changed(f"/proc/self/fd/{old_tree}/.", since, _KEPT)]
        standing = [user for user in users_of([self.path]) if self._is_beneath(user, old_tree)]
        late += [str(user) for user in standing if user.writes or not self._login.includes(user.pid)]
        if late:
            found = f"{', '.join(late[:5])} came to the old files of {self.path} as it was switched"
            if any(rsync.changed(volume, began, _KEPT)):
                self.journal.enter(journal.DONE, reason=f"{found}: what they wrote is beneath the volume")
                raise Failed(f"{found}, and others wrote to the volume already: nothing is lost, but in two places")
            self._uncommit()
            raise Failed(f"{found}: run again")
        if standing:
            self._say(f"your own login still stands in the old files of {self.path}: log in again")

    def _is_beneath(self, user: Process, old_tree: int) -> bool:
        """Whether a process uses the old tree, and not what is mounted over it."""
        return os.fstat(old_tree).st_dev in user.devices

    def _uncommit(self) -> None:
        """The old tree again. The volume is a copy that nobody has used."""
        self._unmount()
        self.journal.enter(journal.FAILED)

    def _unmount(self) -> None:
        replace_fstab(lambda text: fstab_without(text, self.path))
        while is_mounted(self.path):
            run("umount", "--lazy", self.path)  # our own login may stand in it
        run("systemctl", "daemon-reload")

    def _is_on_volume(self) -> bool:
        """Whether the volume that the files were copied to is mounted there."""
        return is_mounted(self.path) and self._identity(self.path) == self.journal.volume

    def _identity(self, mount: str) -> str:
        return run("findmnt", "--noheadings", "--output", "UUID", "--mountpoint", mount).split()[-1]

    # -- afterwards

    def written_since(self) -> list[str]:
        """What a rollback would leave behind on the volume, in words."""
        files = rsync.changed_files(self.path, self.journal.since, _KEPT)
        return [f"{self.path}: {count(len(files), 'file')} written since the move"]

    def roll_back(self) -> None:
        """Use the old tree again. What is on the volume stays there, in a directory of its own.

        Raises:
            Failed: there is no old tree, or somebody uses the directory.
        """
        if self.journal.phase != journal.DONE:
            raise Failed(f"there is no way back: {self.outcome()}")
        self._refuse_users()
        self.journal.enter(journal.RETURNING)
        self._unmount()
        self._put_aside()

    def _put_aside(self) -> None:
        """What is on the volume stays there, but is not in the way of a later move."""
        with self._staged() as volume:
            aside = Path(volume, _LEFT)
            aside.mkdir(mode=0o700, exist_ok=True)
            number = 1 + sum(1 for _ in aside.iterdir())
            (aside / str(number)).mkdir()
            for name in os.listdir(volume):
                if name not in (_LOST_AND_FOUND, _LEFT):
                    os.rename(f"{volume}/{name}", aside / str(number) / name)
        self.journal.enter(journal.ROLLED_BACK, old={})

    def finalize(self, *, force: bool = False) -> None:
        """Remove the old tree, but for what a login needs where the volume cannot be mounted.

        Args:
            force: also what was written there since the move.

        Raises:
            Failed: the volume is not mounted, there is no old tree, or it has been used since.
        """
        if self.journal.phase == journal.FINALIZED:
            return
        if self.journal.phase not in (journal.DONE, journal.FINALIZING):
            raise Failed(f"there is nothing to finalize: {self.outcome()}")
        if not (self.is_committed and self._is_on_volume()):
            raise Failed(f"{self.path} is not mounted from the volume that it was moved to; nothing was removed")
        if self.journal.phase == journal.DONE and not force:
            refuse_changed(self.path, self.journal.switched)
        self.journal.enter(journal.FINALIZING)
        self._say(f"removing the old tree beneath {self.path}, {human(sum(self.journal.old.values()))}")
        empty_beneath(self.path, keep=list(_login_files(self.path)))
        self.journal.enter(journal.FINALIZED, old={})

    # -- pieces

    @contextlib.contextmanager
    def _staged(self) -> Iterator[str]:
        """The volume, mounted where nobody looks."""
        state.make_volatile()
        os.makedirs(STAGING, exist_ok=True)
        run("mount", "-t", self._entry.fstype, self._entry.source, STAGING)
        try:
            yield STAGING
        finally:
            run("umount", STAGING)

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[float]:
        """The directory, read-only for everybody who opens something of it from now on: since when."""
        run("mount", "--bind", self.path, self.path)
        try:
            run("mount", "-o", "remount,bind,ro", self.path)
            yield time.time()
        finally:
            # Lazy: whoever has come meanwhile keeps what he opened, and does not keep the directory read-only.
            run("umount", "--lazy", self.path)


_KEPT = frozenset({_LOST_AND_FOUND, _LEFT})  # on the volume: neither copied nor removed


def _login_files(path: str) -> Iterator[str]:
    """The keys that let the accounts log in whose homes are in a directory."""
    for account in pwd.getpwall():
        if is_within(account.pw_dir, [path]):
            for name in ("authorized_keys", "authorized_keys2"):
                if os.path.isfile(file := f"{account.pw_dir}/.ssh/{name}"):
                    yield file
