"""Run commands on a host outside of operations and facts, as pyinfra itself runs them."""

from __future__ import annotations

from typing import Any

from paramiko import SSHException
from pyinfra import logger
from pyinfra.api import Host, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.util import log_host_command_error


def run(host: Host, command: str, timeout: int | None = None, *, show: bool = False) -> tuple[bool, Any]:
    """Run a command as the host's data say (``_sudo``, ``_su_user`` …). Return whether it succeeded, and its output.

    Args:
        timeout: seconds; none by default.
        show: print its output as it comes.

    Raises:
        TimeoutError: the command did not end in time.
    """
    arguments, _ = pop_global_arguments(host.state, host, {})
    chosen: dict[str, Any] = {key: value for key, value in arguments.items() if key in CONNECTOR_ARGUMENT_KEYS}
    if timeout:
        chosen["_timeout"] = timeout
    return host.run_shell_command(StringCommand(command), print_output=show, **chosen)


def follow(host: Host, command: str) -> bool:
    """Run a command that takes long, and show its output as it comes. Return whether it succeeded.

    What it says of a failure is logged, as pyinfra does for the command of an operation: the verdict on the host has it.
    """
    try:
        done, output = run(host, command, show=True)
    except (OSError, SSHException) as error:  # outside of an operation's command it would end the run on all hosts
        log_host_command_error(host, error)
        return False
    if not done:
        for line in output.stderr_lines:
            host.log(line, logger.error)
    return done
