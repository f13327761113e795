"""The settings, typed and checked. Their defaults and what they mean are in inventory/group_data/all.py alone."""

from __future__ import annotations

import difflib
import itertools
import json
import posixpath
import re
import runpy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from pyinfra.api.arguments import all_global_arguments
from pyinfra.api.connectors import get_all_connectors
from pyinfra.api.exceptions import DeployError

from sizes import BESIDE_OTHERS, MINIMUM, Size, human

DEFAULTS = Path(__file__).parent / "inventory" / "group_data" / "all.py"
OWN_PREFIX = "my_"

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

_FLOOR_AT_MOST = 25  # percent of the volume: the guard takes no more (bulkhead.guard.floor_of)


def _matches(pattern: str, allowed: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(allowed)
        return value

    return check


# The two names make one of device-mapper's, which has at most 127 characters, each "-" of theirs twice.
_lvm_name = _matches(
    r"[A-Za-z0-9+_][A-Za-z0-9+_.-]{0,54}",
    "a name of LVM: at most 55 letters, digits and + _ . -, not beginning with . -",
)


def _not_reserved(value: str) -> str:
    if found := _LVM_RESERVED.search(value):
        raise ValueError(f'a name of LVM without "{found[0]}", which LVM keeps for itself')
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"/dev/[A-Za-z0-9][A-Za-z0-9/_.:+=@-]*", value) or posixpath.normpath(value) != value:
        raise ValueError('the path of a disk under /dev, such as "/dev/disk/by-id/scsi-0QEMU_disk2"')
    return value


def _distinct(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("each disk once")
    return value


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


# Directories of the system that an extra volume may take the place of: they hold people's files, not the system's.
_MOVABLE_DIRECTORIES = frozenset("/home /opt /srv /var/backups /var/mail /var/opt".split())


def _extra_mount_point(value: str) -> str:
    return value if value in _MOVABLE_DIRECTORIES else _mount_point(value)


def _mount_point(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+", value):
        raise ValueError('an absolute path of letters, digits and . _ -, such as "/srv/docker-volume"')
    if value in _SYSTEM_DIRECTORIES or any(_is_within(value, tree) for tree in _SYSTEM_TREES):
        raise ValueError("a directory of its own, not one that the system uses")
    if any(_is_within(value, store) for store in _STORES):
        raise ValueError("a neutral place, outside of /var/lib/docker and /var/lib/containerd")
    return value


def _size(*of: str) -> Callable[[object], Size]:
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


def _volume_size(value: object) -> Size | None:
    if value == "auto":
        return None
    try:
        return _at_least_the_minimum(_size("VG", "FREE")(value))
    except ValueError as error:
        raise ValueError(f'"auto" or {error}') from None


def _at_least_the_minimum(size: Size) -> Size:
    if 0 < size.bytes < MINIMUM:
        raise ValueError(f"at least {human(MINIMUM)}")
    return size


def _reserve(value: object) -> Size:
    size = _size("")(value)
    if size.percent == 100:
        raise ValueError("less than 100 %")
    return size


def _floor(value: object) -> Size | None:
    if value == "auto":
        return None
    try:
        size = _size("")(value)
    except ValueError as error:
        raise ValueError(f'"auto" or {error}') from None
    if size.percent > _FLOOR_AT_MOST:
        raise ValueError(f"at most {_FLOOR_AT_MOST} %")
    return size


def _ballast(value: object) -> Size | None:
    if value == "":
        return None
    try:
        return _size()(value)
    except ValueError as error:
        raise ValueError(f"{error}, or empty") from None


def _fingerprint(value: str) -> str:
    bare = value.replace(" ", "").upper()
    if not re.fullmatch("[0-9A-F]{40}", bare):
        raise ValueError("a key's fingerprint: 40 hexadecimal digits")
    return bare


def _address(value: str) -> str:
    if "@" in value:
        raise ValueError("an address without a user name or password: apt's files can be read by everybody")
    if not re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9/._~-]*)?", value):
        raise ValueError('an address such as "https://mirror.example.com/docker"')
    return value.rstrip("/")


def _repository(value: str) -> str:
    address = _address(value)
    if address.endswith(("/debian", "/ubuntu")):
        raise ValueError("an address without the distribution's name, which is added to it")
    return address


def _auto_or_bool(value: object) -> object:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError('"auto", True or False')
    return value


def _toolkit_version(value: str) -> str:
    numbers = re.fullmatch(r"([0-9]+)\.([0-9]+)(\.[0-9]+)?", value)
    if not numbers or (int(numbers[1]), int(numbers[2])) < _TOOLKIT_FROM:
        raise ValueError('a version such as "1.20.1", from 1.18 on: older ones do not keep the CDI devices up to date')
    return value


