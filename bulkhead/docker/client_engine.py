"""Decide whether a client of Docker's works with this host's engine, as docker itself decides where it works.

A client on this host can build somewhere else: on the engine of `--host`, of a context, or of a builder of buildx's.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from bulkhead import procfs
from bulkhead.docker.command_lines import BUILD, DOCKER
from bulkhead.docker.connections import is_connected
from bulkhead.files import read_foreign
from bulkhead.names import DOCKER_API

if TYPE_CHECKING:
    from bulkhead.docker.command_lines import DockerCommand

_DEFAULT_CONTEXT = "default"
_DEFAULT_HOST = "unix:///var/run/docker.sock"
# Drivers of buildx whose builder belongs to an engine: the engine itself, or a container of it. The others work on
# another machine, or with a BuildKit that is not Docker's.
_DRIVERS = ("", "docker", "docker-container")
_FALSE = ("0", "f", "false")  # as Go reads it
_LARGEST = 2**20  # bytes of a configuration
_PATIENCE = 1.0  # seconds for the configuration, which may be on a file server that hangs

_reading: dict[int, threading.Thread] = {}  # clients whose configuration hangs, and who reads it


class Undecided(Exception):
    """A client's configuration does not say where the client works."""


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
    configured = _is_configured_in_time(pid, command)
    return bool(connected) if configured is None else configured


def _is_configured_in_time(pid: int, command: DockerCommand) -> bool | None:
    """Return whether a client is configured for this host's engine; None if that cannot be found out in time."""
    found: list[bool] = []

    def find() -> None:
        # What is unreadable, or has an unknown form, decides nothing.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, Undecided):
            found.append(any(_is_our_socket(pid, host) for host in _Client(pid, command).hosts()))

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
    """A client, and the configuration that it reads."""

    def __init__(self, pid: int, command: DockerCommand) -> None:
        self._pid = pid
        self._command = command
        self._options = command.options
        self._environment = procfs.environment(pid)
        configured = self._options.get("--config") or self._environment.get("DOCKER_CONFIG")
        self._directory = configured or f"{self._home()}/.docker"
        self._context = self._current_context()

    def hosts(self) -> list[str]:
        """Return the addresses of the engines that the client works with."""
        command = self._command
        # docker itself gives a build to buildx, which is a process of its own. If there is none, docker builds in its
        # context: without buildx, and without BuildKit.
        is_plain = command.does != BUILD or command.program == DOCKER or self._get("DOCKER_BUILDKIT").lower() in _FALSE
        return [self._host(self._context)] if is_plain else self._hosts_of_builder()

    def _get(self, name: str) -> str:
        return self._environment.get(name, "")

    def _home(self) -> str:
        if home := self._get("HOME"):
            return home
        if os.stat(procfs.path(self._pid, ".")).st_uid == 0:
            return "/root"
        raise Undecided("HOME is not set")

    def _current_context(self) -> str:
        """Return the name of the context, by docker's order of precedence."""
        if context := self._options.get("--context"):
            return context
        if self._options.get("--host") or self._get("DOCKER_HOST"):
            return _DEFAULT_CONTEXT
        if context := self._get("DOCKER_CONTEXT"):
            return context
        config = self._read(self._directory, "config.json")
        return (json.loads(config).get("currentContext") if config else "") or _DEFAULT_CONTEXT

    def _host(self, context: str) -> str:
        """Return the address of a context."""
        if context == _DEFAULT_CONTEXT:
            return self._options.get("--host") or self._get("DOCKER_HOST") or _DEFAULT_HOST
        meta = self._read(self._directory, f"contexts/meta/{_digest(context)}/meta.json")
        return str(json.loads(meta)["Endpoints"]["docker"]["Host"])

    def _hosts_of_builder(self) -> list[str]:
        """Return the addresses of the engines of the builder that buildx uses."""
        name = self._options.get("--builder") or self._get("BUILDX_BUILDER")
        builder = self._builder(name) if name else self._current_builder()
        if builder is None:  # every context has a builder of its name
            return [self._host(name or self._context)]
        if builder.get("Driver", "") not in _DRIVERS:
            return []
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
        path = os.path.join(os.readlink(procfs.path(self._pid, "cwd")), directory, name)
        try:
            return read_foreign(procfs.seen_by(self._pid, path), _LARGEST)
        except FileNotFoundError:
            return ""
