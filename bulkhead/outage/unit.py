"""Run a move or a rollback as a systemd unit, so that it continues when the connection is lost and can be followed."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.errors import PROBLEMS
from bulkhead.login import Login
from bulkhead.names import PROGRAM
from bulkhead.outage import lock

if TYPE_CHECKING:
    from collections.abc import Callable

UNIT = "bulkhead-relocate.service"
RECOVERY = "bulkhead-recover.service"  # at boot, after a power cut
LOG = f"{state.VOLATILE}/relocate.log"
LOGIN = "BULKHEAD_LOGIN"  # in the unit's environment: the login that began the move

# systemd runs the recovery after the program has ended, even by SIGKILL, and gives it all the time that it needs.
_PROPERTIES = ("Type=exec", "TimeoutStopSec=infinity", f"ExecStopPost={PROGRAM} relocate --recover")
_POLL_INTERVAL = 500  # milliseconds between two reads of the log


def begin(*command: str) -> None:
    """Start the unit with a command of bulkhead, unless a move or a recovery is running.

    Raises:
        subprocess.CalledProcessError: systemd refuses.
    """
    if is_under_way():
        return
    Path(LOG).unlink(missing_ok=True)
    subprocess.run(["systemctl", "reset-failed", UNIT], stderr=subprocess.DEVNULL, check=False)
    properties = [f"--property={setting}" for setting in _PROPERTIES]
    # The unit belongs to no login, and must know which login may stand in a directory that is moved.
    properties.append(f"--setenv={LOGIN}={Login.own()}")
    subprocess.run(["systemd-run", "--quiet", f"--unit={UNIT}", *properties, PROGRAM, *command], check=True)


def in_the_unit(work: Callable[[], None]) -> int:
    """Do the unit's work with the lock held, and report a failure to those who follow the unit.

    Returns:
        The exit code.
    """
    try:
        with lock.lock():
            work()
    except PROBLEMS as error:
        say(f"failed: {error}")
        return 1
    return 0


def say(line: str) -> None:
    """Print a line, for the journal of the unit, and append it to the log that `follow` reads."""
    print(line, flush=True)
    # A /run that is full must not end an outage half-way.
    with contextlib.suppress(OSError):
        state.make_volatile()
        with open(LOG, "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{line}\n")


def follow() -> None:
    """Print what the unit says, until the unit has ended or nobody reads any more."""
    position = 0
    listener = select.poll()
    listener.register(sys.stdout.fileno(), 0)
    while True:
        ended = not is_under_way()
        with contextlib.suppress(FileNotFoundError), open(LOG, errors="replace") as log:
            log.seek(position)
            sys.stdout.write(log.read())
            sys.stdout.flush()
            position = log.tell()
        if ended:
            return
        # poll reports an error on standard output as soon as the connection is gone. The unit continues.
        if listener.poll(_POLL_INTERVAL):
            return


def is_under_way(*units: str) -> bool:
    """Return whether one of the units, by default the move's or the recovery's, is running."""
    states = subprocess.run(
        ["systemctl", "is-active", *(units or (UNIT, RECOVERY))], capture_output=True, text=True, check=False
    ).stdout
    return any(state in ("active", "activating", "deactivating", "reloading") for state in states.split())


def has_failed() -> bool:
    """Return whether the unit's last run failed."""
    return subprocess.run(["systemctl", "is-failed", "--quiet", UNIT], check=False).returncode == 0
