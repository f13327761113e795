"""Decide, from facts alone, whether a host can be provisioned and as what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bulkhead.names import RELOCATED, UNFINISHED
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.preflight import extra_volumes, finding, logical_volume, mount_points, relocation, system, volume_group
from tasks.preflight import nvidia as preflight_nvidia
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.preflight.plan import Plan
from tasks.support.paths import STORES


@dataclass(frozen=True)
class Examination:
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    plan: Plan | None  # None where there are findings
    is_mounted: bool = False  # each volume is, where it belongs


def examine(
    settings: Settings, state: HostState, storage: Storage, lock_holder: str = "", adopted: Sequence[str] = ()
) -> Examination:
    """Whether a host can be provisioned, and as what: every finding, not the first.

    Args:
        settings: of this host.
        state, storage: its facts.
        lock_holder: who holds the run lock, in words; empty for nobody.
        adopted: what lies on the volume that is to be taken over, by name.
    """
    if state.uid != 0:
        # Nothing else that was seen without root can be trusted.
        return Examination((system.not_root(),), (), None)
    findings = [
        *([system.another_run(lock_holder)] if lock_holder else []),
        *system.system(settings, state),
        *system.docker(settings, state),
        *preflight_nvidia.judge(settings, state),
        *logical_volume.adopted_contents(settings, adopted),
    ]
    for what, phase in (("move", state.relocation), ("rollback", state.rollback)):
        if phase in UNFINISHED:
            return Examination((relocation.unfinished(what, phase),), (), None)
    relocates = system.has_data_off_the_volume(state, storage)
    try:
        volume = volume_group.plan_volume(settings, storage)
    except finding.Refused as refused:
        findings += [*refused.findings, *mount_points.mounts(settings, storage, device="", old_trees=True)]
        return Examination(tuple(findings), (), None)
    extras = extra_volumes.plan(settings, state, storage, volume)
    nvidia = preflight_nvidia.is_wanted(settings, state)
    plan = Plan(
        volume_group=volume.group,
        new_physical_volumes=volume.new_disks,
        logical_volume=settings.logical_volume,
        size=volume.size,
        reserve=volume.reserve,
        filesystem=settings.filesystem,
        engine=system.engine_to_install(settings, state),
        os_id=state.os_id,
        os_codename=state.os_codename,
        skeletons=() if relocates else mount_points.skeletons(storage),
        relocates=relocates,
        old_trees=relocates or state.relocation in RELOCATED,
        containerd_store=system.uses_containerd_store(state),
        nvidia=nvidia,
        nvidia_leaves=state.toolkit_is_ours and not nvidia,
        extra_volumes=extras.volumes,
    )
    findings += extras.findings
    findings += mount_points.mounts(settings, storage, plan.device, old_trees=plan.old_trees)
    if relocates:
        findings += relocation.judge(state, storage, plan.size, plan.filesystem)
    warnings = (
        *system.system_warnings(state),
        *volume.warnings,
        *extras.warnings,
        *preflight_nvidia.warnings(settings, state),
    )
    places = [settings.volume_mount, *STORES.values(), *(volume.mount for volume in plan.extra_volumes)]
    is_mounted = all(storage.mount(place) for place in places)
    return Examination(tuple(findings), warnings, None if findings else plan, is_mounted)


def report(name: str, findings: Sequence[Finding]) -> str:
    """What is said of a host that is refused."""
    count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
    return "\n\n".join([f"{name} was left untouched: {count}", *map(str, findings)])
