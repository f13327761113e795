"""Judge the disks that the setting volume_disks names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bulkhead.sizes import MINIMUM, human
from pyinfra_lvm.model import BlockDevice, Storage
from pyinfra_lvm.operations import not_blank
from settings.model import Settings
from tasks.preflight.finding import Finding
from tasks.support.paths import TAG, VOLUME_FILE_DEVICE

# Kernel names of devices that are not there after a boot, or empty, and what they are. lsblk calls most of them disks.
_TRANSIENT = {
    "loop": "a loop device",
    "ram": "a RAM disk",
    "zram": "a compressed RAM disk",
    "nbd": "a network block device",
}

# Devices of these types of lsblk that LVM does not take (`man lvm.conf`: scan_lvs), or that cannot be written.
_OTHER_TYPES = {"lvm": "a logical volume", "rom": "an optical drive"}

# Disks of a cloud's own host machine, by lsblk's MODEL. EC2's instance store; Compute Engine's local SSD by NVMe (a
# persistent disk is nvme_card-pd) and by SCSI (rules of google/guest-configs); Azure's local NVMe (80-azure-disk.rules of
# Azure/azure-vm-utils).
_EPHEMERAL_MODEL = re.compile(
    r"Amazon EC2 NVMe Instance Storage|nvme_card\d*|EphemeralDisk|Microsoft NVMe Direct Disk( v2)?"
)

# The same by their links: of the same rules, of cloud-init and Azure's agent for the temporary disk, and its NTFS label.
_EPHEMERAL_LINKS = (
    "/dev/disk/azure/local/",
    "/dev/disk/azure/resource",
    "/dev/disk/azure/temp/",
    "/dev/disk/by-id/google-local-",
    "/dev/disk/by-id/nvme-Amazon_EC2_NVMe_Instance_Storage",
    r"/dev/disk/by-label/Temporary\x20Storage",
    "/dev/disk/cloud/azure_resource",
)

# libblkid's names of signatures whose holder shows no mount of the device, and what it then is.
_USED_WITHOUT_A_MOUNT = {
    "zfs_member": "belongs to a ZFS pool",
    "ceph_bluestore": "belongs to Ceph",
    "drbd": "belongs to DRBD",
    "jbd": "is the journal of an ext4",
    "xfs_external_log": "is the log of an xfs",
    "oracleasm": "belongs to Oracle ASM",
}

# lsblk shows a mounted btrfs on one of its devices only.
_BTRFS = {"btrfs": "may belong to a btrfs that is mounted"}


def new_disks(settings: Settings, storage: Storage, group: str) -> tuple[str, ...]:
    """Return the named disks that are not in the group yet and become a part of it.

    Args:
        group: name of the volume group.
    """
    stale = _stale_names(settings, storage, group)
    return tuple(path for path in settings.volume_disks if storage.group_of(path) != group and path not in stale)


def _stale_names(settings: Settings, storage: Storage, group: str) -> tuple[str, ...]:
    """Return the names that no longer lead to a disk of a complete group that has our volume.

    Such a group is known by its own name. Kernel names change at a boot, all names with the type of the machine. A name
    of another kind that leads to another disk is no stale one: somebody wants that disk.
    """
    found = storage.volume_group(group)
    volume = storage.logical_volume(group, settings.logical_volume)
    if not found or found.missing_physical_volumes or not volume or TAG not in volume.tags:
        return ()
    extends = settings.volume_group_extend  # a group that had a disk of its own before
    if len(storage.physical_volumes_of(group)) < len(settings.volume_disks) + extends:
        return ()  # a further disk is named
    named = {path: storage.device(path) for path in settings.volume_disks if storage.group_of(path) != group}
    return tuple(
        path
        for path, device in named.items()
        if device is None or (device.path == path and (not extends or why_not_blank(device, None)))
    )


def judge_disks(settings: Settings, storage: Storage, group: str) -> Iterator[Finding]:
    """Yield why a named disk cannot become a part of the group.

    Args:
        group: name of the volume group.
    """
    first_names: dict[str, str] = {}
    stale = _stale_names(settings, storage, group)
    for path in settings.volume_disks:
        device = storage.device(path)
        if path in stale:
            continue
        if device is None and _transient_kind(path):
            yield _refuse_transient(path, _transient_kind(path), settings, storage)
        elif device is None:
            disks = (f"{stable_name(d)} ({human(d.size)})" for d in storage.devices if d.type == "disk")
            yield Finding(
                f"there is no disk {path}; this host has {', '.join(disks)}",
                "every disk that volume_disks names",
                "attach the disk, or correct volume_disks",
            )
        elif (other := first_names.setdefault(device.path, path)) != path:
            yield Finding(f"{other} and {path} are the same disk", "each disk once", "correct volume_disks")
        else:
            yield from _judge_disk(settings, storage, path, device, group)


def _judge_disk(settings: Settings, storage: Storage, path: str, device: BlockDevice, group: str) -> Iterator[Finding]:
    owner = storage.group_of(path)
    name = f"{path} ({human(device.size)})"
    if owner == group:
        return
    if owner:
        yield Finding(
            f"{path} is in the volume group {owner}",
            "a blank disk",
            f"name another disk; or, to use the free space of that group, set volume_group to {owner} and "
            "volume_disks to []",
        )
        return
    if kind := unsuitable(storage, device):
        yield _refuse_transient(name, kind, settings, storage)
        return
    # The kernel chooses the number of a loop device that is not there yet.
    names = (path, device.path, *device.aliases, *(("/dev/loop0",) if path == VOLUME_FILE_DEVICE else ()))
    if pattern := storage.lvm_config.rejecting(names):
        yield Finding(
            f"LVM ignores {name}: {pattern} in a filter of lvm.conf rejects it",
            "a disk that LVM uses",
            f'put "a|^{path}$|" before that pattern in /etc/lvm/lvm.conf (devices/filter, devices/global_filter), '
            f"`update-initramfs -u`, and run again; or {another_disk(settings, storage)}",
        )
        return
    if reason := why_not_blank(device, owner):
        uses = [*_uses(storage, device)]
        yield Finding(
            "; ".join([f"{name} {reason}", *uses]),
            "a blank disk: a disk that carries anything is never overwritten",
            _advice(storage, path, device, is_used=bool(uses or device.mount_points)),
        )
    if is_ephemeral(storage, device) and not settings.takes_ephemeral_disks:
        yield Finding(
            f"{name} is an ephemeral disk{f' ({device.model})' if device.model else ''}: the cloud empties it when the "
            "machine is stopped or moved",
            "a disk that keeps its content",
            f"{another_disk(settings, storage)}; or set allow_ephemeral_disks = True if Docker's data may be lost with it",
        )


def _transient_kind(path: str) -> str:
    """Return what a kernel name is whose device is not there after a boot, or empty; empty for another name."""
    kind = re.match(r"/dev/([a-z]+)\d", path)
    return _TRANSIENT.get(kind[1], "") if kind else ""


def _refuse_transient(name: str, kind: str, settings: Settings, storage: Storage) -> Finding:
    return Finding(
        f"{name} is {kind}",
        "a disk or partition that is there with its content after every boot",
        another_disk(settings, storage),
    )


def unsuitable(storage: Storage, device: BlockDevice) -> str:
    """Return what a device is that never becomes a part of a group, whatever it holds; empty for a suitable one."""
    if VOLUME_FILE_DEVICE in (device.path, *device.aliases):
        return ""  # the loop device of our own file: a unit attaches it at every boot
    for below in storage.ancestors(device):
        if kind := _transient_kind(below.path) or ("a removable device" if below.removable else ""):
            return kind
    return _OTHER_TYPES.get(device.type, "")


def is_whole(device: BlockDevice) -> bool:
    """Return whether a device is a disk, a RAID array or a multipath device, and no part of one."""
    return device.type in ("disk", "mpath") or device.type.startswith("raid")


def is_ephemeral(storage: Storage, device: BlockDevice) -> bool:
    """Return whether a device is on a disk of a cloud's host machine, which the cloud empties."""
    below = storage.ancestors(device)
    links = (alias for other in (*below, *storage.descendants(device)) for alias in other.aliases)
    return any(_EPHEMERAL_MODEL.fullmatch(other.model) for other in below) or any(
        link.startswith(_EPHEMERAL_LINKS) for link in links
    )


