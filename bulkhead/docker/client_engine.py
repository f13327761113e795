"""Decide which engine a client of Docker's works with, as docker itself decides it.

A client on this host can build somewhere else: on the engine of `--host`, of a context, or of a builder of buildx's.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead import procfs
from bulkhead.docker.command_lines import BUILD, BUILDX, DOCKER, parse, split
from bulkhead.docker.connections import is_connected
from bulkhead.files import read_foreign
from bulkhead.names import DOCKER_API

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bulkhead.docker.command_lines import DockerCommand

_DEFAULT_CONTEXT = "default"
_DEFAULT_HOST = "unix:///var/run/docker.sock"
# Drivers of buildx whose builder belongs to an engine: the engine itself, or a container of it. The others work on
# another machine, or with a BuildKit that is not Docker's.
_IN_CONTAINER = "docker-container"
_DRIVERS = ("", "docker", _IN_CONTAINER)
_FALSE = ("0", "f", "false")  # as Go reads it
_LARGEST = 2**20  # bytes of a configuration
_PATIENCE = 1.0  # seconds for the configuration, which may be on a file server that hangs

_reading: dict[int, threading.Thread] = {}  # clients whose configuration hangs, and who reads it


class Undecided(Exception):
    """A client's configuration does not say where the client works."""


class EngineChoice(NamedTuple):
    """The engine that a build would work with, if this process began it now."""

    is_here: bool | None  # whether it is this host's; None: that cannot be decided
    chosen_by: str  # the option, the variable, the context or the builder that chooses it; empty: nothing does
    container_builder: str  # the name of the builder, if that runs in a container of an engine; else empty


def choice_of(words: Sequence[str]) -> EngineChoice:
    """Return which engine a command line of Docker's that builds would work with."""
    command = parse([*words])
    assert command
    if is_forwarded := command.program == DOCKER:  # docker has buildx build, if there is one
        command = command._replace(program=BUILDX)
    is_forwarded = is_forwarded and split(words).path[0] not in ("buildx", "compose")
    client = _Client(os.getpid(), command, {**os.environ}, is_forwarded=is_forwarded)
    is_here = _is_configured_in_time(client)
    return EngineChoice(is_here, client.chosen_by, client.container_builder)


def works_here(pid: int, command: DockerCommand, dockerd: int) -> bool:
    """Return whether a client works with this host's engine. If that cannot be decided: False.

    Args:
        pid: the client's.
        dockerd: PID of the engine; 0: /proc hides it.
    """
    # A configuration can have changed since the client read it, but a client that works has a connection.
    connected = is_connected(pid, dockerd)
    if connected is False:
        return False
    configured = _is_configured_in_time(_Client(pid, command))
    return bool(connected) if configured is None else configured


def _is_configured_in_time(client: _Client) -> bool | None:
    """Return whether a client is configured for this host's engine; None if that cannot be found out in time."""
    found: list[bool] = []
    pid = client.pid

    def find() -> None:
        # What is unreadable, or has an unknown form, decides nothing.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, Undecided):
            found.append(any(_is_our_socket(pid, host) for host in client.hosts()))

    for ended in [each for each, reader in _reading.items() if not reader.is_alive()]:
        del _reading[ended]
    if pid in _reading:  # it would hang again, and the caller has other clients to ask for
        return None
    reader = threading.Thread(target=find, daemon=True)
    reader.start()
    reader.join(_PATIENCE)
    if reader.is_alive():
        _reading[pid] = reader
    return found[0] if found else None


def _is_our_socket(pid: int, host: str) -> bool:
    """Return whether an address that a process uses is the socket of this host's engine."""
    path = host.removeprefix("unix://")
    if not path.startswith("/"):
        return False
    try:
        return os.path.samefile(procfs.seen_by(pid, path), DOCKER_API)
    except OSError:
        return False


def _digest(name: str) -> str:
    import hashlib  # takes megabytes, and hardly any client needs it

    return hashlib.sha256(name.encode()).hexdigest()


