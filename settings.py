"""The settings, typed and checked. Their defaults and what they mean are in inventory/group_data/all.py alone."""

from __future__ import annotations

import difflib
import json
import posixpath
import re
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pyinfra.api.arguments import all_global_arguments
from pyinfra.api.connectors import get_all_connectors
from pyinfra.api.exceptions import DeployError

from sizes import Size

DEFAULTS = Path(__file__).parent / "inventory" / "group_data" / "all.py"
OWN_PREFIX = "my_"

# What daemon.json may not have from the settings, and why.
_NOT_IN_DAEMON_JSON = {
    "data-root": "Docker's data belongs on the volume, which is mounted at the default place",
    "graph": "it is the old name of data-root",
    "exec-root": "the units of Docker and containerd expect the default",
    "hosts": "the unit passes -H already, and Docker does not start when both are there",
    "containerd": "containerd's store belongs on the volume, and the unit names its socket already",
    "storage-driver": "overlay2 is the only one that this project sets up",
    "log-driver": "the limits of log_max_size and log_max_file need json-file",
    "live-restore": "set live_restore",
    "builder": "set build_cache_size",
}
_NOT_IN_DAEMON_JSON_BELOW = {
    "log-opts": {"max-size": "set log_max_size", "max-file": "set log_max_file"},
    "features": {
        "buildkit": "BuildKit is always on",
        "containerd-snapshotter": "images belong in the overlay2 store",
    },
}

# lvm(8), "VALID NAMES".
_LVM_RESERVED = ("snapshot", "pvmove", ".", "..")
_LVM_RESERVED_PARTS = (
    *("_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage", "_rmeta"),
    *("_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig"),
)

# Where a volume would hide what the system needs, or be hidden itself.
_SYSTEM_DIRECTORIES = frozenset(
    "/ /bin /boot /dev /etc /home /lib /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys /tmp /usr /var "
    "/var/lib".split()
)
_SYSTEM_TREES = ("/boot/", "/dev/", "/etc/", "/proc/", "/run/", "/sys/", "/tmp/", "/usr/")
_STORES = ("/var/lib/docker", "/var/lib/containerd")

_SECRET = re.compile(r"password|passphrase|secret|token|private|(^|_)key($|_)", re.IGNORECASE)


def _matches(pattern: str, allowed: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(allowed)
        return value

    return check


def _lvm_name(value: str) -> str:
    if (
        not re.fullmatch(r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,60}", value)
        or value in _LVM_RESERVED
        or any(part in value for part in _LVM_RESERVED_PARTS)
    ):
        raise ValueError(
            "a name of LVM: at most 61 letters, digits and + _ . -, not beginning with -, none of its reserved names"
        )
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"/dev/[A-Za-z0-9][A-Za-z0-9/_.:+=@-]*", value) or posixpath.normpath(value) != value:
        raise ValueError('the path of a disk under /dev, such as "/dev/disk/by-id/scsi-0QEMU_disk2"')
    return value


