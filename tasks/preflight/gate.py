"""Ask a host for its facts, and stop it before the first change where it cannot be provisioned.

``examine`` decides, from the facts alone. The gate asks twice: while pyinfra prepares, which a dry run shows, and again
under the run lock, right before the first change. A host that is refused is left exactly as it was.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra import host, logger
from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

from bulkhead.names import DOCKER_STORE, VOLUME_FILE
from fleet.record import note_refusal
from pyinfra_lvm import operations
from pyinfra_lvm.collection import Question, fact, operation
from pyinfra_lvm.facts import WHOLE_DISKS, StorageLayout
from settings.fields import BLANK
from settings.model import Settings
from tasks import relocation
from tasks.preflight.adoption import EMPTY
from tasks.preflight.adoption import is_wanted as is_adoption_wanted
from tasks.preflight.adoption_facts import RootOfFilesystem
from tasks.preflight.examine import Examination, examine
from tasks.preflight.facts import HostFacts, VolumeRoot
from tasks.preflight.finding import Finding, report
from tasks.preflight.host import HostState
from tasks.preflight.logical_volume import to_be_adopted
from tasks.preflight.plan import Plan
from tasks.support import gpu, run_lock
from tasks.support.package_names import ENGINE_WHERE_OFFERED
from tasks.support.paths import STORES, VOLUME_FILE_DEVICE


def inspect(settings: Settings, questions: Sequence[Question] = ()) -> Plan | None:
    """Return the plan for this host while pyinfra prepares; None where the host fails, with its findings printed.

    Args:
        settings: of this host.
        questions: of the capabilities, asked in the same command.
    """
    result = _examine_host(settings, questions, take_lock=False)
    if result is None:
        return None
    for warning in result.warnings:
        host.log_styled(f"Warning: {warning}", fg="yellow", log_func=logger.warning)
    if result.plan is None:
        refuse(result.findings)
        return None
    for notice in result.notices:
        host.log_styled(f"Note: {notice}", fg="yellow", log_func=logger.warning)
    if not result.is_mounted:
        gpu.warn_before("systemd is reloaded for the mounts")
    return result.plan


def refuse(findings: Sequence[Finding]) -> None:
    """Print the findings on this host and fail it, while pyinfra prepares."""
    note_refusal([str(finding) for finding in findings])
    host.log_styled(report(host.name, findings), fg="red", log_func=logger.error)
    failing = ctx_host.get()  # `host` is whichever host pyinfra is at: in a set it would be another one later
    failing.state.fail_hosts({failing})


def refusal(reason: Sequence[Finding] | str) -> StringCommand:
    """Return the command that prints why this host is refused and fails it, while pyinfra executes."""
    if isinstance(reason, str):
        note_refusal([reason])
        return operations.refusal(f"{host.name} was left untouched: {reason}")
    note_refusal([str(finding) for finding in reason])
    return operations.refusal(report(host.name, reason))


@operation()
def hold_the_lock(
    settings: Settings, plan: Plan, questions: Sequence[Question] = ()
) -> Generator[StringCommand, None, None]:
    """Take the run lock and examine the host again: from here to the end of the run nobody else changes it.

    Args:
        settings: of this host.
        plan: from the first examination.
        questions: of the capabilities, asked in the same command.
    """
    if not host.state.is_executing:
        host.noop("a dry run takes no lock")
        return
    result = _examine_host(settings, questions, take_lock=True)
    if result is None:
        yield refusal("its facts could not be read")
    elif result.plan is None:
        yield refusal(result.findings)
    elif result.plan != plan:
        yield refusal("it has changed since this run examined it. Run again.")
    else:
        host.noop("this run holds the lock, and the host has not changed")


def _examine_host(settings: Settings, questions: Sequence[Question], *, take_lock: bool) -> Examination | None:
    """Ask for the facts and examine them; None where they could not be read, which has failed the host already."""
    of_host, of_storage = _questions(settings)
    questions = [of_host, of_storage, *questions]
    holder = run_lock.collect(questions, take=take_lock)
    if holder is None:
        return None
    state: HostState | None = fact(HostFacts, **of_host.arguments)
    if state and state.relocation_under_way:
        host.log("A move of data is under way from an earlier run; this one waits for it")
        relocation.join(host)
        if (holder := run_lock.collect(questions, take=take_lock)) is None:
            return None
        state = fact(HostFacts, **of_host.arguments)
    storage = fact(StorageLayout, **of_storage.arguments)
    if state is None:
        return None
    foreign = to_be_adopted(settings, storage)
    adopted = [name for volume in foreign for name in host.get_fact(VolumeRoot, device=volume.mapper_path)]
    is_wanted = is_adoption_wanted(settings, state, storage) and storage.mount(DOCKER_STORE)
    root = host.get_fact(RootOfFilesystem, path=DOCKER_STORE) if is_wanted else EMPTY
    return examine(settings, state, storage, holder, adopted, root)


def _questions(settings: Settings) -> tuple[Question, Question]:
    places = [volume.mount for volume in settings.extra_volumes.values()]
    mount_points = [settings.volume_mount, *STORES.values(), *places]
    of_host = {
        "docker_repository": settings.docker_repository,
        "nvidia_repository": f"{settings.nvidia_repository}/stable/deb",
        "places": places,
        "mount_points": mount_points,
        "where_offered": list(ENGINE_WHERE_OFFERED.get(settings.engine_source, ())),
        "identify": settings.volume_ephemeral,
    }
    disks = [*(WHOLE_DISKS if disk == BLANK else disk for disk in settings.volume_disks), VOLUME_FILE_DEVICE]
    of_storage = {"paths": mount_points, "probe": disks, "images": [VOLUME_FILE]}
    return Question(HostFacts, of_host), Question(StorageLayout, of_storage)
