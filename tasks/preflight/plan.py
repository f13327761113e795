"""The plan: what a run makes of a host."""

from __future__ import annotations

from dataclasses import dataclass, field

from bulkhead.names import DOCKER_STORE
from pyinfra_lvm.model import FstabEntry, mapper_path, names_in

# How fstab names an adopted filesystem that is on no logical volume.
ADOPTED_NAMES = ("UUID=", "/dev/disk/by-id/")


@dataclass(frozen=True)
class Plan:
    """What a run makes of a host. Preflight plans twice; if the plans differ, the run ends before its first change."""

    volume_group: str
    new_physical_volumes: tuple[str, ...]  # named disks that are not in the group yet
    logical_volume: str
    size: int  # bytes
    reserve: int  # bytes of the group that stay free
    filesystem: str
    engine: str  # docker-ce, distro or present
    os_id: str
    os_codename: str
    unused_stores: tuple[str, ...]  # stores off the volume that an engine made and nobody used
    relocates: bool  # Docker's data is off the volume, and moves onto it
    old_trees: bool  # data has been moved, and its old trees are kept beneath the mounts
    containerd_store: bool  # the engine keeps its images in containerd's store, and they stay there
    stripes: int = 1  # disks that the volume is striped over
    boot_disks: tuple[str, ...] = ()  # names: at a boot that finds all of them blank, the volume is made on them anew
    machine: str = ""  # that such a boot must be of
    removes_boot_unit: bool = False  # no boot does that any longer
    mirrored: bool = False  # the volume has two copies, each on a disk of its own
    mirror_disks: tuple[str, ...] = ()  # that the copies are on, where the group has more than two
    disk_file_bytes: int = 0  # bytes of the file that the group is on; 0: it is on disks
    adopted: FstabEntry | None = None  # the volume is an adopted filesystem, not a logical volume: its line of fstab
    adopts: bool = False  # that filesystem is mounted on Docker's store still, and becomes the volume
    leaves_file: bool = False  # the group moves from the file to the named disks, and the file is removed
    log_driver: str = "json-file"  # that containers get; empty: the host keeps its own, with its options
    grown_disks: tuple[str, ...] = ()  # disks of the group that have grown, and whose new space it takes
    nvidia: bool = False  # the host has NVIDIA's container toolkit
    keeps_toolkit: bool = False  # the toolkit was there before this project, and stays as it is
    removes_nvidia: bool = False  # the toolkit that this project installed is removed
    extra_volumes: tuple[PlannedExtraVolume, ...] = ()
    lost_volumes: tuple[LostVolume, ...] = ()  # the host stops naming them, and new ones take their place
    # Packages are missing. Another package manager may install some meanwhile: the plan stays the same.
    installs: bool = field(default=False, compare=False)

    @property
    def installs_toolkit(self) -> bool:
        """Whether the host gets NVIDIA's container toolkit from this project, and not from its image."""
        return self.nvidia and not self.keeps_toolkit

    @property
    def directories_to_move(self) -> list[str]:
        """Return the directories that move onto their volumes. Docker's store stands for containerd's too."""
        directories = [volume.mount for volume in self.extra_volumes if volume.relocates]
        return [*directories, *([DOCKER_STORE] if self.relocates or self.adopts else [])]

    @property
    def keeps_old_trees(self) -> bool:
        """Return whether old data is kept beneath a mount."""
        return self.old_trees or any(volume.old_tree for volume in self.extra_volumes)

    @property
    def device(self) -> str:
        """Return the mapper path of Docker's volume; for an adopted filesystem its name in fstab."""
        return self.adopted.source if self.adopted else mapper_path(self.volume_group, self.logical_volume)


@dataclass(frozen=True)
class PlannedExtraVolume:
    """What a run makes of an extra volume."""

    name: str
    size: int  # bytes
    filesystem: str
    mount: str
    device: str
    relocates: bool  # the directory holds files, which move onto the volume
    old_tree: bool  # the old files are kept beneath the mount, and can be removed
    immutable: bool  # the directory beneath the mount is empty, and is made immutable


@dataclass(frozen=True)
class LostVolume:
    """A volume that the host names and that is not there."""

    name: str  # of the logical volume, in the settings
    mount: str  # its mount point
    device: str  # as the host names it; empty where only a journal or the stores' lines tell of it
    named_by: tuple[str, ...]  # files
    stale_lines: tuple[tuple[str, str], ...]  # source and target of the lines in fstab that need it
    stale_files: tuple[str, ...]  # journals of moves onto it, and what else tells of its content

    def __str__(self) -> str:
        names = names_in(self.device)
        name = self.device if self.device.startswith(ADOPTED_NAMES) else self.name
        return f"the volume {'/'.join(names) if names else name} for {self.mount}"