def _distinct(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("each disk once")
    return value


def _mount_point(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+", value):
        raise ValueError('an absolute path of letters, digits and . _ -, such as "/srv/docker-volume"')
    if value in _SYSTEM_DIRECTORIES or value.startswith(_SYSTEM_TREES):
        raise ValueError("a directory of its own, not one that the system uses")
    if any(store == value or store.startswith(value + "/") or value.startswith(store + "/") for store in _STORES):
        raise ValueError("a neutral place, neither in nor above /var/lib/docker and /var/lib/containerd")
    return value


def _size(*of: str, absolute: bool = True) -> Callable[[object], Size | None]:
    """A check for sizes: in bytes, and as a percentage of one of ``of``."""
    forms = ['"60G"'] if absolute else []
    forms += [f'"20%{what}"' for what in of]
    allowed = f"a size such as {' or '.join(forms)}, in quotes"

    def check(value: object) -> Size | None:
        try:
            size = Size.parse(value) if isinstance(value, str) else None
        except ValueError as error:
            raise ValueError(allowed if str(error) == "no size" else f"{allowed}; it {error}") from None
        if size is None or (size.percent and size.of not in of):
            raise ValueError(allowed)
        return size

    return check


def _auto_or(check: Callable[[object], Size | None]) -> Callable[[object], Size | None]:
    def parse(value: object) -> Size | None:
        if value == "auto":
            return None
        try:
            return check(value)
        except ValueError as error:
            raise ValueError(f'"auto" or {error}') from None

    return parse


def _fingerprint(value: str) -> str:
    bare = value.replace(" ", "").upper()
    if not re.fullmatch("[0-9A-F]{40}", bare):
        raise ValueError("a key's fingerprint: 40 hexadecimal digits")
    return bare


def _repository(value: str) -> str:
    parts = urlsplit(value)
    if parts.username or parts.password:
        raise ValueError("an address without a user name or password: apt's files can be read by everybody")
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not re.fullmatch(r"[A-Za-z0-9:/._~\[\]-]+", value)
    ):
        raise ValueError('an address such as "https://mirror.example.com/docker"')
    return value.rstrip("/")


def _daemon_json(value: dict[str, Any]) -> dict[str, Any]:
    problems = [f"{key!r} ({why})" for key, why in _NOT_IN_DAEMON_JSON.items() if key in value]
    for key, below in _NOT_IN_DAEMON_JSON_BELOW.items():
        inner = value.get(key, {})
        if not isinstance(inner, dict):
            problems.append(f"{key!r} as anything but a dictionary")
            continue
        problems += [f"'{key}.{name}' ({why})" for name, why in below.items() if name in inner]
    if problems:
        raise ValueError(f"a dictionary without {', '.join(problems)}")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("a dictionary that can be written as JSON") from None
    return value


class Settings(BaseModel):
    """The settings of one host. What each means is in inventory/group_data/all.py."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    volume_group: Annotated[str, AfterValidator(_lvm_name)]
    volume_disks: Annotated[list[Annotated[str, AfterValidator(_device)]], AfterValidator(_distinct)]
    volume_group_extend: bool
    logical_volume: Annotated[str, AfterValidator(_lvm_name)]
    volume_size: Annotated[Size | None, BeforeValidator(_auto_or(_size("VG", "FREE")))]
    volume_reserve: Annotated[Size, BeforeValidator(_size(""))]
    filesystem: Literal["ext4", "xfs"]
    volume_mount: Annotated[str, AfterValidator(_mount_point)]
    adopt_volume: bool
    engine_source: Literal["auto", "docker-ce", "distro", "present"]
    engine_version: Annotated[
        str, AfterValidator(_matches(r"([0-9][A-Za-z0-9.+~:-]*)?", 'a version such as "27.5.1", or empty'))
    ]
    engine_change: bool
    docker_repository: Annotated[str, AfterValidator(_repository)]
    docker_repository_fingerprint: Annotated[str, AfterValidator(_fingerprint)]
    docker_repository_channel: Literal["stable", "test"]
    apt_lock_timeout: Annotated[int, Field(ge=0, le=86400)]
    log_max_size: Annotated[str, AfterValidator(_matches(r"[1-9][0-9]*[kmg]", 'a size such as "10m": k, m or g'))]
    log_max_file: Annotated[int, Field(ge=1, le=1000)]
    live_restore: bool
    build_cache_size: Annotated[Size, BeforeValidator(_size(""))]
    daemon_json: Annotated[dict[str, Any], AfterValidator(_daemon_json)]
    allow_unsupported_release: bool

    @model_validator(mode="after")
    def _no_contradictions(self) -> Settings:
        problems = []
        if self.volume_group_extend and (not self.volume_disks or self.volume_group == "auto"):
            problems.append("volume_group_extend needs volume_disks and the name of an existing volume_group")
        if self.adopt_volume and self.volume_disks:
            problems.append(
                "adopt_volume takes a volume that is there, volume_disks make a new one: set one of the two"
            )
        if self.engine_version and self.engine_source not in ("docker-ce", "distro"):
            problems.append('engine_version needs engine_source "docker-ce" or "distro"')
        if self.engine_change and self.engine_source not in ("docker-ce", "distro"):
            problems.append('engine_change needs engine_source "docker-ce" or "distro"')
        if self.live_restore and "swarm-default-advertise-addr" in self.daemon_json:
            problems.append("live_restore and Swarm's keys of daemon_json exclude each other")
        size, reserve = self.volume_size, self.volume_reserve
        if size and size.of == "VG" and not self.volume_disks and size.percent + reserve.percent > 100:
            problems.append("volume_size and volume_reserve are more than 100 % together")
        if problems:
            raise ValueError("; ".join(problems))
        return self


@dataclass(frozen=True)
class Problem:
    """A bad setting: its name, its value as it may be shown, and what is allowed."""

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
            problems.append(Problem(name, "", f"no such setting; {hint}"))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for found in error.errors():
            name = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in found["loc"][:2])
            shown = (
                "(not shown)" if _SECRET.search(name) else re.sub("//[^/@]*@", "//(not shown)@", repr(found["input"]))
            )
            problems.append(
                Problem(name, shown if name else "", _plain(found))
                if name
                else Problem("contradiction", "", _plain(found))
            )
        return problems
    return problems or settings


def _plain(found: Any) -> str:
    """Pydantic's finding in words of this project."""
    kind, context = found["type"], found.get("ctx", {})
    words = {
        "bool_type": "must be True or False",
        "string_type": 'must be text in quotes, such as "10m"',
        "int_type": "must be a whole number",
        "list_type": 'must be a list, such as ["/dev/disk/by-id/…"]',
        "dict_type": "must be a dictionary",
    }
    if kind == "value_error":
        text = str(context["error"])
        return text if not found["loc"] else f"must be {text}"
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", '"')
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = "at least" if kind.startswith("greater") else "at most"
        return f"must be {bound} {context.get('ge', context.get('le'))}"
    return words.get(kind, str(found["msg"]))


def check_fleet(hosts: Mapping[str, Mapping[str, object]]) -> dict[str, Settings]:
    """The settings of every host.

    Args:
        hosts: host name → its data.

    Raises:
        SettingsError: any of them is bad; its message has every problem of every host, the same one once.
    """
    good: dict[str, Settings] = {}
    bad: dict[Problem, list[str]] = {}
    for name, data in hosts.items():
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
                    f"Every setting is explained in {DEFAULTS.name} of inventory/group_data.",
                ]
            )
        )
    return good


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
