"""Judge and plan the adoption of a filesystem: the one on /var/lib/docker becomes Docker's volume in place. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bulkhead.names import BALLAST, DOCKER_STORE, MARKER
from bulkhead.sizes import human
from pyinfra_lvm.model import BlockDevice, FstabEntry, Mount, Storage
from pyinfra_lvm.operations import fstab_entries_of
from settings.model import Settings
from tasks.preflight.disks import is_ephemeral, unsuitable
from tasks.preflight.finding import LEAVE_OUT, Finding, Refused
from tasks.preflight.host import HostState
from tasks.preflight.lost_volumes import MOVED
from tasks.preflight.mount_points import MountPoint, judge_mount_point
from tasks.preflight.plan import ADOPTED_NAMES
from tasks.preflight.relocation import is_dockers_mount
from tasks.preflight.volume_group import VolumePlan
from tasks.support.paths import FSTAB, STORES, TAG

_FILESYSTEMS = ("ext4", "xfs")

# At the top of Docker's store: what Docker and its drivers make there (moby, daemon and daemon/graphdriver), directories of
# remapped users, the filesystem's own, and what an adoption that went back has left.
_DOCKERS = re.compile(
    r"builder|buildkit|containerd|containers|engine-id|image|network|nuke-graph-directory\..*|overlay2|plugins|rootfs|"
    r"runtimes|swarm|tmp(-old)?|trust|volumes|vfs|fuse-overlayfs|\d+\.\d+|lost\+found|"
    rf"containerd\.(moving|left-\d+)|{re.escape(MARKER)}|{re.escape(BALLAST)}"
)
_LISTED = 5  # names in a message

# containerd's old tree stays until the move is finalized, but it is on another disk: the copy needs a tenth more than it.
_MARGIN = 1.1


@dataclass(frozen=True)
class FilesystemRoot:
    """What is at the top of the filesystem that is going to be adopted."""

    names: tuple[str, ...] = ()
    has_types: bool = True  # directories name the types of their entries; an xfs with ftype=0 has not


EMPTY = FilesystemRoot()


@dataclass(frozen=True)
class Adoption:
    """A filesystem that is, or becomes, Docker's volume."""

    volume: VolumePlan  # without a group
    entry: FstabEntry  # its line of fstab in its new place, with the options that its owner has set
    is_done: bool


def present_entry(settings: Settings, state: HostState, storage: Storage) -> FstabEntry | None:
    """Return the line of fstab for a filesystem that was adopted; None where none was."""
    bind = f"{settings.volume_mount}/docker"
    is_bound = any((entry.source, entry.target) == (bind, DOCKER_STORE) for entry in storage.fstab)
    listed = next((entry for entry in storage.fstab if entry.target == settings.volume_mount), None)
    if listed and not _is_adopted(settings, state, storage, listed.source):
        return None  # a logical volume of this project's
    if listed and is_bound:
        return listed
    # A line that is lost is known from the program's configuration. Without both lines, and unless the journal says that it
    # ended, an adoption has not begun, or has gone back.
    is_known = _is_adopted(settings, state, storage, state.configured_volume)
    device = storage.device(state.configured_volume) if is_known else None
    if listed and listed.source == state.configured_volume:
        return listed
    if device and (is_bound or state.relocation in MOVED):
        kind = next((one for one in device.signatures if one in _FILESYSTEMS), "")
        return FstabEntry(state.configured_volume, settings.volume_mount, kind, state.configured_options)
    return None


def _is_adopted(settings: Settings, state: HostState, storage: Storage, source: str) -> bool:
    """Return whether a source of mounts names a filesystem that was adopted, and not a logical volume of this project's."""
    if source.startswith(ADOPTED_NAMES) or (source == state.configured_volume and state.configured_options):
        return True
    # After an undeploy only fstab tells.
    adoptable = (v for v in storage.logical_volumes if v.mapper_path == source and TAG not in v.tags)
    return settings.adopt_filesystem and any(adoptable)


