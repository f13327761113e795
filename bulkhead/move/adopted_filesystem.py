"""A filesystem that is mounted on Docker's store, and becomes Docker's volume in place: its files are renamed, none is copied.

While it is taken over, Docker is down, and nothing but the tree says how far the renames have come. So both directions can
be cut anywhere, and `give_back` undoes whatever it finds. docs/decisions/0014 says what a boot in between does.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead.command import run
from bulkhead.errors import Failed
from bulkhead.files import replace_file, sync_directory
from bulkhead.names import BALLAST, BEFORE, MARKER
from bulkhead.outage.unit import RECOVERY
from bulkhead.storage import fstab
from bulkhead.storage.mounts import is_mounted, kernel_uses, mount_by_fstab, mounts_of
from bulkhead.storage.processes import users_of
from bulkhead.storage.volume import mark
from pyinfra_lvm.fstab import format_entry, fstab_lines, fstab_lists, fstab_replaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.config import Config
    from bulkhead.outage.journal import Journal

ADOPTING = "docker.adopting"  # everything of Docker's, until it is complete and becomes docker/
_MARKERS = (MARKER, f"{MARKER}.new")  # the latter where a cut ended its making
_OURS = "|".join(map(re.escape, (ADOPTING, BALLAST, *_MARKERS)))
_STAYS = re.compile(rf"lost\+found|{_OURS}|containerd\.(moving|left-\d+)")
_KERNEL_NAME = re.compile(r"^(\s*)/dev/[^/\s]+(?=\s)")  # at the beginning of a line of fstab
_ATTEMPTS, _INTERVAL = 5, 1.0  # seconds between two attempts to unmount the filesystem
_IMAGES = ("io.containerd.content.v1.content/blobs/*/*", "io.containerd.snapshotter.v1.*/snapshots/*")


class AdoptedFilesystem:
    """The filesystem that becomes Docker's volume.

    Args:
        config: has the line of fstab that mounts it in its new place.
        journal: of the move of Docker's data.
        say: receives each line that reports progress.
    """

    def __init__(self, config: Config, journal: Journal, say: Callable[[str], None]) -> None:
        (self._entry,) = config.volume_fstab
        self._entries = (self._entry, *config.store_fstab)
        self._volume = config.volume_mount
        self._store = config.stores["docker"]
        self._containerd = config.stores["containerd"]
        self._journal = journal
        self._say = say

    # -- where it stands

    @property
    def is_pending(self) -> bool:
        """Whether it is mounted on Docker's store, by a line of somebody else's."""
        return is_mounted(self._store) and not self._is_bound() and not self.is_committed()

    def is_committed(self) -> bool:
        """Return whether fstab mounts it in its new place, with both stores."""
        text = fstab.read_fstab()
        return all(fstab_lists(text, entry) for entry in self._entries)

    def is_bound(self) -> bool:
        """Return whether a store is bound from it."""
        return self._is_bound() or is_mounted(self._containerd)

    def _is_bound(self) -> bool:
        return [mount.root for mount in mounts_of() if mount.target == self._store][-1:] not in ([], ["/"])

    def lines(self) -> list[str]:
        """Return their lines of fstab for it."""
        return fstab_lines(fstab.read_fstab(), self._store)

    # -- there

    def mount_beside(self) -> None:
        """Mount it in its new place too, while Docker runs on it.

        Raises:
            Failed: it cannot be mounted there, another one is mounted there or on Docker's store, or the kernel itself uses
                files on it.
        """
        self._refuse_another(self._store)
        if used := kernel_uses(self._store):
            raise Failed(f"{self._store} is in use: {', '.join(used)}. End that, and run again")
        self._mount_volume()

    def _mount_volume(self) -> None:
        if not is_mounted(self._volume):
            os.makedirs(self._volume, exist_ok=True)
            _make_immutable(self._volume)
            run(
                "mount", "-t", self._entry.fstype, "-o", ",".join(self._entry.options), self._entry.source, self._volume
            )
            if not is_mounted(self._volume):  # with nofail, mount(8) does not call it an error
                raise Failed(f"{self._entry.source} could not be mounted on {self._volume}: is the disk there?")
        self._refuse_another(self._volume)

    def _refuse_another(self, path: str) -> None:
        """Refuse another filesystem where this one should be mounted: its files would be renamed.

        Raises:
            Failed: it is another one.
            OSError: its device is not there.
        """
        if self._is_another(path):
            raise Failed(f"another filesystem than {self._entry.source} is mounted on {path}. Run the deploy again")

    def _is_another(self, path: str) -> bool:
        return os.stat(path).st_dev != _device_of(self._entry.source)

    def take_over(self) -> None:
        """Unmount it from Docker's store, and rename everything on it into docker/. Docker is down, and cannot start.

        Raises:
            Failed: somebody uses the filesystem, or has used containerd's store since, or files are beneath the mount.
        """
        self._unmount_store()
        if self._containerd not in self._journal.old:
            self._clear_containerd()
        run("sync", "-f", self._volume)  # what Docker has just written is on the disk before it is renamed
        gather(self._volume)

    def _unmount_store(self) -> None:
        attempts = _ATTEMPTS
        while is_mounted(self._store):
            try:
                run("umount", self._store)
            except Failed as failed:
                attempts -= 1
                if attempts:  # what has just ended may still let go of its files
                    time.sleep(_INTERVAL)
                    continue
                users = ", ".join(map(str, users_of([self._store])))
                raise Failed(
                    f"{self._store} is in use{f': {users}' if users else ''}. End that, and run again ({failed})"
                ) from failed
        if os.listdir(self._store):
            raise Failed(
                f"the directory {self._store} is not empty beneath the mount. See what it holds, and move it away"
            )
        _make_immutable(self._store)

    def _clear_containerd(self) -> None:
        """Rename containerd's store, which has no images, and make an empty directory to mount on."""
        store = self._containerd
        if holds_images(store):
            raise Failed(f"{store} has got images since this move began. Run again")
        if os.path.isdir(store) and os.listdir(store):
            kept, number = f"{store}{BEFORE}", 1
            while os.path.lexists(kept):
                number += 1
                kept = f"{store}{BEFORE}.{number}"
            self._journal.set_aside = kept
            self._journal.save()
            os.rename(store, kept)
        os.makedirs(store, 0o711, exist_ok=True)
        _make_immutable(store)
        sync_directory(os.path.dirname(store))

    def complete(self) -> None:
        """Make containerd's directory, and the markers. From here on it is a volume like any other."""
        place = f"{self._volume}/containerd"
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o711)
        mark(place)
        os.chmod(self._volume, 0o755)  # noqa: S103 # as mkfs makes it: docker/ has Docker's own mode
        mark(self._volume)
        sync_directory(self._volume)

    def commit(self) -> None:
        """Put our lines in the place of theirs, in one rename. A copy of the old fstab is kept.

        Raises:
            Failed: the new fstab would have errors.
        """
        mode = os.stat(fstab.FSTAB).st_mode & 0o7777
        replace_file(f"{fstab.FSTAB}{BEFORE}", fstab.read_fstab(), mode)
        fstab.replace_fstab(lambda text: fstab_replaced(text, self._targets(), [*map(format_entry, self._entries)]))

    def _targets(self) -> list[str]:
        return [entry.target for entry in self._entries]

    def uncover_store(self) -> None:
        """Unmount it from Docker's store, also while somebody uses it: it stays mounted in its new place."""
        while is_mounted(self._store):
            run("umount", "--lazy", self._store)

    # -- and back

    def uncommit(self) -> None:
        """Put their lines in the place of ours."""
        fstab.replace_fstab(lambda text: fstab_replaced(text, self._targets(), self._their_lines()))

    def _their_lines(self) -> list[str]:
        """Return their lines of fstab, with the filesystem's sure name in place of a kernel's, which may mean another today."""
        return [_KERNEL_NAME.sub(lambda match: match[1] + self._entry.source, line) for line in self._journal.fstab]

    def refuse_to_split(self) -> None:
        """Refuse to go back where containerd has images on it: they belong to another filesystem then.

        Raises:
            Failed: it has, or the filesystem is not mounted.
        """
        if not is_mounted(self._volume):
            raise Failed(f"{self._volume} is not mounted")
        if holds_images(place := f"{self._volume}/containerd"):
            raise Failed(
                f"no rollback is possible: {place} holds containerd's images, which the filesystem did not have before. "
                "docs/adopt.md says how to go back by hand"
            )

    def give_back(self) -> None:
        """Mount it on Docker's store by their line, with all files where they were. Docker is down unless they never moved.

        Raises:
            Failed: it cannot be mounted, their line mounts another filesystem, or a file is in the way.
            OSError: its device is not there.
        """
        if not is_mounted(self._store) or self._is_another(self._store) or not is_flat(self._store):
            self._mount_volume()
            self.uncover_store()
            run("sync", "-f", self._volume)
            scatter(self._volume, is_copy=self._containerd in self._journal.old and not self._journal.lived)
            _make_mutable(self._store)
            if self._their_lines() != self._journal.fstab:
                fstab.replace_fstab(lambda text: fstab_replaced(text, [self._store], self._their_lines()))
            mount_by_fstab(self._store)
            if self._is_another(self._store):
                self.uncover_store()
                raise Failed(
                    f"fstab mounts another filesystem than {self._entry.source} on {self._store}; it was unmounted, and Docker "
                    f"stays down. Correct that line, then `systemctl start {RECOVERY}`"
                )
        self._take_back_aside()
        self.leave_new_place()

    def leave_new_place(self) -> None:
        """Unmount it from the volume's mount point."""
        while is_mounted(self._volume):
            run("umount", "--lazy", self._volume)  # a program that reads there does not prevent it
        if os.path.isdir(self._volume):
            _make_mutable(self._volume)
            with contextlib.suppress(OSError):  # it is not ours if it holds anything
                os.rmdir(self._volume)

    def _take_back_aside(self) -> None:
        kept, store = self._journal.set_aside, self._containerd
        if os.path.isdir(store):
            _make_mutable(store)
        if not kept or not os.path.isdir(kept):
            return
        if os.path.isdir(store):
            try:
                os.rmdir(store)
            except OSError:
                self._say(f"{store} is not empty: what it held before is in {kept}")
                return
        os.rename(kept, store)
        sync_directory(os.path.dirname(store))


