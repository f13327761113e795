"""After this, daemon.json is this project's: log limits, overlay2, BuildKit with its garbage collection, live-restore.

One owner. The keys of the setting ``daemon_json`` are merged in; keys that were on the host before us stay. A file that
Docker does not come back with is taken back, and so is Docker.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import FactBase, FactProcessError, StringCommand, operation

from pyinfra_lvm.operations import refusal
from settings.model import Settings
from tasks.preflight.plan import Plan
from tasks.support import gpu
from tasks.support.files import render
from tasks.support.paths import BEFORE, DAEMON_JSON, DAEMON_JSON_APPLIED

START_TIMEOUT = 180  # seconds that Docker may take to start: a host that restarts many containers is slow
Json = dict[str, Any]


def our_keys(settings: Settings, volume_bytes: int, *, containerd_store: bool = False, nvidia: bool = False) -> Json:
    """What this project itself sets, with the user's own keys of ``daemon_json`` merged in.

    Args:
        volume_bytes: size of Docker's volume, which the build cache's limits are a part of.
        containerd_store: the engine has its images in containerd's store, and keeps them there.
        nvidia: NVIDIA's runtime is there: the same keys as `nvidia-ctk runtime configure` writes, and CDI.
    """
    build_cache = settings.build_cache_size.bytes_of(volume_bytes)
    ours: Json = json.loads(
        render(
            "daemon.json.j2",
            log_max_size=settings.log_max_size,
            log_max_file=settings.log_max_file,
            live_restore=settings.live_restore,
            build_cache_mib=build_cache // 2**20,
            volume_mib=volume_bytes // 2**20,
            containerd_store=containerd_store,
            nvidia=nvidia,
            nvidia_default_runtime=settings.nvidia_default_runtime,
        )
    )
    return merged(ours, settings.daemon_json)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """``base`` with ``over`` laid on it, object by object; anything else of ``over`` replaces what was there."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def without(keys: Mapping[str, Any], drop: Mapping[str, Any]) -> Json:
    """``keys`` less every key of ``drop``, object by object; objects that this empties go too."""
    result: Json = {}
    for key, value in keys.items():
        if key not in drop:
            result[key] = value
        elif isinstance(value, dict) and isinstance(drop[key], dict) and (rest := without(value, drop[key])):
            result[key] = rest
    return result


def wanted(ours: Json, current: Json, applied: Json) -> Json:
    """The file to have: ours, and what others have put into the present one.

    A three-way merge. A key that stands in the present file and that we never wrote is somebody's own and stays; one
    that we wrote (``applied``) and no longer want goes; where both have a say, ours holds.
    """
    others = without(current, applied)
    # A runtime is one thing: half of theirs and half of ours would be none.
    set_by_us = ours.get("runtimes", {}).keys() | applied.get("runtimes", {}).keys()
    theirs = {name: there for name, there in others.pop("runtimes", {}).items() if name not in set_by_us}
    result = merged(others | ({"runtimes": theirs} if theirs else {}), ours)
    default = result.get("default-runtime")
    lost = current.get("runtimes", {}).keys() - result.get("runtimes", {}).keys()
    # Docker does not start with one that it does not know.
    return without(result, {"default-runtime": default}) if default in lost else result


