"""After this, daemon.json is this project's: log limits, overlay2, BuildKit with its garbage collection, live-restore.

The file has one owner. The keys of the setting ``daemon_json`` are merged in; keys that the host had before stay. If
Docker does not start with the new file, the old one comes back, and Docker runs with that.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import FactBase, FactProcessError, StringCommand, operation

from pyinfra_lvm.operations import refusal
from settings import daemon_json as file_format
from settings.model import Settings
from tasks.preflight.plan import Plan
from tasks.support import gpu
from tasks.support.files import render
from tasks.support.paths import BEFORE, DAEMON_JSON, DAEMON_JSON_APPLIED

START_TIMEOUT = 180  # seconds for Docker to start: a host that restarts many containers is slow
_LOG_KEYS = ("log-driver", "log-opts")
Json = dict[str, Any]


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


def names(keys: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the name of every value, after the names of the objects around it.

    >>> list(names({"features": {"cdi": True}, "debug": True}))
    ['features.cdi', 'debug']
    """
    for key, value in keys.items():
        if isinstance(value, dict) and value:
            yield from names(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def differences(ours: Mapping[str, Any], current: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield, in words, each change that others have made to our keys.

    >>> list(differences({"features": {"buildkit": True}, "a": 1}, {"features": {"cdi": True}, "a": 2}))
    ['features.buildkit is missing', 'a has another value']
    """
    for key, value in ours.items():
        present = current.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            yield from differences(value, present, f"{above}{key}.")
        elif key not in current:
            yield from (f"{name} is missing" for name in names({key: value}, above))
        elif present != value:
            yield f"{above}{key} has another value"


def _replaced(others: Mapping[str, Any], ours: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the keys of others that ours replace."""
    for key in sorted(others.keys() & ours.keys()):
        theirs, value = others[key], ours[key]
        is_whole = above == "runtimes." or file_format.is_gc(f"{above}{key}")
        if isinstance(theirs, dict) and isinstance(value, dict) and not is_whole:
            yield from _replaced(theirs, value, f"{above}{key}.")
        elif theirs != value:
            yield f"{above}{key}"


@dataclass(frozen=True)
class DaemonJsonFiles:
    """daemon.json as it is on the host, and what this project knows of it."""

    current: str = ""
    applied: str = ""  # our keys in it, from the last change with which Docker started
    unfinished: bool = False  # a change was cut before Docker had started with it


class DaemonJson(FactBase[DaemonJsonFiles]):
    """Return daemon.json, which of its keys this project wrote, and whether a change of it was cut."""

    def command(self) -> str:
        current, applied = shlex.quote(DAEMON_JSON), shlex.quote(DAEMON_JSON_APPLIED)
        return (
            # The change is beside the file itself, which may be somewhere else: templates/apply-daemon-json.sh.j2.
            f'if [ -e "$(readlink -m {current}).old" ]; then echo unfinished; fi; '
            f"for file in {current} {applied}; do "
            '[ ! -f "$file" ] || echo "$file $(base64 --wrap=0 "$file")"; done; echo read'
        )

    def process(self, output: list[str]) -> DaemonJsonFiles:
        def text(path: str) -> str:
            encoded = "".join(line.removeprefix(f"{path} ") for line in output if line.startswith(f"{path} "))
            found = file_format.decode(base64.b64decode(encoded))
            # Any other exception would end the run for every host.
            try:
                wrong = [f"{name} ({kind})" for name, kind in file_format.wrong_types(file_format.parse(found))]
            except ValueError as error:
                raise FactProcessError(f"{path} is {error}; it was not touched. Correct it, or remove it.") from error
            if wrong:
                raise FactProcessError(f"{path} needs other types of values: {', '.join(wrong)}; it was not touched.")
            return found

        return DaemonJsonFiles(text(DAEMON_JSON), text(DAEMON_JSON_APPLIED), unfinished="unfinished" in output)


@operation()
def daemon_json(ours: Json) -> Generator[StringCommand, None, None]:
    """Put this daemon.json in force, and have Docker run with it where Docker is installed.

    Args:
        ours: the keys of this project and of its settings.
    """
    files: DaemonJsonFiles | None = host.get_fact(DaemonJson)
    if files is None:
        yield refusal("daemon.json could not be read; it was not touched")
        return
    current, applied = file_format.parse(files.current), file_format.parse(files.applied)
    result = wanted(ours, current, applied)
    content = _text(result)
    if content == files.current and _text(ours) == files.applied and not files.unfinished:
        host.noop("daemon.json is in force")
        return
    # Log names only: values may be secrets.
    if not files.unfinished and (changed := list(differences(applied, current))):
        host.log(f"daemon.json: others have changed our keys, and this run restores them: {'; '.join(changed)}")
    if replaced := list(_replaced(without(current, applied), ours)):
        host.log(f"daemon.json: our keys replace keys of the host's own: {', '.join(replaced)}")
    if own := list(names(without(result, ours))):
        host.log(f"daemon.json: keys of the host's own stay: {', '.join(own)}")
    gpu.warn_before("Docker is restarted")
    yield _apply(files, content, ours)


@operation()
def remove_our_keys() -> Generator[StringCommand, None, None]:
    """Remove our keys from daemon.json except those that GPUs need, and have Docker run with the rest."""
    files: DaemonJsonFiles | None = host.get_fact(DaemonJson)
    if files is None:
        yield refusal("daemon.json could not be read; it was not touched")
        return
    if not files.applied:
        host.noop("daemon.json has no key of ours")
        return
    applied = file_format.parse(files.applied)
    gpu.warn_before("Docker is restarted")
    rest = wanted(_keys_for_gpus(applied), file_format.parse(files.current), applied)
    yield _apply(files, _text(rest), {})


def _keys_for_gpus(keys: Json) -> Json:
    """Return those of our keys that containers with GPUs need."""
    if "nvidia" not in keys.get("runtimes", {}):
        return {}
    kept: Json = {"runtimes": {"nvidia": keys["runtimes"]["nvidia"]}, "features": {"cdi": True}}
    return kept | ({"default-runtime": "nvidia"} if keys.get("default-runtime") == "nvidia" else {})


def _apply(files: DaemonJsonFiles, content: str, ours: Json) -> StringCommand:
    """Return the command that puts a daemon.json in force, or restores the old one."""
    script = render(
        "apply-daemon-json.sh.j2",
        path=DAEMON_JSON,
        applied=DAEMON_JSON_APPLIED,
        before=DAEMON_JSON + BEFORE,
        keep_before=not files.applied,
        ours=_text(ours),
        start_timeout=START_TIMEOUT,
    )
    # Through standard input: every user can read a command line, and the host's own keys may hold a password.
    return StringCommand(script, _stdin=content)


def _text(keys: Json) -> str:
    return json.dumps(keys, indent=4, sort_keys=True) + "\n"


def configure(settings: Settings, plan: Plan) -> None:
    """Put daemon.json in force, with the keys that follow from settings and plan."""
    daemon_json(
        name="daemon.json: Docker's configuration is in force",
        ours=our_keys(
            settings,
            plan.size,
            containerd_store=plan.containerd_store,
            nvidia=plan.nvidia,
            log_driver=plan.log_driver,
        ),
    )
