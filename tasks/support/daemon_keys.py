"""The keys of daemon.json that this project wants, beside those of the host: what the file is to contain. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from settings import daemon_json as file_format
from settings.model import Settings
from tasks.support.files import render

Json = dict[str, Any]
_LOG_KEYS = ("log-driver", "log-opts")


def our_keys(
    settings: Settings,
    volume_bytes: int,
    *,
    containerd_store: bool = False,
    nvidia: bool = False,
    log_driver: str = "json-file",
) -> Json:
    """Return the keys that this project sets, with those of the setting ``daemon_json`` merged in.

    Args:
        volume_bytes: size of Docker's volume, from which the build cache's limits follow.
        containerd_store: the engine has its images in containerd's store, and keeps them there.
        nvidia: add NVIDIA's runtime, with the keys that `nvidia-ctk runtime configure` writes, and CDI.
        log_driver: that containers get; empty: the host keeps its own, with its options.
    """
    build_cache = settings.build_cache_size.bytes_of(volume_bytes)
    ours: Json = json.loads(
        render(
            "daemon.json.j2",
            log_driver=log_driver,
            log_opts=file_format.log_limits(log_driver, settings.log_max_size, settings.log_max_file),
            live_restore=settings.live_restore,
            build_cache_mib=build_cache // 2**20,
            volume_mib=volume_bytes // 2**20,
            containerd_store=containerd_store,
            nvidia=nvidia,
            nvidia_default_runtime=settings.nvidia_default_runtime,
        )
    )
    keys = merged(ours, settings.daemon_json)
    return keys if log_driver else {key: value for key, value in keys.items() if key not in _LOG_KEYS}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """Merge ``over`` into ``base``, object by object; a value of ``over`` that is no object replaces the old one."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def without(keys: Mapping[str, Any], drop: Mapping[str, Any]) -> Json:
    """Return ``keys`` without every key of ``drop``, object by object, and without objects that become empty."""
    result: Json = {}
    for key, value in keys.items():
        if key not in drop:
            result[key] = value
        elif isinstance(value, dict) and isinstance(drop[key], dict) and (rest := without(value, drop[key])):
            result[key] = rest
    return result


def wanted(ours: Json, current: Json, applied: Json) -> Json:
    """Merge our keys with those that others have put into the file, and return the result.

    A three-way merge. A key of the present file that we never wrote is somebody else's and stays. A key that we wrote
    (``applied``) and no longer want goes. Where both set a key, ours wins.
    """
    others = without(current, applied)
    if "log-driver" not in ours and current.get("log-driver", "") not in ("", applied.get("log-driver")):
        # The host has a driver of its own, and every option in the file is one of that driver's.
        others |= {key: current[key] for key in _LOG_KEYS if key in current}
    # Take from one side as a whole what would not work, or not be ours, as half of each: a runtime, and the garbage
    # collection of build cache, where a `policy` takes the place of every limit (moby, daemon/config/builder.go).
    if "gc" in ours.get("builder", {}):
        others["builder"] = {
            key: value
            for key, value in (others.get("builder") or {}).items()
            if not file_format.is_gc(f"builder.{key}")
        }
    set_by_us = ours.get("runtimes", {}).keys() | applied.get("runtimes", {}).keys()
    theirs = {name: runtime for name, runtime in others.pop("runtimes", {}).items() if name not in set_by_us}
    result = merged(others | ({"runtimes": theirs} if theirs else {}), ours)
    default = result.get("default-runtime")
    lost = current.get("runtimes", {}).keys() - result.get("runtimes", {}).keys()
    # Docker does not start with a default runtime that it does not know.
    return without(result, {"default-runtime": default}) if default in lost else result


def is_in_force(ours: Json, current: str, applied: str) -> bool:
    """Return whether a run with these keys of ours has nothing to write.

    Args:
        current: text of the file.
        applied: text that names our keys in it.

    Raises:
        ValueError: one of them is not a JSON object.
    """
    content = text(wanted(ours, file_format.parse(current), file_format.parse(applied)))
    return content == current and text(ours) == applied


def text(keys: Json) -> str:
    """Return the text of a file with these keys."""
    return json.dumps(keys, indent=4, sort_keys=True) + "\n"
