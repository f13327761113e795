"""Allow one run at a time: a lock on the host that lives exactly as long as the connection that took it.

The lock names the process on the host that our commands descend from: the sshd of this connection, or pyinfra itself
with the @local connector. That process ends with the run, however the run ends, so a killed run leaves nothing to
clean up, and no command has to stay open to hold the lock.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinfra import host
from pyinfra.api import FactBase

from pyinfra_lvm import collection
from pyinfra_lvm.collection import Question, fact
from pyinfra_lvm.script import script
from tasks.support.paths import RUN_LOCK

# In the environment of every command of a run. After a run was killed, its last command may still be at work on the
# host: sshd ends with its connection, and PID 1 adopts the command.
ENVIRONMENT = {"BULKHEAD_RUN": "1"}

_SCRIPT = script(Path(__file__).with_name("run_lock.sh"))

PATIENCE = 900  # seconds: apt on a slow host


@dataclass(frozen=True)
class Holder:
    """The obstacle to a run."""

    words: str = ""  # who holds the lock; empty: nobody, or this connection
    left: bool = False  # the last command of a run that was killed, which ends by itself


class RunLockHolder(FactBase[Holder]):
    """Return what keeps a run from this host, as a ``Holder``.

    Args:
        take: take the lock when it is free. Without it nothing changes on the host.
        patience: seconds to wait for the last command of a run that was killed: facts read beside it would be stale.
    """

    def command(self, take: bool = False, patience: int = 0) -> str:
        who = f"{_user()} on {socket.gethostname()} (process {os.getpid()})"
        mode = "take" if take else "read"
        return shlex.join(["sh", "-c", _SCRIPT, "run-lock", RUN_LOCK, mode, who, str(patience)])

    def process(self, output: list[str]) -> Holder:
        answer, _, rest = output[-1].partition(" ")
        if answer == "left":
            return Holder(f"a command of a run that was killed; process {rest} on the host", left=True)
        return Holder(rest)


def _user() -> str:
    """Return the name of the user who runs pyinfra; its number where passwd has no name for it, as in a container of a CI."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # until Python 3.12, since 3.13
        return f"uid {os.getuid()}"


def collect(questions: Sequence[Question], *, take: bool = False) -> str | None:
    """Ask the host in one command, which takes the run lock first, and return who else holds it, in words.

    The answers are from after the last command of a run that was killed: it may still change the host.

    Args:
        questions: that `pyinfra_lvm.collection.fact` answers from then on.
        take: take the lock when it is free.

    Returns:
        Empty when nobody holds it, or this connection does; None where it could not be read, which has failed the host
        already.
    """
    found = _collect(questions, take=take)
    if found and found.left:
        host.log(f"Waiting until it has ended, {PATIENCE // 60} minutes at most: {found.words}")
        found = _collect(questions, take=take, patience=PATIENCE)
    return found.words if found else None


def _collect(questions: Sequence[Question], *, take: bool, patience: int = 0) -> Holder | None:
    lock = Question(RunLockHolder, {"take": take, "patience": patience})
    return fact(lock.fact, **lock.arguments) if collection.collect([lock, *questions]) else None
