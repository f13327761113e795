"""Check the settings of a fleet, and report all problems at once."""

from __future__ import annotations

import difflib
import itertools
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pyinfra.api.arguments import all_global_arguments
from pyinfra.api.connectors import get_all_connectors
from pyinfra.api.exceptions import DeployError

from bulkhead.sizes import BESIDE_OTHERS, Size
from settings import fields
from settings.model import ExtraVolume, Settings

DEFAULTS = Path(__file__).parents[1] / "inventory" / "group_data" / "all.py"
OWN_PREFIX = "my_"


@dataclass(frozen=True)
class SettingProblem:
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


def check(host_data: Mapping[str, object]) -> Settings | list[SettingProblem]:
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
            problems.append(SettingProblem(name, "", f"no such setting; {hint}"))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        return problems + [_problem(found) for found in error.errors()]
    problems += _contradictions(settings)
    return problems or settings


def _contradictions(settings: Settings) -> Iterator[SettingProblem]:
    """What is wrong between settings that are right each by itself."""
    size, reserve, cache_size = settings.volume_size, settings.volume_reserve, settings.build_cache_size
    if settings.volume_group_extend and (not settings.volume_disks or settings.volume_group == "auto"):
        yield SettingProblem(
            "volume_group_extend", "True", "needs volume_disks and the name of an existing volume_group"
        )
    if settings.adopt_volume and settings.volume_disks:
        yield SettingProblem(
            "adopt_volume", "True", "takes a volume that is there, volume_disks make a new one: set one of them"
        )
    if settings.logical_volume in settings.extra_volumes:
        yield SettingProblem(
            "extra_volumes", "", f'must not have "{settings.logical_volume}", which is Docker\'s volume'
        )
    places = {"volume_mount": settings.volume_mount} | {
        f"extra_volumes.{name}.mount": volume.mount for name, volume in settings.extra_volumes.items()
    }
    for (one, path), (other, below) in itertools.permutations(places.items(), 2):
        if fields.is_within(below, path) and (below != path or one < other):
            yield SettingProblem(other, repr(below), f"must be a place of its own, not within {one}, {path}")
    if settings.engine_source not in ("docker-ce", "distro"):
        allowed = f'needs engine_source "docker-ce" or "distro"; it is "{settings.engine_source}"'
        if settings.engine_version:
            yield SettingProblem("engine_version", repr(settings.engine_version), allowed)
        if settings.engine_change:
            yield SettingProblem("engine_change", "True", allowed)
    if settings.check_critical < settings.check_threshold:
        allowed = f"must be at least check_threshold, {settings.check_threshold}"
        yield SettingProblem("check_critical", repr(settings.check_critical), allowed)
    beside_others = not settings.volume_disks or settings.volume_group_extend
    share = size or BESIDE_OTHERS
    if beside_others and share.of == "VG" and share.percent + reserve.percent > 100:
        yield SettingProblem(
            "volume_size", repr(share.text), f"is more than 100 % together with volume_reserve {reserve}"
        )
    if size and size.bytes and cache_size.bytes >= size.bytes:
        yield SettingProblem("build_cache_size", repr(cache_size.text), f"must be less than volume_size, {size}")
    floor = settings.guard_floor
    if floor and size and size.bytes and 100 * floor.bytes > fields.FLOOR_AT_MOST * size.bytes:
        yield SettingProblem("guard_floor", repr(floor.text), f"must be at most a quarter of volume_size, {size}")
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
    for name in ("guard_stop_pulls", "guard_rescue"):
        if getattr(settings, name) and not settings.guard:
            yield SettingProblem(name, "True", "needs guard = True: there is nobody else to do it")


def _problem(found: ErrorDetails) -> SettingProblem:
    """Pydantic's finding in words of this project."""
    first, *rest = (part for part in found["loc"] if part != "[key]")
    if first == "alert_receivers":  # name and address may have changed places
        rest = [part if fields.RECEIVER_NAME.fullmatch(str(part)) else "…" for part in rest]
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
        return SettingProblem(name, "", f"must be {words[kind]}")
    elif kind in ("greater_than_equal", "less_than_equal"):
        allowed = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
    elif kind == "string_type" and name in Settings.model_fields and type(value) in (int, float):
        # pyinfra reads --data as JSON: 27.5 is a number there.
        example = defaults()[name] or value
        allowed = f'text in quotes, such as "{example}" (on the command line: --data \'{name}="{example}"\')'
    else:
        allowed = words.get(kind, found["msg"])
    return SettingProblem(name, _shown(name, value), f"must be {allowed}")


def _shown(name: str, value: object) -> str:
    """A value as it may be printed: short, and without what may be a secret."""
    # Addresses with tokens; proxies with passwords, tokens of log drivers.
    if name == "daemon_json" or name.startswith("alert_receivers"):
        if not isinstance(value, dict):
            return "(not shown)"
        keys = (
            repr(key) if name == "daemon_json" or fields.RECEIVER_NAME.fullmatch(str(key)) else "…" for key in value
        )
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
    bad: dict[SettingProblem, list[str]] = {}
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
