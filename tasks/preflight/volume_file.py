"""Judge and plan the file that is Docker's disk where root has taken the whole disk. Pure.

A group on the file is planned like one on a named disk: the settings and the facts that `with_file` returns name its loop
device among the disks, with the size that the file is going to have.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bulkhead.names import VOLUME_FILE, VOLUME_FILE_SERVICE
from bulkhead.sizes import MINIMUM, human, setting_of
from pyinfra_lvm.model import BlockDevice, DiskImage, Mount, Storage, usable
from settings.model import Settings
from tasks.preflight.disks import another_disk, unsuitable
from tasks.preflight.finding import Finding, Refused
from tasks.support.paths import TAG, VOLUME_FILE_DEVICE

# ext4 and xfs keep allocated extents for their file. btrfs and ZFS write every block to a new place.
_FILESYSTEMS = ("ext4", "xfs")

# loop refuses to punch holes while discard_max_bytes is 0 since this kernel: before, lo_fallocate in drivers/block/loop.c
# asked for the queue's flag QUEUE_FLAG_DISCARD instead, which sysfs does not change (Linux 5.19, "block: remove
# QUEUE_FLAG_DISCARD").
_KERNEL = (5, 19)

_LEAST_FREE = 5 * 2**30  # bytes that stay free beside the file, whatever volume_file_keep says
_STEP = 4 * 2**20  # bytes; a size of the file is a multiple of it, and so of every block and sector
_OURS = "root:600"
_MOVE_MODULE = "dm-mirror"


@dataclass(frozen=True)
class FilePlan:
    """Settings and facts with which a group is planned, and the file that it is on."""

    settings: Settings
    storage: Storage
    size: int = 0  # bytes of the file; 0: the group is on no file
    largest: int = 0  # the largest size in bytes that the file could have
    warnings: tuple[str, ...] = ()
    leaves: bool = False  # the named disks take over, and the file is removed


def without_file(settings: Settings, storage: Storage, group: str) -> FilePlan | None:
    """Return the facts of a host as they are once named disks have taken the group over from the file.

    LVM moves the extents while everything runs. A cut leaves the group on both, or the file with nothing on it.

    Args:
        group: name of the volume group.

    Returns:
        None where no group is on the file, and no file is left of one that was.

    Raises:
        Refused: the disks cannot take the group over.
    """
    volume = storage.physical_volume(VOLUME_FILE_DEVICE)
    owner = volume.volume_group if volume else None
    if volume is None or owner != group:
        return FilePlan(settings, storage, leaves=True) if _is_left_over(settings, storage, group, owner) else None
    found = storage.volume_group(group)
    volumes = [v for v in storage.logical_volumes if v.volume_group == group]
    if snapshots := [v.path for v in volumes if v.origin]:
        raise Refused(
            Finding(
                f"the group {group} moves to {', '.join(settings.volume_disks)}, and has a snapshot: {', '.join(snapshots)}",
                "no snapshot while its extents move",
                "`bulkhead snapshot drop` on the host if nobody needs it, and run again",
            )
        )
    if _MOVE_MODULE not in storage.tools:
        raise Refused(
            Finding(
                f"the kernel has no module {_MOVE_MODULE}, and the group {group} moves to {', '.join(settings.volume_disks)}",
                "the module that LVM moves extents with (pvmove)",
                "install a kernel package that has it (`modinfo dm-mirror` shows it), boot it, and run again",
            )
        )
    extent = found.extent_size if found else _STEP
    named = [(path, storage.device(path)) for path in settings.volume_disks]
    added = sum(usable(disk.size, extent) for path, disk in named if disk and storage.group_of(path) != group)
    if found and found.free - volume.size + added < 0:
        taken = found.size - found.free
        raise Refused(
            Finding(
                f"the group {group} holds {human(taken)}, and {', '.join(settings.volume_disks)} have room for "
                f"{human(found.size - volume.size + added)}",
                "disks that can take over what is on the file: it is never shrunk",
                "name a larger disk, or one more",
            )
        )
    return FilePlan(
        settings,
        replace(
            storage,
            physical_volumes=tuple(v for v in storage.physical_volumes if v is not volume),
            volume_groups=tuple(
                replace(g, size=g.size - volume.size, free=g.free - volume.size) if g is found else g
                for g in storage.volume_groups
            ),
            # LVM's own, for as long as the extents move.
            logical_volumes=tuple(v for v in storage.logical_volumes if not v.name.startswith("pvmove")),
        ),
        warnings=(
            f"Docker's volume moves from {VOLUME_FILE} to {', '.join(settings.volume_disks)}; the file is removed",
        ),
        leaves=True,
    )


def _is_left_over(settings: Settings, storage: Storage, group: str, owner: str | None) -> bool:
    """Return whether the file was Docker's disk, and nothing is on it any more. A cut left it there."""
    image = storage.image(VOLUME_FILE) or DiskImage(VOLUME_FILE, "absent")
    volume = storage.logical_volume(group, settings.logical_volume)
    holds_nothing = owner == "" or (owner is None and not image.signatures)
    is_ours = image.kind == "regular" and image.mode == _OURS
    return is_ours and holds_nothing and volume is not None and TAG in volume.tags