class _Client:
    """A client, and the configuration that it reads.

    Args:
        environment: of the client; None: the process's.
        is_forwarded: whether docker would give the build to buildx, and has not done so yet.
    """

    def __init__(
        self, pid: int, command: DockerCommand, environment: dict[str, str] | None = None, *, is_forwarded: bool = False
    ) -> None:
        self.pid = pid
        self.chosen_by = self.container_builder = ""  # as in EngineChoice, once `hosts` was called
        self._command = command
        self._options = command.options
        self._environment = environment
        self._is_forwarded = is_forwarded
        self._directory = self._context = ""

    def hosts(self) -> list[str]:
        """Return the addresses of the engines that the client works with.

        Raises:
            OSError, ValueError, LookupError, TypeError, AttributeError, Undecided: its configuration does not say.
        """
        if self._environment is None:
            self._environment = procfs.environment(self.pid)
        configured = self._options.get("--config") or self._get("DOCKER_CONFIG")
        self._directory = configured or f"{self._home()}/.docker"
        self._context = self._current_context()
        command = self._command
        # docker itself gives a build to buildx, which is a process of its own. If there is none, docker builds in its
        # context: without buildx, and without BuildKit.
        is_plain = command.does != BUILD or command.program == DOCKER or self._get("DOCKER_BUILDKIT").lower() in _FALSE
        return [self._host(self._context)] if is_plain else self._hosts_of_builder()

    def _get(self, name: str) -> str:
        return (self._environment or {}).get(name, "")

    def _home(self) -> str:
        if home := self._get("HOME"):
            return home
        if os.stat(procfs.path(self.pid, ".")).st_uid == 0:
            return "/root"
        raise Undecided("HOME is not set")

    def _current_context(self) -> str:
        """Return the name of the context, by docker's order of precedence."""
        for by, context in (
            ("--context", self._options.get("--context")),
            ("--host", self._options.get("--host") and _DEFAULT_CONTEXT),
            ("DOCKER_HOST", self._get("DOCKER_HOST") and _DEFAULT_CONTEXT),
            ("DOCKER_CONTEXT", self._get("DOCKER_CONTEXT")),
        ):
            if context:
                self.chosen_by = by
                return context
        if context := self._config().get("currentContext"):
            self.chosen_by = f"the context {context} (`docker context use`)"
        return context or _DEFAULT_CONTEXT

    def _config(self) -> dict[str, Any]:
        """Return what docker's configuration file has."""
        config = self._read(self._directory, "config.json")
        return json.loads(config) if config else {}

    def _has_builder_alias(self) -> bool:
        """Return whether `docker buildx install` has made buildx what builds for docker, with the builder that it uses."""
        with contextlib.suppress(ValueError, AttributeError, TypeError):  # docker goes on without such a file
            return "builder" in (self._config().get("aliases") or {})
        return False

    def _host(self, context: str) -> str:
        """Return the address of a context."""
        if context == _DEFAULT_CONTEXT:
            return self._options.get("--host") or self._get("DOCKER_HOST") or _DEFAULT_HOST
        meta = self._read(self._directory, f"contexts/meta/{_digest(context)}/meta.json")
        return str(json.loads(meta)["Endpoints"]["docker"]["Host"])

    def _hosts_of_builder(self) -> list[str]:
        """Return the addresses of the engines of the builder that buildx uses."""
        name = self._options.get("--builder") or self._get("BUILDX_BUILDER")
        if name:
            self.chosen_by = "--builder" if self._options.get("--builder") else "BUILDX_BUILDER"
        elif self._is_forwarded and not self._has_builder_alias():
            name = self._context  # so that `docker build` makes an image here, whatever `docker buildx use` has chosen
        builder = self._builder(name) if name else self._current_builder()
        if builder is None:  # every context has a builder of its name
            return [self._host(name or self._context)]
        if not name:
            self.chosen_by = f"the builder {builder.get('Name', '')} (`docker buildx use`)"
        if builder.get("Driver", "") not in _DRIVERS:
            return []
        if builder.get("Driver") == _IN_CONTAINER:
            self.container_builder = str(builder.get("Name", ""))
        endpoints = [str(node["Endpoint"]) for node in builder["Nodes"]]
        return [endpoint if "://" in endpoint else self._host(endpoint) for endpoint in endpoints]

    def _builder(self, name: str) -> Any:
        """Return what buildx has stored of a builder; None if there is none of this name."""
        found = self._read(self._buildx(), f"instances/{name.lower()}") if "/" not in name else ""
        return json.loads(found) if found else None

    def _current_builder(self) -> Any:
        """Return the builder that `docker buildx use` has chosen; None: that of the context."""
        key = self._context if self._context != _DEFAULT_CONTEXT else self._host(_DEFAULT_CONTEXT)
        if current := self._read(self._buildx(), "current"):
            chosen = json.loads(current)
            is_chosen = chosen.get("Name") and (chosen.get("Global") or chosen.get("Key") == key)
            if is_chosen and ((builder := self._builder(chosen["Name"])) or chosen.get("Key") == key):
                return builder
        default = self._read(self._buildx(), f"defaults/{_digest(key)[:20]}")
        return self._builder(default) if default else None

    def _buildx(self) -> str:
        return self._get("BUILDX_CONFIG") or f"{self._directory}/buildx"

    def _read(self, directory: str, name: str) -> str:
        """Return the text of a file of the client's; empty if it is not there."""
        path = os.path.join(os.readlink(procfs.path(self.pid, "cwd")), directory, name)
        try:
            return read_foreign(procfs.seen_by(self.pid, path), _LARGEST)
        except FileNotFoundError:
            return ""
