"""Decide, from facts alone, whether a host can be provisioned, and as what. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bulkhead.names import RELOCATED, UNFINISHED
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.preflight import (
    adoption,
    chosen_disks,
    consent,
    daemon_json,
    engine,
    logical_volume,
    lost_volumes,
    mount_points,
    nvidia,
    packages,
    relocation,
    system,
)
from tasks.preflight.adoption import EMPTY, Adoption, FilesystemRoot
from tasks.preflight.ephemeral import ephemeral_warnings, judge_boot_disks
from tasks.preflight.extra_volumes import ExtraVolumes, plan_extra_volumes
from tasks.preflight.finding import Finding, Refused
from tasks.preflight.group_choice import plan_file
from tasks.preflight.grown_disks import GrownDisk, grown_disks, grown_notices, grown_warnings, with_grown_disks
from tasks.preflight.host import HostState
from tasks.preflight.plan import LostVolume, Plan
from tasks.preflight.volume_file import FilePlan
from tasks.preflight.volume_group import VolumePlan, plan_volume
from tasks.support.paths import STORES


@dataclass(frozen=True)
class Examination:
    """The verdict on a host: a plan, or the findings that keep it from having one."""

    findings: tuple[Finding, ...]
    warnings: tuple[str, ...] = ()
    plan: Plan | None = None  # None where there are findings
    is_mounted: bool = False  # each volume is, on its mount point, and fstab has the options of the settings
    notices: tuple[str, ...] = ()  # what the run does that its owner should know before


def examine(
    settings: Settings,
    state: HostState,
    storage: Storage,
    lock_holder: str = "",
    adopted: Sequence[str] = (),
    root: FilesystemRoot = EMPTY,
) -> Examination:
    """Decide whether a host can be provisioned, and as what. All findings are reported, not only the first.

    Args:
        settings: of this host.
        state, storage: its facts.
        lock_holder: who holds the run lock, in words; empty for nobody.
        adopted: names of what lies on the volume that the settings take over.
        root: of the filesystem that is going to be adopted.
    """
    if state.uid != 0:
        return Examination((system.not_root(),))  # without root the facts are not complete
    lost = lost_volumes.find_lost_volumes(settings, state, storage)
    findings = [*lost_volumes.judge_lost_volumes(settings, state, storage, lost)]
    is_down = lost_volumes.keep_docker_down(settings, state, lost)  # what it holds is judged already
    state, storage = lost_volumes.without_lost_volumes(state, storage, lost)
    for what, phase in (("move", state.relocation), ("rollback", state.rollback)):
        if phase in UNFINISHED:  # everything else that is wrong follows from it
            return Examination((*findings, relocation.unfinished(what, phase)))
    if found := [*adoption.judge_setting(settings, state, storage)]:
        return Examination((*findings, *found))
    adopts = adoption.is_wanted(settings, state, storage)
    relocates = (adoption.has_images_in_containerd if adopts else engine.has_data_off_the_volume)(state, storage)
    findings += [
        *([system.another_run(lock_holder)] if lock_holder else []),
        *system.judge_system(settings, state),
        *engine.judge_engine(settings, state),
        *engine.judge_silence(state, storage),
        *nvidia.judge_nvidia(settings, state),
        *logical_volume.judge_adopted_contents(settings, adopted),
        *(relocation.judge_move(state, storage) if (relocates or (adopts and state.engine)) and not is_down else ()),
        *mount_points.judge_mount_units(state),
    ]
    try:
        place = _find_place(settings, state, storage, root, relocates=relocates)
    except Refused as refused:
        findings += daemon_json.judge_obstacle(settings, state, None)
        findings += refused.findings
        if not adopts:
            findings += mount_points.judge_mount_points(settings, storage, old_trees=True)
        return Examination(tuple(findings))
    extra_volumes = plan_extra_volumes(place.settings, state, place.storage, place.volume)
    plan = _plan(place, state, extra_volumes, lost, relocates=relocates, adopts=adopts)
    findings += daemon_json.judge_obstacle(place.settings, state, plan)
    findings += [*place.volume.findings, *extra_volumes.findings]
    findings += judge_boot_disks(place.wanted, place.storage, place.volume)
    if not adopts:
        findings += mount_points.judge_mount_points(
            place.settings, place.storage, plan.device, old_trees=plan.old_trees
        )
    findings += consent.judge_consent(place.settings, state, plan.directories_to_move)
    if relocates and not adopts:
        findings += _judge_room(place, state, plan)
    warnings = tuple(_warnings(place, state, plan, extra_volumes))
    notices = tuple(_notices(place, state, plan))
    return Examination(tuple(findings), warnings, None if findings else plan, _is_mounted(place, plan), notices)


@dataclass(frozen=True)
class _VolumePlace:
    """Where Docker's volume is or is going to be, and what that makes of the settings and of the facts."""

    wanted: Settings  # as they were given
    settings: Settings  # with the disks that they choose
    storage: Storage  # with the file and what the disks have grown by
    volume: VolumePlan
    file: FilePlan
    grown: tuple[GrownDisk, ...]
    filesystem: Adoption | None  # None: the volume is a logical volume