def _uses(storage: Storage, device: BlockDevice) -> Iterator[str]:
    """Yield what this host runs on a disk, in words."""
    uses = _USED_WITHOUT_A_MOUNT | (_BTRFS if any(mount.fstype == "btrfs" for mount in storage.mounts) else {})
    for part in storage.descendants(device):
        name = next((alias for alias in part.aliases if alias.startswith("/dev/mapper/")), part.path)
        if group := storage.group_of(part.path):
            yield f"{name} is in the volume group {group}"
        if part is not device and part.mount_points:
            places = ", ".join(place for place in part.mount_points if place != "[SWAP]")
            yield f"{name} is mounted on {places}" if places else f"{name} is swap"
        elif part is not device and part.type not in ("part", "lvm"):
            yield f"{name} ({part.type}) is on it"
        if not part.mount_points:
            yield from (f"{name} {uses[signature]}" for signature in part.signatures if signature in uses)


def _advice(storage: Storage, path: str, device: BlockDevice, is_used: bool) -> str:
    """Return what to do about a disk that is not blank. It never tells how to overwrite this one."""
    on_it = (storage.device(child) for child in device.children)
    if multipath := next((child for child in on_it if child and child.type == "mpath"), None):
        return f"name another disk, or the multipath device that this one is a path of: {stable_name(multipath)}"
    advice = "name another disk"
    if is_used:
        advice += ": this host uses this one"
    elif not device.read_only:
        advice += "; docs/refused.md says how to blank a disk that nobody needs"
    kernel_name = f"; {path} is a kernel name, which can mean another disk after every boot"
    return advice + (kernel_name if path == device.path else "")


