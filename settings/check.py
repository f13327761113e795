"""Check the settings of a fleet, and report every problem at once."""

from __future__ import annotations

import difflib
import itertools
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pyinfra.api import Host, Inventory
from pyinfra.api.arguments import all_global_arguments
from pyinfra.api.connectors import get_all_connectors
from pyinfra.api.exceptions import DeployError

from bulkhead.names import FLOOR_AT_MOST
from bulkhead.sizes import BESIDE_OTHERS, Size
from settings import daemon_json, fields
from settings.model import ExtraVolume, Settings

DEFAULTS = Path(__file__).parents[1] / "inventory" / "group_data" / "all.py"
OWN_PREFIX = "my_"


@dataclass(frozen=True)
class SettingProblem:
    """A bad setting: its name, its value as far as it may be printed (empty: not at all), and what is allowed."""

    name: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value}: {self.allowed}" if self.value else f"{self.name}: {self.allowed}"


class SettingsError(DeployError):
    """All bad settings of a fleet, in one message. pyinfra prints it and ends with 1, before it changes anything."""


@cache
def defaults() -> dict[str, Any]:
    """Return the settings of inventory/group_data/all.py."""
    return {name: value for name, value in runpy.run_path(str(DEFAULTS)).items() if not name.startswith("__")}


@cache
def _names_of_pyinfra() -> frozenset[str]:
    """Return the names of host data that pyinfra itself reads: for its connectors, and as global arguments."""
    connectors = (connector.data_cls.__annotations__ for connector in get_all_connectors().values())
    arguments = [name for name, _ in all_global_arguments()]
    return frozenset(name for names in (*connectors, arguments) for name in names)


def check(host_data: Mapping[str, object]) -> Settings | list[SettingProblem]:
    """Return the settings of one host, its data merged over the defaults; or every problem with them.

    Args:
        host_data: settings, names of pyinfra's own, and names that begin with ``my_``.
    """
    problems = []
    values = dict(defaults())
    for name, value in host_data.items():
        if name in Settings.model_fields:
            values[name] = value
        elif name not in _names_of_pyinfra() and not name.startswith(OWN_PREFIX):
            known = [*Settings.model_fields, *_names_of_pyinfra()]
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"begin names of your own with {OWN_PREFIX}"
            # Without its value, which may be a secret: the name may be a misspelled ssh_password.
            problems.append(SettingProblem(name, "", f"no such setting; {hint}"))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        return problems + [_problem(found) for found in error.errors()]
    problems += _contradictions(settings)
    return problems or settings


def _contradictions(settings: Settings) -> Iterator[SettingProblem]:
    """Yield the problems between settings that are good one by one."""
    yield from _of_the_volumes(settings)
    yield from _of_the_engine(settings)
    yield from _of_the_sizes(settings)
    yield from _of_the_runtimes(settings)
    yield from _of_the_logs(settings)
    if settings.check_critical < settings.check_threshold:
        allowed = f"must be at least check_threshold, {settings.check_threshold}"
        yield SettingProblem("check_critical", repr(settings.check_critical), allowed)
    for name in ("guard_stop_pulls", "guard_rescue"):
        if getattr(settings, name) and not settings.guard:
            yield SettingProblem(name, "True", "needs guard = True: the guard does it")


