"""Judge the places where the volumes are going to be mounted. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from bulkhead.names import DOCKER_STORE
from pyinfra_lvm.model import Mount, Storage
from settings.model import Settings
from tasks.preflight.finding import LEAVE_OUT, Finding
from tasks.preflight.host import HostState
from tasks.support.paths import FSTAB, STORES

_GENERATED = "/run/systemd/generator"  # systemd.generator(7); the directory, or one of its .early and .late


@dataclass(frozen=True)
class MountPoint:
    """A mount point of ours, and what belongs there."""

    path: str
    source: str  # of the mount; empty where it is unknown
    root: str  # the directory of the filesystem that is mounted there
    device: str  # kernel name of the filesystem's device; empty where it does not exist yet
    alternative: str  # what the owner can do instead
    is_store: bool = False
    may_hold_files: bool = False  # beneath the mount, or before it


def judge_mount_points(
    settings: Settings, storage: Storage, device: str = "", *, old_trees: bool = False
) -> Iterator[Finding]:
    """Yield what is mounted on Docker's three mount points, listed for them in fstab or lies in them, and is not ours.

    Args:
        device: mapper path of the logical volume; empty where none could be planned.
        old_trees: the stores' old trees are kept beneath the mounts.
    """
    # Without a planned volume, the one that is mounted in its place stands for it.
    volume, mounted = storage.device(device), storage.mount(settings.volume_mount)
    own = volume.path if volume else mounted.device if mounted and not device else ""
    another = "or set volume_mount to another directory"
    yield from judge_mount_point(storage, MountPoint(settings.volume_mount, device, "/", own, another))
    for name, path in STORES.items():
        may_hold_files = old_trees or storage.mount(path) is None
        yield from judge_mount_point(
            storage,
            MountPoint(
                path,
                source=f"{settings.volume_mount}/{name}",
                root=f"/{name}",
                device=own,
                alternative="or leave this host out",
                is_store=True,
                may_hold_files=may_hold_files,
            ),
        )


def judge_mount_point(storage: Storage, place: MountPoint) -> Iterator[Finding]:
    """Yield what stands in the way of a mount."""
    path, is_store = place.path, place.is_store
    found, beneath = storage.mount(path), storage.directory(path)
    listed = [entry.source for entry in storage.fstab if entry.target == path and entry.source != place.source]
    if found and not (place.device and (found.device, found.root) == (place.device, place.root)):
        what = found.source + (f"[{found.root}]" if found.root != "/" else "")
        yield Finding(
            f"{path} is on a filesystem of its own already: {what}" if is_store else f"{what} is mounted on {path}",
            f"{place.source or 'our volume'}, or nothing mounted there",
            f"{_taking_over(path, found)}leave this host out; a logical volume that has only docker/ and containerd/ on it can be "
            "taken over: unmount it, take its line out of fstab, set logical_volume to its name and adopt_volume = True"
            if is_store
            else f"unmount it, {place.alternative}",
        )
    elif listed and place.source:
        yield Finding(
            f"fstab mounts {', '.join(listed)} on {path}",
            f"{place.source}, or no line for it",
            f"take that line out of /etc/fstab, {place.alternative}",
        )
    if beneath and beneath.kind in ("symlink", "other"):
        yield Finding(
            f"{path} is {'a symbolic link' if beneath.kind == 'symlink' else 'no directory'}",
            "a directory to mount on, or nothing",
            f"stop Docker and move the data that it points to back to {path}, {place.alternative}"
            if is_store
            else f"remove it, {place.alternative}",
        )
    elif beneath and not beneath.empty and not place.may_hold_files:
        yield Finding(
            f"the directory {path} is not empty" + (" beneath the mount" if found else ""),
            "an empty directory to mount on, or none",
            "check what is there (`mount --bind / /mnt`) and move it away"
            if found
            else f"empty it, {place.alternative}",
        )


def _taking_over(path: str, found: Mount) -> str:
    """Return the advice to adopt what is mounted on Docker's store, as the beginning of a sentence; empty for another mount."""
    if path != DOCKER_STORE or found.root != "/":
        return ""
    return (
        "set adopt_filesystem = True, which makes Docker's volume of it in place, if it qualifies (docs/adopt.md); or "
    )


def judge_mount_units(state: HostState) -> Iterator[Finding]:
    """Yield what keeps systemd from mounting what fstab has: a unit's own file and its drop-ins win (systemd.unit(5))."""
    for unit in state.mount_units:
        name = shlex.quote(unit.name)
        if unit.load_state == "masked":
            yield Finding(
                f"{unit.name} is masked, so systemd does not mount it",
                "a mount that systemd can make from fstab",
                f"`systemctl unmask {name}` (with --runtime if that does not help), {LEAVE_OUT}",
            )
        # A unit that somebody copied from the generator's names fstab as its source too.
        is_generated = unit.file.startswith(_GENERATED) and unit.source == FSTAB
        own_file = "" if is_generated or unit.load_state == "masked" else unit.file
        for file in filter(None, (own_file, *unit.drop_ins)):
            yield Finding(
                f"{file} takes the place of fstab's line for that mount point",
                "fstab alone: otherwise Docker could start on another filesystem than its volume",
                f"if nobody needs what it mounts, stop Docker, `systemctl stop {name}`, move the file away and run "
                f"`systemctl daemon-reload`; {LEAVE_OUT}",
            )


def unused_stores(storage: Storage) -> tuple[str, ...]:
    """Return the stores off the volume that an engine made. They hold no data, or the host is refused."""
    unmounted = [storage.directory(path) for path in STORES.values() if storage.mount(path) is None]
    return tuple(d.path for d in unmounted if d and d.kind == "directory" and not d.empty)