def with_file(settings: Settings, storage: Storage, group: str, old_data: int) -> FilePlan:
    """Return settings and facts that have the file as the one disk of a group.

    Args:
        group: name of the volume group.
        old_data: bytes of Docker's data that move onto the volume. They stay on the root disk until the move is finalized.

    Raises:
        Refused: the host or the file does not qualify.
    """
    image = storage.image(VOLUME_FILE) or DiskImage(VOLUME_FILE, "absent")
    mount = storage.mount_containing(posixpath.dirname(VOLUME_FILE))
    findings = [*_judge_host(settings, storage, mount), *_judge_image(settings, storage, image)]
    if findings or mount is None:
        raise Refused(*findings)
    present = image.size
    wanted = settings.volume_file.bytes_of(mount.size) // _STEP * _STEP if settings.volume_file else present
    size = max(wanted, present)
    keep = _kept(settings, mount)
    largest = present + max(mount.available - keep, 0) // _STEP * _STEP
    if size > max(largest, present):
        raise Refused(_no_room(settings, storage, mount, size - present, keep, largest, old_data))
    warnings = []
    if wanted < present:
        warnings.append(
            f"{VOLUME_FILE} has {human(present)}, more than the {human(wanted)} of volume_file: it never shrinks"
        )
    return FilePlan(
        settings.model_copy(update={"volume_disks": [VOLUME_FILE_DEVICE], "volume_group": group}),
        _with_device(storage, group, size),
        size,
        largest,
        tuple(warnings),
    )


def offer(settings: Settings, storage: Storage) -> str:
    """Return the advice to use a file, as a part of a sentence; empty where this host could have none worth it."""
    mount = storage.mount_containing(posixpath.dirname(VOLUME_FILE))
    has_chosen = (
        settings.volume_file or settings.volume_disks or settings.adopt_volume or settings.volume_group != "auto"
    )
    if has_chosen or mount is None or any(_judge_host(settings, storage, mount)):
        return ""
    largest = mount.available - _kept(settings, mount)
    if largest < 4 * MINIMUM:
        return ""
    return f', or set volume_file: a file on {mount.target} becomes the disk (at most "{setting_of(largest)}" fits)'


def _kept(settings: Settings, mount: Mount) -> int:
    return max(settings.volume_file_keep.bytes_of(mount.size), _LEAST_FREE)


def _judge_host(settings: Settings, storage: Storage, mount: Mount | None) -> Iterator[Finding]:
    if (0, 0) < storage.kernel < _KERNEL:
        yield Finding(
            f"the kernel is Linux {'.'.join(map(str, storage.kernel))}",
            f"Linux {'.'.join(map(str, _KERNEL))} or newer for volume_file: older ones punch holes into the file, and others "
            "can take its space",
            "boot a newer kernel (on Ubuntu 22.04: the package linux-generic-hwe-22.04), or "
            + another_disk(settings, storage),
        )
    if mount is None:
        return
    device = storage.device(mount.device)
    kind = unsuitable(storage, device) if device and device.type != "lvm" else ""
    volume = storage.logical_volume_on(device) if device else None
    if mount.fstype not in _FILESYSTEMS or device is None:
        reason = f"is {mount.fstype}"
    elif volume and volume.segment_type.startswith("thin"):
        reason = "is on a thin volume, which takes its space late"
    elif kind:
        reason = f"is on {kind}"
    elif "ro" in mount.options:
        reason = "is read-only"
    else:
        return
    yield Finding(
        f"the filesystem on {mount.target}, which would hold {VOLUME_FILE}, {reason}",
        "an ext4 or xfs on a disk of this host: only there does the file keep the space that it was given",
        another_disk(settings, storage),
    )


