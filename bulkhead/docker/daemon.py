"""Docker's units and its daemon: whether they run, and whether Docker answers."""

from __future__ import annotations

import _socket  # socket is made of it, and wraps it so thickly that its import would cost a twentieth of a check
import contextlib
import time

from bulkhead import procfs, systemd
from bulkhead.command import run
from bulkhead.docker import cgroups
from bulkhead.names import CONTAINERD, DOCKER, DOCKER_API, DOCKER_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UNITS = (DOCKER_SOCKET, DOCKER, CONTAINERD)
PATIENCE = 10.0  # seconds that Docker, and systemd, may take to answer


def silence() -> str:
    """Return why Docker does not answer, as the rest of a sentence that begins with Docker; empty if it answers.

    Raises:
        PermissionError: this user may not talk to Docker.
    """
    return ask("_ping")[0]


def data_root() -> str:
    """Return the directory that the running Docker keeps its data in.

    Raises:
        PermissionError: this user may not talk to Docker.
        ValueError: Docker does not say it. The message is for people.
    """
    import json

    silence, answer = ask("info", whole=True)
    try:
        root = json.loads(answer.partition(b"\r\n\r\n")[2])["DockerRootDir"]
        if not silence and isinstance(root, str):
            return root
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"Docker does not say where its data is: it {silence or 'answers something else'}")


def ask(path: str, *, whole: bool = False) -> tuple[str, bytes]:
    """Return why Docker does not answer, as `silence` does, and its answer.

    Args:
        whole: wait for all of the answer; otherwise for its first line.

    Raises:
        PermissionError: this user may not talk to Docker.
    """
    deadline = time.monotonic() + PATIENCE
    answer = b""
    try:
        with contextlib.closing(_socket.socket(_socket.AF_UNIX)) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(DOCKER_API)
            connection.sendall(f"GET /{path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            while whole or not answer:
                connection.settimeout(max(deadline - time.monotonic(), 0.01))
                if not (part := connection.recv(65536)):
                    break
                answer += part
    except PermissionError:
        raise
    except TimeoutError:
        return f"does not answer within {PATIENCE:g} s", answer
    except OSError as error:
        return f"does not answer: {error.strerror}", answer
    first = answer.split(b"\r\n")[0].decode(errors="replace")
    return ("" if " 200 " in first else f"does not answer as it should: {first or 'nothing'}"), answer


def docker_runs() -> bool:
    """Return whether Docker runs; not while it starts or stops, nor when systemd does not answer.

    Ask before every request to Docker that must not start it: systemd listens on Docker's socket.
    """
    try:
        return systemd.is_running(DOCKER)
    except OSError:
        return False


def process_of(unit: str, program: str) -> int:
    """Return the PID of a daemon of this host; 0 if it does not run, or /proc hides it from this user.

    Args:
        unit: that usually has the daemon's process, and so is looked at first.
        program: the daemon's name.
    """
    for pid in _candidates(unit):
        # A daemon in a container has another parent.
        if procfs.name(pid) == program and procfs.parent(pid) == 1:
            return pid
    return 0


def _candidates(unit: str) -> Iterator[int]:
    yield from cgroups.processes_of(unit)
    yield from procfs.process_ids()


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
