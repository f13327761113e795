"""After this, a host has nothing of this project but its volume, with Docker's data and its mounts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Iterator

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.deploy import deploy

from bulkhead.names import (
    BUILDS_RUN,
    CONFIGURATION,
    MARKER,
    PROGRAM,
    PROGRAM_RUN,
    PROGRAM_STATE,
    RELOCATED,
    SNAPSHOT_TAG,
    UNFINISHED,
)
from pyinfra_lvm.collection import Question, fact, operation
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks import daemon, ephemeral, fail_closed, guard, prune, watch
from tasks.preflight import gate, system
from tasks.preflight.facts import HostFacts
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.preflight.lost_volumes import find_lost_volumes
from tasks.support import files, run_lock
from tasks.support.paths import DOCKER_PIN, NVIDIA_PIN, STORES

Commands = Generator[StringCommand, None, None]
# In these phases of a move the data is in one place.
_ENDED = ("", "finalized", "rolled-back", "failed")


def judge(settings: Settings, state: HostState, storage: Storage, lock_holder: str) -> list[Finding]:
    """Return why this project cannot be removed from a host now.

    Args:
        settings: of this host.
        state, storage: its facts.
        lock_holder: who holds the run lock, in words; empty for nobody.
    """
    if state.uid != 0:
        return [system.not_root()]
    found = [system.another_run(lock_holder)] if lock_holder else []
    found += _judge_mounts(settings, state, storage)
    phases = [state.relocation, *state.moves.values()]
    if any(phase in RELOCATED for phase in phases):
        found.append(
            Finding(
                "the old data of a move is kept on the root disk",
                "one copy of the data: without the program nothing shows which of the two is in use",
                "`bulkhead status` on the host shows where it is; then `bulkhead finalize`, or `bulkhead rollback`",
            )
        )
    if any(phase not in (*RELOCATED, *_ENDED) for phase in phases):
        found.append(
            Finding(
                "a move of data has not ended",
                "data in one place",
                "run deploy.py, which finishes it; `bulkhead status` on the host shows its state",
            )
        )
    if state.rollback in UNFINISHED:
        found.append(
            Finding(
                "a rollback to a snapshot has not ended",
                "Docker whole, on its old data or its new",
                "`bulkhead relocate --recover` on the host finishes or undoes it; `bulkhead status` shows the result",
            )
        )
    if state.stopped_by_upgrade:
        found.append(
            Finding(
                "an upgrade of the engine was cut, and has left containers stopped",
                "these containers started again",
                "run deploy.py, which starts them",
            )
        )
    ours = [volume for volume in storage.logical_volumes if SNAPSHOT_TAG in volume.tags]
    if any(volume.merging for volume in ours):
        found.append(
            Finding(
                "LVM is still merging a snapshot of Docker's volume",
                "no snapshot",
                "wait until `lvs -a` on the host no longer shows it",
            )
        )
    if snapshots := [volume.path for volume in ours if not volume.merging]:
        found.append(
            Finding(
                f"there is a snapshot of Docker's volume: {', '.join(snapshots)}",
                "no snapshot: without the program nothing drops it before it is full",
                "`bulkhead snapshot drop` on the host, or `bulkhead snapshot rollback` to go back to it",
            )
        )
    return found


def _judge_mounts(settings: Settings, state: HostState, storage: Storage) -> Iterator[Finding]:
    """Yield why Docker would not start again once its daemon.json has changed, or would start off its volume."""
    on_old_data = state.relocation in ("failed", "rolled-back")
    # Without an extra volume Docker runs, and its mount point stays in fstab.
    lost = [volume for volume in find_lost_volumes(settings, state, storage) if volume.mount == settings.volume_mount]
    unmounted = [path for path in (settings.volume_mount, *STORES.values()) if storage.mount(path) is None]
    if lost and not on_old_data:
        yield Finding(
            f"{lost[0]} is not there",
            f"Docker's volume on {settings.volume_mount}: without this project Docker would start on the root disk, with "
            "nothing of its data",
            "attach the disk again; or run deploy.py, which shows every way out",
        )
    elif unmounted and state.fails_closed:
        yield Finding(
            f"nothing is mounted on {', '.join(unmounted)}",
            "the volume with both stores: without them Docker does not start",
            "run deploy.py, which mounts them, and then undeploy.py",
        )


def _examine(settings: Settings, *, take_lock: bool) -> list[Finding] | None:
    """Ask for the facts and judge them; None where they could not be read, which has failed the host already."""
    holder = run_lock.collect([Question(HostFacts, {}), Question(StorageLayout, {})], take=take_lock)
    if holder is None:
        return None
    state, storage = fact(HostFacts), fact(StorageLayout)
    return None if state is None else judge(settings, state, storage, holder)


def inspect(settings: Settings) -> bool:
    """Return whether this project can be removed from the host; if not, print the findings and fail the host."""
    findings = _examine(settings, take_lock=False)
    if findings:
        gate.refuse(findings)
    return findings == []


@operation()
def hold_the_lock(settings: Settings) -> Commands:
    """Take the run lock and judge the host again: from here to the end of the run nobody else changes it.

    Args:
        settings: of this host.
    """
    findings = _examine(settings, take_lock=True) if host.state.is_executing else []
    if findings is None:
        yield gate.refusal("its facts could not be read")
    elif findings:
        yield gate.refusal(findings)
    else:
        host.noop("this run holds the lock")


@operation()
def mutable(paths: list[str]) -> Commands:
    """Make the directories beneath mounts writable again.

    Args:
        paths: of the mounts.
    """
    storage = fact(StorageLayout, paths=paths)
    immutable = [path for path in paths if (found := storage.directory(path)) and found.immutable]
    for path in immutable:
        parent, name = os.path.split(path)
        inner = f"mount --bind {shlex.quote(parent)} /mnt && chattr -R -i {shlex.quote(f'/mnt/{name}')}"
        yield StringCommand(f"unshare --mount --propagation private sh -c {shlex.quote(inner)}")
    if not immutable:
        host.noop("no directory beneath a mount is immutable")


@deploy("Removal")
def remove(settings: Settings) -> None:
    """Leave daemon.json with the host's own keys, and no file of ours but those that mount the volume before Docker starts."""
    hold_the_lock(name="One run at a time, on a host that can do without this project", settings=settings)
    daemon.remove_our_keys(
        name="daemon.json has only the host's own keys", docker_start_limit=settings.docker_start_limit
    )
    fail_closed.given_up(settings, fact(StorageLayout))
    ephemeral.removed()
    watch.removed(settings)
    prune.removed()
    guard.removed(settings)
    files.removed(
        name="The program, its configuration, the pins and the volume's markers are removed",
        paths=[
            PROGRAM,
            CONFIGURATION,
            PROGRAM_STATE,
            PROGRAM_RUN,
            BUILDS_RUN,
            DOCKER_PIN,
            NVIDIA_PIN,
            *(f"{path}/{MARKER}" for path in (settings.volume_mount, *STORES.values())),
        ],
    )
    extra = [volume.mount for volume in settings.extra_volumes.values()]
    mutable(
        name="The directories beneath the mounts can be written to",
        paths=[settings.volume_mount, *STORES.values(), *extra],
    )