# -- the tree


def gather(top: str) -> None:
    """Rename everything at the top of a filesystem into docker/, which gets its marker before it gets its name."""
    adopting = f"{top}/{ADOPTING}"
    os.mkdir(adopting)
    _copy_owner_and_mode(top, adopting)
    for name in sorted(os.listdir(top)):
        if not stays(name):
            os.rename(f"{top}/{name}", f"{adopting}/{name}")
    for directory in (adopting, top):
        sync_directory(directory)
    mark(adopting)
    os.rename(adopting, f"{top}/docker")
    sync_directory(top)


def scatter(top: str, *, is_copy: bool) -> None:
    """Undo `gather`, however far it has come, and what was made beside docker/ since.

    Args:
        is_copy: containerd/ is the copy of a store that nobody has used, and becomes such a copy again.

    Raises:
        Failed: a file is in the way.
    """
    adopting, docker = f"{top}/{ADOPTING}", f"{top}/docker"
    if os.path.exists(f"{docker}/{MARKER}"):
        _unlink(top, *_MARKERS, BALLAST)
        _put_away_containerd(f"{top}/containerd", is_copy=is_copy)
        os.rename(docker, adopting)
        sync_directory(top)
    if not os.path.isdir(adopting):
        return
    for name in sorted(os.listdir(adopting)):
        if name in _MARKERS:
            continue
        if os.path.lexists(target := f"{top}/{name}"):
            raise Failed(f"{target} is in the way of {adopting}/{name}. See what it is, and move it away")
        os.rename(f"{adopting}/{name}", target)
    for directory in (top, adopting):
        sync_directory(directory)
    _copy_owner_and_mode(adopting, top)
    _unlink(adopting, *_MARKERS)
    os.rmdir(adopting)
    sync_directory(top)