def _of_the_volumes(settings: Settings) -> Iterator[SettingProblem]:
    if settings.volume_group_extend and (not settings.volume_disks or settings.volume_group == "auto"):
        yield SettingProblem(
            "volume_group_extend", "True", "needs volume_disks and the name of an existing volume_group"
        )
    if settings.volume_group_extend and settings.volume_disks == [fields.BLANK]:
        yield SettingProblem(
            "volume_disks", repr(fields.BLANK), "must name the disk that volume_group_extend adds to a group of others"
        )
    if settings.adopt_volume and settings.volume_disks:
        yield SettingProblem(
            "adopt_volume", "True", "adopt_volume and volume_disks exclude each other: set only one of them"
        )
    if settings.adopt_volume and settings.volume_file:
        yield SettingProblem(
            "adopt_volume", "True", "adopt_volume and volume_file exclude each other: set only one of them"
        )
    if settings.volume_bytes_per_inode and settings.filesystem != "ext4":
        allowed = f'needs filesystem "ext4": {settings.filesystem} makes inodes as it needs them'
        yield SettingProblem("volume_bytes_per_inode", str(settings.volume_bytes_per_inode), allowed)
    for option in settings.volume_mount_options:
        if not fields.knows_mount_option(settings.filesystem, option):
            allowed = f"must be without {option!r}, which {settings.filesystem} does not know"
            yield SettingProblem("volume_mount_options", repr(settings.volume_mount_options), allowed)
    if settings.volume_file and "discard" in settings.volume_mount_options:
        allowed = "must be without 'discard' beside volume_file: it would give the file's space to others"
        yield SettingProblem("volume_mount_options", repr(settings.volume_mount_options), allowed)
    if settings.volume_raid:
        yield from _of_the_raid(settings)
    if settings.volume_ephemeral:
        yield from _of_ephemeral_disks(settings)
    if settings.adopt_filesystem:
        # Those that say where a volume comes from, or how large it becomes; a filesystem that is adopted is there, and whole.
        # Its options are those of its own line in fstab.
        others = (
            "volume_disks",
            "volume_file",
            "adopt_volume",
            "volume_size",
            "volume_bytes_per_inode",
            "volume_mount_options",
            "extra_volumes",
        )
        beside = [
            *(["volume_group"] if settings.volume_group != "auto" else []),
            *filter(partial(getattr, settings), others),
        ]
        for name in beside:
            allowed = f"adopt_filesystem and {name} exclude each other: set only one of them"
            yield SettingProblem("adopt_filesystem", "True", allowed)
    if settings.logical_volume in settings.extra_volumes:
        yield SettingProblem(
            "extra_volumes", "", f'must not have "{settings.logical_volume}", which is Docker\'s volume'
        )
    places = {"volume_mount": settings.volume_mount} | {
        f"extra_volumes.{name}.mount": volume.mount for name, volume in settings.extra_volumes.items()
    }
    order = list(places)  # of two equal ones, the later is named: never Docker's own
    for (one, path), (other, below) in itertools.permutations(places.items(), 2):
        if fields.is_within(below, path) and (below != path or order.index(one) < order.index(other)):
            yield SettingProblem(other, repr(below), f"must be outside of {one}, {path}")


def _of_the_raid(settings: Settings) -> Iterator[SettingProblem]:
    is_striped = settings.volume_raid == "raid0"
    reasons = {
        "volume_file": "a file on the root disk has no second disk",
        "adopt_filesystem": "the filesystem stays on the disk that it is on",
        "adopt_volume": "a volume of others stays what it is",
    }
    if is_striped:
        reasons["extra_volumes"] = "only Docker's volume is striped"
        reasons["volume_group_extend"] = "the disks are a group of Docker's own"
    else:
        reasons["extra_volumes"] = "they would have no mirror, and would be lost with one of the disks"
    allowed = _excluded(settings, "volume_raid", reasons)
    count = len(settings.volume_disks)
    if is_striped and count < 2:
        allowed.append(f"needs at least two names in volume_disks, which has {count}")
    elif not is_striped and count == 1 and not settings.volume_group_extend:
        allowed.append(f"needs two disks, and volume_disks has one: {settings.volume_disks[0]}. Name a second one")
    elif not is_striped and count > 2:
        allowed.append(f"takes two disks, and volume_disks has {count}. Name two of them")
    for text in allowed:
        yield SettingProblem("volume_raid", repr(settings.volume_raid), text)