def _key(value: str) -> str:
    return value and _address(value)


_RECEIVER = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def _receivers(value: dict[str, str]) -> dict[str, str]:
    for name, address in value.items():
        if not _RECEIVER.fullmatch(name):
            raise ValueError("names of letters, digits, - and _")
        # A line break would begin another line of Apprise's file, and that may include others.
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s]+", address):
            raise ValueError(f'for "{name}" an address of Apprise, such as "slack://TokenA/TokenB/TokenC"')
    return value


def _directory(value: str) -> str:
    if value and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", value):
        raise ValueError("an absolute path of letters, digits and . _ -, or empty")
    return value


def _journal_size(value: str) -> str:
    if value and not re.fullmatch(r"[1-9][0-9]*[KMGT]", value):
        raise ValueError('a size such as "500M" (K, M, G or T), or empty')
    return value


def _daemon_json(value: dict[str, Any]) -> dict[str, Any]:
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


class ExtraVolume(BaseModel):
    """A further volume, for a directory of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    mount: Annotated[str, AfterValidator(_extra_mount_point)]
    size: Annotated[Size, AfterValidator(_at_least_the_minimum), BeforeValidator(_size("VG"))]
    filesystem: Literal["ext4", "xfs"] = "ext4"


class Settings(BaseModel):
    """The settings of one host. What each means is in inventory/group_data/all.py."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    volume_group: Annotated[str, AfterValidator(_lvm_name)]
    volume_disks: Annotated[list[Annotated[str, AfterValidator(_device)]], AfterValidator(_distinct)]
    volume_group_extend: bool
    logical_volume: Annotated[str, AfterValidator(_lvm_name), AfterValidator(_not_reserved)]
    volume_size: Annotated[Size | None, BeforeValidator(_volume_size)]
    volume_reserve: Annotated[Size, BeforeValidator(_reserve)]
    filesystem: Literal["ext4", "xfs"]
    volume_mount: Annotated[str, AfterValidator(_mount_point)]
    adopt_volume: bool
    extra_volumes: dict[Annotated[str, AfterValidator(_lvm_name), AfterValidator(_not_reserved)], ExtraVolume]
    engine_source: Literal["auto", "docker-ce", "distro", "present"]
    engine_version: Annotated[
        str,
        AfterValidator(_matches(r"([0-9][A-Za-z0-9.+~-]*)?", 'a version such as "27.5.1" (without "5:"), or empty')),
    ]
    engine_change: bool
    docker_repository: Annotated[str, AfterValidator(_repository)]
    docker_repository_fingerprint: Annotated[str, AfterValidator(_fingerprint)]
    docker_repository_key: Annotated[str, AfterValidator(_key)]
    docker_repository_channel: Literal["stable", "test"]
    engine_upgrade_stops_containers: bool
    apt_lock_timeout: Annotated[int, Field(ge=0, le=86400)]
    log_max_size: Annotated[str, AfterValidator(_matches(r"[1-9][0-9]*[kmg]", 'a size such as "10m": k, m or g'))]
    log_max_file: Annotated[int, Field(ge=1, le=1000)]
    live_restore: bool
    build_cache_size: Annotated[Size, BeforeValidator(_size(""))]
    daemon_json: Annotated[dict[str, Any], AfterValidator(_daemon_json)]
    relocation_patience: Annotated[int, Field(ge=0, le=86400)]
    relocation_finalize: bool
    check_interval: Literal[1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30]
    check_threshold: Annotated[int, Field(ge=10, le=99)]
    check_critical: Annotated[int, Field(ge=10, le=99)]
    check_hours_left: Annotated[int, Field(ge=1, le=720)]
    alert_receivers: Annotated[dict[str, str], AfterValidator(_receivers)]
    alert_reminder: Annotated[int, Field(ge=1, le=168)]
    metrics_directory: Annotated[str, AfterValidator(_directory)]
    journal_max_use: Annotated[str, AfterValidator(_journal_size)]
    prune_time: Annotated[
        str, AfterValidator(_matches(r"(([01][0-9]|2[0-3]):[0-5][0-9])?", 'a time of day such as "03:00", or empty'))
    ]
    prune_spread: Annotated[int, Field(ge=0, le=1439)]
    prune_hours: Annotated[int, Field(ge=1, le=8760)]
    prune_images_after_days: Annotated[int, Field(ge=0, le=3650)]
    prune_keep: list[Annotated[str, AfterValidator(_matches(r"\S+", "a name or a pattern of names, without blanks"))]]
    guard: bool
    guard_floor: Annotated[Size | None, BeforeValidator(_floor)]
    guard_ballast: Annotated[Size | None, BeforeValidator(_ballast)]
    guard_stop_pulls: bool
    guard_rescue: bool
    snapshot_max_hours: Annotated[int, Field(ge=1, le=720)]
    nvidia: Annotated[Literal["auto"] | bool, BeforeValidator(_auto_or_bool)]
    nvidia_version: Annotated[str, AfterValidator(_toolkit_version)]
    nvidia_default_runtime: bool
    nvidia_repository: Annotated[str, AfterValidator(_address)]
    nvidia_repository_fingerprint: Annotated[str, AfterValidator(_fingerprint)]
    nvidia_repository_key: Annotated[str, AfterValidator(_key)]
    allow_unsupported_release: bool


