"""A host's storage as data: the fact returns these classes, and pure functions read them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pyinfra_lvm.fstab import FstabEntry as FstabEntry

METADATA = 2**20  # bytes of a disk that LVM takes before the first extent (pvcreate(8): the default)
EXTENT = 4 * 2**20  # bytes; of a new group (vgcreate(8): the default)


@dataclass(frozen=True)
class BlockDevice:
    """A disk, a partition or a mapped device, from ``lsblk``, with the signatures and zeros on it."""

    path: str  # the kernel's name: /dev/vda, /dev/dm-0
    type: str  # lsblk's TYPE: disk, part, lvm, crypt, raid1, rom, loop …
    size: int  # bytes
    read_only: bool
    aliases: tuple[str, ...]  # every symbolic link under /dev to it: /dev/disk/by-id/…, /dev/mapper/…
    signatures: tuple[str, ...]  # every signature that wipefs finds: ext4, LVM2_member, gpt, dos …
    children: tuple[str, ...]  # kernel names of the devices on it: partitions, mapped devices
    mount_points: tuple[str, ...]  # [SWAP] where it is swap
    # It holds only zeros wherever it was read: 17 MiB at its beginning, a MiB at each quarter and at its end.
    # None where the fact was not asked to read this device.
    zeroed: bool | None = None
    # Only zeros there beyond the header that pvcreate writes: a physical volume that was never in a group.
    zeroed_beyond_header: bool | None = None
    removable: bool = False
    model: str = ""  # lsblk's MODEL: Amazon Elastic Block Store; empty for partitions and mapped devices
    transport: str = ""  # lsblk's TRAN: sata, nvme, iscsi, fc …; empty for partitions, mapped and most virtual devices
    uuids: tuple[str, ...] = ()  # of the filesystems and the like on it, as wipefs reads them


@dataclass(frozen=True)
class PhysicalVolume:
    """An LVM physical volume."""

    path: str
    volume_group: str  # empty: in no group
    size: int  # bytes
    free: int  # bytes
    missing: bool = False
    start: int = METADATA  # bytes of the device before the first extent
    volumes: tuple[str, ...] = ()  # that have extents on it, hidden ones too; known where the host has a mirror


@dataclass(frozen=True)
class VolumeGroup:
    """An LVM volume group."""

    name: str
    size: int  # bytes
    free: int  # bytes
    extent_size: int  # bytes
    missing_physical_volumes: int
    tags: tuple[str, ...] = ()
    uuid: str = ""  # tells groups of one name apart
    kinds: tuple[str, ...] = ()  # exported, clustered, shared (vgs(8)); none for an ordinary group
    read_only: bool = False
    lock_type: str = ""  # of lvmlockd: sanlock, dlm …; empty without locks
    autoactivated: bool = True  # its flag; what lvm.conf says is in LvmConfig


@dataclass(frozen=True)
class LogicalVolume:
    """An LVM logical volume, a snapshot included."""

    name: str
    volume_group: str
    size: int  # bytes
    active: bool
    segment_type: str  # linear, striped, thin, thin-pool, snapshot, raid1 …
    origin: str  # of a snapshot; empty otherwise
    tags: tuple[str, ...] = ()
    merging: bool = False  # a snapshot that LVM merges into its origin
    health: str = ""  # lv_health_status of lvs: partial, refresh needed, mismatches exist …; empty: nothing is wrong

    @property
    def is_mirror(self) -> bool:
        """Return whether it has two copies, each on a disk of its own."""
        return self.segment_type == "raid1"

    @property
    def path(self) -> str:
        """Return LVM's own name of the volume: /dev/<group>/<volume>."""
        return f"/dev/{self.volume_group}/{self.name}"

    @property
    def mapper_path(self) -> str:
        """Return the device-mapper name, hyphens doubled, which findmnt shows and fstab should have (lvm(8))."""
        return mapper_path(self.volume_group, self.name)


@dataclass(frozen=True)
class Filesystem:
    """A filesystem on a device, mounted or not."""

    device: str  # kernel name
    type: str
    size: int  # bytes, from the superblock
    used: bool = False  # it has been mounted (ext4), or has more inodes in use than a new one (xfs)
    inodes: int = 0  # of an ext4; an xfs makes them as it needs them

    @property
    def bytes_per_inode(self) -> int:
        """Return how many bytes an ext4 has for each inode; 0 where it is none."""
        return self.size // self.inodes if self.inodes else 0


@dataclass(frozen=True)
class Mount:
    """A line of the mount table, in the order of mounting: the last one on a target hides the others."""

    target: str
    source: str  # as findmnt prints it, without the [/directory] of a bind mount: /dev/mapper/vg-lv, tmpfs
    device: str  # kernel name of the source; empty where there is none
    root: str  # the directory of the filesystem that is mounted: / or, for a bind mount, /docker
    fstype: str
    options: tuple[str, ...]
    propagation: str  # shared, private, …
    size: int = 0  # bytes; 0 where there is no block device
    available: int = 0  # bytes