def _of_ephemeral_disks(settings: Settings) -> Iterator[SettingProblem]:
    reasons = {
        "volume_file": "the root disk keeps its content",
        "extra_volumes": "a boot makes Docker's volume only",
        "volume_group_extend": "the disks are a group of Docker's own",
    }
    allowed = _excluded(settings, "volume_ephemeral", reasons)
    if settings.volume_raid == "raid1":
        allowed.append(
            "volume_ephemeral and the mirror of volume_raid exclude each other: both disks are emptied at once"
        )
    if not settings.volume_disks:
        allowed.append("needs volume_disks: a boot makes the volume on the disks that they name, and on no others")
    for disk in settings.volume_disks:
        if not fields.is_name_of_blank(disk):
            allowed.append(
                f"needs names that a disk has at every boot, also while it is blank, such as those under /dev/disk/by-id or "
                f"/dev/disk/by-path; {disk} is none"
            )
    for text in allowed:
        yield SettingProblem("volume_ephemeral", "True", text)


def _excluded(settings: Settings, name: str, reasons: Mapping[str, str]) -> list[str]:
    """Return what is wrong with a setting because others are set that exclude it.

    Args:
        reasons: those others, and why they do.
    """
    beside = filter(partial(getattr, settings), reasons)
    return [f"{name} and {other} exclude each other ({reasons[other]}): set only one of them" for other in beside]


def _of_the_engine(settings: Settings) -> Iterator[SettingProblem]:
    if settings.engine_source not in ("docker-ce", "distro"):
        allowed = f'needs engine_source "docker-ce" or "distro"; it is "{settings.engine_source}"'
        if settings.engine_version:
            yield SettingProblem("engine_version", repr(settings.engine_version), allowed)
        if settings.engine_change:
            yield SettingProblem("engine_change", "True", allowed)


def _of_the_sizes(settings: Settings) -> Iterator[SettingProblem]:
    size, reserve, cache, floor = (
        settings.volume_size,
        settings.volume_reserve,
        settings.build_cache_size,
        settings.guard_floor,
    )
    beside_others = not (settings.volume_disks or settings.volume_file) or settings.volume_group_extend
    share = size or BESIDE_OTHERS
    if beside_others and share.of == "VG" and share.percent + reserve.percent > 100:
        yield SettingProblem(
            "volume_size", repr(share.text), f"is more than 100 % together with volume_reserve {reserve}"
        )
    if size and size.bytes and cache.bytes >= size.bytes:
        yield SettingProblem("build_cache_size", repr(cache.text), f"must be less than volume_size, {size}")
    if floor and size and size.bytes and 100 * floor.bytes > FLOOR_AT_MOST * size.bytes:
        allowed = f"must be at most {FLOOR_AT_MOST} % of volume_size, {size}"
        yield SettingProblem("guard_floor", repr(floor.text), allowed)


def _of_the_runtimes(settings: Settings) -> Iterator[SettingProblem]:
    keys = settings.daemon_json
    if keys.get("default-runtime") == "nvidia" and "nvidia" not in (keys.get("runtimes") or {}):
        yield SettingProblem("daemon_json", "", "must be without 'default-runtime' (set nvidia_default_runtime)")
    elif settings.nvidia_default_runtime:
        if settings.nvidia is False:
            yield SettingProblem("nvidia_default_runtime", "True", 'needs nvidia = True or "auto"')
        elif keys.get("default-runtime", "nvidia") != "nvidia":
            yield SettingProblem(
                "daemon_json", "", "must be without 'default-runtime' (nvidia_default_runtime is True)"
            )


def _of_the_logs(settings: Settings) -> Iterator[SettingProblem]:
    driver = "json-file" if settings.log_driver == "keep" else settings.log_driver
    limits = daemon_json.log_limits(driver, settings.log_max_size, settings.log_max_file)
    for name, why in daemon_json.bad_log_options(driver, limits | settings.daemon_json.get("log-opts", {})):
        yield SettingProblem("daemon_json", "", f"must be without '{name}' ({why})")