def _find_place(
    wanted: Settings, state: HostState, storage: Storage, root: FilesystemRoot, *, relocates: bool
) -> _VolumePlace:
    """Find the place of Docker's volume.

    Raises:
        Refused: there is none.
    """
    if wanted.adopt_filesystem:
        filesystem = adoption.plan_adoption(wanted, state, storage, root)
        return _VolumePlace(wanted, wanted, storage, filesystem.volume, FilePlan(wanted, storage), (), filesystem)
    file = plan_file(wanted, storage, state.store_bytes if relocates else 0)
    grown = grown_disks(file.settings, file.storage)
    storage = with_grown_disks(file.storage, grown)
    return _VolumePlace(wanted, file.settings, storage, plan_volume(file.settings, storage), file, grown, None)


def _plan(
    place: _VolumePlace,
    state: HostState,
    extra_volumes: ExtraVolumes,
    lost: tuple[LostVolume, ...],
    *,
    relocates: bool,
    adopts: bool,
) -> Plan:
    settings, volume = place.settings, place.volume
    wants_nvidia = nvidia.is_wanted(settings, state)
    boot_disks = tuple(place.wanted.volume_disks) if settings.volume_ephemeral and state.machine else ()
    plan = Plan(
        volume_group=volume.group,
        new_physical_volumes=volume.new_disks,
        grown_disks=tuple(disk.name for disk in place.grown if disk.is_taken and disk.group == volume.group),
        logical_volume=settings.logical_volume,
        size=volume.size,
        mirrored=volume.mirrored,
        mirror_disks=volume.mirror_disks,
        stripes=volume.stripes,
        boot_disks=boot_disks,
        machine=state.machine,
        removes_boot_unit=state.has_boot_unit and not boot_disks,
        reserve=volume.reserve,
        filesystem=place.filesystem.entry.fstype if place.filesystem else settings.filesystem,
        engine=engine.engine_to_install(settings, state),
        os_id=state.os_id,
        os_codename=state.os_codename,
        unused_stores=() if relocates or adopts else mount_points.unused_stores(place.storage),
        relocates=relocates,
        old_trees=relocates or state.relocation in RELOCATED,
        containerd_store=engine.uses_containerd_store(state),
        disk_file_bytes=place.file.size,
        adopted=place.filesystem.entry if place.filesystem else None,
        adopts=adopts,
        leaves_file=place.file.leaves,
        log_driver=daemon_json.log_driver(settings, state),
        nvidia=wants_nvidia,
        keeps_toolkit=wants_nvidia and nvidia.keeps_toolkit(settings, state),
        removes_nvidia=state.toolkit_is_ours and not wants_nvidia,
        extra_volumes=extra_volumes.volumes,
        lost_volumes=lost,
    )
    return replace(plan, installs=packages.are_missing(settings, state, plan))


def _judge_room(place: _VolumePlace, state: HostState, plan: Plan) -> Iterator[Finding]:
    """Judge whether the data that is moved has room on the volume."""
    file, setting, largest = place.file, "volume_size", place.volume.largest
    if file.size:  # the reserve is a part of the file, and the volume is the rest of it
        setting, largest = "volume_file", file.largest - place.settings.volume_reserve.bytes_of(file.largest)
    per_inode = logical_volume.bytes_per_inode(place.settings, place.storage, plan.device)
    return relocation.judge_room(state, setting, plan.size, largest, plan.filesystem, per_inode)


def _warnings(place: _VolumePlace, state: HostState, plan: Plan, extra_volumes: ExtraVolumes) -> Iterator[str]:
    settings, storage = place.settings, place.storage
    yield from lost_volumes.lost_volume_warnings(settings, plan.lost_volumes)
    yield from system.system_warnings(state)
    yield from engine.silence_warnings(state, storage)
    yield from place.file.warnings
    yield from place.volume.warnings
    yield from ephemeral_warnings(settings, state)
    yield from logical_volume.inode_warnings(settings, storage, plan.device)
    yield from grown_warnings(settings, storage, place.grown, plan.volume_group)
    yield from extra_volumes.warnings
    yield from daemon_json.daemon_json_warnings(settings, state)
    yield from nvidia.nvidia_warnings(settings, state)


def _notices(place: _VolumePlace, state: HostState, plan: Plan) -> Iterator[str]:
    existing = place.storage.logical_volume(plan.volume_group, plan.logical_volume)
    size = existing.size if existing else 0
    yield from grown_notices(place.grown, plan.volume_group, size, plan.size, mirrored=plan.mirrored)
    yield from chosen_disks.choice_notices(place.wanted, place.storage, plan.new_physical_volumes)
    adopted = place.filesystem if plan.adopts else None
    yield from consent.notices(place.settings, state, relocates=plan.relocates, adopted=adopted)


def _is_mounted(place: _VolumePlace, plan: Plan) -> bool:
    settings, storage = place.settings, place.storage
    targets = [settings.volume_mount, *STORES.values(), *(extra.mount for extra in plan.extra_volumes)]
    options = {option for entry in storage.fstab if entry.target == settings.volume_mount for option in entry.options}
    return all(storage.mount(target) for target in targets) and {*settings.volume_mount_options} <= options