@dataclass(frozen=True)
class Directory:
    """A path as it is beneath the mounts on it."""

    path: str
    kind: str  # absent, directory, symlink, other
    empty: bool = True
    immutable: bool = False


@dataclass(frozen=True)
class LoopDevice:
    """A loop device that has a file."""

    path: str  # kernel name: /dev/loop0
    size: int  # bytes
    discards: bool  # it accepts discards, and punches holes into the file for them


@dataclass(frozen=True)
class DiskImage:
    """A file that is a disk, or is going to be: what the fact was asked for."""

    path: str
    kind: str  # absent, regular, other
    mode: str = ""  # owner and permissions: root:600
    links: int = 1  # names of the file
    size: int = 0  # bytes
    allocated: int = 0  # bytes that the filesystem keeps for it
    shared: bool = False  # it has extents in common with another file, and is copied on write
    signatures: tuple[str, ...] = ()  # on a file that no loop device has
    loops: tuple[LoopDevice, ...] = ()


@dataclass(frozen=True)
class LvmConfig:
    """What lvm.conf says of the devices that LVM uses, and of the volumes that it activates (lvm.conf(5))."""

    auto_activation_volume_list: tuple[str, ...] | None = None  # None: not set, and every volume is activated at boot
    volume_list: tuple[str, ...] | None = None  # None: not set, and every volume can be activated
    event_activation: bool = True  # LVM activates a group when its disks appear
    filters: tuple[tuple[str, ...], ...] = ()  # filter and global_filter, where they are set

    def rejecting(self, names: Sequence[str]) -> str:
        """Return the pattern of a filter that has LVM ignore a device; empty where none does.

        Of a filter's patterns the first that matches a name decides for this name. A device is used if one of its names is
        accepted, or none is rejected (LVM's lib/filters/filter-regex.c).

        Args:
            names: every name of the device.
        """
        for patterns in self.filters:
            found = [pattern for pattern in (_first_match(patterns, name) for name in names) if pattern]
            if found and not any(pattern.startswith("a") for pattern in found):
                return found[0]
        return ""


def _first_match(patterns: Sequence[str], name: str) -> str:
    """Return the first pattern of a filter that matches a name. A pattern is a or r, and a regular expression in delimiters."""
    for pattern in patterns:
        try:
            # The delimiters are brackets, or two of any character. LVM's expressions are a part of Python's.
            if re.search(pattern[2:-1], name):
                return pattern
        except re.error:
            continue
    return ""


def lists_volume(entries: Sequence[str], group: str, volume: str, tags: Collection[str]) -> bool:
    """Return whether a list of lvm.conf, such as volume_list, has a logical volume.

    An entry is a group, GROUP/VOLUME, @TAG, or @* for the tags of the host, which are not known here: it counts.

    >>> lists_volume(["root-vg", "@docker"], "vg", "lv", ["docker"]), lists_volume(["vg/other"], "vg", "lv", [])
    (True, False)
    """
    known = {group, f"{group}/{volume}", "@*", *(f"@{tag}" for tag in tags)}
    return not known.isdisjoint(entries)


