"""Every setting of docker-bulkhead, its default and what it means.

Leave this file as it is and override what you need, in the inventory, for a host or for a group of any name but "all":

    ("web-1.example.com", {"volume_size": "200G"})
    web = (["web-1.example.com", "web-2.example.com"], {"volume_size": "200G"})

or in `inventory/group_data/<group>.py`, or for one run with `--data volume_size=200G`. (Not for the group
"all" in an inventory: pyinfra reads this file after it, and what stands here holds.) Unknown names and bad values are
refused before anything is changed. Names of your own begin with `my_`.

Sizes: "60G" or "1.5T" (K, M, G, T: powers of 1024, as LVM and Docker count; "60GiB" and "60GB" are the same), or a
percentage where one is allowed.
"""

# ---------------------------------------------------------------------------------------------------- the volume

# The volume group that Docker's logical volume is made in. "auto": the only group that has room for it; with
# volume_disks, a new group "docker-vg" made of those disks.
volume_group = "auto"

# Blank disks or partitions to make a volume group of, by name: ["/dev/disk/by-id/scsi-0QEMU_disk2"]. Use names of
# /dev/disk/by-id: /dev/sdb may be another disk after a reboot. A disk that carries anything is refused.
volume_disks = []

# True: volume_disks are added to the existing group that volume_group names. If that is root's group, the host may no
# longer boot when one of the disks is lost (a group that misses a disk is not activated).
volume_group_extend = False

# The name of the logical volume. Letters, digits and + _ . -; another name later is another volume: nothing is renamed.
logical_volume = "docker-lv"

# Its size, at least 1G: "60G", "60%VG" (of the group), "80%FREE" (of what is free when it is made). "auto": 60 % of the
# group beside other volumes, all but the reserve of a group of its own. A larger size grows volume and filesystem while
# Docker runs; a volume that is larger than set is reported and never shrunk.
volume_size = "auto"

# What stays free in the group when the volume is made or grows: room for more when it matters, and for snapshots. "5%"
# of the group, or "10G". A volume_size in bytes may use it up, with a warning.
volume_reserve = "5%"

# "ext4" or "xfs". Counts when the volume is made; a filesystem that is there is never replaced.
filesystem = "ext4"

# Where the volume itself is mounted: an empty directory of its own, or none yet; not one that the system uses. Its
# docker/ and containerd/ are bound to /var/lib/docker and /var/lib/containerd.
volume_mount = "/srv/docker-volume"

# True: a logical volume of this name that is not ours, with the right filesystem and mounted nowhere, is taken over
# with what is on it.
adopt_volume = False

# Further volumes, in the group of Docker's: name → where it is mounted, its size ("20G", or "20%VG" of the group) and
# its filesystem ("ext4", the default, or "xfs"):
#     {"home-lv": {"mount": "/home", "size": "20G"}, "models-lv": {"mount": "/srv/models", "size": "50G"}}
# A directory that holds files is moved, verified, where nobody uses it; your own login in it does not count. They are
# made, grown and kept like Docker's volume; one that is left out here later stays on the host as it is.
extra_volumes = {}

# ---------------------------------------------------------------------------------------------------- the engine

# "auto": what is installed stays; Docker's own packages (docker-ce) where there is nothing. "docker-ce": from Docker's
# repository. "distro": Debian's or Ubuntu's docker.io. "present": what is installed, and nothing is installed.
engine_source = "auto"

# A version to stay at: "27.5.1", or the beginning of one: "27.5". Needs engine_source "docker-ce" or "distro". On the
# command line: --data 'engine_version="27.5"'. Empty: what the repository offers when it is installed; upgrades are
# then apt's business.
engine_version = ""

# True: another engine than the installed one may take its place, on a host where Docker holds no data.
engine_change = False

# Containers outlive an upgrade of the engine to a patch release (27.5.0 to 27.5.1), by live-restore. True: a larger step may
# be taken too, or one with live_restore = False; it stops what runs, and starts it again. False: a host where containers
# run is refused then.
engine_upgrade_stops_containers = False

# Docker's apt repository or a mirror of it, without the distribution's name: that is added (…/debian, …/ubuntu).
docker_repository = "https://download.docker.com/linux"

# The fingerprint of the key that signs it: 40 hexadecimal digits, with or without spaces. A key with another one is
# refused.
docker_repository_fingerprint = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"

# The address that the key is fetched from; empty: <repository>/<distribution>/gpg, where Docker and full mirrors have it.
docker_repository_key = ""

# Its component: "stable" or "test".
docker_repository_channel = "stable"

# Seconds (0 to 86400) to wait while another program (unattended-upgrades, cloud-init) holds apt's lock.
apt_lock_timeout = 600

# ---------------------------------------------------------------------------------------------------- daemon.json

# Every container's log is at most log_max_file files of log_max_size ("500k", "10m", "1g"). Counts for containers made
# from now on.
log_max_size = "10m"
log_max_file = 3

# Containers go on while the Docker daemon restarts or is upgraded to a patch release. With False, any change of
# daemon.json (the volume's growth is one: the build cache's limits follow it) stops them, and starts them again.
live_restore = True

# How much BuildKit's cache may keep: "20%" of the volume, or "30G". One build can take more while it runs. More suits
# hosts that build large images all day; less, hosts that only run them.
build_cache_size = "20%"

