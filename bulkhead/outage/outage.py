"""Stop Docker, keep it down, bring back what ran."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bulkhead.docker.daemon import UNITS
from bulkhead.names import CONTAINERD, DOCKER, PROGRAM, PROGRAM_RUN
from bulkhead.outage.unit import RECOVERY
from bulkhead.procfs import Process, users_of
from bulkhead.storage.fstab import read_fstab

if TYPE_CHECKING:
    from bulkhead.storage.mounts import MountInfo

RECOVERY_UNIT = f"/etc/systemd/system/{RECOVERY}"

# While this file is there the units do not start, whoever asks: apt, a client at the socket, a person. A condition, not
# an assertion: apt's scripts take a start that was passed over for a success. After a reboot it is gone.
BLOCK = f"{PROGRAM_RUN}/docker-stays-down"
BLOCK_DROP_IN = f"[Unit]\nConditionPathExists=!{BLOCK}\n"
BLOCK_DROP_INS = {unit: f"/run/systemd/system/{unit}.d/05-bulkhead.conf" for unit in UNITS}

RECOVERY_UNIT_TEXT = f"""\
# Finishes or undoes a move of Docker's data that was cut. Written by bulkhead; it goes when the move has ended.
[Unit]
Description=Recovery of a move of Docker's data that was cut
After={DOCKER} {CONTAINERD}
[Service]
# Nothing limits the time of what is started so, also when its own file has gone.
Type=exec
ExecStart={PROGRAM} relocate --recover
[Install]
WantedBy=multi-user.target
"""

SETTLE_TIMEOUT = 60  # seconds that what ran may take until it runs again
_DOCKERS_MOUNTS = ("overlay", "tmpfs", "shm", "nsfs", "mqueue")
_DOCKERS_OWN = ("dockerd", "containerd", "containerd-shim", "docker-proxy")  # as the kernel has their names: 15 bytes


def is_dockers_mount(mount: MountInfo) -> bool:
    """Whether Docker mounts it, and will again: what runs, and volumes that lie elsewhere (`--opt device=…`)."""
    volume, name = os.path.split(mount.target)
    if name == "_data" and os.path.exists(f"{volume}/opts.json"):
        return True
    listed = f" {mount.target} " in " ".join(read_fstab().split())
    return mount.fstype in _DOCKERS_MOUNTS and not listed and "/volumes/" not in mount.target


def writers(directories: list[str]) -> list[Process]:
    return [user for user in users_of(directories) if user.writes]


def foreign_writers(directories: list[str]) -> list[Process]:
    """Those that are not Docker's own."""
    return [user for user in writers(directories) if user.name not in _DOCKERS_OWN]
