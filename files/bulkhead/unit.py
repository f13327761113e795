"""The move as a unit of systemd: it goes on when the connection that began it is lost, and can be joined."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from pathlib import Path

from bulkhead.system import Login

UNIT = "bulkhead-relocate.service"
LOG = "/run/bulkhead/relocate.log"
LOGIN = "BULKHEAD_LOGIN"  # in the unit's environment: the login that began the move

# After the program's end, also by SIGKILL, what it left is recovered; nothing there is in a hurry.
_PROPERTIES = ("Type=exec", "TimeoutStopSec=infinity", "ExecStopPost=/usr/local/bin/bulkhead relocate --recover")


def say(line: str) -> None:
    """Tell those who watch, and the journal."""
    print(line, flush=True)
    path = Path(LOG)
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as log:
        log.write(f"{line}\n")


def is_under_way() -> bool:
    state = subprocess.run(["systemctl", "is-active", UNIT], capture_output=True, text=True, check=False).stdout
    return state.strip() in ("active", "activating", "deactivating", "reloading")


def begin(directories: list[str]) -> None:
    """Start the unit, unless it is there.

    Args:
        directories: to move; all without any.

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
    command = ["/usr/local/bin/bulkhead", "relocate", "--foreground", *directories]
    subprocess.run(["systemd-run", "--quiet", f"--unit={UNIT}", *properties, *command], check=True)


def follow() -> None:
    """Print what the unit says until it has ended."""
    seen = 0
    listener = select.poll()
    listener.register(sys.stdout.fileno(), 0)
    while True:
        ended = not is_under_way()
        with contextlib.suppress(FileNotFoundError), open(LOG) as log:
            log.seek(seen)
            sys.stdout.write(log.read())
            sys.stdout.flush()
            seen = log.tell()
        if ended:
            return
        # Standard output has an error as soon as nobody reads it any more: the connection is gone, the unit goes on.
        if listener.poll(500):
            return
