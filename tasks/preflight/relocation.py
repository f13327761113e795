"""Judge a host whose Docker data has to move onto the volume. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

from bulkhead.sizes import human
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.preflight.finding import LEAVE_OUT, Finding
from tasks.preflight.host import Container, HostState
from tasks.support.paths import STORES

# The copy grows while it runs, and Docker needs room afterwards.
_MARGIN = 1.1

# ext4 has an inode for each 16 KiB (mke2fs.conf); xfs makes them as it needs them.
_BYTES_PER_INODE = 16384

# Docker itself mounts these in its stores.
_DOCKERS_MOUNTS = ("overlay", "tmpfs", "shm", "nsfs", "mqueue")


_STOPPED = ("exited", "created", "dead")
_LISTED = 20  # names in a message


def unfinished(what: str, phase: str) -> Finding:
    """Return the finding for a move, or a rollback to a snapshot, whose own recovery has failed."""
    return Finding(
        f"a {what} of Docker's data was cut ({phase}), and could not be finished or undone",
        "Docker whole, on its old data or its new: until then nothing may touch either",
        "find out why on the host (`journalctl -u bulkhead-recover -u bulkhead-relocate`), correct that, and run "
        "`bulkhead relocate --recover`",
    )


def judge_move(state: HostState, storage: Storage) -> Iterator[Finding]:
    """Yield why Docker's data cannot move, onto whatever volume."""
    if not state.storage_driver and not state.docker_hangs:
        yield Finding(
            f"Docker does not run, and holds {state.docker_data}; containerd: {state.containerd_data}",
            "a running Docker: its containers, images and volumes are compared before and after the move",
            "`systemctl start docker`, and run again",
        )
    within = tuple(f"{path}/" for path in STORES.values())
    for mount in storage.mounts:
        is_dockers_own = mount.fstype in _DOCKERS_MOUNTS or mount.target in state.device_volumes
        if mount.target.startswith(within) and not is_dockers_own:
            yield Finding(
                f"{mount.source} is mounted on {mount.target}, in Docker's data",
                "no mounts of others there: the move would leave their contents behind",
                "unmount it for the move, or leave this host out",
            )
    for path in STORES.values():
        for target in _bound_elsewhere(storage, path):
            yield Finding(
                f"part of {path} is bind-mounted on {target}",
                "no other way to Docker's old data, which would be used on after the volume is mounted over it",
                f"unmount {target} for the move, or leave this host out",
            )


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


def notices(settings: Settings, state: HostState, *, relocates: bool) -> Iterator[str]:
    """Yield what the owner of a living host should know before its first run.

    Args:
        relocates: Docker's data moves onto its volume.
    """
    if relocates:
        running = _running(state)
        yield (
            f"Docker's data moves onto its volume: {human(state.store_bytes)} in {state.store_inodes} files. For the switch "
            f"Docker stops{f', and with it {_listed(running)}. They start again on the volume' if running else ''}. The outage "
            "depends on how much changes during the first copy, on how long the containers take to stop, and on the number "
            'of files, not on the amount of data (docs/move.md). relocation = "refuse" leaves such a host as it is'
        )
    stale = [container.name for container in state.containers if _is_stale(settings, container)]
    dangling = {*state.dangling_images} - {container.image for container in state.containers}
    if settings.prune_time and (stale or dangling):
        hours = settings.prune_hours
        removed = [
            *([f"{_listed(stale)} that stopped at least {hours} h ago"] if stale else []),
            *([f"{len(dangling)} dangling {'image' if len(dangling) == 1 else 'images'}"] if dangling else []),
            f"build cache and networks not used for {hours} h",
        ]
        yield (
            f"the first nightly prune ({settings.prune_time}) removes what is unused then; today that is "
            f'{", ".join(removed)}. prune_keep keeps objects by name, prune_time = "" switches the prune off (docs/prune.md)'
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


def judge_room(state: HostState, size: int, filesystem: str) -> Iterator[Finding]:
    """Yield why Docker's volume cannot hold the data that moves onto it.

    Args:
        size: of the volume, in bytes.
        filesystem: of the volume.
    """
    return too_little_room("Docker's data", "volume_size", state.store_bytes, state.store_inodes, size, filesystem)


def _bound_elsewhere(storage: Storage, path: str) -> Iterator[str]:
    holder = storage.mount_containing(path)
    if holder is None or holder.target == path:
        return
    inside = holder.root.rstrip("/") + path[len(holder.target.rstrip("/")) :]
    for mount in storage.mounts:
        is_part = mount.root == inside or mount.root.startswith(f"{inside}/")
        if mount.device == holder.device and is_part and not mount.target.startswith(f"{path}/"):
            yield mount.target


def too_little_room(data: str, setting: str, used: int, inodes: int, size: int, filesystem: str) -> Iterator[Finding]:
    """Yield why a volume cannot hold the data that moves onto it.

    Args:
        data: in words, such as "the data in /home".
        setting: that has the volume's size.
        used: bytes of the data.
        inodes: files and directories of the data.
        size: of the volume, in bytes.
        filesystem: of the volume.
    """
    needed = int(used * _MARGIN)
    if needed > size:
        yield Finding(
            f"{data} takes {human(used)}, and its volume has {human(size)}",
            f"{human(needed)}: a tenth more than the data",
            f"set a larger {setting}, or free space (in Docker: `docker system df`, `docker image prune`)",
        )
    if filesystem == "ext4" and inodes * _MARGIN > size // _BYTES_PER_INODE:
        yield Finding(
            f"{data} has {inodes} files, and its volume, as ext4, {size // _BYTES_PER_INODE} inodes",
            f"{int(inodes * _MARGIN)} inodes",
            f'set its filesystem to "xfs", which has no such limit, or a larger {setting}',
        )
