"""Read and check the value of one setting.

A function ``check_…`` returns the value as it is; a function ``parse_…`` returns it in another form. Both raise
ValueError for a bad value, whose message says what is allowed and follows the words "must be".
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable
from typing import Any

from bulkhead.names import CONTAINERD_STORE, DOCKER_STORE, FLOOR_AT_MOST
from bulkhead.sizes import MINIMUM, Size, human
from settings import daemon_json

# Keys of daemon.json that the setting daemon_json must not have, and why.
_NOT_IN_DAEMON_JSON = {
    "data-root": "Docker's data belongs on the volume, which is mounted at the default path",
    "graph": "it is the old name of data-root",
    "exec-root": "the units of Docker and containerd expect the default",
    "hosts": "the unit passes -H already, and Docker does not start with both",
    "containerd": "containerd's store belongs on the volume, and the unit names its socket already",
    "containerd-namespace": "hosts with namespaces other than Docker's own are refused",
    "containerd-plugins-namespace": "hosts with namespaces other than Docker's own are refused",
    "userns-remap": "it gives Docker another data root, below the default one",
    "storage-driver": "this project sets up overlay2 only",
    "log-driver": "set log_driver",
    "live-restore": "set live_restore",
    "builder": "set build_cache_size",
    "swarm-default-advertise-addr": "hosts in a Swarm are refused",
}

_NOT_IN_DAEMON_JSON_BELOW = {
    "log-opts": {"max-size": "set log_max_size", "max-file": "set log_max_file"},
    "features": {
        "buildkit": "BuildKit is always on",
        "containerd-snapshotter": "images belong in the overlay2 store",
    },
}

# lvm2, lib/misc/lvm-string.c: a logical volume must not begin with the first two, nor contain any of the
# others. lvm(8) lists some of them.
_LVM_RESERVED = re.compile(
    "^(pvmove|snapshot)|_(cdata|cmeta|corig|cpool|cvol|imeta|iorig|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta|vdata|"
    "vorigin|wcorig)"
)

# A volume mounted there would hide files that the system needs, or would be hidden itself.
_SYSTEM_DIRECTORIES = frozenset(
    "/ /home /media /mnt /opt /srv /var /var/backups /var/crash /var/lib /var/local /var/mail /var/opt /var/snap".split()
)

_SYSTEM_TREES = tuple(
    "/bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /root /run /sbin /sys /tmp /usr "
    "/var/cache /var/lib/apt /var/lib/dpkg /var/lib/systemd /var/lock /var/log /var/run /var/spool /var/tmp".split()
)

# An extra volume may replace these directories of the system: they hold people's files, not the system's.
_MOVABLE_DIRECTORIES = frozenset("/home /opt /srv /var/backups /var/mail /var/opt".split())

_STORES = (DOCKER_STORE, CONTAINERD_STORE)

# Mount options that a disk or its owner may need, by the filesystem that knows them; empty: every one. mount(8), ext4(5),
# xfs(5), systemd.mount(5). One that the filesystem does not know would keep the volume from being mounted.
_NUMBER = "[0-9]+"
MOUNT_OPTIONS = {
    "": (
        "_netdev|noatime|nodiratime|relatime|strictatime|lazytime|nodev|nosuid|discard|"
        r"x-systemd\.(requires|after|wanted-by)=[A-Za-z0-9:_.@\\-]+|x-systemd\.mount-timeout=[0-9]+(s|min)?"
    ),
    "ext4": (
        f"commit={_NUMBER}|data=(ordered|journal)|errors=remount-ro|inode_readahead_blks={_NUMBER}|init_itable={_NUMBER}|"
        f"journal_checksum|noinit_itable|nodelalloc|stripe={_NUMBER}"
    ),
    "xfs": (
        f"allocsize={_NUMBER}[kmg]?|inode64|largeio|logbsize={_NUMBER}k?|logbufs={_NUMBER}|noalign|sunit={_NUMBER}|swalloc|"
        f"swidth={_NUMBER}"
    ),
}

# Mount options that the volume must not have, and why.
_NOT_IN_MOUNT_OPTIONS = {
    "defaults|private|nofail|x-systemd.device-timeout=.*": "the volume always has it",
    "ro|noexec": "Docker and its containers write and run programs there",
    "noauto|x-systemd.automount": "Docker would stay down after a boot",
    "r?shared|r?slave|r?private|r?unbindable": "the volume is mounted private: otherwise each container's mounts show twice",
    "r?bind|move|remount|loop|offset=.*|subvol=.*": "it mounts something else",
    "user|users|owner|group": "other users could unmount it",
    "norecovery|noload|nobarrier|barrier=0|data=writeback|errors=continue": "a power cut could cost data",
    "errors=panic": "a damaged volume would take the host down",
    "x-systemd.makefs|x-systemd.growfs": "this project makes and grows the filesystem",
}

# An ext4 can use no more inodes than it has blocks of 4 KiB (mke2fs(8), -i). With one for more than 1 MiB, Docker would soon
# have none left.
_BYTES_PER_INODE = (4096, 2**20)

# -- bounds

# Two names make one of device-mapper's, which has at most 127 characters, and each "-" in them counts twice.
_LVM_NAME_LENGTH = 55
_TOOLKIT_FROM = (1, 18)  # the first version with nvidia-cdi-refresh

RECEIVER_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def pattern_check(pattern: str, allowed: str) -> Callable[[str], str]:
    """Return a check that a whole value matches a regular expression.

    Args:
        allowed: the message for a value that does not match.
    """

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(allowed)
        return value

    return check


# -- the volume

check_lvm_name = pattern_check(
    rf"[A-Za-z0-9+_][A-Za-z0-9+_.-]{{0,{_LVM_NAME_LENGTH - 1}}}",
    f"a name for LVM: at most {_LVM_NAME_LENGTH} letters, digits and + _ . -, not beginning with . or -",
)


def check_not_reserved(value: str) -> str:
    """Refuse the name of a logical volume that LVM reserves."""
    if found := _LVM_RESERVED.search(value):
        raise ValueError(f'a name without "{found[0]}", which LVM reserves for itself')
    return value


BLANK = "blank"  # instead of the path of a disk: the only blank disk of the host


def is_pattern(disk: str) -> bool:
    """Return whether a name of volume_disks is a shell pattern."""
    return any(character in disk for character in "*?[")


def is_name_of_blank(disk: str) -> bool:
    """Return whether a name of volume_disks, or a pattern, leads to the same disk at every boot, with nothing on it."""
    return bool(re.match(r"/dev/disk/(?!by-(uuid|label|partuuid|partlabel)/|by-id/lvm-pv-uuid-)", disk))


def parse_disks(value: object) -> object:
    """Return the list that a single name stands for."""
    return [value] if isinstance(value, str) else value


def check_disk_path(value: str) -> str:
    """Refuse what is not "blank", nor the path of a device, in its plainest form, nor a pattern of stable names."""
    if value == BLANK:
        return value
    if is_pattern(value) and not value.startswith("/dev/disk/"):
        raise ValueError(
            'a pattern of names under /dev/disk, such as "/dev/disk/by-id/scsi-0Google_PersistentDisk_docker-*"'
        )
    if not re.fullmatch(r"/dev/[A-Za-z0-9][A-Za-z0-9/_.:+=@*?\[\]-]*", value) or posixpath.normpath(value) != value:
        raise ValueError('the path of a disk under /dev, such as "/dev/disk/by-id/scsi-0QEMU_disk2", or "blank"')
    return value


def check_disks(value: list[str]) -> list[str]:
    """Refuse a list that names a disk twice, or another one beside the only blank one."""
    if len(set(value)) < len(value):
        raise ValueError("a list that names each disk once")
    if BLANK in value and len(value) > 1:
        raise ValueError(f'"{BLANK}" alone, which stands for the only blank disk, or a list of names')
    return value


def is_within(path: str, directory: str) -> bool:
    """Return whether a path is a directory or lies in it."""
    return path == directory or path.startswith(directory + "/")


def check_mount_point(value: str) -> str:
    """Refuse a mount point in a place of the system, or in one of Docker's stores."""
    if not re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+", value):
        raise ValueError('an absolute path of letters, digits and . _ -, such as "/srv/docker-volume"')
    if value in _SYSTEM_DIRECTORIES or any(is_within(value, tree) for tree in _SYSTEM_TREES):
        raise ValueError("a directory of its own, which the system does not use")
    if any(is_within(value, store) for store in _STORES):
        raise ValueError(f"a directory outside of {' and '.join(_STORES)}")
    return value


