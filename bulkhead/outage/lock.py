"""Let one command at a time change the host."""

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
    """One at a time changes the host.

    Args:
        wait: until the other has ended.

    Raises:
        Failed: another is at work.
    """
    state.make_volatile()
    with open(f"{state.VOLATILE}/lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Failed(
                "another bulkhead is at work on Docker's data: try again when it has ended "
                "(`bulkhead relocate --join` waits for a move)"
            ) from None
        yield


def refuse_unfinished(*, but_stopped: bool = False) -> None:
    """See that no move of Docker's data, and no rollback, waits to be finished.

    Args:
        but_stopped: let a rollback pass that has stopped Docker and no more: it can begin again.

    Raises:
        Failed: one does.
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
    """One at a time changes the host, and none while a move or a rollback waits to be finished.

    Raises:
        Failed: another is at work, or one waits.
        ValueError: its journal cannot be read.
    """
    with lock():
        refuse_unfinished()
        yield
