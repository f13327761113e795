"""Paths and names that several files of the deploy need. bulkhead.names has those that the host program needs too."""

from __future__ import annotations

from bulkhead.names import (
    ALERT_SERVICE,
    CONFIGURATION,
    CONTAINERD,
    CONTAINERD_STORE,
    DOCKER,
    DOCKER_API,
    DOCKER_STORE,
    GUARD_SERVICE,
    PROGRAM_STATE,
    PRUNE_TIMER,
    VOLUME_FILE_SERVICE,
)

# Directory on the volume → where it is bind-mounted.
STORES = {"docker": DOCKER_STORE, "containerd": CONTAINERD_STORE}


def store_binds(volume_mount: str) -> set[tuple[str, str]]:
    """Return the source and the target of each line of fstab that binds a store to a volume."""
    return {(f"{volume_mount}/{directory}", path) for directory, path in STORES.items()}


# LVM's tag on our logical volumes from their creation on. It marks them as ours before they are mounted.
TAG = "docker-bulkhead"

# The loop device of the file that is Docker's disk: udev makes this name for whichever number it has.
VOLUME_FILE_DEVICE = "/dev/disk/by-id/docker-disk"
VOLUME_FILE_SCRIPT = "/usr/local/lib/docker-disk.sh"
VOLUME_FILE_UNIT = f"/etc/systemd/system/{VOLUME_FILE_SERVICE}"
VOLUME_FILE_RULES = "/etc/udev/rules.d/68-docker-disk.rules"  # before LVM's, 69-…: they activate the group
VOLUME_FILE_FILES = (VOLUME_FILE_UNIT, VOLUME_FILE_SCRIPT, VOLUME_FILE_RULES)

# Activates the mirror that is Docker's volume at boot, without a disk that is missing.
MIRROR_SERVICE = "docker-mirror.service"
MIRROR_UNIT = f"/etc/systemd/system/{MIRROR_SERVICE}"
MIRROR_SCRIPT = "/usr/local/lib/docker-mirror.sh"

# Makes Docker's volume anew at a boot that finds its disks blank.
EPHEMERAL_SERVICE = "docker-ephemeral.service"
EPHEMERAL_UNIT = f"/etc/systemd/system/{EPHEMERAL_SERVICE}"
EPHEMERAL_SCRIPT = "/usr/local/lib/docker-ephemeral.sh"

FSTAB = "/etc/fstab"
CHECK_DISK = "/usr/local/bin/check-disk"
CHECK_CRON = "/etc/cron.d/check-disk"
JOURNALD = "systemd-journald.service"
JOURNALD_DROP_IN = "/etc/systemd/journald.conf.d/50-bulkhead.conf"
RELOCATION_JOURNALS = f"{PROGRAM_STATE}/relocation*.json"  # of Docker's data and of the extra volumes

# The API of this host's Docker, whichever host root's Docker context names.
DOCKER_HOST = f"unix://{DOCKER_API}"

# Seconds for an answer of Docker's: a host under a heavy load is slow.
DOCKER_PATIENCE = 120

# Seconds for one container to start or stop, beside the others that do.
DOCKER_CONTAINER_PATIENCE = 600
DOCKER_AT_ONCE = 16  # containers that start side by side

DAEMON_JSON = "/etc/docker/daemon.json"
# Lists the keys of daemon.json that this project wrote. The host's owner wrote the others.
DAEMON_JSON_APPLIED = f"{CONFIGURATION}/daemon.json"

PRUNE_SERVICE = "docker-prune.service"
UNITS = {unit: f"/etc/systemd/system/{unit}" for unit in (ALERT_SERVICE, GUARD_SERVICE, PRUNE_SERVICE, PRUNE_TIMER)}
DROP_INS = {unit: f"/etc/systemd/system/{unit}.d/10-bulkhead.conf" for unit in (DOCKER, CONTAINERD)}

RUN_LOCK = "/run/docker-bulkhead.lock"

DOCKER_SOURCE = "/etc/apt/sources.list.d/docker-bulkhead.sources"
DOCKER_KEY = "/etc/apt/keyrings/docker-bulkhead.asc"
DOCKER_PIN = "/etc/apt/preferences.d/docker-bulkhead"

NVIDIA_SOURCE = "/etc/apt/sources.list.d/nvidia-bulkhead.sources"
NVIDIA_KEY = "/etc/apt/keyrings/nvidia-bulkhead.asc"
NVIDIA_PIN = "/etc/apt/preferences.d/nvidia-bulkhead"
# Lists the packages of the toolkit that this project installed. The host's owner installed the others: they stay.
NVIDIA_BROUGHT = f"{CONFIGURATION}/nvidia-packages"

# Lists the containers that an upgrade of the engine stopped, until they run again.
STOPPED_BY_UPGRADE = f"{PROGRAM_STATE}/stopped-by-upgrade"
