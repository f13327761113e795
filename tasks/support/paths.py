"""Every path and name that more than one file needs, each in one place."""

from __future__ import annotations

DOCKER_STORE = "/var/lib/docker"
CONTAINERD_STORE = "/var/lib/containerd"

# Directory on the volume → where it is bind-mounted.
STORES = {"docker": DOCKER_STORE, "containerd": CONTAINERD_STORE}

# On the volume. Its presence tells the volume from an empty directory, and from somebody else's filesystem.
MARKER = ".docker-bulkhead"

# LVM's tag on the logical volume, from its creation on: whose it is, also before it is mounted for the first time.
TAG = "docker-bulkhead"

# On the volume: what the guard gives back where it is too slow (bulkhead.ballast).
BALLAST = ".bulkhead-ballast"

# LVM's tag on a snapshot that the program has taken (bulkhead.snapshot).
SNAPSHOT_TAG = "bulkhead-snapshot"

# What stood in a store before, and held no data, is kept beside it under this suffix.
BEFORE = ".before-bulkhead"
CONFIGURATION = "/etc/bulkhead"
PROGRAM = "/usr/local/bin/bulkhead"
PROGRAM_CONFIGURATION = f"{CONFIGURATION}/bulkhead.json"
RECEIVERS = f"{CONFIGURATION}/receivers"  # of alerts: Apprise's configuration, with secrets
PROGRAM_STATE = "/var/lib/bulkhead"
PROGRAM_RUN = "/run/bulkhead"
CHECK_DISK = "/usr/local/bin/check-disk"
CHECK_CRON = "/etc/cron.d/check-disk"
METRICS = "bulkhead.prom"  # in the directory of the settings
JOURNALD = "systemd-journald.service"
JOURNALD_DROP_IN = "/etc/systemd/journald.conf.d/50-bulkhead.conf"
RELOCATION_JOURNAL = f"{PROGRAM_STATE}/relocation.json"
RELOCATION_JOURNALS = f"{PROGRAM_STATE}/relocation*.json"  # that one, and those of the extra volumes
ROLLBACK_JOURNAL = f"{PROGRAM_STATE}/rollback.json"  # to a snapshot
RELOCATED = ("done", "finalizing")  # the journal's phases while old trees are beneath the mounts
UNFINISHED = ("copying", "stopping", "switching", "checking", "returning")
DAEMON_JSON = "/etc/docker/daemon.json"

# Which keys of daemon.json we wrote: what else stands there is somebody's own.
DAEMON_JSON_APPLIED = f"{CONFIGURATION}/daemon.json"
DOCKER = "docker.service"
DOCKER_SOCKET = "docker.socket"
CONTAINERD = "containerd.service"
ALERT_SERVICE = "bulkhead-alert.service"
GUARD_SERVICE = "docker-guard.service"
PRUNE_SERVICE = "docker-prune.service"
PRUNE_TIMER = "docker-prune.timer"
UNITS = {unit: f"/etc/systemd/system/{unit}" for unit in (ALERT_SERVICE, GUARD_SERVICE, PRUNE_SERVICE, PRUNE_TIMER)}
DROP_INS = {unit: f"/etc/systemd/system/{unit}.d/10-bulkhead.conf" for unit in (DOCKER, CONTAINERD)}
RUN_LOCK = "/run/docker-bulkhead.lock"
DOCKER_SOURCE = "/etc/apt/sources.list.d/docker-bulkhead.sources"
DOCKER_KEY = "/etc/apt/keyrings/docker-bulkhead.asc"
DOCKER_PIN = "/etc/apt/preferences.d/docker-bulkhead"
NVIDIA_SOURCE = "/etc/apt/sources.list.d/nvidia-bulkhead.sources"
NVIDIA_KEY = "/etc/apt/keyrings/nvidia-bulkhead.asc"
NVIDIA_PIN = "/etc/apt/preferences.d/nvidia-bulkhead"

# Which of the toolkit's packages we brought: what else is there was somebody's own, and stays.
NVIDIA_BROUGHT = f"{CONFIGURATION}/nvidia-packages"

# The containers that an upgrade of the engine has stopped, until they run again.
STOPPED_BY_UPGRADE = f"{PROGRAM_STATE}/stopped-by-upgrade"


def move_journal(directory: str) -> str:
    """The program's journal of the move of an extra volume's directory (bulkhead.journal.path_for)."""
    name = directory.replace("%", "%25").replace("-", "%2d").replace("/", "-")
    return RELOCATION_JOURNALS.replace("*", name)