@dataclass(frozen=True)
class Storage:
    """Block devices, LVM, filesystems, mounts and fstab of a host, read in one round trip."""

    devices: tuple[BlockDevice, ...] = ()
    physical_volumes: tuple[PhysicalVolume, ...] = ()
    volume_groups: tuple[VolumeGroup, ...] = ()
    logical_volumes: tuple[LogicalVolume, ...] = ()
    filesystems: tuple[Filesystem, ...] = ()  # on logical volumes
    mounts: tuple[Mount, ...] = ()
    fstab: tuple[FstabEntry, ...] = ()
    fstab_text: str = ""
    directories: tuple[Directory, ...] = ()  # beneath the mounts on the paths that the fact was asked for
    lvm_installed: bool = True
    images: tuple[DiskImage, ...] = ()
    kernel: tuple[int, int] = (0, 0)  # its version; known where the fact was asked for images
    # Which of mkfs.ext4, mkfs.xfs, resize2fs, xfs_growfs, lvcreate and the kernel's modules dm-raid and dm-mirror are installed.
    tools: tuple[str, ...] = ()
    lvm_config: LvmConfig = LvmConfig()

    def device(self, path: str) -> BlockDevice | None:
        """Return the device that ``path`` names: by kernel name, by an alias, or as in fstab (``UUID=…``)."""
        tag, _, value = path.partition("=")
        if tag in ("UUID", "LABEL", "PARTUUID", "PARTLABEL"):
            path = f"/dev/disk/by-{tag.lower()}/" + value.strip('"')
        return next((d for d in self.devices if path == d.path or path in d.aliases), None)

    def descendants(self, device: BlockDevice) -> tuple[BlockDevice, ...]:
        """Return a device and every device on it: partitions, mapped devices and those on them, each once."""
        found = {device.path: device}
        for path in device.children:
            child = self.device(path)
            found |= {below.path: below for below in (self.descendants(child) if child else ())}
        return tuple(found.values())

    def ancestors(self, device: BlockDevice) -> tuple[BlockDevice, ...]:
        """Return a device and every device that it is on, each once."""
        return tuple(other for other in self.devices if device in self.descendants(other))

    def volume_group(self, name: str) -> VolumeGroup | None:
        return next((g for g in self.volume_groups if g.name == name), None)

    def logical_volume(self, group: str, name: str) -> LogicalVolume | None:
        return next((v for v in self.logical_volumes if (v.volume_group, v.name) == (group, name)), None)

    def logical_volume_on(self, device: BlockDevice) -> LogicalVolume | None:
        """Return the logical volume that a device is."""
        return next((v for v in self.logical_volumes if v.mapper_path in device.aliases), None)

    def physical_volumes_of(self, group: str) -> tuple[PhysicalVolume, ...]:
        return tuple(p for p in self.physical_volumes if p.volume_group == group)

    def copies_of(self, volume: LogicalVolume) -> tuple[tuple[PhysicalVolume, ...], ...]:
        """Return the physical volumes of each copy of a mirror (lvmraid(7), SubLVs)."""
        present = self.physical_volumes_of(volume.volume_group)
        copies = (f"{volume.name}_rimage_{number}" for number in (0, 1))
        return tuple(filter(None, (tuple(p for p in present if copy in p.volumes) for copy in copies)))

    def physical_volume(self, path: str) -> PhysicalVolume | None:
        """Return the physical volume on the device that ``path`` names."""
        device = self.device(path)
        names = (device.path, *device.aliases) if device else (path,)
        return next((volume for volume in self.physical_volumes if volume.path in names), None)

    def group_of(self, path: str) -> str | None:
        """Return the volume group of the device that ``path`` names: empty for none, None for no physical volume."""
        volume = self.physical_volume(path)
        return volume.volume_group if volume else None

    def gain_of(self, volume: PhysicalVolume) -> int:
        """Return how many bytes a physical volume gets when it takes all of its device, which has grown; 0 for none.

        What is left of a device that has not grown is less than an extent, and less than LVM's metadata at its end.
        """
        device, group = self.device(volume.path), self.volume_group(volume.volume_group)
        if device is None or group is None or volume.missing:
            return 0
        gain = usable(device.size, group.extent_size, volume.start) - volume.size
        return gain if gain >= 2 * group.extent_size else 0

    def filesystem(self, path: str) -> Filesystem | None:
        """Return the filesystem on the device that ``path`` names."""
        device = self.device(path)
        return next((f for f in self.filesystems if device and f.device == device.path), None)

    def mount(self, target: str) -> Mount | None:
        """Return the visible mount on ``target``: the last one on exactly this path."""
        return next((m for m in reversed(self.mounts) if m.target == target), None)

    def mount_containing(self, path: str) -> Mount | None:
        """Return the mount that holds ``path``: the one with the longest target that is a prefix of it."""
        holding = [m for m in self.mounts if f"{path}/".startswith(f"{m.target.rstrip('/')}/")]
        return max(enumerate(holding), key=lambda pair: (len(pair[1].target), pair[0]))[1] if holding else None

    def mounts_of(self, device: str) -> tuple[Mount, ...]:
        """Return every mount of the device that ``device`` names."""
        found = self.device(device)
        return tuple(m for m in self.mounts if found and m.device == found.path)

    def image(self, path: str) -> DiskImage | None:
        return next((i for i in self.images if i.path == path), None)

    def directory(self, path: str) -> Directory | None:
        return next((d for d in self.directories if d.path == path), None)


def usable(size: int, extent_size: int, start: int = METADATA) -> int:
    """Return how many bytes of a disk become extents of a volume group.

    Args:
        size: of the disk, in bytes.
        extent_size: of the group, in bytes.
        start: bytes before the first extent.
    """
    return (size - start) // extent_size * extent_size


def mapper_path(group: str, volume: str) -> str:
    """Return the device-mapper path of a logical volume.

    Hyphens in the names are doubled, so that the single one between them is unambiguous (lvm(8)).

    >>> mapper_path("ubuntu-vg", "docker-lv")
    '/dev/mapper/ubuntu--vg-docker--lv'
    """
    return "/dev/mapper/{}-{}".format(group.replace("-", "--"), volume.replace("-", "--"))


def names_in(path: str) -> tuple[str, str] | None:
    """Return group and name of the logical volume that a path names, in either form; None for another kind of path.

    >>> names_in("/dev/mapper/ubuntu--vg-docker--lv"), names_in("/dev/ubuntu-vg/docker-lv")
    (('ubuntu-vg', 'docker-lv'), ('ubuntu-vg', 'docker-lv'))
    >>> names_in("/dev/disk/by-uuid/1234"), names_in("/dev/mapper/luks")
    (None, None)
    """
    match = re.fullmatch(r"/dev/mapper/((?:[^-/]|--)+)-((?:[^-/]|--)+)|/dev/(?!mapper/)([^/]+)/([^/]+)", path)
    if match is None:
        return None
    group, volume, *plain = match.groups()
    return (group.replace("--", "-"), volume.replace("--", "-")) if group else (plain[0], plain[1])