def check_extra_mount_point(value: str) -> str:
    """Refuse the same for an extra volume, except directories of the system that can move onto a volume."""
    return value if value in _MOVABLE_DIRECTORIES else check_mount_point(value)


def size_parser(*of: str) -> Callable[[object], Size]:
    """Return a parser for sizes in bytes and in percent.

    Args:
        of: what a percentage may be of ("VG", "FREE"); "" allows a percentage without it.
    """
    forms = ['"60G"', *(f'"20%{whole}"' for whole in of)]
    allowed = f"a size such as {' or '.join(forms)}, in quotes"

    def parse(value: object) -> Size:
        try:
            size = Size.parse(value) if isinstance(value, str) else None
        except ValueError as error:
            raise ValueError(allowed if str(error) == "no size" else f"{allowed}; it {error}") from None
        if size is None or (size.percent and size.of not in of):
            raise ValueError(allowed)
        return size

    return parse


def _auto_or(parse: Callable[[object], Size], value: object) -> Size | None:
    if value == "auto":
        return None
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f'"auto" or {error}') from None


def parse_volume_size(value: object) -> Size | None:
    """Parse the size of Docker's volume; None for "auto"."""
    return _auto_or(lambda value: check_volume_minimum(size_parser("VG", "FREE")(value)), value)


