"""Find the command lines on this host that have this host's Docker build, pull or load, and interrupt them."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NamedTuple

from bulkhead import procfs
from bulkhead.docker import command_lines
from bulkhead.docker.client_engine import works_here
from bulkhead.docker.command_lines import BUILD, DOCKER, PULL
from bulkhead.docker.engines import dockerd
from bulkhead.docker.redaction import redacted
from bulkhead.docker.standard_error import write_line
from bulkhead.storage.processes import Process

# Seconds that a Compose that stays with its containers may build.
_COMPOSE_BUILDS = 3600
# Seconds that docker may take to start its plugin. Until then it is not clear who builds, and where.
_STARTS_PLUGIN = 1.0


class Client(NamedTuple):
    """A command line on this host that makes Docker build, pull or load."""

    pid: int
    started: int  # clock ticks after the boot: a PID alone may be another process's by now
    words: str


def find_clients() -> tuple[list[Client], list[Client]]:
    """Return the clients that build, and those that pull or load; each list begins with the newest.

    Left out are those that work with another engine; those in containers, because to stop one there could stop its
    container; and Compose where it starts containers, because it would stop those that run already.
    """
    own = procfs.namespace("self", "pid")
    found: dict[str, list[Client]] = {BUILD: [], PULL: []}
    for pid, command in _commands_here().items():
        with contextlib.suppress(OSError):  # the process has ended
            client = _client(pid)
            is_settled = command.program != DOCKER or procfs.age(pid) >= _STARTS_PLUGIN
            if client and is_settled and not command.stays and procfs.namespace(pid, "pid") == own:
                found[command.does].append(client)
    for each in found.values():
        each.sort(key=lambda client: client.started, reverse=True)
    return found[BUILD], found[PULL]


def programs_that_build() -> list[Process]:
    """Return Docker's command lines that have this host's Docker build, also those in containers.

    They matter for classic builds, of which the engine shows nothing between two steps.
    """
    return [
        Process(pid, command.program)
        for pid, command in _commands_here().items()
        if command.does == BUILD and (not command.stays or procfs.age(pid) < _COMPOSE_BUILDS)
    ]


def _commands_here() -> dict[int, command_lines.DockerCommand]:
    """Return Docker's command lines that build or pull with this host's engine, by PID."""
    commands = {pid: found for pid in procfs.process_ids() if (found := command_lines.parse(procfs.command_line(pid)))}
    # docker starts its plugin, and compose starts buildx. They end with it: together they are one client.
    for pid in {procfs.parent(pid) for pid in commands} & commands.keys():
        del commands[pid]
    # A daemon that /proc hides may run: then only the clients' configuration says where they work.
    if not commands or not ((engine := dockerd()) or procfs.hides_others()):
        return {}
    return {
        pid: command for pid, command in commands.items() if not _is_podman(pid) and works_here(pid, command, engine)
    }


def _is_podman(pid: int) -> bool:
    """Return whether a process that is called docker is podman."""
    try:
        return os.path.basename(os.readlink(procfs.path(pid, "exe"))).startswith("podman")
    except OSError:
        return False


def _client(pid: int) -> Client | None:
    words = procfs.command_line(pid)
    return Client(pid, procfs.start_time(pid), redacted(words)) if words else None


def interrupt(client: Client, why: str) -> bool:
    """Write the reason to a client's terminal, and stop the client as Ctrl-C does.

    Returns:
        Whether the client was still there.
    """
    try:
        process = os.pidfd_open(client.pid)
    except ProcessLookupError:
        return False
    try:
        if _client(client.pid) != client:
            return False
        write_line(client.pid, why)
        signal.pidfd_send_signal(process, signal.SIGINT)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True
