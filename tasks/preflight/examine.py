"""Decide, from facts alone, whether a host can be provisioned, and as what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
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
from tasks.preflight.adoption import EMPTY, FilesystemRoot
from tasks.preflight.ephemeral import ephemeral_warnings, judge_boot_disks
from tasks.preflight.extra_volumes import plan_extra_volumes
from tasks.preflight.finding import Finding, Refused
from tasks.preflight.grown_disks import grown_disks, grown_notices, grown_warnings, with_grown_disks
from tasks.preflight.host import HostState
from tasks.preflight.plan import Plan
from tasks.preflight.volume_file import FilePlan
from tasks.preflight.volume_group import plan_file, plan_volume
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
    wanted = settings
    try:
        filesystem = adoption.plan_adoption(settings, state, storage, root) if settings.adopt_filesystem else None
        file = (
            FilePlan(settings, storage)
            if filesystem
            else plan_file(settings, storage, state.store_bytes if relocates else 0)
        )
        settings, grown = file.settings, () if filesystem else grown_disks(file.settings, file.storage)
        storage = with_grown_disks(file.storage, grown)
        volume = filesystem.volume if filesystem else plan_volume(settings, storage)
    except Refused as refused:
        findings += daemon_json.judge_obstacle(settings, state, None)
        findings += refused.findings
        if not adopts:
            findings += mount_points.judge_mount_points(settings, storage, old_trees=True)
        return Examination(tuple(findings))
    extra_volumes = plan_extra_volumes(settings, state, storage, volume)
    wants_nvidia = nvidia.is_wanted(settings, state)
    boot_disks = tuple(wanted.volume_disks) if settings.volume_ephemeral and state.machine else ()
    plan = Plan(
        volume_group=volume.group,
        new_physical_volumes=volume.new_disks,
        grown_disks=tuple(disk.name for disk in grown if disk.is_taken and disk.group == volume.group),
        logical_volume=settings.logical_volume,
        size=volume.size,
        mirrored=volume.mirrored,
        mirror_disks=volume.mirror_disks,
        stripes=volume.stripes,
        boot_disks=boot_disks,
        machine=state.machine,
        removes_boot_unit=state.has_boot_unit and not boot_disks,
        reserve=volume.reserve,
        filesystem=filesystem.entry.fstype if filesystem else settings.filesystem,
        engine=engine.engine_to_install(settings, state),
        os_id=state.os_id,
        os_codename=state.os_codename,
        unused_stores=() if relocates or adopts else mount_points.unused_stores(storage),
        relocates=relocates,
        old_trees=relocates or state.relocation in RELOCATED,
        containerd_store=engine.uses_containerd_store(state),
        disk_file_bytes=file.size,
        adopted=filesystem.entry if filesystem else None,
        adopts=adopts,
        leaves_file=file.leaves,
        log_driver=daemon_json.log_driver(settings, state),
        nvidia=wants_nvidia,
        keeps_toolkit=wants_nvidia and nvidia.keeps_toolkit(settings, state),
        removes_nvidia=state.toolkit_is_ours and not wants_nvidia,
        extra_volumes=extra_volumes.volumes,
        lost_volumes=lost,
    )
    plan = replace(plan, installs=packages.are_missing(settings, state, plan))
    findings += daemon_json.judge_obstacle(settings, state, plan)
    findings += [*volume.findings, *extra_volumes.findings, *judge_boot_disks(wanted, storage, volume)]
    if not adopts:
        findings += mount_points.judge_mount_points(settings, storage, plan.device, old_trees=plan.old_trees)
    findings += consent.judge_consent(settings, state, plan.directories_to_move)
    if relocates and not adopts:
        # The reserve is a part of the file, and the volume is the rest of it.
        largest = file.largest - settings.volume_reserve.bytes_of(file.largest) if file.size else volume.largest
        setting = "volume_file" if file.size else "volume_size"
        per_inode = logical_volume.bytes_per_inode(settings, storage, plan.device)
        findings += relocation.judge_room(state, setting, plan.size, largest, plan.filesystem, per_inode)
    warnings = (
        *lost_volumes.lost_volume_warnings(settings, lost),
        *system.system_warnings(state),
        *engine.silence_warnings(state, storage),
        *file.warnings,
        *volume.warnings,
        *ephemeral_warnings(settings, state),
        *logical_volume.inode_warnings(settings, storage, plan.device),
        *grown_warnings(settings, storage, grown, volume.group),
        *extra_volumes.warnings,
        *daemon_json.daemon_json_warnings(settings, state),
        *nvidia.nvidia_warnings(settings, state),
    )
    places = [settings.volume_mount, *STORES.values(), *(extra.mount for extra in plan.extra_volumes)]
    options = {option for entry in storage.fstab if entry.target == settings.volume_mount for option in entry.options}
    is_mounted = all(storage.mount(place) for place in places) and {*settings.volume_mount_options} <= options
    existing = storage.logical_volume(volume.group, settings.logical_volume)
    notices = (
        *grown_notices(grown, volume.group, existing.size if existing else 0, plan.size, mirrored=plan.mirrored),
        *chosen_disks.choice_notices(wanted, storage, plan.new_physical_volumes),
        *consent.notices(settings, state, relocates=relocates, adopted=filesystem if adopts else None),
    )
    return Examination(tuple(findings), warnings, None if findings else plan, is_mounted, notices)
