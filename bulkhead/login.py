"""Logins: which processes belong to the one that runs this program."""

from __future__ import annotations

import os
from typing import NamedTuple

from bulkhead import procfs


class Login(NamedTuple):
    """One login: the processes of a connection, or of a session of systemd's.

    tasks/preflight/host_script/login.sh decides the same; tests/unit/cases.py holds the cases for both.
    """

    anchor: int  # the process that all others of the connection descend from: its sshd, or the terminal's first process
    cgroup: str  # as /proc/PID/cgroup has it. Where pam_systemd is in use, it is the session's

    @classmethod
    def of(cls, pid: int) -> Login:
        """Return the login that a process belongs to."""
        line = list(procfs.ancestors(pid))
        return cls(next((each for each in line if procfs.name(each).startswith("sshd")), line[-1]), procfs.cgroup(pid))

    @classmethod
    def own(cls) -> Login:
        """Return the login that this process belongs to."""
        return cls.of(os.getpid())

    @classmethod
    def parse(cls, text: str) -> Login:
        """Return the login that `str` wrote."""
        anchor, _, group = text.partition(" ")
        return cls(int(anchor), group)

    def __str__(self) -> str:
        return f"{self.anchor} {self.cgroup}"

    def includes(self, pid: int) -> bool:
        """Return whether a process belongs to this login. A user's own systemd does: it came with the session."""
        if self.anchor in procfs.ancestors(pid) or pid in procfs.ancestors(self.anchor):
            return True
        group = procfs.cgroup(pid)
        slice_, _, unit = self.cgroup.rpartition("/")
        return unit.startswith("session-") and (group == self.cgroup or group.startswith(f"{slice_}/user@"))
