"""After this, data is on its volume: moved by the host's own program, which goes on if this run is cut."""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from bulkhead.names import PROGRAM
from tasks.support import connection


@operation()
def relocate(directories: list[str]) -> Generator[FunctionCommand, None, None]:
    """Move directories onto their volumes, or join the move that is under way, and show how far it is.

    Args:
        directories: of extra volumes, and /var/lib/docker for Docker's data.
    """
    yield FunctionCommand(_relocate, [directories], {})


def _relocate(state: State, host: Host, directories: list[str]) -> bool:
    del state  # pyinfra tells by its name what kind of function this is
    done, _ = connection.run(host, f"{PROGRAM} relocate {shlex.join(directories)}", show=True)
    return done


@operation()
def finalize() -> Generator[StringCommand, None, None]:
    """Remove the old data that a move has left beneath the stores: Docker has come back whole on the volume."""
    yield StringCommand(f"{PROGRAM} finalize --yes")


def join(host: Host) -> None:
    """Wait for a move that is under way, and show how far it is. It ends well or not: facts tell."""
    connection.run(host, f"{PROGRAM} relocate --join", show=True)
