"""After this, daemon.json is this project's: log limits, overlay2, BuildKit with its garbage collection, live-restore.

The file has one owner. The keys of the setting ``daemon_json`` are merged in; keys that the host had before stay. If
Docker does not start with the new file, the old one comes back, and Docker runs with that.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import FactBase, FactProcessError, StringCommand

from bulkhead.names import BEFORE
from pyinfra_lvm.collection import fact, operation
from pyinfra_lvm.operations import refusal
from settings import daemon_json as file_format
from settings.model import Settings
from tasks.preflight.daemon_json import planned_keys
from tasks.preflight.plan import Plan
from tasks.support import gpu
from tasks.support.daemon_keys import Json, is_in_force, text, wanted, without
from tasks.support.files import render, sent
from tasks.support.paths import DAEMON_JSON, DAEMON_JSON_APPLIED
from tasks.support.start_limit import start_limit


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
    exposed: bool = False  # every user of the host can read the file, or our copy of the keys


class DaemonJson(FactBase[DaemonJsonFiles]):
    """Return daemon.json, which of its keys this project wrote, whether a change was cut, and who can read it."""

    def command(self) -> str:
        current, applied = shlex.quote(DAEMON_JSON), shlex.quote(DAEMON_JSON_APPLIED)
        return (
            # The change is beside the file itself, which may be somewhere else: templates/apply-daemon-json.sh.j2.
            f'file={current}; [ ! -L "$file" ] || file=$(readlink -m "$file"); [ ! -e "$file.old" ] || echo unfinished; '
            f'[ -z "$(find -L {current} {applied} -maxdepth 0 -perm -o+r 2>/dev/null)" ] || echo exposed; '
            f"for file in {current} {applied}; do "
            '[ ! -f "$file" ] || { printf "%s " "$file"; base64 --wrap=0 "$file"; echo; }; done; echo read'
        )

    def process(self, output: list[str]) -> DaemonJsonFiles:
        def text_of(path: str) -> str:
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

        return DaemonJsonFiles(
            text_of(DAEMON_JSON),
            text_of(DAEMON_JSON_APPLIED),
            unfinished="unfinished" in output,
            exposed="exposed" in output,
        )


@operation()
def daemon_json(
    ours: Json, private: bool, docker_start_limit: int | None = None
) -> Generator[StringCommand, None, None]:
    """Put this daemon.json in force, and have Docker run with it where Docker is installed.

    Args:
        ours: the keys of this project and of its settings.
        private: they may hold a secret: nobody else than the file's owner and group may read it.
        docker_start_limit: seconds that Docker may take to start; None: "auto".
    """
    files: DaemonJsonFiles | None = fact(DaemonJson)
    if files is None:
        yield refusal("daemon.json could not be read; it was not touched")
        return
    current, applied = file_format.parse(files.current), file_format.parse(files.applied)
    result = wanted(ours, current, applied)
    if is_in_force(ours, files.current, files.applied) and not files.unfinished:
        if private and files.exposed:
            yield StringCommand("chmod", "o=", DAEMON_JSON, DAEMON_JSON_APPLIED)
        else:
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
    yield _apply(files, text(result), ours, docker_start_limit, private=private)


@operation()
def remove_our_keys(docker_start_limit: int | None = None) -> Generator[StringCommand, None, None]:
    """Remove our keys from daemon.json except those that GPUs and images need, and have Docker run with the rest.

    Args:
        docker_start_limit: seconds that Docker may take to start; None: "auto".
    """
    files: DaemonJsonFiles | None = fact(DaemonJson)
    if files is None:
        yield refusal("daemon.json could not be read; it was not touched")
        return
    if not files.applied:
        host.noop("daemon.json has no key of ours")
        return
    applied = file_format.parse(files.applied)
    gpu.warn_before("Docker is restarted")
    rest = wanted(_keys_that_stay(applied), file_format.parse(files.current), applied)
    yield _apply(files, text(rest), {}, docker_start_limit)


def _keys_that_stay(keys: Json) -> Json:
    """Return those of our keys that containers with GPUs need, and the one without which images would be hidden."""
    # The host had it before us. Without it, Docker before 29 looks for images and containers in overlay2's store.
    in_containerd = keys.get("features", {}).get("containerd-snapshotter") is True
    features = {"containerd-snapshotter": True} if in_containerd else {}
    kept: Json = {}
    if "nvidia" in keys.get("runtimes", {}):
        kept["runtimes"] = {"nvidia": keys["runtimes"]["nvidia"]}
        features["cdi"] = True
        if keys.get("default-runtime") == "nvidia":
            kept["default-runtime"] = "nvidia"
    return kept | ({"features": features} if features else {})


def _apply(
    files: DaemonJsonFiles, content: str, ours: Json, limit: int | None, *, private: bool = False
) -> StringCommand:
    """Return the command that puts a daemon.json in force, or restores the old one."""
    script = render(
        "apply-daemon-json.sh.j2",
        path=DAEMON_JSON,
        applied=DAEMON_JSON_APPLIED,
        before=DAEMON_JSON + BEFORE,
        keep_before=not files.applied,
        private=private,
        start_limit=start_limit(limit),
    )
    # Through standard input: every user can read a command line, and the keys may hold a password.
    return StringCommand(script, _stdin=sent(content, text(ours)))


def configure(settings: Settings, plan: Plan) -> None:
    """Put daemon.json in force, with the keys that follow from settings and plan."""
    daemon_json(
        name="daemon.json: Docker's configuration is in force",
        ours=planned_keys(settings, plan),
        private=bool(settings.daemon_json),
        docker_start_limit=settings.docker_start_limit,
    )