def judge_setting(settings: Settings, state: HostState, storage: Storage) -> Iterator[Finding]:
    """Yield that a host has an adopted filesystem, and its settings ask for another volume."""
    entry = present_entry(settings, state, storage)
    if not settings.adopt_filesystem and entry:
        yield Finding(
            f"the filesystem {entry.source} is this host's Docker volume, and adopt_filesystem is not set",
            "settings that say so: this run would look for a volume group",
            "set adopt_filesystem = True for this host; or `bulkhead rollback` on it, which gives the filesystem back",
        )


def is_wanted(settings: Settings, state: HostState, storage: Storage) -> bool:
    """Return whether a filesystem has yet to be adopted."""
    return settings.adopt_filesystem and present_entry(settings, state, storage) is None


def plan_adoption(settings: Settings, state: HostState, storage: Storage, root: FilesystemRoot) -> Adoption:
    """Plan the volume of a host whose filesystem is adopted.

    Args:
        root: what lies on a filesystem that has yet to be adopted.

    Raises:
        Refused: there is no filesystem, or it does not qualify.
    """
    entry = present_entry(settings, state, storage)
    if entry is not None:
        mount = storage.mount(settings.volume_mount)
        if mount is None:
            raise Refused(_not_mounted(storage, entry))
        return Adoption(_volume(mount, tuple(_clone_warnings(storage, entry, mount))), entry, is_done=True)
    if other := next((each.source for each in storage.fstab if each.target == settings.volume_mount), ""):
        raise Refused(
            Finding(
                f"adopt_filesystem is set, and this host has a Docker volume already: {other} on {settings.volume_mount}",
                "settings that say so",
                "take adopt_filesystem out of the settings for this host",
            )
        )
    mount = storage.mount(DOCKER_STORE)
    if mount is None:
        raise Refused(_nothing_mounted(storage))
    device = storage.device(mount.device)
    findings = [*_judge_kind(storage, mount, device)]
    if findings or device is None:
        raise Refused(*findings)
    source = _source(storage, device)
    findings += _judge_fstab(storage, mount, device, source)
    findings += _judge_uses(state, storage, mount, device)
    findings += _judge_contents(storage, root)
    findings += _judge_room(state, storage, mount)
    findings += _judge_places(settings, storage, source, device)
    if findings:
        raise Refused(*findings)
    (theirs,) = _lines(storage, device)
    entry = FstabEntry(source, settings.volume_mount, mount.fstype, theirs.options)
    return Adoption(_volume(mount, tuple(_warnings(storage, device))), entry, is_done=False)


def has_images_in_containerd(state: HostState, storage: Storage) -> bool:
    """Return whether containerd's store holds images off the filesystem, which are copied onto it."""
    # Directories of running containers are there too, and go when Docker stops.
    held = state.containerd_data.images or state.containerd_data.layers
    return bool(held) and storage.mount(STORES["containerd"]) is None


def notice(state: HostState, adoption: Adoption, containers: str, *, copies: bool) -> str:
    """Return what the owner of a living host should know before the run.

    Args:
        containers: those that run, in words; empty for none.
        copies: containerd's store is copied onto the filesystem.
    """
    copied = (
        f" Before that, while Docker runs, containerd's images are copied onto it: {human(state.store_bytes)} in "
        f"{state.store_inodes} files."
        if copies
        else ""
    )
    return (
        f"the filesystem on {DOCKER_STORE} ({adoption.entry.source}, {human(adoption.volume.size)}) becomes Docker's volume in "
        f"place: what is on it is renamed, and nothing of it is copied. For that Docker stops"
        f"{f', and with it {containers}. They start again on it' if containers else ''}. The outage takes seconds, whatever the "
        f"size, beside the time in which the containers stop and start.{copied} `bulkhead rollback` goes back (docs/adopt.md)"
    )


