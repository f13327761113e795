"""How the value of one setting is read and checked."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable
from typing import Any

from bulkhead.sizes import MINIMUM, Size, human

# What daemon.json may not have from the settings, and why.
_NOT_IN_DAEMON_JSON = {
    "data-root": "Docker's data belongs on the volume, which is mounted at the default place",
    "graph": "it is the old name of data-root",
    "exec-root": "the units of Docker and containerd expect the default",
    "hosts": "the unit passes -H already, and Docker does not start when both are there",
    "containerd": "containerd's store belongs on the volume, and the unit names its socket already",
    "containerd-namespace": "hosts with namespaces other than Docker's own are refused",
    "containerd-plugins-namespace": "hosts with namespaces other than Docker's own are refused",
    "userns-remap": "it gives Docker another data root, below the default one",
    "storage-driver": "overlay2 is the only one that this project sets up",
    "log-driver": "the limits of log_max_size and log_max_file need json-file",
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

# lvm2, lib/misc/lvm-string.c: what no logical volume may begin with, or contain. lvm(8) lists it in part.
_LVM_RESERVED = re.compile(
    "^(pvmove|snapshot)|_(cdata|cmeta|corig|cpool|cvol|imeta|iorig|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta|vdata|"
    "vorigin|wcorig)"
)

# Where a volume would hide what the system needs, or be hidden itself.
_SYSTEM_DIRECTORIES = frozenset(
    "/ /home /media /mnt /opt /srv /var /var/backups /var/crash /var/lib /var/local /var/mail /var/opt /var/snap".split()
)

_SYSTEM_TREES = tuple(
    "/bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /root /run /sbin /sys /tmp /usr "
    "/var/cache /var/lib/apt /var/lib/dpkg /var/lib/systemd /var/lock /var/log /var/run /var/spool /var/tmp".split()
)

_STORES = ("/var/lib/docker", "/var/lib/containerd")
_TOOLKIT_FROM = (1, 18)  # that version brings nvidia-cdi-refresh
FLOOR_AT_MOST = 25  # percent of the volume: the guard takes no more (bulkhead.guard.floor_of)


def matches(pattern: str, allowed: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(allowed)
        return value

    return check


# The two names make one of device-mapper's, which has at most 127 characters, each "-" of theirs twice.
lvm_name = matches(
    r"[A-Za-z0-9+_][A-Za-z0-9+_.-]{0,54}",
    "a name of LVM: at most 55 letters, digits and + _ . -, not beginning with . -",
)


def not_reserved(value: str) -> str:
    if found := _LVM_RESERVED.search(value):
        raise ValueError(f'a name of LVM without "{found[0]}", which LVM keeps for itself')
    return value


def device(value: str) -> str:
    if not re.fullmatch(r"/dev/[A-Za-z0-9][A-Za-z0-9/_.:+=@-]*", value) or posixpath.normpath(value) != value:
        raise ValueError('the path of a disk under /dev, such as "/dev/disk/by-id/scsi-0QEMU_disk2"')
    return value


def distinct(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("each disk once")
    return value


def is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


# Directories of the system that an extra volume may take the place of: they hold people's files, not the system's.
_MOVABLE_DIRECTORIES = frozenset("/home /opt /srv /var/backups /var/mail /var/opt".split())


def extra_mount_point(value: str) -> str:
    return value if value in _MOVABLE_DIRECTORIES else mount_point(value)


def mount_point(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+", value):
        raise ValueError('an absolute path of letters, digits and . _ -, such as "/srv/docker-volume"')
    if value in _SYSTEM_DIRECTORIES or any(is_within(value, tree) for tree in _SYSTEM_TREES):
        raise ValueError("a directory of its own, not one that the system uses")
    if any(is_within(value, store) for store in _STORES):
        raise ValueError("a neutral place, outside of /var/lib/docker and /var/lib/containerd")
    return value


def size(*of: str) -> Callable[[object], Size]:
    """A check for sizes: in bytes, and as a percentage of one of ``of``."""
    forms = ['"60G"', *(f'"20%{what}"' for what in of)]
    allowed = f"a size such as {' or '.join(forms)}, in quotes"

    def check(value: object) -> Size:
        try:
            size = Size.parse(value) if isinstance(value, str) else None
        except ValueError as error:
            raise ValueError(allowed if str(error) == "no size" else f"{allowed}; it {error}") from None
        if size is None or (size.percent and size.of not in of):
            raise ValueError(allowed)
        return size

    return check


def volume_size(value: object) -> Size | None:
    if value == "auto":
        return None
    try:
        return at_least_the_minimum(size("VG", "FREE")(value))
    except ValueError as error:
        raise ValueError(f'"auto" or {error}') from None


def at_least_the_minimum(size: Size) -> Size:
    if 0 < size.bytes < MINIMUM:
        raise ValueError(f"at least {human(MINIMUM)}")
    return size


def reserve(value: object) -> Size:
    parsed = size("")(value)
    if parsed.percent == 100:
        raise ValueError("less than 100 %")
    return parsed


def floor(value: object) -> Size | None:
    if value == "auto":
        return None
    try:
        parsed = size("")(value)
    except ValueError as error:
        raise ValueError(f'"auto" or {error}') from None
    if parsed.percent > FLOOR_AT_MOST:
        raise ValueError(f"at most {FLOOR_AT_MOST} %")
    return parsed


def ballast(value: object) -> Size | None:
    if value == "":
        return None
    try:
        return size()(value)
    except ValueError as error:
        raise ValueError(f"{error}, or empty") from None


def fingerprint(value: str) -> str:
    bare = value.replace(" ", "").upper()
    if not re.fullmatch("[0-9A-F]{40}", bare):
        raise ValueError("a key's fingerprint: 40 hexadecimal digits")
    return bare


def address(value: str) -> str:
    if "@" in value:
        raise ValueError("an address without a user name or password: apt's files can be read by everybody")
    if not re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9/._~-]*)?", value):
        raise ValueError('an address such as "https://mirror.example.com/docker"')
    return value.rstrip("/")


def repository(value: str) -> str:
    base = address(value)
    if base.endswith(("/debian", "/ubuntu")):
        raise ValueError("an address without the distribution's name, which is added to it")
    return base


def auto_or_bool(value: object) -> object:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError('"auto", True or False')
    return value


def toolkit_version(value: str) -> str:
    numbers = re.fullmatch(r"([0-9]+)\.([0-9]+)(\.[0-9]+)?", value)
    if not numbers or (int(numbers[1]), int(numbers[2])) < _TOOLKIT_FROM:
        raise ValueError('a version such as "1.20.1", from 1.18 on: older ones do not keep the CDI devices up to date')
    return value


def key(value: str) -> str:
    return value and address(value)


RECEIVER_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def receivers(value: dict[str, str]) -> dict[str, str]:
    for name, address in value.items():
        if not RECEIVER_NAME.fullmatch(name):
            raise ValueError("names of letters, digits, - and _")
        # A line break would begin another line of Apprise's file, and that may include others.
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s]+", address):
            raise ValueError(f'for "{name}" an address of Apprise, such as "slack://TokenA/TokenB/TokenC"')
    return value


def directory(value: str) -> str:
    if value and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", value):
        raise ValueError("an absolute path of letters, digits and . _ -, or empty")
    return value


def journal_size(value: str) -> str:
    if value and not re.fullmatch(r"[1-9][0-9]*[KMGT]", value):
        raise ValueError('a size such as "500M" (K, M, G or T), or empty')
    return value


def daemon_json(value: dict[str, Any]) -> dict[str, Any]:
    problems = [f"without {key!r} ({why})" for key, why in _NOT_IN_DAEMON_JSON.items() if key in value]
    for key, below in _NOT_IN_DAEMON_JSON_BELOW.items():
        inner = value.get(key, {})
        if not isinstance(inner, dict):
            problems.append(f"with a dictionary as {key!r}")
            continue
        problems += [f"without '{key}.{name}' ({why})" for name, why in below.items() if name in inner]
        if key == "log-opts":  # dockerd reads strings there and does not start on anything else
            problems += [f"with text as '{key}.{name}'" for name in inner if not isinstance(inner[name], str)]
    if problems:
        raise ValueError(f"a dictionary {', '.join(problems)}")
    try:
        # As it comes back from the file: a tuple would differ from its list on every run.
        normal: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise ValueError("a dictionary that can be written as JSON") from None
    return normal
