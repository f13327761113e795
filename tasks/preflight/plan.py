"""What is going to be made of a host."""

from __future__ import annotations

from dataclasses import dataclass

from bulkhead.names import DOCKER_STORE
from pyinfra_lvm.model import mapper_path


@dataclass(frozen=True)
class Plan:
    """What is going to be made of a host. The same twice, or the run ends before its first change."""

    volume_group: str
    new_physical_volumes: tuple[str, ...]  # named disks that are not in the group yet
    logical_volume: str
    size: int  # bytes
    reserve: int  # bytes of the group that stay free
    filesystem: str
    engine: str  # docker-ce, distro or present
    os_id: str
    os_codename: str
    skeletons: tuple[str, ...]  # stores off the volume that an engine made and nobody used
    relocates: bool  # Docker's data is off the volume, and moved onto it
    old_trees: bool  # data has been moved, and its old trees are kept beneath the mounts
    containerd_store: bool  # the engine keeps its images in containerd, and goes on so
    nvidia: bool = False  # its container toolkit is there
    nvidia_leaves: bool = False  # it is there from us, and goes
    extra_volumes: tuple[PlannedExtraVolume, ...] = ()

    @property
    def moved(self) -> list[str]:
        """Directories that move onto their volumes. Docker's store stands for containerd's too."""
        directories = [volume.mount for volume in self.extra_volumes if volume.relocates]
        return [*directories, *([DOCKER_STORE] if self.relocates else [])]

    @property
    def keeps_old_trees(self) -> bool:
        return self.old_trees or any(volume.old_tree for volume in self.extra_volumes)

    @property
    def device(self) -> str:
        return mapper_path(self.volume_group, self.logical_volume)


@dataclass(frozen=True)
class PlannedExtraVolume:
    """An extra volume as it is going to be."""

    name: str
    size: int  # bytes
    filesystem: str
    mount: str
    device: str
    relocates: bool  # the directory holds files, which are moved onto it
    old_tree: bool  # files are kept beneath the mount, and may be removed
    immutable: bool  # nothing is kept beneath the mount: nothing shall be written there