def why_not_blank(device: BlockDevice, owner: str | None) -> str:
    """Return why a disk that is in no group is not taken; empty for a blank one."""
    if owner == "":
        # A cut between pvcreate and vgcreate leaves a physical volume with nothing beyond its header.
        held = "is a physical volume that was in a volume group, which `vgcfgrestore` may bring back"
        return "" if device.zeroed_beyond_header else held
    return not_blank(device) or ("could not be read" if device.zeroed is None else "")


def disk_warnings(settings: Settings, storage: Storage, group: str) -> Iterator[str]:
    """Yield a warning for each named disk that its name or its kind may cost its owner later.

    Args:
        group: name of the volume group.
    """
    for path in _stale_names(settings, storage, group):
        disks = ", ".join(volume.path for volume in storage.physical_volumes_of(group))
        yield f"{path} is not used: the volume group {group} is complete without it, on {disks}; correct volume_disks"
    for path in new_disks(settings, storage, group):
        device = storage.device(path)
        if device and path == device.path and stable_name(device) != path:
            yield f"{path} can be another disk after a boot; name it {stable_name(device)} in volume_disks"
        if device and is_ephemeral(storage, device):
            yield f"{path} is an ephemeral disk: Docker's data is lost when the machine is stopped or moved"


def another_disk(settings: Settings, storage: Storage) -> str:
    """Return the advice to name another disk, with the blank disks and arrays that the host has."""
    blank = (
        device
        for device in storage.devices
        if is_whole(device)
        and device.size > MINIMUM
        and not not_blank(device)
        and not unsuitable(storage, device)
        and not is_ephemeral(storage, device)
        and not {device.path, *device.aliases} & {*settings.volume_disks}
    )
    listed = ", ".join(f"{stable_name(device)} ({human(device.size)})" for device in blank)
    return f"name a blank disk in volume_disks ({f'there is {listed}' if listed else 'there is none: attach one'})"


def stable_name(device: BlockDevice) -> str:
    """Return a name that a device keeps; its kernel name where it has no other."""
    directories = ("/dev/disk/by-id/", "/dev/mapper/", "/dev/disk/by-path/")
    # udev also names a physical volume by what LVM has written on it: no name that anybody knows the disk by.
    names = [alias for alias in device.aliases if not alias.startswith("/dev/disk/by-id/lvm-pv-uuid-")]
    return next((name for start in directories for name in names if name.startswith(start)), device.path)
