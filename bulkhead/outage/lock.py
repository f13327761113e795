"""Let only one command at a time change the host, and none while a move or a rollback is unfinished."""

from __future__ import annotations

import contextlib
import fcntl
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.errors import Failed
from bulkhead.outage import journal

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def lock(*, wait: bool = False) -> Iterator[None]:
    """Hold the lock of commands that change the host.

    Args:
        wait: until another command releases it.

    Raises:
        Failed: another command holds it.
    """
    state.make_volatile()
    with open(f"{state.VOLATILE}/lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Failed(
                "another bulkhead command is changing this host: try again when it has ended "
                "(`bulkhead relocate --join` waits for a move)"
            ) from None
        yield


def refuse_unfinished(*, but_stopped: bool = False) -> None:
    """Refuse to go on while a move of Docker's data or a rollback is unfinished.

    Args:
        but_stopped: accept a rollback that has stopped Docker and done nothing else: it can begin again.

    Raises:
        Failed: one is unfinished.
        ValueError: its journal cannot be read.
    """
    for path, what in ((journal.PATH, "move"), (journal.ROLLBACK, "rollback")):
        phase = journal.Journal.load(path).phase
        if phase in journal.UNFINISHED and not (but_stopped and (path, phase) == (journal.ROLLBACK, journal.STOPPING)):
            raise Failed(
                f"a {what} of Docker's data is not finished ({phase}): `bulkhead relocate --recover` finishes or undoes it"
            )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the lock, with no move and no rollback unfinished.

    Raises:
        Failed: another command holds the lock, or a move or a rollback is unfinished.
        ValueError: a journal cannot be read.
    """
    with lock():
        refuse_unfinished()
        yield
