"""A directory moves onto an extra volume: copied as it is used, looked at once more while nobody can write, switched.

As with Docker's stores the old tree stays beneath the mount, and the rename of an fstab that has the volume's line
commits. There is nothing to start again, so nothing has to be recovered: before the rename the old tree is what is
used, after it the volume. The next run goes on from either.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bulkhead import copying, journal
from bulkhead.journal import Journal
from bulkhead.system import (
    Failed,
    Login,
    bound_elsewhere,
    count,
    empty_beneath,
    in_words,
    is_within,
    mount_by_fstab,
    mounts_within,
    read_fstab,
    replace_fstab,
    run,
    users_of,
)
from pyinfra_lvm.fstab import fstab_lists, fstab_with, fstab_without
from pyinfra_lvm.model import FstabEntry
from sizes import human

STAGING = "/run/bulkhead/volume"
_LOST_AND_FOUND = "lost+found"
_LEFT = "left"  # where a rollback puts what is on the volume


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
        self.journal = Journal.load(journal.path_for(self.path))

    # -- where it stands

    @property
    def is_committed(self) -> bool:
        """fstab mounts the volume there."""
        return fstab_lists(read_fstab(), self._entry)

    @property
    def is_pending(self) -> bool:
        """There is something to move, or a move to end."""
        if self.is_committed:
            return self.journal.phase == journal.SWITCHING
        return os.path.isdir(self.path) and not os.path.ismount(self.path) and bool(os.listdir(self.path))

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
        try:
            self._relocate()
        except (Failed, copying.CopyError, OSError) as error:
            self.journal.reason = in_words(error)
            self.journal.save()
            raise Failed(f"{self.journal.reason}. {self.outcome()}") from error
        self.journal.enter(journal.DONE, reason="")
        self._say(f"{self.path} is on its volume")

    def _relocate(self) -> None:
        if self.is_committed:
            mount_by_fstab(self.path)
        else:
            old = copying.size_of(self.path)
            with self._staged() as volume:
                self._prepare(volume, old)
                began, suspects = self._copy(volume, old)
                with self._frozen() as since:
                    self._refuse_users()
                    self._copy_difference(volume, began, suspects)
            self._switch(since)

    def recover(self) -> None:
        """Undo what a move that was killed has left. (After a power cut nothing is left: fstab decides.)"""
        if self.journal.phase == journal.COPYING and not self.is_committed and os.path.ismount(self.path):
            run("umount", "--lazy", self.path)  # it was held read-only
        if self.journal.phase == journal.SWITCHING and self.is_committed and not os.path.ismount(self.path):
            self._uncommit()  # the old tree is in use, and may be written to from now on
        if os.path.ismount(STAGING):
            run("umount", STAGING)

    def _prepare(self, volume: str, old: int) -> None:
        there = [name for name in os.listdir(volume) if name not in (_LOST_AND_FOUND, _LEFT)]
        identity = run("findmnt", "--noheadings", "--output", "UUID", volume).strip()
        begun = self.journal.phase in (journal.COPYING, journal.SWITCHING) and self.journal.volume == identity
        if there and not begun:
            raise Failed(
                f"{self.path} and its volume {self._entry.source} both hold data, and what is on the volume is no copy of "
                "ours: look at what is there and move one of them away"
            )
        if os.path.isdir(f"{self.path}/{_LOST_AND_FOUND}") and os.listdir(f"{self.path}/{_LOST_AND_FOUND}"):
            raise Failed(f"{self.path}/{_LOST_AND_FOUND} holds files: look at what they are and move them")
        if mounts := mounts_within([self.path]):
            raise Failed(f"{mounts[0].target} is a mount in {self.path}: unmount it for the move")
        space = os.statvfs(volume)
        free = space.f_bavail * space.f_frsize + sum(copying.size_of(f"{volume}/{name}") for name in there)
        if free < old:
            raise Failed(f"{self.path} takes {human(old)}, and its volume has {human(free)} for it")
        self.journal.enter(journal.COPYING, volume=identity, old={self.path: old})

    def _copy(self, volume: str, old: int) -> tuple[float, set[str]]:
        began = copying.moment()
        self._say(f"copying {self.path}, {human(old)}")
        copying.copy(self.path, volume, copying.progress(self._say, old), _KEPT, polite=True)
        self._say(f"verifying {self.path} on the disk")
        return began, copying.compare(self.path, volume, _KEPT)

    def _refuse_users(self) -> None:
        """Nobody may stand in the directory but our own login, and that must not write."""
        users = [user for user in users_of([self.path]) if user.writes or not self._login.includes(user.pid)]
        if others := [*map(str, users), *bound_elsewhere(self.path)]:
            raise Failed(f"{self.path} is in use: {', '.join(others[:10])}. End them, or log them out, and run again")

    def _copy_difference(self, volume: str, began: float, suspects: set[str]) -> None:
        files = copying.to_be_verified(self.path, began, suspects, _KEPT)
        self._say(f"copying the difference in {self.path}: {count(len(files), 'file')}")
        copying.distrust(volume, files)
        copying.copy(self.path, volume, lambda *_: None, _KEPT)
        copying.verify(self.path, volume, files, _KEPT)

    def _switch(self, since: float) -> None:
        """The commit. What somebody writes to the old tree in this very moment undoes it.

        Args:
            since: nothing of the old tree has changed from this moment on.
        """
        self.journal.enter(journal.SWITCHING)
        self._say(f"switching {self.path} to its volume")
        old_tree = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            replace_fstab(lambda text: fstab_with(text, self._entry))
            try:
                mount_by_fstab(self.path)
            except Failed:
                self._uncommit()
                raise
            late = [entry.name for entry in copying.changed(f"/proc/self/fd/{old_tree}/.", since, _KEPT)]
        finally:
            os.close(old_tree)
        if late:
            self._uncommit()
            raise Failed(f"written to as it was switched: {', '.join(late[:5])}. {self.path} is what it was: run again")

    def _uncommit(self) -> None:
        if os.path.ismount(self.path):
            run("umount", "--lazy", self.path)  # our own login may stand in it
        replace_fstab(lambda text: fstab_without(text, self.path))
        run("systemctl", "daemon-reload")

    # -- afterwards

    def written_since(self) -> list[str]:
        """What a rollback would leave behind on the volume, in words."""
        files = copying.changed_files(self.path, self.journal.since, _KEPT)
        return [f"{self.path}: {count(len(files), 'file')} written since the move"]

    def roll_back(self) -> None:
        """Use the old tree again. What is on the volume stays there, in a directory of its own.

        Raises:
            Failed: there is no old tree, or somebody uses the directory.
        """
        if self.journal.phase != journal.DONE:
            raise Failed(f"there is no way back: {self.outcome()}")
        self._refuse_users()
        self._uncommit()
        with self._staged() as volume:
            aside = Path(volume, _LEFT)
            aside.mkdir(exist_ok=True)
            number = 1 + sum(1 for _ in aside.iterdir())
            (aside / str(number)).mkdir()
            for name in os.listdir(volume):
                if name not in (_LOST_AND_FOUND, _LEFT):
                    os.rename(f"{volume}/{name}", aside / str(number) / name)
        self.journal.enter(journal.ROLLED_BACK, old={})

    def finalize(self) -> None:
        """Remove the old tree, but for what a login needs where the volume cannot be mounted.

        Raises:
            Failed: the volume is not mounted, or there is no old tree.
        """
        if self.journal.phase == journal.FINALIZED:
            return
        if self.journal.phase not in (journal.DONE, journal.FINALIZING):
            raise Failed(f"there is nothing to finalize: {self.outcome()}")
        if not (self.is_committed and os.path.ismount(self.path)):
            raise Failed(f"{self.path} is not mounted from its volume; nothing was removed")
        self.journal.enter(journal.FINALIZING)
        self._say(f"removing the old tree beneath {self.path}, {human(sum(self.journal.old.values()))}")
        empty_beneath(self.path, keep=list(_login_files(self.path)))
        self.journal.enter(journal.FINALIZED, old={})

    # -- pieces

    @contextlib.contextmanager
    def _staged(self) -> Iterator[str]:
        """The volume, mounted where nobody looks."""
        os.makedirs(STAGING, mode=0o700, exist_ok=True)
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
