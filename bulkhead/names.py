"""Names and bounds that the deploy and the host program must agree on, each in this one place."""

from __future__ import annotations

DOCKER_STORE = "/var/lib/docker"
CONTAINERD_STORE = "/var/lib/containerd"

DOCKER_API = "/run/docker.sock"
DOCKER = "docker.service"
DOCKER_SOCKET = "docker.socket"
CONTAINERD = "containerd.service"

# Seconds that Docker may take to start with docker_start_limit = "auto": the larger of the two, by its containers.
DOCKER_START_LIMIT = 900
DOCKER_START_PER_CONTAINER = 5

# On the volume, and in each store's directory on it. It tells them from an empty directory, and from a filesystem of
# somebody else. The units of Docker and containerd assert all three.
MARKER = ".docker-bulkhead"
MARKER_TEXT = "The volume of docker-bulkhead. Docker starts only if this file is there.\n"

# What was there before this project is kept with this suffix: a store that held no data, daemon.json, fstab.
BEFORE = ".before-bulkhead"

# On the volume: the guard deletes it where it was too slow, so that Docker can answer.
BALLAST = ".bulkhead-ballast"

# A label: an object of Docker's that has it, with whatever value, is not removed.
KEEP = "bulkhead.keep"

# LVM's tag on a snapshot that the program has taken. Only snapshots with it are ever removed.
SNAPSHOT_TAG = "bulkhead-snapshot"

# The file that is Docker's disk where volume_file says so, and the unit that attaches it at boot. Both outlive the program.
VOLUME_FILE = "/var/lib/docker-disk/disk"
VOLUME_FILE_SERVICE = "docker-disk.service"

# The UUIDs of the physical volumes of the mirror's one copy that is not stale, while there is only one. Like the unit that
# reads it at boot, it outlives the program.
MIRROR_RECORD = "/etc/docker-mirror"

PROGRAM = "/usr/local/bin/bulkhead"
CONFIGURATION = "/etc/bulkhead"
PROGRAM_CONFIGURATION = f"{CONFIGURATION}/bulkhead.json"
RECEIVERS = f"{CONFIGURATION}/receivers"  # of alerts, a line each: NAME=ADDRESS. Addresses hold secrets
PROGRAM_STATE = "/var/lib/bulkhead"
EMPTIED = f"{PROGRAM_STATE}/emptied"  # a boot has made Docker's volume anew, and nobody was alerted of it yet
PROGRAM_RUN = "/run/bulkhead"  # in memory: it takes files when the root disk is full or read-only
BUILDS_RUN = "/run/bulkhead-builds"  # the builds of `bulkhead build`: open to everybody who may use Docker
METRICS = "bulkhead.prom"  # in the setting metrics_directory

# Percent of the volume: the guard keeps no more free, whatever guard_floor says.
FLOOR_AT_MOST = 25

ALERT_SERVICE = "bulkhead-alert.service"
GUARD_SERVICE = "docker-guard.service"
PRUNE_TIMER = "docker-prune.timer"

RELOCATION_JOURNAL = f"{PROGRAM_STATE}/relocation.json"
ROLLBACK_JOURNAL = f"{PROGRAM_STATE}/rollback.json"  # of a rollback to a snapshot

# Phases in a journal: copying, stopping, switching, checking and returning must be finished or undone.
UNFINISHED = ("copying", "stopping", "switching", "checking", "returning")
# The data is on its volume, and the old tree is beneath the mount.
RELOCATED = ("done", "finalizing")


def move_journal(directory: str) -> str:
    """Return the path of the journal of an extra volume's move.

    >>> move_journal("/srv/ml-models")
    '/var/lib/bulkhead/relocation-srv-ml%2dmodels.json'
    """
    name = directory.strip("/").replace("%", "%25").replace("-", "%2d").replace("/", "-")
    return f"{RELOCATION_JOURNAL.removesuffix('.json')}-{name}.json"