def parse_volume_file(value: object) -> Size | None:
    """Parse the size of the file that is Docker's disk: bytes, or a share of its filesystem; None for an empty text."""
    if value == "":
        return None
    try:
        size = parse_reserve(value)
    except ValueError as error:
        raise ValueError(f"{error}, or empty") from None
    if 0 < size.bytes < 2 * MINIMUM:
        raise ValueError(f"at least {human(2 * MINIMUM)}, or empty")
    return size


def parse_bytes_per_inode(value: object) -> int | None:
    """Parse the bytes of an ext4 for each of its inodes; None for "auto"."""
    least, most = _BYTES_PER_INODE
    if value == "auto":
        return None
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f'"auto", or bytes from {least} to {most}')
    return value


def check_mount_option(value: str) -> str:
    """Refuse a mount option that the volume must not have, or that no filesystem of ours knows."""
    for pattern, why in _NOT_IN_MOUNT_OPTIONS.items():
        if re.fullmatch(pattern, value):
            raise ValueError(f"another option: {why}")
    if not any(re.fullmatch(pattern, value) for pattern in MOUNT_OPTIONS.values()):
        raise ValueError('an option such as "_netdev", "noatime", "discard" or "x-systemd.requires=iscsid.service"')
    return value


def knows_mount_option(filesystem: str, option: str) -> bool:
    """Return whether a filesystem knows an option that is allowed."""
    return any(re.fullmatch(MOUNT_OPTIONS[name], option) for name in ("", filesystem))


def check_volume_minimum(size: Size) -> Size:
    """Refuse a size in bytes that is too small for a volume."""
    if size.bytes and size.bytes < MINIMUM:
        raise ValueError(f"at least {human(MINIMUM)}")
    return size


def parse_reserve(value: object) -> Size:
    """Parse what stays free in the volume group: a size, or less than all of it."""
    reserve = size_parser("")(value)
    if reserve.percent == 100:
        raise ValueError("less than 100 %")
    return reserve


# -- the guard


def parse_floor(value: object) -> Size | None:
    """Parse what the guard keeps free of the volume; None for "auto"."""
    floor = _auto_or(size_parser(""), value)
    if floor and floor.percent > FLOOR_AT_MOST:
        raise ValueError(f"at most {FLOOR_AT_MOST} %")
    return floor


def parse_ballast(value: object) -> Size | None:
    """Parse the size of the guard's ballast; None for an empty text."""
    if value == "":
        return None
    try:
        return size_parser()(value)
    except ValueError as error:
        raise ValueError(f"{error}, or empty") from None


# -- the engine and its logs

check_engine_version = pattern_check(r"([0-9][A-Za-z0-9.+~-]*)?", 'a version such as "27.5.1" (without "5:"), or empty')
check_log_size = pattern_check(r"[1-9][0-9]*[kmg]", 'a size such as "10m" (k, m or g)')


def parse_start_limit(value: object) -> int | None:
    """Parse the seconds that Docker may take to start; None for "auto"."""
    if value == "auto":
        return None
    if type(value) is not int or not 60 <= value <= 86400:
        raise ValueError('"auto", or seconds from 60 to 86400')
    return value