def _volume(mount: Mount, warnings: tuple[str, ...]) -> VolumePlan:
    return VolumePlan("", (), mount.size, mount.size, reserve=0, warnings=warnings, findings=())


def _source(storage: Storage, device: BlockDevice) -> str:
    """Return the name for fstab that a clone of the filesystem does not have, if there is one; else its UUID.

    Empty where it has neither.
    """
    volume = storage.logical_volume_on(device)
    theirs = next((line.source for line in _lines(storage, device) if line.source.startswith("/dev/disk/by-id/")), "")
    if volume or theirs:
        return volume.mapper_path if volume else theirs
    by_uuid = next((alias for alias in device.aliases if alias.startswith("/dev/disk/by-uuid/")), "")
    return f"UUID={by_uuid.rpartition('/')[2]}" if by_uuid else ""


def _clones(storage: Storage, device: BlockDevice) -> list[str]:
    """Return the other devices with the UUID of a device's filesystem: a restored snapshot, a copy of the disk."""
    # The paths of a multipath device and the parts of a mirror are no copies.
    same = {*storage.ancestors(device), *storage.descendants(device)}
    return [other.path for other in storage.devices if other not in same and {*other.uuids} & {*device.uuids}]


def _clone_warnings(storage: Storage, entry: FstabEntry, mount: Mount) -> Iterator[str]:
    device = storage.device(mount.device) if entry.source.startswith("UUID=") else None
    if device and (clones := _clones(storage, device)):
        yield (
            f"{', '.join(clones)} has the same UUID as Docker's volume, and the next boot may mount it instead: detach it, or "
            "give it another UUID (`tune2fs -U random`, `xfs_admin -U generate`)"
        )


def _lines(storage: Storage, device: BlockDevice) -> list[FstabEntry]:
    """Return the lines of fstab that mount a device on Docker's store."""
    return [entry for entry in fstab_entries_of(storage, device.path) if entry.target == DOCKER_STORE]


def _not_mounted(storage: Storage, entry: FstabEntry) -> Finding:
    is_listed = any(other.target == entry.target for other in storage.fstab)
    by_hand = f"mount {entry.target}" if is_listed else f"mount -o private {entry.source} {entry.target}"
    return Finding(
        f"nothing is mounted on {entry.target}, and {entry.source} belongs there",
        "the filesystem that is Docker's volume, mounted",
        f"`{by_hand}` on the host, which says why if it fails; then run again",
    )


def _nothing_mounted(storage: Storage) -> Finding:
    listed = [entry.source for entry in storage.fstab if entry.target == DOCKER_STORE]
    holder = storage.mount_containing(DOCKER_STORE)
    if listed:
        return Finding(
            f"fstab mounts {', '.join(listed)} on {DOCKER_STORE}, and nothing is mounted there",
            "the filesystem that adopt_filesystem takes over, mounted",
            f"stop Docker, `mount {DOCKER_STORE}`, start Docker, and run again",
        )
    beneath = storage.directory(DOCKER_STORE)
    if beneath and beneath.kind == "symlink":
        return Finding(
            f"adopt_filesystem is set, and {DOCKER_STORE} is a symbolic link",
            f"a filesystem of Docker's own, mounted on {DOCKER_STORE}",
            f"stop Docker and remove the link; then, if Docker's data lies at the top of a filesystem, mount that on {DOCKER_STORE} "
            "by fstab; if not, move the data back there, and take adopt_filesystem out of the settings",
        )
    return Finding(
        f"adopt_filesystem is set, and {DOCKER_STORE} is a directory of the filesystem on {holder.target if holder else '/'}",
        f"a filesystem of Docker's own, mounted on {DOCKER_STORE}: any other is shared with whatever else is on it",
        "take adopt_filesystem out of the settings: Docker's data then moves to a volume of its own (docs/move.md)",
    )


