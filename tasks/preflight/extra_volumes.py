"""Plan the extra volumes, and judge them and the directories that move onto them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bulkhead.names import RELOCATED, move_journal
from bulkhead.sizes import human, setting_of
from pyinfra_lvm.model import Storage, mapper_path
from pyinfra_lvm.operations import is_in_fstab
from settings.model import Settings
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.preflight.logical_volume import WantedVolume, judge_volume
from tasks.preflight.lost_volumes import MOVED
from tasks.preflight.mount_points import MountPoint, judge_mount_point
from tasks.preflight.plan import PlannedExtraVolume
from tasks.preflight.planned_group import PlannedGroup
from tasks.preflight.relocation import too_little_room
from tasks.preflight.volume_group import VolumePlan
from tasks.preflight.volume_room import promised
from tasks.preflight.volume_size import DoesNotFit, plan_size

# In these phases of the journal files on the volume are no obstacle: a copy that nobody has used, or a rollback's rest.
_MAY_MOVE = ("copying", "switching", "failed", "returning", "rolled-back")


@dataclass(frozen=True)
class ExtraVolumes:
    """The planned extra volumes, and why some of them cannot be made or used."""

    volumes: tuple[PlannedExtraVolume, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]


def plan_extra_volumes(settings: Settings, state: HostState, storage: Storage, docker: VolumePlan) -> ExtraVolumes:
    """Plan the extra volumes, each in the space that Docker's volume and the extra volumes before it leave free."""
    group = PlannedGroup(settings, storage, docker.group, docker.new_disks)
    room = group.capacity
    own = storage.logical_volume(docker.group, settings.logical_volume)
    free = room.free - (docker.size - (own.size if own else 0))
    later = dict(settings.extra_volumes)
    volumes, findings, warnings = [], [], []
    for name, wanted in settings.extra_volumes.items():
        existing = storage.logical_volume(docker.group, name)
        present = existing.size if existing else 0
        del later[name]
        try:
            planned = plan_size(
                wanted.size,
                group_size=room.size,
                group_free=free,
                extent_size=room.extent_size,
                reserve=settings.volume_reserve,
                own_group=False,
                existing=present,
                promised=promised(group, room, later),
            )
        except DoesNotFit as error:
            findings.append(
                Finding(
                    f"volume group {docker.group} has {human(max(error.available, 0))} for {name}, beside Docker's "
                    f"{human(docker.size)}",
                    f"{human(error.needed)}, for its size {wanted.size} and volume_reserve {settings.volume_reserve}",
                    _choices(name, error.largest, docker_may_shrink=own is None),
                )
            )
            continue
        free -= planned.bytes - present
        warnings += [f"{name}: {warning}" for warning in planned.warnings]
        volume = _volume(storage, state, docker.group, name, planned.bytes, wanted.filesystem, wanted.mount)
        volumes.append(volume)
        findings += _judge(settings, state, storage, docker.group, volume, planned.largest)
    return ExtraVolumes(tuple(volumes), tuple(findings), tuple(warnings))


def _choices(name: str, largest: int, docker_may_shrink: bool) -> str:
    """Return the advice where the group has no room for an extra volume.

    Args:
        largest: the largest size in bytes that fits; 0 where none does.
        docker_may_shrink: Docker's volume does not exist yet.
    """
    smaller = f'a smaller size for it in extra_volumes (at most "{setting_of(largest)}" fits)' if largest else ""
    choices = [smaller, "a smaller volume_size" if docker_may_shrink else ""]
    wanted = " or ".join(filter(None, choices))
    return f"set {wanted}" if wanted else f"take {name} out of extra_volumes, or free space in the group"


def _volume(
    storage: Storage, state: HostState, group: str, name: str, size: int, filesystem: str, mount: str
) -> PlannedExtraVolume:
    beneath = storage.directory(mount)
    empty = beneath is None or beneath.empty
    phase = state.moves.get(move_journal(mount), "")
    # The journal alone does not prove it: somebody may have moved the files back by hand.
    moved = phase in MOVED and is_in_fstab(storage, mapper_path(group, name))
    relocates = not empty and storage.mount(mount) is None and not moved
    return PlannedExtraVolume(
        name=name,
        size=size,
        filesystem=filesystem,
        mount=mount,
        device=mapper_path(group, name),
        relocates=relocates,
        old_tree=relocates or phase in RELOCATED,
        immutable=empty,
    )


def _judge(
    settings: Settings, state: HostState, storage: Storage, group: str, volume: PlannedExtraVolume, largest: int
) -> Iterator[Finding]:
    name, path = volume.name, volume.mount
    wanted = WantedVolume(
        name,
        volume.filesystem,
        (path,),
        settings.adopt_volume,
        other_name="give it a name that is free in extra_volumes",
    )
    yield from judge_volume(wanted, storage, group, volume.size)
    device = storage.device(volume.device)
    instead = f"or set another mount for {name} in extra_volumes"
    # Files may lie beneath: a tree that moves or has moved, and what a login needs without the volume.
    yield from judge_mount_point(
        storage, MountPoint(path, volume.device, "/", device.path if device else "", instead, may_hold_files=True)
    )
    place = state.place(path)
    if not volume.relocates or place is None:
        return
    filesystem = storage.filesystem(volume.device)
    if filesystem and filesystem.used and state.moves.get(move_journal(path)) not in _MAY_MOVE:
        yield Finding(
            f"{path} holds {human(place.bytes)}, and its volume {name} has been used too",
            "files in only one of them: nothing shows which are newer",
            f"check both (`mount {volume.device} /mnt`), and move the files of one of them away; or, if {path} was on the "
            "volume and only its line of fstab was lost, put that line back",
        )
    if place.users:
        shown = ", ".join(place.users[:10]) + (f" and {len(place.users) - 10} more" if len(place.users) > 10 else "")
        yield Finding(
            f"{path} is in use: {shown}",
            f"nobody in {path} but your own login while it moves to {name}",
            "stop these processes, or log their users out, and run again",
        )
    for mount in storage.mounts:
        if mount.target.startswith(f"{path}/"):
            yield Finding(
                f"{mount.source} is mounted on {mount.target}, in {path}, which moves to {name}",
                "no mounts there: the move would leave their contents behind",
                f"unmount it for the move, {instead}",
            )
    yield from too_little_room(
        f"the data in {path}",
        f"size of {name} in extra_volumes",
        place.bytes,
        place.inodes,
        volume.size,
        largest,
        volume.filesystem,
    )