# Your own keys for daemon.json, merged in: {"registry-mirrors": ["https://mirror.example.com"]}. Keys that are in a
# host's daemon.json already stay there. Refused: what would undo this project (data-root, storage-driver, hosts …). The
# file can be read by every user of the host: no passwords.
daemon_json = {}

# ---------------------------------------------------------------------------------------------------- Docker's data

# A host with images, containers or volumes on its root disk gets them moved onto the volume. Seconds (0 to 86400) that
# the move waits, with everything copied and Docker still running, for builds and --rm containers to end.
relocation_patience = 600

# True: the old data is removed from the root disk as soon as Docker has come back with all of it on the volume. False: it
# stays until `bulkhead finalize` on the host, and `bulkhead rollback` goes back to it.
relocation_finalize = False

# ------------------------------------------------------------------------------------------------- watch and alert

# Minutes between two looks at the disks by `check-disk`: a divisor of 60, from 1 to 30.
check_interval = 15

# A WARNING from this percentage (10 to 99) of a filesystem, of its inodes or of a snapshot on; it ends 5 points below.
check_threshold = 80

# The same for CRITICAL.
check_critical = 90

# A filesystem that will be full within so many hours (1 to 720), at the rate at which it fills, is a WARNING; within one
# hour it is CRITICAL.
check_hours_left = 4

# Who is told when a level changes: name → address, as Apprise writes it (https://github.com/caronc/apprise/wiki):
#     {"ops": "slack://TokenA/TokenB/TokenC/%23ops", "mail": "mailtos://user:password@example.com?to=ops@example.com"}
# Names are letters, digits, - and _. The addresses hold secrets: on the host only root can read them, and nothing prints
# them. Here they are what you make of them: read them from a vault or the environment (os.environ["OPS_SLACK"]).
alert_receivers = {}

# Hours (1 to 168) until an alert that stands is told again. Each later time is twice as long, at most a week.
alert_reminder = 4

# A directory that node_exporter's textfile collector reads, such as "/var/lib/prometheus/node-exporter" of Debian's
# package. Empty: no metrics are written.
metrics_directory = ""

# How much the system's journal may take of its filesystem: "500M", "2G". What it has beyond that goes, the oldest first
# (journald itself would keep up to 4 GiB). A SystemMaxUse= of the host's own holds. Empty: journald is left as it is.
journal_max_use = "500M"

# ------------------------------------------------------------------------------------------------------------ prune

# The time of day, "03:00", at which Docker's unused objects are removed, and how many minutes (0 to 1439) later at most,
# by a random delay of each host, new every night. A host that was off then does it when it is up again. Empty: nothing is
# removed by itself.
prune_time = "03:00"
prune_spread = 0

# Build cache that was unused for so many hours goes; so do containers that stopped as long ago, unless they have a
# restart policy, and networks as old that no container has. 1 to 8760. Dangling images go after an hour. Volumes never do.
prune_hours = 48

# Days (1 to 3650) after which an image goes that no container has had since. 0: such images stay.
prune_images_after_days = 0

# Names that stay, as shell patterns: of images ("registry.example.com/base:*"), containers and networks. What carries a
# label bulkhead.keep stays too.
prune_keep = []

# ------------------------------------------------------------------------------------------------------------ guard

# True: docker-guard.service keeps Docker's volume from filling. It removes build cache that no build needs, and where that
# is not enough it stops builds, the fastest-growing first. It stops nothing but builds. False: there is none; a build
# can fill the volume, and Docker stops with it.
guard = True

# What it keeps free of the volume. "auto": the larger of 5 % and 2 GiB; or "10%" of the volume, or "10G". Never more than
# a quarter of the volume.
guard_floor = "auto"

# A file on the volume that is given back where nothing is fast enough (`fallocate` of everything), so that Docker can
# still answer. At most 2 % of the volume are taken. Empty: none.
guard_ballast = "256M"

# True: a `docker pull` or `docker load` on the host is interrupted too, where it would fill the volume.
guard_stop_pulls = False

# True: a Docker that a full volume has stopped is brought back by the guard itself, as by `bulkhead rescue`, which may
# take what is free in the volume group. False: it tells, and you do.
guard_rescue = False

# Hours (1 to 720) after which the guard drops a snapshot that `bulkhead snapshot` or `bulkhead build --snapshot` has
# taken. One that fills is dropped earlier.
snapshot_max_hours = 24

# ----------------------------------------------------------------------------------------------------- NVIDIA GPUs

# "auto": a host with an NVIDIA GPU and its driver gets the NVIDIA container toolkit. True: whatever is there, such as a
# machine that an image is made on. False: none. A host that had it from us and leaves loses it. The driver is yours to
# install (docs/gpu.md).
nvidia = "auto"

# The version that the four packages of the toolkit stay at: "1.20.1", or the beginning of one: "1.20". From 1.18 on.
nvidia_version = "1.20.1"

# True: containers run under NVIDIA's runtime without being told to (`--runtime nvidia`).
nvidia_default_runtime = False

# NVIDIA's apt repository or a mirror of it, without what comes after it: /stable/deb/… is added.
nvidia_repository = "https://nvidia.github.io/libnvidia-container"

# The fingerprint of the key that signs it, as for Docker's.
nvidia_repository_fingerprint = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"

# The address that the key is fetched from; empty: <repository>/gpgkey.
nvidia_repository_key = ""

# ---------------------------------------------------------------------------------------------------- the rest

# True: go on, with a warning, on a release of Debian or Ubuntu that is not in the list of README.md.
allow_unsupported_release = False
