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

from pyinfra import host
from pyinfra.api import FactBase

from pyinfra_lvm import collection
from pyinfra_lvm.collection import Question, fact
from tasks.support.paths import RUN_LOCK

# In the environment of every command of a run. After a run was killed, its last command may still be at work on the
# host: sshd ends with its connection, and PID 1 adopts the command.
ENVIRONMENT = {"BULKHEAD_RUN": "1"}

# $1: the lock's path. $2: "take" or "read". $3: who asks. $4: seconds to wait for the last command of a killed run.
# Field 22 of /proc/PID/stat, the start time, tells a process from a later one with the same number (proc(5)).
_SCRIPT = r"""
lock=$1 mode=$2 who=$3 patience=$4
started() { { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1; set -- ${stat##*) }; echo "${20}"; }
ancestor() {
    process=$1
    while :; do
        parent=
        { while read -r name value; do [ "$name" != PPid: ] || { parent=$value; break; }; done <"/proc/$process/status"
        } 2>/dev/null
        process=$parent
        [ "${process:-0}" -gt 1 ] || return 1
        { read -r command <"/proc/$process/comm"; } 2>/dev/null || return 1
        case $command in sshd*|python*|pyinfra*) echo "$process"; return ;; esac
    done
}
orphan() {
    for file in $(grep -lzs '^BULKHEAD_RUN=' /proc/[0-9]*/environ); do
        left=${file#/proc/}; left=${left%/environ}
        if [ -d "/proc/$left" ] && ! ancestor "$left" >/dev/null; then return 0; fi
    done
    return 1
}
# Without such an ancestor (a connector that is neither ssh nor local) nothing shows whose command an orphan is.
anchor=$(ancestor $$) && tied=yes || { anchor=$PPID; tied=; }
while [ "$tied" ] && orphan; do
    # Our own connection is gone: the orphan is this script itself.
    ancestor $$ >/dev/null || exit
    if [ "$patience" -le 0 ]; then echo "left $left"; exit; fi
    patience=$((patience - 1)); sleep 1
done
if [ "$mode" = take ]; then exec 9>>"$lock"; flock 9; fi
if [ -s "$lock" ] && read -r pid start holder <"$lock" && [ "$(started "$pid")" = "$start" ] && [ "$pid" != "$anchor" ]
then echo "held $holder; process $pid on the host"; exit
elif [ "$mode" = take ]; then echo "$anchor $(started "$anchor") $who, since $(date -u '+%F %T UTC')" >"$lock"
fi
echo free
"""

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
