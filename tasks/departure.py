"""After this, nothing of this project is on a host but its volume, with Docker's data, and the mounts of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator

from pyinfra import host, logger
from pyinfra.api import StringCommand, operation
from pyinfra.api.deploy import deploy

from bulkhead.names import (
    CONFIGURATION,
    MARKER,
    PROGRAM,
    PROGRAM_RUN,
    PROGRAM_STATE,
    RELOCATED,
    SNAPSHOT_TAG,
    UNFINISHED,
)
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import Storage
from pyinfra_lvm.operations import refusal
from settings.model import Settings
from tasks import daemon, fail_closed, guard, prune, watch
from tasks.preflight import examine, system
from tasks.preflight.facts import HostFacts
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.support import files, run_lock
from tasks.support.paths import DOCKER_PIN, NVIDIA_PIN, STORES

Commands = Generator[StringCommand, None, None]
_MOVED_FOR_GOOD = ("", "finalized", "rolled-back", "failed")


def findings(state: HostState, storage: Storage, lock_holder: str) -> list[Finding]:
    """Why a host cannot be left as it is."""
    if state.uid != 0:
        return [system.not_root()]
    found = [system.another_run(lock_holder)] if lock_holder else []
    phases = [state.relocation, *state.moves.values()]
    if any(phase in RELOCATED for phase in phases):
        found.append(
            Finding(
                "the old data of a move is kept on the root disk",
                "one place for the data: without the program nobody could tell which of the two it is",
                "`bulkhead status` on the host says where; then `bulkhead finalize`, or `bulkhead rollback`",
            )
        )
    if any(phase not in (*RELOCATED, *_MOVED_FOR_GOOD) for phase in phases):
        found.append(
            Finding(
                "a move of data has not ended",
                "data in one place",
                "`bulkhead status` on the host; the next run of deploy.py finishes it",
            )
        )
    if state.rollback in UNFINISHED:
        found.append(
            Finding(
                "a rollback to a snapshot has not ended",
                "Docker whole, on one or the other data",
                "`bulkhead relocate --recover` on the host finishes or undoes it; `bulkhead status` says what it has come to",
            )
        )
    if state.stopped_by_upgrade:
        found.append(
            Finding(
                "an upgrade of the engine was cut, and has containers stopped",
                "all of them started again",
                "run deploy.py: it starts them",
            )
        )
    ours = [volume for volume in storage.logical_volumes if SNAPSHOT_TAG in volume.tags]
    if any(volume.merging for volume in ours):
        found.append(
            Finding(
                "LVM is still merging a snapshot of Docker's volume",
                "none",
                "wait until `lvs -a` on the host does not show it any more",
            )
        )
    if snapshots := [volume.path for volume in ours if not volume.merging]:
        found.append(
            Finding(
                f"a snapshot of Docker's volume stands: {', '.join(snapshots)}",
                "none: without the program nobody would drop it before it is full",
                "`bulkhead snapshot drop` on the host, or `bulkhead snapshot rollback` to go back to it",
            )
        )
    return found


def inspect() -> bool:
    """Whether the host can be left; if not, it fails with what was found."""
    holder, state, storage = run_lock.holder(host), host.get_fact(HostFacts), host.get_fact(StorageLayout)
    if holder is None or state is None:
        return False
    if found := findings(state, storage, holder):
        host.log_styled(examine.report(host.name, found), fg="red", log_func=logger.error)
        host.state.fail_hosts({host})
    return not found


@operation()
def take_lock() -> Commands:
    """Take the run lock: from here to the end of the run nobody else changes the host."""
    holder = run_lock.holder(host, take=True) if host.state.is_executing else ""
    if holder is None:
        yield refusal(f"{host.name} was left untouched: the run lock could not be asked for")
    elif holder:
        yield refusal(examine.report(host.name, [system.another_run(holder)]))
    else:
        host.noop("this run holds the lock")


@operation()
def mutable(paths: list[str]) -> Commands:
    """Make the directories beneath mounts ordinary ones again.

    Args:
        paths: of the mounts.
    """
    storage = host.get_fact(StorageLayout, paths=paths)
    immutable = [path for path in paths if (found := storage.directory(path)) and found.immutable]
    for path in immutable:
        parent, name = os.path.split(path)
        inner = f"mount --bind {shlex.quote(parent)} /mnt && chattr -R -i {shlex.quote(f'/mnt/{name}')}"
        yield StringCommand(f"unshare --mount --propagation private sh -c {shlex.quote(inner)}")
    if not immutable:
        host.noop("none of them is immutable")


@deploy("Departure")
def leave(settings: Settings) -> None:
    """daemon.json with the host's own keys, Docker free to start without the volume, and no file of ours."""
    take_lock(name="One run at a time")
    daemon.release(name="daemon.json has the host's own keys alone")
    fail_closed.released()
    watch.removed(settings)
    prune.removed()
    guard.removed(settings)
    files.removed(
        name="The program, its configuration, the pins and the volume's marker are gone",
        paths=[
            PROGRAM,
            CONFIGURATION,
            PROGRAM_STATE,
            PROGRAM_RUN,
            DOCKER_PIN,
            NVIDIA_PIN,
            f"{settings.volume_mount}/{MARKER}",
        ],
    )
    extra = [volume.mount for volume in settings.extra_volumes.values()]
    mutable(
        name="The directories beneath the mounts are ordinary ones",
        paths=[settings.volume_mount, *STORES.values(), *extra],
    )