@dataclass(frozen=True)
class Problem:
    """A bad setting: its name, its value as it may be printed (empty: not at all), and what is allowed."""

    name: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value}: {self.allowed}" if self.value else f"{self.name}: {self.allowed}"


class SettingsError(DeployError):
    """Bad settings, all of them in one message. pyinfra prints it and ends with 1, before anything is changed."""


@cache
def defaults() -> dict[str, Any]:
    """What inventory/group_data/all.py says."""
    return {name: value for name, value in runpy.run_path(str(DEFAULTS)).items() if not name.startswith("__")}


@cache
def _names_of_pyinfra() -> frozenset[str]:
    """Host data that pyinfra itself reads: its connectors' and its global arguments."""
    connectors = (connector.data_cls.__annotations__ for connector in get_all_connectors().values())
    arguments = [name for name, _ in all_global_arguments()]
    return frozenset(name for names in (*connectors, arguments) for name in names)


def check(host_data: Mapping[str, object]) -> Settings | list[Problem]:
    """The settings of one host from its data laid over the defaults, or everything that is wrong with them.

    Args:
        host_data: settings, pyinfra's own names, and names that begin with ``my_``.
    """
    problems = []
    values = dict(defaults())
    for name, value in host_data.items():
        if name in Settings.model_fields:
            values[name] = value
        elif name not in _names_of_pyinfra() and not name.startswith(OWN_PREFIX):
            known = [*Settings.model_fields, *_names_of_pyinfra()]
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"names of your own begin with {OWN_PREFIX}"
            # Without its value: that may be the secret of a misspelled ssh_password.
            problems.append(Problem(name, "", f"no such setting; {hint}"))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        return problems + [_problem(found) for found in error.errors()]
    problems += _contradictions(settings)
    return problems or settings


def _contradictions(settings: Settings) -> Iterator[Problem]:
    """What is wrong between settings that are right each by itself."""
    size, reserve, cache_size = settings.volume_size, settings.volume_reserve, settings.build_cache_size
    if settings.volume_group_extend and (not settings.volume_disks or settings.volume_group == "auto"):
        yield Problem("volume_group_extend", "True", "needs volume_disks and the name of an existing volume_group")
    if settings.adopt_volume and settings.volume_disks:
        yield Problem(
            "adopt_volume", "True", "takes a volume that is there, volume_disks make a new one: set one of them"
        )
    if settings.logical_volume in settings.extra_volumes:
        yield Problem("extra_volumes", "", f'must not have "{settings.logical_volume}", which is Docker\'s volume')
    places = {"volume_mount": settings.volume_mount} | {
        f"extra_volumes.{name}.mount": volume.mount for name, volume in settings.extra_volumes.items()
    }
    for (one, path), (other, below) in itertools.permutations(places.items(), 2):
        if _is_within(below, path) and (below != path or one < other):
            yield Problem(other, repr(below), f"must be a place of its own, not within {one}, {path}")
    if settings.engine_source not in ("docker-ce", "distro"):
        allowed = f'needs engine_source "docker-ce" or "distro"; it is "{settings.engine_source}"'
        if settings.engine_version:
            yield Problem("engine_version", repr(settings.engine_version), allowed)
        if settings.engine_change:
            yield Problem("engine_change", "True", allowed)
    if settings.check_critical < settings.check_threshold:
        allowed = f"must be at least check_threshold, {settings.check_threshold}"
        yield Problem("check_critical", repr(settings.check_critical), allowed)
    beside_others = not settings.volume_disks or settings.volume_group_extend
    share = size or BESIDE_OTHERS
    if beside_others and share.of == "VG" and share.percent + reserve.percent > 100:
        yield Problem("volume_size", repr(share.text), f"is more than 100 % together with volume_reserve {reserve}")
    if size and size.bytes and cache_size.bytes >= size.bytes:
        yield Problem("build_cache_size", repr(cache_size.text), f"must be less than volume_size, {size}")
    floor = settings.guard_floor
    if floor and size and size.bytes and 100 * floor.bytes > _FLOOR_AT_MOST * size.bytes:
        yield Problem("guard_floor", repr(floor.text), f"must be at most a quarter of volume_size, {size}")
    keys = settings.daemon_json
    if keys.get("default-runtime") == "nvidia" and "nvidia" not in (keys.get("runtimes") or {}):
        yield Problem("daemon_json", "", "must be without 'default-runtime' (set nvidia_default_runtime)")
    elif settings.nvidia_default_runtime:
        if settings.nvidia is False:
            yield Problem("nvidia_default_runtime", "True", 'needs nvidia = True or "auto"')
        elif keys.get("default-runtime", "nvidia") != "nvidia":
            yield Problem("daemon_json", "", "must be without 'default-runtime' (nvidia_default_runtime is True)")
    for name in ("guard_stop_pulls", "guard_rescue"):
        if getattr(settings, name) and not settings.guard:
            yield Problem(name, "True", "needs guard = True: there is nobody else to do it")


