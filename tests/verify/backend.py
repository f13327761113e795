"""Run testinfra through pyinfra's own connection.

The verification reaches a host exactly as the deploy does, on one connection: with ssh_config and its jump hosts, sudo
with a password, @local, @docker. testinfra's ssh backend knows none of that.
"""

from __future__ import annotations

from typing import Any

from pyinfra.api import Host
from testinfra.backend.base import BaseBackend, CommandResult

from tasks.support import connection

TIMEOUT = 15 * 60  # seconds for a command: Docker on a full volume may never answer, and several questions are for it


def shorten(command: str) -> str:
    """Return as much of a command as a message needs."""
    return command if len(command) < 200 else f"{command[:200]} …"


class PyinfraBackend(BaseBackend):
    """A connected host of pyinfra.

    Args:
        host: the host; its data say how commands are run (``_sudo``, ``_su_user``, …).
    """

    NAME = "pyinfra"

    def __init__(self, host: Host) -> None:
        super().__init__(host.name)
        self._target = host

    def run(self, command: str, *args: str, **_kwargs: Any) -> CommandResult:
        """Run a command, as root where the host's data say so.

        pyinfra reports success or failure only, so the exit status is 0 or 1.

        Raises:
            AssertionError: the command did not end in time.
        """
        command = self.quote(command, *args)
        try:
            done, output = connection.run(self._target, command, TIMEOUT)
        except TimeoutError:
            raise AssertionError(f"`{shorten(command)}` did not end within {TIMEOUT} s") from None
        return self.result(0 if done else 1, self.encode(command), output.stdout, output.stderr)