def _judge_kind(storage: Storage, mount: Mount, device: BlockDevice | None) -> Iterator[Finding]:
    what = f"{mount.source}[{mount.root}]" if mount.root != "/" else mount.source
    other = f"leave adopt_filesystem unset: unmount it, and Docker's data can move to a volume of its own (docs/move.md); {LEAVE_OUT}"
    if mount.root != "/":
        yield Finding(
            f"a directory of a larger filesystem is mounted on {DOCKER_STORE}: {what}",
            "a whole filesystem: what else is on this one could fill it under Docker",
            other,
        )
    elif mount.fstype not in _FILESYSTEMS or device is None:
        yield Finding(
            f"the filesystem on {DOCKER_STORE} is {mount.fstype}: {what}",
            "ext4 or xfs on a disk of this host",
            other,
        )
    elif kind := unsuitable(storage, device) if device.type != "lvm" else "":
        yield Finding(
            f"the filesystem on {DOCKER_STORE} is on {kind}: {what}",
            "a disk, partition or logical volume that is there after every boot",
            other,
        )
    elif "ro" in mount.options:
        yield Finding(
            f"the filesystem on {DOCKER_STORE} is read-only: {what}",
            "one that can be written to",
            "`dmesg` says whether the kernel made it so after an error; check it (`e2fsck -f`, `xfs_repair`), and run again",
        )


def _judge_fstab(storage: Storage, mount: Mount, device: BlockDevice, source: str) -> Iterator[Finding]:
    listed = [entry for entry in storage.fstab if entry.target == DOCKER_STORE]
    ours = _lines(storage, device)
    if not source:
        yield Finding(
            f"{mount.source} has no name under /dev/disk/by-uuid",
            "a UUID, by which fstab and the way back find the filesystem on whatever disk",
            f"`udevadm trigger {mount.source}` makes udev look again; `blkid {mount.source}` shows the UUID",
        )
    if len(listed) != 1 or len(ours) != 1:
        shown = ", ".join(entry.source for entry in listed) or "nothing"
        yield Finding(
            f"{FSTAB} mounts {shown} on {DOCKER_STORE}, where {mount.source} is mounted",
            "one line for it, which this project replaces",
            f"add the line `{source or mount.source} {DOCKER_STORE} {mount.fstype} defaults,nofail 0 2`, remove any other for that "
            "path, and run again",
        )
        return
    by_hand = [
        o for o in ours[0].options if o in ("noauto", "x-systemd.automount") or o.startswith("x-systemd.idle-timeout")
    ]
    if by_hand:
        yield Finding(
            f"{FSTAB} mounts {DOCKER_STORE} with {', '.join(by_hand)}",
            "a filesystem that is mounted at boot: Docker waits for it",
            f"take {', '.join(by_hand)} out of that line, `systemctl daemon-reload`, and run again",
        )


def _judge_uses(state: HostState, storage: Storage, mount: Mount, device: BlockDevice) -> Iterator[Finding]:
    within = f"{DOCKER_STORE}/"
    targets = {other.target for other in storage.mounts_of(device.path)} - {DOCKER_STORE}
    if elsewhere := [target for target in sorted(targets) if not target.startswith(within)]:
        yield Finding(
            f"{mount.source} is mounted on {', '.join(elsewhere)} too",
            f"one mount of it, on {DOCKER_STORE}: whoever uses the other would find its files renamed",
            f"unmount {', '.join(elsewhere)}, take the lines for it out of {FSTAB}, and run again",
        )
    elif listed := [e.target for e in fstab_entries_of(storage, device.path) if e.target != DOCKER_STORE]:
        yield Finding(
            f"{FSTAB} mounts {mount.source} on {', '.join(listed)} too",
            f"one mount of it, on {DOCKER_STORE}",
            f"take the lines for {', '.join(listed)} out of {FSTAB}, and run again",
        )
    # A running Docker's data is judged with every move: another has no mounts of its own.
    if not state.engine:
        for other in storage.mounts:
            if other.target.startswith(within) and not is_dockers_mount(state, other):
                yield Finding(
                    f"{other.source} is mounted on {other.target}, within the filesystem that is adopted",
                    "no mounts of others there",
                    f"unmount it, {LEAVE_OUT}",
                )
    volume = storage.logical_volume_on(device)
    snapshots = [
        v.path
        for v in storage.logical_volumes
        if volume and (v.volume_group, v.origin) == (volume.volume_group, volume.name)
    ]
    if snapshots:
        yield Finding(
            f"{mount.source} has a snapshot: {', '.join(snapshots)}",
            "none: it has the same UUID, and fstab could mount it in place of the filesystem",
            "remove it, or wait until it is no longer needed, and run again",
        )
    elif clones := _clones(storage, device):
        yield Finding(
            f"{', '.join(clones)} has the same UUID as the filesystem on {DOCKER_STORE}",
            "one device with that UUID: fstab and the way back could mount the other one, a copy of a disk or of a snapshot",
            "detach the copy, or give it another UUID (`tune2fs -U random`, `xfs_admin -U generate`), and run again",
        )