def _problem(found: ErrorDetails) -> Problem:
    """Pydantic's finding in words of this project."""
    first, *rest = (part for part in found["loc"] if part != "[key]")
    if first == "alert_receivers":  # name and address may have changed places
        rest = [part if _RECEIVER.fullmatch(str(part)) else "…" for part in rest]
    name = f"{first}{''.join(f'[{part}]' if isinstance(part, int) else f'.{part}' for part in rest)}"
    kind, value, context = found["type"], found["input"], found.get("ctx", {})
    words = {
        "bool_type": "True or False",
        "int_type": "a whole number",
        "list_type": 'a list, such as ["/dev/disk/by-id/…"]',
        "dict_type": "a dictionary",
        "string_type": "text in quotes",
        "model_type": 'a dictionary, such as {"mount": "/home", "size": "20G"}',
        "missing": "there",
        "extra_forbidden": f"one of {', '.join(ExtraVolume.model_fields)}",
    }
    if kind == "value_error":
        allowed = str(context["error"])
    elif kind == "literal_error":
        allowed = context["expected"].replace("'", '"')
    elif kind in ("missing", "extra_forbidden"):
        return Problem(name, "", f"must be {words[kind]}")
    elif kind in ("greater_than_equal", "less_than_equal"):
        allowed = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
    elif kind == "string_type" and name in Settings.model_fields and type(value) in (int, float):
        # pyinfra reads --data as JSON: 27.5 is a number there.
        example = defaults()[name] or value
        allowed = f'text in quotes, such as "{example}" (on the command line: --data \'{name}="{example}"\')'
    else:
        allowed = words.get(kind, found["msg"])
    return Problem(name, _shown(name, value), f"must be {allowed}")


def _shown(name: str, value: object) -> str:
    """A value as it may be printed: short, and without what may be a secret."""
    # Addresses with tokens; proxies with passwords, tokens of log drivers.
    if name == "daemon_json" or name.startswith("alert_receivers"):
        if not isinstance(value, dict):
            return "(not shown)"
        keys = (repr(key) if name == "daemon_json" or _RECEIVER.fullmatch(str(key)) else "…" for key in value)
        return f"{{{', '.join(f'{key}: …' for key in keys)}}}"
    text = repr(value.text if isinstance(value, Size) else value)
    if "_repository" in name and "@" in text:
        return "(not shown)"
    return text if len(text) <= 100 else text[:99] + "…"


def check_fleet(hosts: Mapping[str, Mapping[str, object]]) -> dict[str, Settings]:
    """The settings of every host.

    Args:
        hosts: host name → its data.

    Raises:
        SettingsError: any of them is bad; its message has every problem of every host, the same one once.
    """
    good: dict[str, Settings] = {}
    bad: dict[Problem, list[str]] = {}
    for name, data in sorted(hosts.items(), key=itemgetter(0)):
        result = check(data)
        if isinstance(result, Settings):
            good[name] = result
        else:
            for problem in result:
                bad.setdefault(problem, []).append(name)
    if bad:
        lines = [f"  {problem}  [{_listed(names)}]" for problem, names in bad.items()]
        raise SettingsError(
            "\n".join(
                [
                    "bad settings; nothing was changed on any host:",
                    *lines,
                    "Every setting is explained in inventory/group_data/all.py.",
                ]
            )
        )
    return good


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
