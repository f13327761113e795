"""What preflight judges of the extra volumes, and of the directories that move onto them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bulkhead.names import RELOCATED, move_journal
from bulkhead.sizes import human
from pyinfra_lvm.model import Storage, mapper_path
from pyinfra_lvm.operations import is_in_fstab
from settings.model import Settings
from tasks.preflight.finding import Finding, Refused
from tasks.preflight.host import HostState
from tasks.preflight.logical_volume import Wanted, check_volume
from tasks.preflight.mount_points import MountPoint, judge_place
from tasks.preflight.plan import PlannedExtraVolume
from tasks.preflight.relocation import too_little_room
from tasks.preflight.volume_group import VolumePlan, capacity
from tasks.preflight.volume_size import DoesNotFit, plan_size

_MOVED = (*RELOCATED, "finalized")

# The journal's phases in which what the volume has is no obstacle: a copy that nobody has used, or what a rollback left.
_MAY_MOVE = ("copying", "switching", "failed", "returning", "rolled-back")


@dataclass(frozen=True)
class Extras:
    volumes: tuple[PlannedExtraVolume, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]


def plan(settings: Settings, state: HostState, storage: Storage, docker: VolumePlan) -> Extras:
    """The extra volumes, each in what Docker's and the ones before it leave free, and why some cannot be had."""
    room = capacity(storage, docker.group, docker.new_disks)
    own = storage.logical_volume(docker.group, settings.logical_volume)
    free = room.free - (docker.size - (own.size if own else 0))
    volumes, findings, warnings = [], [], []
    for name, wanted in settings.extra_volumes.items():
        existing = storage.logical_volume(docker.group, name)
        there = existing.size if existing else 0
        try:
            planned = plan_size(
                wanted.size,
                group_size=room.size,
                group_free=free,
                extent_size=room.extent_size,
                reserve=settings.volume_reserve,
                own_group=False,
                existing=there,
            )
        except DoesNotFit as error:
            findings.append(
                Finding(
                    f"volume group {docker.group} has {human(max(error.available, 0))} for {name}, beside Docker's "
                    f"{human(docker.size)}",
                    f"{human(error.needed)}, for its size {wanted.size} and volume_reserve {settings.volume_reserve}",
                    "set a smaller size for it in extra_volumes, or a smaller volume_size",
                )
            )
            continue
        free -= planned.bytes - there
        warnings += [f"{name}: {warning}" for warning in planned.warnings]
        found = _volume(storage, state, docker.group, name, planned.bytes, wanted.filesystem, wanted.mount)
        volumes.append(found)
        findings += _judge(settings, state, storage, docker.group, found)
    return Extras(tuple(volumes), tuple(findings), tuple(warnings))


def _volume(
    storage: Storage, state: HostState, group: str, name: str, size: int, filesystem: str, mount: str
) -> PlannedExtraVolume:
    beneath = storage.directory(mount)
    empty = beneath is None or beneath.empty
    phase = state.moves.get(move_journal(mount), "")
    # The journal alone does not tell: somebody may have gone back by hand.
    moved = phase in _MOVED and is_in_fstab(storage, mapper_path(group, name))
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
    settings: Settings, state: HostState, storage: Storage, group: str, volume: PlannedExtraVolume
) -> Iterator[Finding]:
    name, path = volume.name, volume.mount
    wanted = Wanted(
        name,
        volume.filesystem,
        (path,),
        settings.adopt_volume,
        other_name="give it a name that is free in extra_volumes",
    )
    try:
        check_volume(wanted, storage, group, volume.size)
    except Refused as refused:
        yield from refused.findings
    device = storage.device(volume.device)
    instead = f"or set another mount for {name} in extra_volumes"
    # What may lie beneath: a tree that moves, one that was moved, and what a login needs without the volume.
    yield from judge_place(
        storage, MountPoint(path, volume.device, "/", device.path if device else "", instead, may_hold=True)
    )
    place = state.place(path)
    if not volume.relocates or place is None:
        return
    filesystem = storage.filesystem(volume.device)
    if filesystem and filesystem.used and state.moves.get(move_journal(path)) not in _MAY_MOVE:
        yield Finding(
            f"{path} holds {human(place.bytes)}, and the volume {name} for it has been used too",
            "files in one of them: which are the newer cannot be told",
            f"look at both (`mount {volume.device} /mnt`), and move what is in one of them away; or, if {path} has lived on "
            "the volume and only its line of fstab was lost, put that back",
        )
    if place.users:
        shown = ", ".join(place.users[:10]) + (f" and {len(place.users) - 10} more" if len(place.users) > 10 else "")
        yield Finding(
            f"{path} is in use: {shown}",
            f"nobody in {path}, but your own login, while it moves to {name}",
            "stop these, or log them out, and run again",
        )
    for mount in storage.mounts:
        if mount.target.startswith(f"{path}/"):
            yield Finding(
                f"{mount.source} is mounted on {mount.target}, in {path}, which moves to {name}",
                "no mounts in there: what is on them would not be moved",
                f"unmount it for the move, {instead}",
            )
    yield from too_little_room(
        f"in {path}", f"size of {name} in extra_volumes", place.bytes, place.inodes, volume.size, volume.filesystem
    )
