"""Manage LVM physical volumes, volume groups and logical volumes, filesystems, and mounts with their line in fstab.

Nothing here shrinks, wipes or removes. An operation that would destroy something refuses: it yields one command that
prints the reason and fails. So this host fails and the others go on: an exception would end the run for all hosts.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Generator, Sequence
from pathlib import PurePosixPath

from pyinfra import host
from pyinfra.api import OperationValueError, StringCommand

from pyinfra_lvm.collection import fact, operation
from pyinfra_lvm.facts import XFS_NEW_INODES, ZEROS, StorageLayout
from pyinfra_lvm.fstab import fstab_with
from pyinfra_lvm.model import BlockDevice, FstabEntry, Storage, mapper_path, names_in

Commands = Generator[StringCommand, None, None]

# A logical volume carries this tag from its creation until its filesystem is complete. After a power cut in between,
# the tag shows the next run that the volume is its own unfinished work and nobody's data.
UNFINISHED_TAG = "pyinfra-unfinished"

# A filesystem may be smaller than its device by less than this: mkfs and resize leave out a last block group (ext4) or
# allocation group (xfs: 16 MiB) that is too small.
GROWTH_TOLERANCE = 32 * 2**20

# Forced, because a cut may have left half a filesystem. Even so neither touches a device in use: both open it
# exclusively (mkfs.ext4 would need -F twice).
_MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}


def refusal(message: str) -> StringCommand:
    """Return a command that fails this host with a message, and this host only.

    An exception in an operation's body would end the run for every host (pyinfra's api/operations.py).
    """
    return StringCommand(f"printf '%s\\n' {shlex.quote(message)} >&2; exit 1")


def not_blank(device: BlockDevice) -> str:
    """Return why a device is not blank; empty for a blank one.

    >>> not_blank(BlockDevice("/dev/vdb", "disk", 2**30, False, (), ("ext4",), (), (), zeroed=False))
    'carries a signature: ext4'
    """
    if device.read_only:
        return "is read-only"
    if device.mount_points:
        return f"is mounted or in use: {', '.join(device.mount_points)}"
    if device.signatures:
        return f"carries a signature: {', '.join(device.signatures)}"
    if device.children:
        return f"is in use by {', '.join(device.children)}"
    if device.zeroed is False:
        return "holds data, or cannot be read: it is not all zeros"
    return ""


# -- the commands that make things: each checks once more, right before it writes. A deploy has them run by `operation`s; a
# script that runs without one has them from here too. Names of devices are shell words in them.


def blank_guard(device: str) -> str:
    """Return shell code that ends the command unless the device is blank now: the fact may be minutes old."""
    return (
        f"device={device}; "
        'refuse() { echo "refused: $device $1; nothing was written to it" >&2; exit 1; }; '
        '[ -b "$device" ] || refuse "is no block device"; '
        '[ -z "$(lsblk --noheadings --output MOUNTPOINTS "$device" | tr -d "[:space:]")" ] || refuse "is mounted or in use"; '
        '[ "$(lsblk --noheadings --list "$device" | wc -l)" -eq 1 ] || refuse "has partitions or is in use"; '
        'found=$(wipefs --no-act --noheadings --output TYPE "$device") || refuse "cannot be examined"; '
        '[ -z "$found" ] || refuse "carries a signature: $found"; '
        f'{ZEROS}zeros_from "$device" 0 || refuse "holds data, or cannot be read"; '
    )


def unused_guard(devices: str) -> str:
    """Return shell code that ends the command unless each of the devices is a physical volume that was never in a group.

    vgcreate and vgextend make a physical volume of any device, whatever it holds. And a physical volume whose group was
    removed still has what `vgcfgrestore` needs.
    """
    return (
        f"{ZEROS}"
        f'for device in {devices}; do found=$(pvs --noheadings --options vg_name "$device" 2>/dev/null) && '
        '[ -z "$(echo $found)" ] && zeros_from "$device" 4608 || '
        '{ echo "refused: $device is no unused physical volume; nothing was written to it" >&2; exit 1; }; done; '
    )


def make_physical_volume(device: str) -> str:
    """Return the command that makes a blank device a physical volume."""
    return f"{blank_guard(device)} pvcreate --quiet {device} </dev/null"


def make_volume_group(group: str, devices: str, tags: Sequence[str] = ()) -> str:
    """Return the command that makes a volume group of unused physical volumes."""
    return f"{unused_guard(devices)}vgcreate --quiet {_added(tags)}{shlex.quote(group)} {devices} </dev/null"


def make_logical_volume(
    group: str, volume: str, size: int, tags: Sequence[str], layout: str = "", disks: str = ""
) -> str:
    """Return the command that makes a logical volume, which is unfinished until it has its filesystem.

    Args:
        size: bytes, in whole extents.
        layout: options of lvcreate that say on how many disks it is, and how.
        disks: the physical volumes that it is on; without them, LVM chooses.
    """
    return (
        f"lvcreate --quiet --yes --wipesignatures y {layout}{_added([UNFINISHED_TAG, *tags])}"
        f"--name {shlex.quote(volume)} --size {size}b {shlex.quote(group)}{disks} </dev/null"
    )


def make_filesystem(group: str, volume: str, fstype: str, options: Sequence[str] = ()) -> str:
    """Return the command that makes the filesystem on an unfinished volume, and then takes the tag away."""
    device, name = mapper_path(group, volume), shlex.quote(f"{group}/{volume}")
    quoted = shlex.quote(device)
    return (
        f"lvs --noheadings --options lv_tags {name} | tr -d ' ' | tr , '\\n' | grep -qx {UNFINISHED_TAG} && "
        f"! findmnt --source {quoted} >/dev/null && "
        # It may have been mounted meanwhile: the count of mounts (ext4) or the inodes (xfs) show it.
        f"! dumpe2fs -h {quoted} 2>/dev/null | grep -q '^Mount count: *[1-9]' && "
        f"{{ [ \"$(head -c 4 {quoted} | tr -d '\\0')\" != XFSB ] || "
        f"od -An -j128 -N16 -tu8 --endian=big {quoted} | awk '{{ exit ($1 - $2 > {XFS_NEW_INODES}) }}'; }} || "
        f"{{ echo 'refused: {device} is no unfinished volume; nothing was written to it' >&2; exit 1; }}; "
        f"{shlex.join([*_MKFS[fstype], *options, device])} </dev/null && sync && "
        f"lvchange --quiet --deltag {UNFINISHED_TAG} {name}"
    )


def striped(disks: int) -> str:
    """Return the options of lvcreate for a volume that is striped over so many disks (lvmraid(7), striped); none for one."""
    return f"--type striped --stripes {disks} " if disks > 1 else ""


def _added(tags: Sequence[str]) -> str:
    return "".join(f"--addtag {shlex.quote(tag)} " for tag in tags)


def _check_value(name: str, value: str) -> None:
    if not value or value.startswith("-") or any(character.isspace() for character in value):
        raise OperationValueError(f"{name} must not be empty, begin with '-' or contain white space: {value!r}")


@operation()
def physical_volume(device: str) -> Commands:
    """
    Make a blank disk or partition an LVM physical volume.

    + device: path of the device

    A device with a signature, partitions, a mount, or anything but zeros at its ends or its quarters is refused.

    **Example:**

    .. code:: python

        lvm.physical_volume(
            name="The second disk is a physical volume",
            device="/dev/disk/by-id/virtio-spare",
        )
    """
    _check_value("device", device)
    storage = fact(StorageLayout, probe=[device])
    found = storage.device(device)
    if found is None:
        yield refusal(f"{device}: no such device; nothing was changed")
    elif owner := storage.group_of(device):
        host.noop(f"{device} is a physical volume of {owner}")
    elif owner == "" and found.zeroed_beyond_header:
        host.noop(f"{device} is a physical volume in no group yet")
    elif reason := not_blank(found):
        yield refusal(
            f"{device} {reason}; only a blank device becomes a physical volume, and nothing was written to it"
        )
    else:
        yield StringCommand(make_physical_volume(shlex.quote(device)))


@operation()
def grown_physical_volume(device: str) -> Commands:
    """
    Have a physical volume take all of its device, which has become larger. It is never shrunk, and what is on it goes on.

    + device: path of the device

    **Example:**

    .. code:: python

        lvm.grown_physical_volume(
            name="The group takes the new space of its disk",
            device="/dev/disk/by-id/virtio-spare",
        )
    """
    _check_value("device", device)
    storage = fact(StorageLayout)
    volume = storage.physical_volume(device)
    if volume is None:
        yield refusal(f"{device} is no physical volume; nothing was changed")
    elif not storage.gain_of(volume):
        host.noop(f"the physical volume {device} takes all of its device")
    else:
        quoted = shlex.quote(device)
        # pvresize shrinks a physical volume too, if its device has become smaller meanwhile.
        yield StringCommand(
            f"size=$(pvs --noheadings --nosuffix --units b --options pv_size {quoted} | tr -d ' ') && "
            f'[ "$(blockdev --getsize64 {quoted})" -gt "$size" ] || '
            f"{{ echo 'refused: {device} is not larger than its physical volume; nothing was changed' >&2; exit 1; }}; "
            f"pvresize --quiet {quoted} </dev/null"
        )


@operation()
def volume_group(group: str, devices: list[str], extend: bool = False, mixed_sectors: bool = False) -> Commands:
    """
    Make a volume group of physical volumes, or extend one.

    + group: name of the volume group
    + devices: paths of its physical volumes
    + extend: add physical volumes that the group lacks; without it, such a group is refused
    + mixed_sectors: even with logical sectors of another size than the group's (lvm.conf, allow_mixed_block_sizes); a
      filesystem with larger sectors than its disk's works, one with smaller sectors does not

    **Example:**

    .. code:: python

        lvm.volume_group(
            name="A group of the second disk",
            group="docker-vg",
            devices=["/dev/disk/by-id/virtio-spare"],
        )
    """
    for name, value in [("group", group), *(("devices", device) for device in devices)]:
        _check_value(name, value)
    storage = fact(StorageLayout)
    owners = {device: storage.group_of(device) for device in devices}
    foreign = {device: owner for device, owner in owners.items() if owner not in (None, "", group)}
    missing = shlex.join([device for device, owner in owners.items() if owner != group])
    if foreign:
        listed = ", ".join(f"{device} (in {owner})" for device, owner in foreign.items())
        yield refusal(f"volume group {group}: {listed} belongs to another group; nothing was changed")
    elif storage.volume_group(group) is None:
        yield StringCommand(make_volume_group(group, missing))
    elif not missing:
        host.noop(f"volume group {group} holds {', '.join(devices)}")
    elif extend:
        mixed = "--config devices/allow_mixed_block_sizes=1 " if mixed_sectors else ""
        yield StringCommand(f"{unused_guard(missing)}vgextend --quiet {mixed}{shlex.quote(group)} {missing} </dev/null")
    else:
        yield refusal(f"volume group {group} exists without {missing}; nothing was changed. extend=True adds it.")


@operation()
def logical_volume(
    volume: str,
    group: str,
    size: int,
    tags: list[str] | None = None,
    mirrored: bool = False,
    disks: list[str] | None = None,
    stripes: int = 1,
) -> Commands:
    """
    Make a logical volume, linear, mirrored or striped, or grow one. It is never shrunk.

    + volume: name of the logical volume
    + group: name of its volume group
    + size: bytes, rounded down to whole extents
    + tags: LVM tags that the volume carries from its creation on; its other tags stay
    + mirrored: a new volume has two copies, each on a disk of its own (lvmraid(7), raid1). A mirror stays one when it grows;
      a linear volume is refused
    + disks: the physical volumes of the group that new extents are taken from; without it, LVM chooses. Before 2.03.22, LVM
      may grow both copies of a mirror on one disk where the group has more than two
    + stripes: a new volume is striped over so many disks; one that exists stays what it is

    A new volume carries the tag ``pyinfra-unfinished`` until ``filesystem`` has made its filesystem. Old signatures in
    its extents are wiped: they were in free space. The name of a snapshot or a thin volume is refused.

    **Example:**

    .. code:: python

        lvm.logical_volume(
            name="A volume of 60 GiB",
            volume="docker-lv",
            group="ubuntu-vg",
            size=60 * 2**30,
        )
    """
    for name, value in [
        ("volume", volume),
        ("group", group),
        *(("tags", tag) for tag in tags or []),
        *(("disks", disk) for disk in disks or []),
    ]:
        _check_value(name, value)
    storage = fact(StorageLayout)
    found = storage.logical_volume(group, volume)
    holder = storage.volume_group(group)
    extent = holder.extent_size if holder else 1
    wanted = size // extent * extent
    where = "".join(f" {shlex.quote(disk)}" for disk in disks or [])
    if found is None:
        layout = "--type raid1 --mirrors 1 " if mirrored else striped(stripes)
        yield StringCommand(make_logical_volume(group, volume, wanted, tags or [], layout, where))
    elif found.origin or found.segment_type.startswith("thin"):
        kind = f"a snapshot of {found.origin}" if found.origin else f"of the type {found.segment_type}"
        yield refusal(f"{group}/{volume} is {kind}, not a volume of its own; it was not touched. Choose another name.")
    elif mirrored and not found.is_mirror:
        yield refusal(
            f"{group}/{volume} is of the type {found.segment_type}, not a mirror; it was not touched. "
            f"`lvconvert --type raid1 --mirrors 1 {group}/{volume}` adds the second copy."
        )
    else:
        name = shlex.quote(f"{group}/{volume}")
        missing = [tag for tag in tags or [] if tag not in found.tags]
        if missing:
            yield StringCommand(f"lvchange --quiet {_added(missing)}{name}")
        if found.size < wanted:
            yield StringCommand(f"lvextend --quiet --size {wanted}b {name}{where} </dev/null")
        elif not missing:
            host.noop(f"{group}/{volume} has {found.size} bytes, at least {wanted}")


@operation()
def filesystem(
    volume: str, group: str, fstype: str = "ext4", options: list[str] | None = None, size: int = 0
) -> Commands:
    """
    Make a filesystem on a logical volume, or grow one to its volume.

    + volume: name of the logical volume
    + group: name of its volume group
    + fstype: ext4 or xfs
    + options: further arguments for mkfs
    + size: bytes that the volume is going to have; a dry run uses it where the volume has not grown yet

    A filesystem is made only on a volume that ``logical_volume`` made and that nothing has used: it carries the tag
    ``pyinfra-unfinished``, is neither mounted nor in fstab, and shows no sign of an earlier mount. The tag is removed
    when the filesystem is complete and on disk. The content of any other volume stays.

    **Example:**

    .. code:: python

        lvm.filesystem(
            name="ext4 on docker-lv",
            volume="docker-lv",
            group="ubuntu-vg",
            fstype="ext4",
        )
    """
    _check_value("volume", volume)
    _check_value("group", group)
    if fstype not in _MKFS:
        raise OperationValueError(f"fstype must be one of {', '.join(_MKFS)}: {fstype!r}")
    storage = fact(StorageLayout)
    device = mapper_path(group, volume)
    found = storage.logical_volume(group, volume)
    present = storage.filesystem(device)
    mounted = storage.mounts_of(device)
    quoted = shlex.quote(device)
    unused = not mounted and not (present and present.used) and not is_in_fstab(storage, device)
    if found is None or (UNFINISHED_TAG in found.tags and unused):
        yield StringCommand(make_filesystem(group, volume, fstype, options or []))
    elif not found.active:
        yield refusal(
            f"{device} is not active; it was not touched. Run `lvchange --activate y {group}/{volume}` first."
        )
    elif UNFINISHED_TAG in found.tags:
        yield refusal(
            f"{device} carries the tag {UNFINISHED_TAG}, but it is or was in use; nothing was written to it. "
            f"To keep its content, run `lvchange --deltag {UNFINISHED_TAG} {group}/{volume}`."
        )
    elif present is None or present.type != fstype:
        kind = present.type if present else "no ext4 or xfs"
        yield refusal(
            f"{device} holds {kind}, not {fstype}; nothing was written to it. Choose that filesystem, or another name."
        )
    elif max(found.size, size) - present.size <= GROWTH_TOLERANCE:
        host.noop(f"{device} holds {fstype} over its whole size")
    elif fstype == "xfs" and mounted:
        yield StringCommand(f"xfs_growfs {shlex.quote(mounted[0].target)}")
    elif fstype == "xfs":
        # xfs grows only while it is mounted, so mount it where nobody else sees it.
        inner = f"mount -t xfs {quoted} /mnt && xfs_growfs /mnt"
        yield StringCommand(f"unshare --mount --propagation private sh -c {shlex.quote(inner)}")
    elif mounted:
        yield StringCommand(f"resize2fs {quoted}")
    else:
        yield StringCommand(f"e2fsck -fp {quoted}; [ $? -le 1 ] && resize2fs {quoted}")


def is_in_fstab(storage: Storage, device: str) -> bool:
    """Return whether fstab mounts a device, by any of its names."""
    return bool(fstab_entries_of(storage, device))


def fstab_entries_of(storage: Storage, device: str) -> tuple[FstabEntry, ...]:
    """Return the lines of fstab that mount a device, by any of its names. A logical volume need not exist."""
    return tuple(entry for entry in storage.fstab if _same_source(storage, entry.source, device))


def _is_unfinished(storage: Storage, device: str) -> bool:
    tagged = [volume.mapper_path for volume in storage.logical_volumes if UNFINISHED_TAG in volume.tags]
    return any(_same_source(storage, path, device) for path in tagged)


def _same_source(storage: Storage, one: str, other: str) -> bool:
    """Return whether two sources of mounts are the same path, or two names of one device or logical volume."""
    device, names = storage.device(one), names_in(one)
    return (
        one == other
        or (device is not None and device == storage.device(other))
        or (names is not None and names == names_in(other))
    )


@operation()
def mount(
    path: str,
    device: str,
    fstype: str,
    options: list[str],
    immutable_mount_point: bool = False,
) -> Commands:
    """
    Mount a filesystem or bind-mount a directory, now and at every boot.

    + path: the mount point; the directory is made where there is none
    + device: a device, or the directory to bind-mount (``options`` then has ``bind``)
    + fstype: its type; ``none`` for a bind mount
    + options: mount options, as in fstab
    + immutable_mount_point: make the directory beneath the mount immutable, so that not even root can write to it while
      nothing is mounted. It must be empty.

    fstab is replaced as a whole: the new file is written beside it, checked with ``findmnt --verify``, synced and
    renamed. Every line but the one for this path stays as it is. A device that is mounted elsewhere too is mounted here
    as well. Changed options apply from the next mount on. ``private`` among them sets the propagation (mount(8), since
    util-linux 2.23, under systemd too). A later change of it by others stays: dockerd, for one, shares the mount of its
    store.

    A path where something else is mounted or listed in fstab is refused. So is a volume with the tag
    ``pyinfra-unfinished``, whose filesystem the next ``filesystem`` would make anew.

    **Example:**

    .. code:: python

        lvm.mount(
            name="The volume is mounted at /srv/data",
            path="/srv/data",
            device="/dev/mapper/ubuntu--vg-data",
            fstype="ext4",
            options=["defaults", "nofail"],
            immutable_mount_point=True,
        )
    """
    _check_value("path", path)
    _check_value("device", device)
    storage = fact(StorageLayout, paths=[path])
    entry = FstabEntry.of(device, path, fstype, options)
    listed = [other for other in storage.fstab if other.target == path]
    foreign = [other.source for other in listed if not _same_source(storage, other.source, device)]
    beneath = storage.directory(path)
    found = storage.mount(path)
    if found and not is_mount_of(storage, path, entry):
        yield refusal(f"{path} is a mount of {found.source}, not of {device}; it was not touched. Unmount it first.")
    elif foreign:
        yield refusal(
            f"fstab mounts {', '.join(foreign)} on {path}, not {device}; it was not touched. Take that line out first."
        )
    elif _is_unfinished(storage, device):
        yield refusal(f"{device} carries the tag {UNFINISHED_TAG}: its filesystem is not complete; it was not mounted")
    elif beneath and beneath.kind in ("symlink", "other"):
        yield refusal(f"{path} is no directory; it was not touched. Move it away first.")
    elif beneath and immutable_mount_point and not beneath.empty:
        yield refusal(f"{path} is not empty beneath the mount; it was not touched. Move its content away first.")
    else:
        commands = list(_mount_commands(storage, entry, immutable_mount_point))
        yield from commands
        if not commands:
            host.noop(f"{path} is mounted")


def _mount_commands(storage: Storage, entry: FstabEntry, immutable: bool) -> Commands:
    """Yield the commands that are still missing for an entry that passed every check."""
    path = entry.target
    beneath, found = storage.directory(path), storage.mount(path)
    if beneath is None or beneath.kind == "absent" or (immutable and not beneath.immutable):
        yield _mount_point(path, immutable)
    is_listed = [other for other in storage.fstab if other.target == path] == [entry]
    if not is_listed:
        yield replace_fstab(storage.fstab_text, fstab_with(storage.fstab_text, entry))
    quoted = shlex.quote(path)
    missing = f"{path} could not be mounted: does {entry.source} exist?"
    if not found or not is_listed:
        # Through systemd, so that its unit and the mount agree; with another init, through mount(8).
        yield StringCommand(
            "systemd() { [ -d /run/systemd/system ]; }; "
            "{ ! systemd || systemctl daemon-reload; } && { "
            f"mountpoint -q {quoted} || if systemd; "
            f'then systemctl start "$(systemd-escape --path --suffix=mount {quoted})"; else mount {quoted}; fi; }} && '
            # Without the device, mount(8) prints nothing and exits with 0 if the options have nofail.
            f"{{ mountpoint -q {quoted} || {{ echo {shlex.quote(missing)} >&2; exit 1; }}; }}"
        )


def is_mount_of(storage: Storage, path: str, entry: FstabEntry) -> bool:
    """Return whether the visible mount on a path is the one that an entry of fstab makes."""
    found = storage.mount(path)
    if found is None:
        return False
    if "bind" not in entry.options:
        device = storage.device(entry.source)
        return device is not None and found.device == device.path and found.root == "/"
    holder = storage.mount_containing(entry.source)
    if holder is None:
        return False
    inside = PurePosixPath(entry.source).relative_to(holder.target)
    return found.device == holder.device and found.root == str(PurePosixPath(holder.root) / inside)


def replace_fstab(old: str, new: str) -> StringCommand:
    """Return the command that replaces fstab, unless it has changed meanwhile or the new one has more errors.

    The text goes through standard input, because every user of the host can read a command line, and fstab may hold the
    password of a share. A line without its end ends the command: the connection was lost, and the text is not whole.
    """
    digest = hashlib.sha256(_bytes(old)).hexdigest()
    return StringCommand(
        "cd /etc && touch fstab && read -r digest text && "
        '{ echo "$digest  fstab" | sha256sum --check --status || '
        "{ echo 'fstab has changed meanwhile; it was not touched. Run again.' >&2; exit 1; }; } && "
        # Mode, owner and labels of the old file, text of the new one, encoded to stay byte for byte.
        "cp --attributes-only --preserve=all fstab fstab.new && "
        'printf %s "$text" | base64 --decode >fstab.new && '
        # The old fstab may have errors already, and only an additional one is ours. Warnings do not count.
        "errors() { findmnt --verify --tab-file \"$1\" 2>&1 | grep -c -e '\\[E\\]' -e 'parse error at'; } && "
        '{ [ "$(errors fstab.new)" -le "$(errors fstab)" ] || '
        "{ findmnt --verify --tab-file fstab.new >&2; rm fstab.new; "
        "echo 'fstab was not touched: with the new line it would have the errors above' >&2; exit 1; }; } && "
        "sync fstab.new && mv -f fstab.new fstab && sync .",
        _stdin=f"{digest} {base64.b64encode(_bytes(new)).decode()}\n",
    )


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _mount_point(path: str, immutable: bool) -> StringCommand:
    """Return the command that makes the directory beneath a mount, immutable if asked. A mount on it stays."""
    parent, name = shlex.quote(str(PurePosixPath(path).parent)), shlex.quote(PurePosixPath(path).name)
    full = f"refused: {path} is not empty beneath the mount; it was not touched"
    flag = f'{{ [ -z "$(ls -A /mnt/{name})" ] || {{ echo {shlex.quote(full)} >&2; exit 1; }}; }} && chattr +i /mnt/{name} && '
    inner = f"mount --bind {parent} /mnt && mkdir -p /mnt/{name} && {flag if immutable else ''}sync -f /mnt/{name}"
    return StringCommand(f"mkdir -p {parent} && unshare --mount --propagation private sh -c {shlex.quote(inner)}")
