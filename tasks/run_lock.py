"""One run at a time: a lock on the host that lives exactly as long as the connection that took it.

The lock names the process on the host that our commands descend from: the sshd of this connection, or pyinfra itself
with the @local connector. That process ends with the run, however the run ends, so a killed run leaves nothing to
clean up, and no command has to stay open to hold the lock.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket

from pyinfra.api import FactBase

from tasks.paths import RUN_LOCK

# $1: the lock's path. $2: "take" or "look". $3: who asks.
# Field 22 of /proc/PID/stat, the start time, tells a process from a later one with the same number (proc(5)).
_SCRIPT = r"""
lock=$1 mode=$2 who=$3
started() { stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; set -- ${stat##*) }; echo "${20}"; }
anchor=$$
while :; do
    anchor=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$anchor/status")
    [ "$anchor" -gt 1 ] || { anchor=$PPID; break; }
    read -r command <"/proc/$anchor/comm"
    case $command in sshd*|python*|pyinfra*) break ;; esac
done
if [ "$mode" = take ]; then exec 9>>"$lock"; flock 9; fi
if [ -s "$lock" ] && read -r pid start holder <"$lock" && [ "$(started "$pid")" = "$start" ] && [ "$pid" != "$anchor" ]
then echo "$holder; process $pid on the host"
elif [ "$mode" = take ]; then echo "$anchor $(started "$anchor") $who, since $(date -u '+%F %T UTC')" >"$lock"
fi
"""


class RunLockHolder(FactBase[str]):
    """Who holds the run lock, in words; empty when nobody does, or this connection.

    Args:
        take: take the lock when it is free. Looking changes nothing on the host.
    """

    def command(self, take: bool = False) -> str:
        who = f"{getpass.getuser()} on {socket.gethostname()} (process {os.getpid()})"
        mode = "take" if take else "look"
        return shlex.join(["sh", "-c", _SCRIPT, "run-lock", RUN_LOCK, mode, who])

    @staticmethod
    def default() -> str:
        return ""
