"""Docker's units: whether they run, start them, wait until Docker answers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead.command import run
from bulkhead.names import CONTAINERD, DOCKER, DOCKER_API, DOCKER_SOCKET
from bulkhead.procfs import User

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bulkhead.docker.engine import Engine

PATIENCE = 10.0  # seconds that Docker, and systemd, may take to answer


def silence() -> str:
    """Why Docker cannot be talked to, in words; empty: it answers.

    Raises:
        PermissionError: this user may not ask.
    """
    deadline = time.monotonic() + PATIENCE
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(DOCKER_API)
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            connection.settimeout(max(deadline - time.monotonic(), 0.01))
            answer = connection.recv(100).split(b"\r\n")[0].decode(errors="replace")
    except PermissionError:
        raise
    except TimeoutError:
        return f"does not answer within {PATIENCE:g} s"
    except OSError as error:
        return f"does not answer: {error.strerror}"
    return "" if " 200 " in answer else f"does not answer as it should: {answer or 'nothing'}"


def docker_runs() -> bool:
    """Whether Docker is up. While it comes or goes, and after that, a word to its socket makes systemd start it."""
    command = ["systemctl", "is-active", DOCKER]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() in ("active", "reloading")


UNITS = (DOCKER_SOCKET, DOCKER, CONTAINERD)
START_TIMEOUT = 180  # seconds that Docker may take to answer after its start


def start_docker(engine: Engine) -> None:
    """Start it, also after starts that have failed, and wait until it answers.

    Raises:
        Failed: it does not start.
        EngineError: it does not answer.
    """
    subprocess.run(["systemctl", "reset-failed", *UNITS], stderr=subprocess.DEVNULL, check=False)
    run("systemctl", "start", CONTAINERD, DOCKER, timeout=START_TIMEOUT)  # Docker's unit itself has no limit
    engine.wait(START_TIMEOUT)


def shims() -> list[User]:
    """What keeps containers running, of this host's containerd: those of nested hosts have other process namespaces."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text().strip()
            if name.startswith("containerd-shim") and os.readlink(process / "ns/pid") == os.readlink(
                "/proc/self/ns/pid"
            ):
                found.append(User(int(process.name), name, writes=False))
    return found


def is_going_down() -> bool:
    """Whether the host is being shut down: systemd starts nothing any more."""
    done = subprocess.run(["systemctl", "is-system-running"], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "stopping"


def loaded_units(units: Sequence[str]) -> list[str]:
    """Those of the units that are there: a Docker of somebody's own may have no socket."""
    states = run("systemctl", "show", "--property=LoadState", "--value", *units).split()
    return [unit for unit, state in zip(units, states, strict=True) if state != "not-found"]
