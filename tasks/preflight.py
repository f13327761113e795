"""Before this has passed, nothing is changed on a host; a host that it refuses is left exactly as it was.

``examine`` decides from facts alone. It is asked twice: while pyinfra prepares, which a dry run shows, and again under
the run lock, right before the first change.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from pyinfra import host, logger
from pyinfra.api import StringCommand, operation

from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import Storage, mapper_path
from pyinfra_lvm.operations import refusal
from settings import Settings
from tasks import (
    gpu,
    preflight_extra,
    preflight_host,
    preflight_nvidia,
    preflight_relocation,
    preflight_volume,
    relocation,
    run_lock,
)
from tasks.facts import HostFacts, VolumeRoot
from tasks.finding import Finding
from tasks.host import HostState
from tasks.paths import DOCKER_STORE, RELOCATED, STORES, UNFINISHED
from tasks.preflight_extra import ExtraVolume


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
    extra_volumes: tuple[ExtraVolume, ...] = ()

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
class Result:
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    plan: Plan | None  # None where there are findings
    is_mounted: bool = False  # each volume is, where it belongs


def examine(
    settings: Settings, state: HostState, storage: Storage, lock_holder: str = "", adopted: Sequence[str] = ()
) -> Result:
    """Whether a host can be provisioned, and as what: every finding, not the first.

    Args:
        settings: of this host.
        state, storage: its facts.
        lock_holder: who holds the run lock, in words; empty for nobody.
        adopted: what lies on the volume that is to be taken over, by name.
    """
    if state.uid != 0:
        # Nothing else that was seen without root can be trusted.
        return Result((preflight_host.not_root(),), (), None)
    findings = [
        *([preflight_host.another_run(lock_holder)] if lock_holder else []),
        *preflight_host.system(settings, state),
        *preflight_host.docker(settings, state),
        *preflight_nvidia.judge(settings, state),
        *preflight_volume.adopted_contents(settings, adopted),
    ]
    for what, phase in (("move", state.relocation), ("rollback", state.rollback)):
        if phase in UNFINISHED:
            return Result((preflight_relocation.unfinished(what, phase),), (), None)
    relocates = preflight_host.has_data_off_the_volume(state, storage)
    try:
        volume = preflight_volume.plan_volume(settings, storage)
    except preflight_volume.Refused as refused:
        findings += [*refused.findings, *preflight_volume.mounts(settings, storage, device="", old_trees=True)]
        return Result(tuple(findings), (), None)
    extras = preflight_extra.plan(settings, state, storage, volume)
    nvidia = preflight_nvidia.is_wanted(settings, state)
    plan = Plan(
        volume_group=volume.group,
        new_physical_volumes=volume.new_disks,
        logical_volume=settings.logical_volume,
        size=volume.size,
        reserve=volume.reserve,
        filesystem=settings.filesystem,
        engine=preflight_host.engine_to_install(settings, state),
        os_id=state.os_id,
        os_codename=state.os_codename,
        skeletons=() if relocates else preflight_volume.skeletons(storage),
        relocates=relocates,
        old_trees=relocates or state.relocation in RELOCATED,
        containerd_store=preflight_host.uses_containerd_store(state),
        nvidia=nvidia,
        nvidia_leaves=state.toolkit_is_ours and not nvidia,
        extra_volumes=extras.volumes,
    )
    findings += extras.findings
    findings += preflight_volume.mounts(settings, storage, plan.device, old_trees=plan.old_trees)
    if relocates:
        findings += preflight_relocation.judge(state, storage, plan.size, plan.filesystem)
    warnings = (
        *preflight_host.system_warnings(state),
        *volume.warnings,
        *extras.warnings,
        *preflight_nvidia.warnings(settings, state),
    )
    places = [settings.volume_mount, *STORES.values(), *(volume.mount for volume in plan.extra_volumes)]
    is_mounted = all(storage.mount(place) for place in places)
    return Result(tuple(findings), warnings, None if findings else plan, is_mounted)


def report(name: str, findings: Sequence[Finding]) -> str:
    """What is said of a host that is refused."""
    count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
    return "\n\n".join([f"{name} was left untouched: {count}", *map(str, findings)])


# -- in the deploy


def _look(settings: Settings, take_lock: bool) -> Result | None:
    """What the facts say; None where they could not be had, which has failed the host already."""
    holder = run_lock.holder(host, take=take_lock)
    extra = [volume.mount for volume in settings.extra_volumes.values()]
    state = _host_facts(settings, extra)
    if state and state.relocation_under_way:
        host.log("A move of data is under way from an earlier run; this one waits for it")
        relocation.join(host)
        state = _host_facts(settings, extra)
    storage = host.get_fact(
        StorageLayout, paths=[settings.volume_mount, *STORES.values(), *extra], probe=list(settings.volume_disks)
    )
    if state is None or holder is None:
        return None
    foreign = preflight_volume.to_be_adopted(settings, storage)
    adopted = [name for volume in foreign for name in host.get_fact(VolumeRoot, device=volume.mapper_path)]
    return examine(settings, state, storage, holder, adopted)


def _host_facts(settings: Settings, places: list[str]) -> HostState | None:
    state: HostState | None = host.get_fact(
        HostFacts,
        docker_repository=settings.docker_repository,
        nvidia_repository=f"{settings.nvidia_repository}/stable/deb",
        places=places,
    )
    return state


def look(settings: Settings) -> Plan | None:
    """The plan for this host, while pyinfra prepares; None fails the host, with its findings printed."""
    result = _look(settings, take_lock=False)
    if result is None:
        return None
    for warning in result.warnings:
        host.log_styled(f"Warning: {warning}", fg="yellow", log_func=logger.warning)
    if result.plan and not result.is_mounted:
        gpu.say_before("systemd is reloaded, for the mounts,")
    if result.plan is None:
        host.log_styled(report(host.name, result.findings), fg="red", log_func=logger.error)
        host.state.fail_hosts({host})
    return result.plan


@operation()
def hold_the_lock(settings: Settings, plan: Plan) -> Generator[StringCommand, None, None]:
    """Take the run lock and look again: from here to the end of the run nobody else changes the host.

    Args:
        settings: of this host.
        plan: what was seen while preparing.
    """
    if not host.state.is_executing:
        host.noop("a dry run takes no lock")
        return
    result = _look(settings, take_lock=True)
    if result is None:
        yield refusal(f"{host.name} was left untouched: its facts could not be taken")
    elif result.plan is None:
        yield refusal(report(host.name, result.findings))
    elif result.plan != plan:
        yield refusal(f"{host.name} was left untouched: it has changed since this run looked at it. Run again.")
    else:
        host.noop("this run holds the lock, and the host is as it was seen")
