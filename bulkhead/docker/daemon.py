"""Docker's units and its daemon: whether they run, and whether Docker answers."""

from __future__ import annotations

import _socket  # socket is made of it, and wraps it so thickly that its import would cost a twentieth of a check
import contextlib
import time
from typing import TYPE_CHECKING

from bulkhead import systemd
from bulkhead.command import run
from bulkhead.names import CONTAINERD, DOCKER, DOCKER_API, DOCKER_SOCKET

if TYPE_CHECKING:
    from collections.abc import Sequence

UNITS = (DOCKER_SOCKET, DOCKER, CONTAINERD)
PATIENCE = 10.0  # seconds that Docker, and systemd, may take to answer


def silence() -> str:
    """Return why Docker does not answer, as the rest of a sentence that begins with Docker; empty if it answers.

    Raises:
        PermissionError: this user may not talk to Docker.
    """
    deadline = time.monotonic() + PATIENCE
    try:
        with contextlib.closing(_socket.socket(_socket.AF_UNIX)) as connection:
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
    """Return whether Docker runs; not while it starts or stops, nor when systemd does not answer.

    Ask before every request to Docker that must not start it: systemd listens on Docker's socket.
    """
    try:
        return systemd.is_running(DOCKER)
    except OSError:
        return False


def is_shutting_down() -> bool:
    """Return whether the host is being shut down: then systemd starts nothing any more."""
    import subprocess

    done = subprocess.run(["systemctl", "is-system-running"], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "stopping"


def existing_units(units: Sequence[str]) -> list[str]:
    """Return those of the units that exist. A Docker that somebody else has installed may lack a socket unit.

    Raises:
        Failed: systemd does not answer.
    """
    states = run("systemctl", "show", "--property=LoadState", "--value", *units).split()
    return [unit for unit, state in zip(units, states, strict=True) if state != "not-found"]