# -- apt repositories


def parse_fingerprint(value: str) -> str:
    """Return a key's fingerprint without spaces, in upper case."""
    bare = value.replace(" ", "").upper()
    if not re.fullmatch("[0-9A-F]{40}", bare):
        raise ValueError("a key's fingerprint: 40 hexadecimal digits")
    return bare


def parse_address(value: str) -> str:
    """Return the address of an apt repository without a slash at its end."""
    if "@" in value:
        raise ValueError("an address without a user name or password: every user of the host can read apt's files")
    if not re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9/._~-]*)?", value):
        raise ValueError('an address such as "https://mirror.example.com/docker"')
    return value.rstrip("/")


def parse_repository(value: str) -> str:
    """Return the address of Docker's repository, which a run completes with the distribution's name."""
    base = parse_address(value)
    if base.endswith(("/debian", "/ubuntu")):
        raise ValueError("an address without the distribution's name: this project adds it")
    return base


def parse_key_address(value: str) -> str:
    """Return the address of a repository's key; empty for its usual one."""
    return value and parse_address(value)


# -- NVIDIA


def check_auto_or_bool(value: object) -> object:
    """Refuse anything but "auto", True and False."""
    if value != "auto" and not isinstance(value, bool):
        raise ValueError('"auto", True or False')
    return value


def check_toolkit_version(value: str) -> str:
    """Refuse a version of NVIDIA's container toolkit that does not keep its CDI devices up to date."""
    numbers = re.fullmatch(r"([0-9]+)\.([0-9]+)(\.[0-9]+)?", value)
    if not numbers or (int(numbers[1]), int(numbers[2])) < _TOOLKIT_FROM:
        first = ".".join(map(str, _TOOLKIT_FROM))
        raise ValueError(
            f'a version such as "1.20.1", from {first} on: older ones do not keep the CDI devices up to date'
        )
    return value


# -- watch


def check_receivers(value: dict[str, str]) -> dict[str, str]:
    """Refuse receivers with a bad name, or an address that would add a line to Apprise's file."""
    for name, address in value.items():
        if not RECEIVER_NAME.fullmatch(name):
            raise ValueError("a dictionary whose keys are names of letters, digits, - and _")
        # A line break would begin another line of Apprise's file, and that may include other files.
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s]+", address):
            raise ValueError(
                f'a dictionary with an address of Apprise for "{name}", such as "slack://TokenA/TokenB/TokenC"'
            )
    return value


check_directory = pattern_check(r"((/[A-Za-z0-9._-]+)+)?", "an absolute path of letters, digits and . _ -, or empty")
check_journal_size = pattern_check(r"([1-9][0-9]*[KMGT])?", 'a size such as "500M" (K, M, G or T), or empty')


# -- prune

check_time_of_day = pattern_check(r"(([01][0-9]|2[0-3]):[0-5][0-9])?", 'a time of day such as "03:00", or empty')
check_name_pattern = pattern_check(r"\S+", "a name or a pattern of names, without blanks")


# -- daemon.json


def parse_daemon_json(value: dict[str, Any]) -> dict[str, Any]:
    """Return the keys as they come back from the file. Refuse those that would undo this project or stop Docker."""
    try:
        # A tuple comes back from the file as a list, and would differ from it on every run.
        keys = daemon_json.set_keys(json.loads(json.dumps(value, allow_nan=False)))
    except (TypeError, ValueError):
        raise ValueError("a dictionary that can be written as JSON") from None
    problems = [f"without {key!r} ({why})" for key, why in _NOT_IN_DAEMON_JSON.items() if key in keys]
    allowed = {key: value for key, value in keys.items() if key not in _NOT_IN_DAEMON_JSON}
    for name, kind in list(daemon_json.wrong_types(allowed)):
        problems.append(f"with {kind} as {name!r}")
        allowed.pop(name, None)
    for key, below in _NOT_IN_DAEMON_JSON_BELOW.items():
        problems += [f"without '{key}.{name}' ({why})" for name, why in below.items() if name in allowed.get(key, {})]
    problems += [f"without {name!r} ({why})" for name, why in daemon_json.bad_storage_options(allowed)]
    if problems:
        raise ValueError(f"a dictionary {', '.join(problems)}")
    return keys
