"""What preflight judges of a host whose Docker data is to be moved onto the volume. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bulkhead.sizes import human
from pyinfra_lvm.model import Storage
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.support.paths import STORES

# What is written while the copy runs, and room to live afterwards.
_MARGIN = 1.1

# ext4 has an inode for each 16 KiB (mke2fs.conf); xfs makes them as it needs them.
_BYTES_PER_INODE = 16384

# What Docker itself mounts in its stores.
_DOCKERS_MOUNTS = ("overlay", "tmpfs", "shm", "nsfs", "mqueue")


def unfinished(what: str, phase: str) -> Finding:
    """A move, or a rollback to a snapshot, that neither ended nor goes on: its own recovery has failed."""
    return Finding(
        f"a {what} of Docker's data was cut ({phase}), and could not be finished or undone",
        "Docker whole, on one or the other data: until then nobody may touch either",
        "look why on the host (`journalctl -u bulkhead-recover -u bulkhead-relocate`), put that right, and run "
        "`bulkhead relocate --recover`",
    )


def judge(state: HostState, storage: Storage, size: int, filesystem: str) -> Iterator[Finding]:
    """Why the data cannot be moved.

    Args:
        size: of the volume, in bytes.
        filesystem: that it has.
    """
    held = f"Docker holds {state.docker_data}; containerd: {state.containerd_data}"
    if not state.storage_driver:
        yield Finding(
            f"{held}, and Docker does not run",
            "a running Docker, to compare what it has before the move and after",
            "`systemctl start docker`, and run again",
        )
    yield from too_little_room("of Docker's", "volume_size", state.store_bytes, state.store_inodes, size, filesystem)
    within = tuple(f"{path}/" for path in STORES.values())
    for mount in storage.mounts:
        is_dockers_own = mount.fstype in _DOCKERS_MOUNTS or mount.target in state.device_volumes
        if mount.target.startswith(within) and not is_dockers_own:
            yield Finding(
                f"{mount.source} is mounted on {mount.target}, in Docker's data",
                "no mounts of others in there: what is on them would not be moved",
                "unmount it for the move, or leave this host out",
            )
    for path in STORES.values():
        for target in _bound_elsewhere(storage, path):
            yield Finding(
                f"a part of {path} is bound to {target}",
                "nothing that would go on with Docker's old data when the volume is mounted over it",
                f"unmount {target} for the move, or leave this host out",
            )


def _bound_elsewhere(storage: Storage, path: str) -> Iterator[str]:
    holder = storage.mount_containing(path)
    if holder is None or holder.target == path:
        return
    inside = holder.root.rstrip("/") + path[len(holder.target.rstrip("/")) :]
    for mount in storage.mounts:
        is_part = mount.root == inside or mount.root.startswith(f"{inside}/")
        if mount.device == holder.device and is_part and not mount.target.startswith(f"{path}/"):
            yield mount.target


def too_little_room(whose: str, setting: str, used: int, inodes: int, size: int, filesystem: str) -> Iterator[Finding]:
    """Why a volume cannot hold what is to be moved onto it.

    Args:
        whose: where the data is, in words.
        setting: of the volume's size.
        used: bytes of it.
        inodes: files and directories of it.
        size: of the volume, in bytes.
    """
    needed = int(used * _MARGIN)
    if needed > size:
        yield Finding(
            f"{human(used)} {whose}, and a volume of {human(size)} for them",
            f"{human(needed)}: what is there and a tenth",
            f"set a larger {setting}, or free space (in Docker: `docker system df`, `docker image prune`)",
        )
    if filesystem == "ext4" and inodes * _MARGIN > size // _BYTES_PER_INODE:
        yield Finding(
            f"{inodes} files {whose}, and an ext4 of {size // _BYTES_PER_INODE} inodes for them",
            f"{int(inodes * _MARGIN)} inodes",
            f'set its filesystem to "xfs", which has no such limit, or a larger {setting}',
        )
