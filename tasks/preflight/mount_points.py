"""The places where the volumes are to be mounted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.preflight.finding import Finding
from tasks.support.paths import STORES

# -- mounts


@dataclass(frozen=True)
class MountPoint:
    """A mount point of ours, and what belongs there."""

    path: str
    source: str  # of the mount; empty where it cannot be told
    root: str  # directory of the filesystem that is mounted there
    own: str  # kernel name of the filesystem's device; empty where it is not there yet
    instead: str  # what else its owner can do
    is_store: bool = False
    may_hold: bool = False  # files, beneath the mount or before it


def mounts(settings: Settings, storage: Storage, device: str, *, old_trees: bool = False) -> Iterator[Finding]:
    """What stands on Docker's three mount points, or is listed for them in fstab, and is not ours.

    Args:
        device: mapper path of the logical volume; empty where there is none to be had.
        old_trees: the stores' old trees are kept beneath the mounts.
    """
    # Where the volume cannot be told, the one that is mounted in its place stands for it.
    volume, mounted = storage.device(device), storage.mount(settings.volume_mount)
    own = volume.path if volume else mounted.device if mounted and not device else ""
    another = "or set volume_mount to another directory"
    yield from judge_place(storage, MountPoint(settings.volume_mount, device, "/", own, another))
    for name, path in STORES.items():
        may_hold = old_trees or storage.mount(path) is None
        source = f"{settings.volume_mount}/{name}"
        place = MountPoint(path, source, f"/{name}", own, "or leave this host out", is_store=True, may_hold=may_hold)
        yield from judge_place(storage, place)


def judge_place(storage: Storage, place: MountPoint) -> Iterator[Finding]:
    path, is_store = place.path, place.is_store
    found, beneath = storage.mount(path), storage.directory(path)
    listed = [e.source for e in storage.fstab if e.target == path and e.source != place.source]
    if found and not (place.own and (found.device, found.root) == (place.own, place.root)):
        what = found.source + (f"[{found.root}]" if found.root != "/" else "")
        yield Finding(
            f"{path} is on a filesystem of its own already: {what}" if is_store else f"{what} is mounted on {path}",
            f"{place.source or 'our volume'}, or nothing mounted there",
            "leave this host out; a logical volume that has nothing but docker/ and containerd/ on it can be taken "
            "over: unmount it, take its line out of fstab, set logical_volume and adopt_volume = True"
            if is_store
            else f"unmount it, {place.instead}",
        )
    elif listed and place.source:
        yield Finding(
            f"fstab mounts {', '.join(listed)} on {path}",
            f"{place.source}, or no line for it",
            f"take that line out of /etc/fstab, {place.instead}",
        )
    if beneath and beneath.kind in ("symlink", "other"):
        yield Finding(
            f"{path} is {'a symbolic link' if beneath.kind == 'symlink' else 'no directory'}",
            "a directory to mount on, or nothing",
            f"stop Docker and move what it leads to back to this place, {place.instead}"
            if is_store
            else f"remove it, {place.instead}",
        )
    elif beneath and not beneath.empty and not place.may_hold:
        yield Finding(
            f"the directory {path} is not empty" + (" beneath what is mounted on it" if found else ""),
            "an empty directory to mount on, or none",
            "look at what is there (`mount --bind / /mnt`) and move it away" if found else f"empty it, {place.instead}",
        )


def skeletons(storage: Storage) -> tuple[str, ...]:
    """The stores that an engine made in their place. They hold no data, or the host is refused."""
    unmounted = [storage.directory(path) for path in STORES.values() if storage.mount(path) is None]
    return tuple(d.path for d in unmounted if d and d.kind == "directory" and not d.empty)