def _problem(found: ErrorDetails) -> SettingProblem:
    """Return one of pydantic's errors in the words of this project."""
    first, *rest = (part for part in found["loc"] if part != "[key]")
    if first == "alert_receivers":  # name and address may be swapped, and the address is a secret
        rest = [part if fields.RECEIVER_NAME.fullmatch(str(part)) else "…" for part in rest]
    name = f"{first}{''.join(f'[{part}]' if isinstance(part, int) else f'.{part}' for part in rest)}"
    kind, value, context = found["type"], found["input"], found.get("ctx", {})
    words = {
        "bool_type": "True or False",
        "int_type": "a whole number",
        "list_type": 'a list, such as ["_netdev"]'
        if name == "volume_mount_options"
        else ('"blank", or ' if name == "volume_disks" else "") + 'a list, such as ["/dev/disk/by-id/…"]',
        "dict_type": "a dictionary",
        "string_type": "text in quotes",
        "model_type": 'a dictionary, such as {"mount": "/home", "size": "20G"}',
    }
    if kind == "value_error":
        allowed = str(context["error"])
    elif kind == "literal_error":
        allowed = context["expected"].replace("'", '"')
    elif kind == "missing":
        return SettingProblem(name, "", "is missing")
    elif kind == "extra_forbidden":
        return SettingProblem(name, "", f"no such key; the keys are {', '.join(ExtraVolume.model_fields)}")
    elif kind in ("greater_than_equal", "less_than_equal"):
        allowed = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
    elif kind == "string_type" and name in Settings.model_fields and type(value) in (int, float):
        # pyinfra reads --data as JSON, where 27.5 is a number.
        example = defaults()[name] or value
        allowed = f'text in quotes, such as "{example}" (on the command line: --data \'{name}="{example}"\')'
    else:
        allowed = words.get(kind, found["msg"])
    return SettingProblem(name, _shown(name, value), f"must be {allowed}")


def _shown(name: str, value: object) -> str:
    """Return a value as it may be printed: short, and without what may be a secret."""
    # Addresses have tokens, proxies have passwords, and so do log drivers.
    if name == "daemon_json" or name.startswith("alert_receivers"):
        if not isinstance(value, dict):
            return "(not shown)"
        keys = (repr(key) if fields.RECEIVER_NAME.fullmatch(str(key)) else "…" for key in value)
        return f"{{{', '.join(f'{key}: …' for key in keys)}}}"
    text = repr(value.text if isinstance(value, Size) else value)
    if "_repository" in name and "@" in text:
        return "(not shown)"
    return text if len(text) <= 100 else text[:99] + "…"


def settings_of(host: Host) -> Settings:
    """Return the settings of a host.

    Raises:
        SettingsError: the settings of any host of this run are bad.
    """
    fleet = _fleet(host.inventory)
    if isinstance(fleet, SettingsError):
        raise fleet
    return fleet[host.name]


@cache
def _fleet(inventory: Inventory) -> dict[str, Settings] | SettingsError:
    # The error is kept too: each of a thousand hosts asks for its settings, and all of them get the same answer.
    try:
        return check_fleet({host.name: host.data.dict() for host in inventory.iter_activated_hosts()})
    except SettingsError as error:
        return error


def check_fleet(hosts: Mapping[str, Mapping[str, object]]) -> dict[str, Settings]:
    """Return the settings of every host.

    Args:
        hosts: host name → its data.

    Raises:
        SettingsError: any setting is bad. Its message has every problem once, with the hosts that have it.
    """
    good: dict[str, Settings] = {}
    bad: dict[SettingProblem, list[str]] = {}
    checked: dict[str, Settings | list[SettingProblem]] = {}
    for name, data in sorted(hosts.items(), key=itemgetter(0)):
        # Most hosts of a fleet have the same settings, and differ in what pyinfra itself reads: the addresses.
        own = {key: value for key, value in data.items() if key not in _names_of_pyinfra()}
        distinct = repr(sorted(own.items(), key=itemgetter(0)))
        if distinct not in checked:
            checked[distinct] = check(own)
        result = checked[distinct]
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