def _judge_contents(storage: Storage, root: FilesystemRoot) -> Iterator[Finding]:
    if others := sorted(name for name in root.names if not _DOCKERS.fullmatch(name)):
        more = f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
        yield Finding(
            f"the filesystem on {DOCKER_STORE} holds what is not Docker's: {', '.join(others[:_LISTED])}{more}",
            "Docker's data and nothing else: everything on it would move with Docker's, and share its space",
            "move it to another filesystem, and run again",
        )
    if not root.has_types:
        yield Finding(
            f"the xfs on {DOCKER_STORE} was made with ftype=0",
            "ftype=1: overlay2 needs the types of files in directories",
            "save what you need, make the filesystem anew (`mkfs.xfs` of today sets it), and run again",
        )
    beneath = storage.directory(DOCKER_STORE)
    if beneath and not (beneath.kind in ("directory", "absent") and beneath.empty):
        yield Finding(
            f"the directory {DOCKER_STORE} is not empty beneath the mount",
            "an empty directory to mount on: what is there is hidden, and takes space on another filesystem",
            "see what is there (`mount --bind /var/lib /mnt`, then /mnt/docker) and move it away",
        )


def _judge_room(state: HostState, storage: Storage, mount: Mount) -> Iterator[Finding]:
    if not has_images_in_containerd(state, storage):
        return
    needed = int(state.store_bytes * _MARGIN)
    if needed > mount.available:
        yield Finding(
            f"containerd's images take {human(state.store_bytes)}, and the filesystem on {DOCKER_STORE} has "
            f"{human(mount.available)} free",
            f"{human(needed)}: they are copied onto it, with a tenth more",
            "free space (in Docker: `docker system df`, `docker image prune`), or grow the filesystem",
        )


def _judge_places(settings: Settings, storage: Storage, source: str, device: BlockDevice) -> Iterator[Finding]:
    another = "or set volume_mount to another directory"
    yield from judge_mount_point(storage, MountPoint(settings.volume_mount, source, "/", device.path, another))
    yield from judge_mount_point(
        storage,
        MountPoint(
            STORES["containerd"],
            source=f"{settings.volume_mount}/containerd",
            root="/containerd",
            device=device.path,
            alternative=LEAVE_OUT,
            is_store=True,
            may_hold_files=True,
        ),
    )


def _warnings(storage: Storage, device: BlockDevice) -> Iterator[str]:
    if is_ephemeral(storage, device):
        yield f"the filesystem on {DOCKER_STORE} is on an ephemeral disk: Docker's data is lost when the machine is stopped or moved"
    volume = storage.logical_volume_on(device)
    if volume and volume.segment_type.startswith("thin"):
        yield (
            f"the filesystem on {DOCKER_STORE} is on a thin volume: when its pool is full, Docker gets errors, and no check of "
            "this project sees that before"
        )
