"""After this, data is on its volume. The host's own program moves it, and goes on if this run is cut."""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra.api import FunctionCommand, Host, State, StringCommand

from bulkhead.names import PROGRAM
from pyinfra_lvm.collection import operation
from tasks.support import connection


@operation()
def relocate(directories: list[str]) -> Generator[FunctionCommand, None, None]:
    """Move directories onto their volumes, or follow the move that is under way, and show its progress.

    Args:
        directories: mount points of extra volumes, and /var/lib/docker for Docker's data.
    """
    yield FunctionCommand(_relocate, [directories], {})


def _relocate(state: State, host: Host, directories: list[str]) -> bool:
    del state  # pyinfra passes state and host to a function with parameters of these names
    return connection.follow(host, f"{PROGRAM} relocate {shlex.join(directories)}")


@operation()
def finalize() -> Generator[StringCommand, None, None]:
    """Remove the old data that a move has left beneath the mounts, once Docker runs whole on the volume."""
    yield StringCommand(f"{PROGRAM} finalize --yes")


def join(host: Host) -> None:
    """Wait for a move that is under way, and show its progress. The next facts show whether it succeeded."""
    connection.follow(host, f"{PROGRAM} relocate --join")