def names(keys: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The name of every value, with those of the objects that it is in.

    >>> list(names({"features": {"cdi": True}, "debug": True}))
    ['features.cdi', 'debug']
    """
    for key, value in keys.items():
        if isinstance(value, dict) and value:
            yield from names(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def differences(ours: Mapping[str, Any], current: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """What others have done to our keys, key by key, in words.

    >>> list(differences({"features": {"buildkit": True}, "a": 1}, {"features": {"cdi": True}, "a": 2}))
    ['features.buildkit is gone', 'a is not as it was written']
    """
    for key, value in ours.items():
        there = current.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            yield from differences(value, there, f"{above}{key}.")
        elif key not in current:
            yield from (f"{name} is gone" for name in names({key: value}, above))
        elif there != value:
            yield f"{above}{key} is not as it was written"


def _replaced(others: Mapping[str, Any], ours: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Keys of somebody's own that ours take the place of."""
    for key in sorted(others.keys() & ours.keys()):
        theirs, value = others[key], ours[key]
        if isinstance(theirs, dict) and isinstance(value, dict) and above != "runtimes.":
            yield from _replaced(theirs, value, f"{above}{key}.")
        elif theirs != value:
            yield f"{above}{key}"


@dataclass(frozen=True)
class DaemonJsonFiles:
    current: str = ""
    applied: str = ""  # the keys of ours that are in it since the last change that Docker came back with
    unfinished: bool = False  # a change was begun, and cut before Docker had come back


class DaemonJson(FactBase[DaemonJsonFiles]):
    """daemon.json, which of its keys we wrote, and whether a change of it was cut."""

    def command(self) -> str:
        current, applied = shlex.quote(DAEMON_JSON), shlex.quote(DAEMON_JSON_APPLIED)
        return (
            f"if [ -e {current}.old ]; then echo unfinished; fi; "
            # awk, not sed: a last line without its newline must not swallow the next file's.
            f"awk '{{ print \"current \" $0 }}' {current} 2>/dev/null; "
            f"awk '{{ print \"applied \" $0 }}' {applied} 2>/dev/null; echo read"
        )

    def process(self, output: list[str]) -> DaemonJsonFiles:
        def text(prefix: str, path: str) -> str:
            found = "".join(line.removeprefix(prefix) + "\n" for line in output if line.startswith(prefix))
            try:
                readable = isinstance(json.loads(found or "{}"), dict)
            except ValueError:
                readable = False
            if not readable:
                # Any other exception would end the run for every host.
                raise FactProcessError(f"{path} is not a JSON object; it was not touched. Correct it, or remove it.")
            return found

        return DaemonJsonFiles(
            text("current ", DAEMON_JSON), text("applied ", DAEMON_JSON_APPLIED), unfinished="unfinished" in output
        )


@operation()
def daemon_json(ours: Json) -> Generator[StringCommand, None, None]:
    """Have this daemon.json in force, with Docker running on it where Docker is installed.

    Args:
        ours: the keys of this project and of its settings.
    """
    files: DaemonJsonFiles | None = host.get_fact(DaemonJson)
    if files is None:
        yield refusal("daemon.json could not be read; it was not touched")
        return
    current, applied = json.loads(files.current or "{}"), json.loads(files.applied or "{}")
    result = wanted(ours, current, applied)
    content = _text(result)
    if content == files.current and _text(ours) == files.applied and not files.unfinished:
        host.noop("daemon.json is in force")
        return
    # Names alone: values can be secrets.
    if not files.unfinished and (changed := list(differences(applied, current))):
        host.log(f"daemon.json: others have changed what this project wrote; it is put right: {'; '.join(changed)}")
    if replaced := list(_replaced(without(current, applied), ours)):
        host.log(f"daemon.json: keys of the host's own are replaced: {', '.join(replaced)}")
    if own := list(names(without(result, ours))):
        host.log(f"daemon.json: keys of the host's own stay: {', '.join(own)}")
    gpu.say_before("Docker is restarted")
    yield _apply(files, content, ours)


@operation()
def release() -> Generator[StringCommand, None, None]:
    """Have none of our keys in daemon.json any more but what GPUs need, with Docker running on what is left of it."""
    files: DaemonJsonFiles | None = host.get_fact(DaemonJson)
    if files is None:
        yield refusal("daemon.json could not be read; it was not touched")
        return
    if not files.applied:
        host.noop("no key of ours is in daemon.json")
        return
    applied = json.loads(files.applied)
    gpu.say_before("Docker is restarted")
    rest = wanted(_of_gpus(applied), json.loads(files.current or "{}"), applied)
    yield _apply(files, _text(rest), {})


def _of_gpus(keys: Json) -> Json:
    """Those of our keys that containers with GPUs cannot do without."""
    if "nvidia" not in keys.get("runtimes", {}):
        return {}
    kept: Json = {"runtimes": {"nvidia": keys["runtimes"]["nvidia"]}, "features": {"cdi": True}}
    return kept | ({"default-runtime": "nvidia"} if keys.get("default-runtime") == "nvidia" else {})


def _apply(files: DaemonJsonFiles, content: str, ours: Json) -> StringCommand:
    """The command that puts a daemon.json in force, or the old one back."""
    script = render(
        "apply-daemon-json.sh.j2",
        path=DAEMON_JSON,
        applied=DAEMON_JSON_APPLIED,
        before=DAEMON_JSON + BEFORE,
        keep_before=not files.applied,
        ours=_text(ours),
        start_timeout=START_TIMEOUT,
    )
    # By standard input: a command line is for everybody to read, and the host's own keys may hold a password.
    return StringCommand(script, _stdin=content)


def _text(keys: Json) -> str:
    return json.dumps(keys, indent=4, sort_keys=True) + "\n"


def configure(settings: Settings, plan: Plan) -> None:
    daemon_json(
        name="daemon.json: Docker's configuration is in force",
        ours=our_keys(settings, plan.size, containerd_store=plan.containerd_store, nvidia=plan.nvidia),
    )
