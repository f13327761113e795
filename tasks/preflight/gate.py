"""Before this has passed, nothing is changed on a host; a host that it refuses is left exactly as it was.

``examine`` decides from facts alone. It is asked twice: while pyinfra prepares, which a dry run shows, and again under
the run lock, right before the first change.
"""

from __future__ import annotations

from collections.abc import Generator

from pyinfra import host, logger
from pyinfra.api import StringCommand, operation

from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.operations import refusal
from settings.model import Settings
from tasks import relocation
from tasks.preflight import logical_volume
from tasks.preflight.examine import Examination, examine, report
from tasks.preflight.facts import HostFacts, VolumeRoot
from tasks.preflight.host import HostState
from tasks.preflight.plan import Plan
from tasks.support import gpu, run_lock
from tasks.support.paths import STORES

# -- in the deploy


def _examine_host(settings: Settings, take_lock: bool) -> Examination | None:
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
    foreign = logical_volume.to_be_adopted(settings, storage)
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


def inspect(settings: Settings) -> Plan | None:
    """The plan for this host, while pyinfra prepares; None fails the host, with its findings printed."""
    result = _examine_host(settings, take_lock=False)
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
    result = _examine_host(settings, take_lock=True)
    if result is None:
        yield refusal(f"{host.name} was left untouched: its facts could not be taken")
    elif result.plan is None:
        yield refusal(report(host.name, result.findings))
    elif result.plan != plan:
        yield refusal(f"{host.name} was left untouched: it has changed since this run looked at it. Run again.")
    else:
        host.noop("this run holds the lock, and the host is as it was seen")
