"""Say what a first run does to a host that is in use, and refuse it where its owner wants that. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

from bulkhead.sizes import Size, human
from settings.model import Settings
from tasks.preflight import adoption
from tasks.preflight.adoption import Adoption
from tasks.preflight.finding import LEAVE_OUT, Finding
from tasks.preflight.host import Container, HostState

_STOPPED = ("exited", "created", "dead")
_LISTED = 20  # names in a message


def judge_consent(settings: Settings, state: HostState, directories: Sequence[str]) -> Iterator[Finding]:
    """Yield why data does not move although it could.

    Args:
        directories: that would move onto their volumes.
    """
    if directories and settings.relocation == "refuse":
        running = _running(state)
        stops = f" Its containers stop for the move: {_listed(running)}." if running else ""
        yield Finding(
            f"{' and '.join(directories)} {'holds' if len(directories) == 1 else 'hold'} data that is not on its volume",
            f'relocation = "move": it is "refuse", and this run would move the data.{stops}',
            f'set relocation = "move" for this host when it may have the outage, {LEAVE_OUT}',
        )


def notices(settings: Settings, state: HostState, *, relocates: bool, adopted: Adoption | None = None) -> Iterator[str]:
    """Yield what the owner of a living host should know before its first run.

    Args:
        relocates: Docker's data moves onto its volume.
        adopted: the filesystem that becomes Docker's volume in this run.
    """
    if adopted:
        running = _running(state)
        yield adoption.notice(state, adopted, _listed(running) if running else "", copies=relocates)
    elif relocates:
        running = _running(state)
        yield (
            f"Docker's data moves onto its volume: {human(state.store_bytes)} in {state.store_inodes} files. For the switch "
            f"Docker stops{f', and with it {_listed(running)}. They start again on the volume' if running else ''}. The outage "
            "depends on how much changes during the first copy, on how long the containers take to stop, and on the number "
            'of files, not on the amount of data (docs/move.md). relocation = "refuse" leaves such a host as it is'
        )
    stale = [container.name for container in state.containers if _is_stale(settings, container)]
    dangling = {*state.dangling_images} - {container.image for container in state.containers}
    # Nobody has counted build cache and networks: a host in use has the one or the other.
    if settings.prune_time and (relocates or adopted or stale or dangling):
        hours = settings.prune_hours
        removed = [
            *([f"{_listed(stale)} that stopped at least {hours} h ago"] if stale else []),
            *([f"{len(dangling)} dangling {'image' if len(dangling) == 1 else 'images'}"] if dangling else []),
            "build cache and networks that nobody uses",
        ]
        yield (
            f"the nightly prune ({settings.prune_time}) removes what stays unused for {hours} h from this run on; today that would be "
            f'{", ".join(removed)}. prune_keep keeps objects by name, prune_time = "" switches the prune off (docs/prune.md)'
        )

    limit = settings.journal_max_use
    if limit and state.journal_bytes > Size.parse(limit).bytes:
        yield (
            f"the system's journal takes {human(state.journal_bytes)}: its oldest entries beyond {limit} are deleted, unless "
            f'the host has a limit of its own. journal_max_use = "" leaves the journal as it is'
        )


def _running(state: HostState) -> list[str]:
    return [container.name for container in state.containers if container.status not in _STOPPED]


def _is_stale(settings: Settings, container: Container) -> bool:
    """Return whether the prune removes a container; bulkhead.prune.unused decides it on the host."""
    return (
        container.status in _STOPPED
        and container.idle_hours >= settings.prune_hours
        and not container.has_restart_policy
        and not container.is_kept
        and not any(fnmatch.fnmatchcase(container.name, pattern) for pattern in settings.prune_keep)
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    count = "1 container" if len(names) == 1 else f"{len(names)} containers"
    return f"{count} ({', '.join(names[:_LISTED])}{more})"