def _put_away_containerd(place: str, *, is_copy: bool) -> None:
    if not os.path.isdir(place):
        return
    _unlink(place, *_MARKERS)
    if is_copy:
        os.rename(place, f"{place}.moving")
    elif os.listdir(place):
        number = 1
        while os.path.exists(left := f"{place}.left-{number}"):
            number += 1
        os.rename(place, left)
    else:
        os.rmdir(place)
    sync_directory(os.path.dirname(place))


def is_flat(top: str) -> bool:
    """Return whether nothing of `gather` is left on a filesystem."""
    return not any(os.path.lexists(f"{top}/{name}") for name in (ADOPTING, f"docker/{MARKER}", MARKER))


def stays(name: str) -> bool:
    """Return whether an entry at the top of the filesystem stays there.

    >>> [name for name in ("lost+found", "overlay2", "containerd", "containerd.moving", "docker") if stays(name)]
    ['lost+found', 'containerd.moving']
    """
    return _STAYS.fullmatch(name) is not None


def holds_images(store: str) -> bool:
    """Return whether a store of containerd's has images or layers of them."""
    return any(True for pattern in _IMAGES for _ in glob.iglob(f"{glob.escape(store)}/{pattern}"))


def _device_of(source: str) -> int:
    """Return the number (st_dev) of the filesystem that fstab names. ext4 and xfs have that of their device."""
    device = re.sub("^UUID=", "/dev/disk/by-uuid/", source)
    return os.stat(device).st_rdev


def _unlink(directory: str, *names: str) -> None:
    for name in names:
        Path(directory, name).unlink(missing_ok=True)


def _copy_owner_and_mode(source: str, target: str) -> None:
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, found.st_mode & 0o7777)


def _make_immutable(path: str) -> None:
    run("chattr", "+i", path)
    sync_directory(path)


def _make_mutable(path: str) -> None:
    with contextlib.suppress(Failed):  # a filesystem without the attribute
        run("chattr", "-i", path)
