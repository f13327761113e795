"""The move as a unit of systemd: it goes on when the connection that began it is lost, and can be joined."""

from __future__ import annotations

import contextlib
import fcntl
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bulkhead import journal, state
from bulkhead.system import Failed, Login

UNIT = "bulkhead-relocate.service"
RECOVERY = "bulkhead-recover.service"  # at boot, after a power cut
LOG = f"{state.VOLATILE}/relocate.log"
LOGIN = "BULKHEAD_LOGIN"  # in the unit's environment: the login that began the move

# After the program's end, also by SIGKILL, what it left is recovered; nothing there is in a hurry.
_PROPERTIES = ("Type=exec", "TimeoutStopSec=infinity", "ExecStopPost=/usr/local/bin/bulkhead relocate --recover")


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


def say(line: str) -> None:
    """Tell those who watch, and the journal."""
    print(line, flush=True)
    state.make_volatile()
    with open(LOG, "a", encoding="utf-8", errors="backslashreplace") as log:
        log.write(f"{line}\n")


def is_under_way(*units: str) -> bool:
    """Whether one of the units, by default both, is at work."""
    states = subprocess.run(
        ["systemctl", "is-active", *(units or (UNIT, RECOVERY))], capture_output=True, text=True, check=False
    ).stdout
    return any(state in ("active", "activating", "deactivating", "reloading") for state in states.split())


def has_failed() -> bool:
    """Whether what was begun last went wrong."""
    return subprocess.run(["systemctl", "is-failed", "--quiet", UNIT], check=False).returncode == 0


def begin(*command: str) -> None:
    """Start the unit with a command of bulkhead's, unless it is there.

    Raises:
        subprocess.CalledProcessError: systemd refuses.
    """
    if is_under_way():
        return
    Path(LOG).unlink(missing_ok=True)
    subprocess.run(["systemctl", "reset-failed", UNIT], stderr=subprocess.DEVNULL, check=False)
    properties = [f"--property={setting}" for setting in _PROPERTIES]
    # Who may stand in a directory that moves: the unit itself belongs to no login.
    properties.append(f"--setenv={LOGIN}={Login.own()}")
    subprocess.run(
        ["systemd-run", "--quiet", f"--unit={UNIT}", *properties, "/usr/local/bin/bulkhead", *command], check=True
    )


def follow() -> None:
    """Print what the unit says until it has ended."""
    seen = 0
    listener = select.poll()
    listener.register(sys.stdout.fileno(), 0)
    while True:
        ended = not is_under_way()
        with contextlib.suppress(FileNotFoundError), open(LOG, errors="replace") as log:
            log.seek(seen)
            sys.stdout.write(log.read())
            sys.stdout.flush()
            seen = log.tell()
        if ended:
            return
        # Standard output has an error as soon as nobody reads it any more: the connection is gone, the unit goes on.
        if listener.poll(500):
            return
