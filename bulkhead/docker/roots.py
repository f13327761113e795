"""Where Docker and containerd keep their data: by the files that configure them, their command lines, and Docker's word."""

# A check imports this module.

from __future__ import annotations

import contextlib
import json
import os

from bulkhead import procfs
from bulkhead.docker import daemon
from bulkhead.names import CONTAINERD, CONTAINERD_STORE, DOCKER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from bulkhead.config import Config

DAEMON_JSON = "/etc/docker/daemon.json"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"


def off_the_volume(config: Config, *, docker_answers: bool) -> tuple[list[str], list[str]]:
    """Return what makes Docker or containerd keep data off the volume, and what cannot be read, both as sentences.

    Args:
        docker_answers: then it runs, and is asked too.
    """
    places = tuple(f"{place}/" for place in (config.volume_mount, *config.stores.values()))
    elsewhere, unread = [], []
    for source in (_of_daemon_json(), _of_containerd(docker_answers), _of_docker(docker_answers)):
        try:
            for what, root in source:
                if not f"{os.path.normpath(root)}/".startswith(places):
                    elsewhere.append(f"{what} puts data into {root}")
        except OSError as error:
            unread.append(f"{error.filename} cannot be read: {error.strerror}")
        except ValueError as error:
            unread.append(str(error))
    return elsewhere, unread


# -- Docker


def _of_daemon_json() -> Iterator[tuple[str, str]]:
    """Yield the file and each root in it. Docker uses that from its next start on.

    Raises:
        OSError, ValueError: the file cannot be read, by this user or by Docker.
    """
    try:
        with open(DAEMON_JSON, "rb") as file:
            keys = _parsed(file.read())
    except FileNotFoundError:
        return
    for name in ("data-root", "graph"):
        if root := keys.get(name):
            yield DAEMON_JSON, root


def _parsed(data: bytes) -> dict[str, Any]:
    """Return the keys of a daemon.json as dockerd reads it, with or without a byte order mark.

    settings.daemon_json decides the same: tests/unit/cases.py holds the cases for both.

    Raises:
        ValueError: dockerd does not start with this file.
    """
    try:
        is_wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16", "replace") if is_wide else data.removeprefix(b"\xef\xbb\xbf").decode()
        keys = json.loads(text.strip() or "{}", parse_constant=int)  # int refuses NaN, as dockerd does
        keys = {} if keys is None else keys
        if all(isinstance(keys.get(name, ""), str | None) for name in ("data-root", "graph")):
            return keys
    except (ValueError, AttributeError, RecursionError):
        pass
    raise ValueError(f"Docker does not start with {DAEMON_JSON}, because it cannot read it: correct that file")


def _of_docker(runs: bool) -> Iterator[tuple[str, str]]:
    """Yield the root that the running Docker uses: by its own word, or else by its command line.

    Raises:
        ValueError: neither says it.
    """
    if runs:
        try:
            root = daemon.data_root()
        except PermissionError:  # this user may not talk to Docker
            root = _option(_command_line(DOCKER, "dockerd"), "--data-root", "--graph", "-g")
        if root:
            yield "the running Docker", root


# -- containerd


def containerd_root() -> str:
    """Return the directory that the running containerd keeps its data in; its default where that cannot be read."""
    root = CONTAINERD_STORE
    with contextlib.suppress(OSError, ValueError):
        *_, (_, root) = _of_containerd(runs=True)
    return root


def _of_containerd(runs: bool) -> Iterator[tuple[str, str]]:
    """Yield the root of containerd's configuration with its file, and the one on the command line of a running containerd.

    Raises:
        OSError, ValueError: one of the files cannot be read, or there is no containerd.
    """
    words = _command_line(CONTAINERD, "containerd") if runs else []
    if root := _option(words, "--root", "-root"):
        yield "the running containerd", root
    found = None
    for file, lines in _configuration(_option(words, "--config", "-config", "-c") or CONTAINERD_CONFIG):
        for line in lines:
            name, _, value = line.partition("=")
            if name.strip(" \t\"'") == "root" and len(quoted := value.replace("'", '"').split('"')) > 1:
                found = file, quoted[1]  # a later file overrides an earlier one
    if found and found[1]:
        yield found


def _configuration(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield containerd's configuration and the files that it imports, each with its lines above the first table.

    In containerd's order (cmd/containerd/server/config/config.go, LoadConfig). tasks/preflight/host_script reads them too:
    tests/unit/cases.py holds the cases for both.

    Raises:
        OSError, ValueError: a file cannot be read.
    """
    pending, visited = [path], set()
    while pending:
        file = os.path.normpath(pending.pop(0))
        if file in visited:
            continue
        visited.add(file)
        try:
            with open(file, encoding="utf-8") as opened:
                lines = opened.read().splitlines()
        except FileNotFoundError:
            if file == path:  # then containerd has its defaults
                return
            raise
        except ValueError:
            raise ValueError(f"{file} cannot be read: it is not UTF-8") from None
        tables = (number for number, line in enumerate(lines) if line.lstrip().startswith("["))
        lines = lines[: next(tables, len(lines))]
        yield file, lines
        for imported in _imports(lines):
            imported = os.path.join(os.path.dirname(file), imported)
            if "*" in imported:
                import glob  # slow to import, and rarely needed

                pending += sorted(glob.glob(imported))
            else:
                pending.append(imported)


def _imports(lines: list[str]) -> Iterator[str]:
    """Yield the paths in the array `imports`, which can take several lines."""
    is_within = False
    for line in lines:
        rest = line
        if not is_within:
            name, _, rest = line.partition("=")
            is_within = name.strip(" \t\"'") == "imports"
        if is_within:
            for index, part in enumerate(rest.replace("'", '"').split('"')):
                if index % 2:
                    yield part
                elif "]" in part.partition("#")[0]:
                    return
                elif "#" in part:
                    break


# -- command lines


def _command_line(unit: str, program: str) -> list[str]:
    """Return the command line of a daemon of this host.

    Raises:
        ValueError: it is not found.
    """
    if words := procfs.command_line(daemon.process_of(unit, program)):
        return words
    if procfs.hides_others():
        why = "/proc hides the processes of others from this user (hidepid). Root can read it"
    else:
        why = f"no process of {unit} is found"
    raise ValueError(f"the command line of {program} cannot be read: {why}")


def _option(words: list[str], *names: str) -> str:
    """Return the value of an option in a command line; empty if it is not there.

    >>> _option(["dockerd", "-H", "fd://", "--data-root=/a"], "--data-root"), _option(["dockerd", "-g", "/b"], "-g")
    ('/a', '/b')
    """
    value = ""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name, is_joined, joined = word.partition("=")
        if name in names:
            value = joined if is_joined else following
    return value
