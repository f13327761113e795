"""The move as a unit of systemd: it goes on when the connection that began it is lost, and can be joined."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.errors import PROBLEMS
from bulkhead.names import PROGRAM
from bulkhead.outage import lock
from bulkhead.procfs import Login

if TYPE_CHECKING:
    from collections.abc import Callable


def in_the_unit(work: Callable[[], None]) -> int:
    """Do it as the only one; what goes wrong is told to those who watch."""
    try:
        with lock.lock():
            work()
    except PROBLEMS as error:
        say(f"failed: {error}")
        return 1
    return 0


UNIT = "bulkhead-relocate.service"
RECOVERY = "bulkhead-recover.service"  # at boot, after a power cut
LOG = f"{state.VOLATILE}/relocate.log"
LOGIN = "BULKHEAD_LOGIN"  # in the unit's environment: the login that began the move

# After the program's end, also by SIGKILL, what it left is recovered; nothing there is in a hurry.
_PROPERTIES = ("Type=exec", "TimeoutStopSec=infinity", f"ExecStopPost={PROGRAM} relocate --recover")


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
    subprocess.run(["systemd-run", "--quiet", f"--unit={UNIT}", *properties, PROGRAM, *command], check=True)


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
