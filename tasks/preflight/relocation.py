"""Judge a host whose Docker data has to move onto the volume. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bulkhead.sizes import human, setting_of
from pyinfra_lvm.model import Mount, Storage
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.support.paths import STORES

# The copy grows while it runs, and Docker needs room afterwards.
_MARGIN = 1.1

# mke2fs makes an inode for so many bytes of a filesystem smaller than so much: its usage types default, big and huge
# (mke2fs(8), option -T; mke2fs.conf). xfs makes inodes as it needs them.
_BYTES_PER_INODE = ((4 * 2**40, 16384), (16 * 2**40, 32768))
_BYTES_PER_INODE_BEYOND = 65536

# Docker itself mounts these in its stores.
_DOCKERS_MOUNTS = ("overlay", "tmpfs", "shm", "nsfs", "mqueue")


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
        if mount.target.startswith(within) and not is_dockers_mount(state, mount):
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


def is_dockers_mount(state: HostState, mount: Mount) -> bool:
    """Return whether Docker made a mount in its stores, and makes it again."""
    return mount.fstype in _DOCKERS_MOUNTS or mount.target in state.device_volumes


def judge_room(
    state: HostState, setting: str, size: int, largest: int, filesystem: str, bytes_per_inode: int = 0
) -> Iterator[Finding]:
    """Yield why Docker's volume cannot hold the data that moves onto it.

    Args:
        setting: that gives the volume its size.
        size: of the volume, in bytes.
        largest: the largest size that would fit into the volume group, in bytes.
        filesystem: of the volume.
        bytes_per_inode: of an ext4; 0 for mke2fs's choice.
    """
    used, inodes = state.store_bytes, state.store_inodes
    return too_little_room("Docker's data", setting, used, inodes, size, largest, filesystem, bytes_per_inode)


def _bound_elsewhere(storage: Storage, path: str) -> Iterator[str]:
    holder = storage.mount_containing(path)
    if holder is None or holder.target == path:
        return
    inside = holder.root.rstrip("/") + path[len(holder.target.rstrip("/")) :]
    for mount in storage.mounts:
        is_part = mount.root == inside or mount.root.startswith(f"{inside}/")
        if mount.device == holder.device and is_part and not mount.target.startswith(f"{path}/"):
            yield mount.target


def ext4_inodes(size: int, bytes_per_inode: int = 0) -> int:
    """Return how many inodes mke2fs makes in an ext4, rounded down.

    Args:
        size: of the filesystem, in bytes.
        bytes_per_inode: 0 for mke2fs's choice.
    """
    default = next((ratio for below, ratio in _BYTES_PER_INODE if size < below), _BYTES_PER_INODE_BEYOND)
    return size // (bytes_per_inode or default)


def too_little_room(
    data: str,
    setting: str,
    used: int,
    inodes: int,
    size: int,
    largest: int,
    filesystem: str,
    bytes_per_inode: int = 0,
) -> Iterator[Finding]:
    """Yield why a volume cannot hold the data that moves onto it.

    Args:
        data: in words, such as "the data in /home".
        setting: that has the volume's size.
        used: bytes of the data.
        inodes: files and directories of the data.
        size: of the volume, in bytes.
        largest: the largest size that would fit into the volume group, in bytes.
        filesystem: of the volume.
        bytes_per_inode: of an ext4; 0 for mke2fs's choice.
    """
    larger = f'a larger {setting} (at most "{setting_of(largest)}" fits)'
    needed = int(used * _MARGIN)
    if needed > size:
        free_space = "free space (in Docker: `docker system df`, `docker image prune`)"
        yield Finding(
            f"{data} takes {human(used)}, and its volume has {human(size)}",
            f"{human(needed)}: a tenth more than the data",
            f"set {larger}, or {free_space}"
            if needed <= largest
            else f"{free_space}: the volume group has room for {human(largest)}",
        )
    available = ext4_inodes(size, bytes_per_inode)
    if filesystem == "ext4" and inodes * _MARGIN > available:
        yield Finding(
            f"{data} has {inodes} files, and its volume, as ext4, {available} inodes",
            f"{int(inodes * _MARGIN)} inodes",
            'set its filesystem to "xfs", which has no such limit'
            + (f", or {larger}" if inodes * _MARGIN <= ext4_inodes(largest, bytes_per_inode) else ""),
        )