def _judge_image(settings: Settings, storage: Storage, image: DiskImage) -> Iterator[Finding]:
    path = image.path
    device = storage.device(VOLUME_FILE_DEVICE)
    away = f"move it away if nobody needs it, or {another_disk(settings, storage)}"
    if image.kind == "absent":
        if device:
            yield Finding(
                f"{VOLUME_FILE_DEVICE} is there, and {path} is not: somebody moved or removed the file while it is in use",
                "the file in its place: at the next boot Docker stays down without it",
                "move it back; `losetup --list` shows where it is. If it is removed, keep the host up, attach a blank disk and "
                "name it in volume_disks: the run moves Docker's data onto it while Docker runs",
            )
    elif image.kind != "regular" or image.mode != _OURS or image.links != 1:
        yield Finding(
            f"{path} is not ours: {image.kind}, {image.mode}, {image.links} names",
            "no file there, or the one that this project made: regular, root:600, one name",
            f"correct that (`chown root: {path}; chmod 600 {path}`) if it is Docker's disk; otherwise {away}",
        )
    elif len(image.loops) > 1:
        yield Finding(
            f"{path} has {len(image.loops)} loop devices: {', '.join(loop.path for loop in image.loops)}",
            "one: through two of them its content is destroyed",
            f"detach the one that Docker's volume group is not on (`pvs`; `losetup --detach {image.loops[-1].path}`)",
        )
    elif not image.loops and image.signatures:
        yield Finding(
            f"{path} holds {', '.join(image.signatures)}, and is not attached",
            "the disk that Docker's volume is on, attached, or no file there",
            f"`systemctl enable --now {VOLUME_FILE_SERVICE}` on the host if it is Docker's disk, and run again; otherwise "
            + away,
        )
    elif any(loop.size > image.size for loop in image.loops):
        yield Finding(
            f"{path} has {human(image.size)}, and its loop device {human(image.loops[0].size)}: somebody truncated it",
            "the whole file: what was in the rest is lost, and what Docker writes there fails",
            f"stop Docker, `fallocate --length {image.loops[0].size} {path}`, and check the filesystem before Docker starts",
        )
    elif image.allocated < image.size:
        yield Finding(
            f"{path} has holes: {human(image.size - image.allocated)} of its {human(image.size)} are not allocated",
            "all of it allocated: others can take the rest, and Docker then gets I/O errors",
            f"`fallocate --length {image.size} {path}` on the host fills them, and loses nothing",
        )
    elif image.shared:
        yield Finding(
            f"{path} shares extents with another file: somebody copied it by reflink (as `cp` does on xfs)",
            "extents of its own: a write to a shared one takes new space, which others may have taken",
            "remove the copy, or copy it with `cp --reflink=never` and then remove the first copy",
        )


def _no_room(
    settings: Settings, storage: Storage, mount: Mount, added: int, keep: int, largest: int, old_data: int
) -> Finding:
    smaller = f'set a smaller volume_file (at most "{setting_of(largest)}" fits), ' if largest >= 2 * MINIMUM else ""
    both = (
        f". Docker's old data, {human(old_data)}, is on it too and stays until the move is finalized: both must fit at once, "
        "with relocation_finalize too"
        if old_data
        else ""
    )
    return Finding(
        f"{mount.target} has {human(mount.available)} free{both}",
        f"{human(added + keep)}: {human(added)} for volume_file {settings.volume_file}, and {human(keep)} that stay free "
        f"(volume_file_keep {settings.volume_file_keep}, at least {human(_LEAST_FREE)})",
        f"{smaller}free space on {mount.target}, or {another_disk(settings, storage)}",
    )


def _with_device(storage: Storage, group: str, size: int) -> Storage:
    """Return the facts with the loop device as large as the file is going to be, and so its group."""
    device = storage.device(VOLUME_FILE_DEVICE)
    if device is None:
        blank = BlockDevice(VOLUME_FILE_DEVICE, "loop", size, False, (), (), (), (), zeroed=True)
        return replace(storage, devices=(*storage.devices, blank))
    volume = storage.physical_volume(VOLUME_FILE_DEVICE)
    found = storage.volume_group(group)
    added = max(usable(size, found.extent_size) - volume.size, 0) if found and volume else 0
    return replace(
        storage,
        devices=tuple(replace(d, size=size) if d is device else d for d in storage.devices),
        volume_groups=tuple(
            replace(g, size=g.size + added, free=g.free + added) if g is found else g for g in storage.volume_groups
        ),
    )
