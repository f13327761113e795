"""Keep a lost connection to its own host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from paramiko import SSHException
from pyinfra.connectors.ssh import SSHConnector

_METHODS = ("run_shell_command", "put_file", "get_file")


def keep_to_its_host() -> None:
    """Have a connection that is lost fail its host alone.

    paramiko raises EOFError for a connection that ends while a command is being started (Transport.get_exception). pyinfra 3.10
    expects only SSHException and OSError there: anything else ends the run on all hosts, in the middle.
    """
    for name in _METHODS:
        method = getattr(SSHConnector, name)
        if not hasattr(method, "__wrapped__"):  # pyinfra runs deploy.py once for each host
            setattr(SSHConnector, name, _translated(method))


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def translated(*words: Any, **options: Any) -> Any:
        try:
            return method(*words, **options)
        except EOFError as error:
            raise SSHException("the connection was lost") from error

    return translated
