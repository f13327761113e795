"""Keep a lost connection to its own host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from paramiko import SSHException
from pyinfra.api import Host
from pyinfra.connectors.ssh import SSHConnector

_METHODS = ("run_shell_command", "put_file", "get_file")
_KEEPALIVE = 30  # seconds; a NAT forgets a connection that is idle for minutes (Azure's load balancer: 4)
_LOST = "the connection was lost"


def keep_to_its_host(host: Host) -> None:
    """Have a connection that is lost fail its host alone and say so, also if nothing ever comes from the host again.

    paramiko raises EOFError for a connection that ends while a command is being started (Transport.get_exception). pyinfra 3.10
    expects only SSHException and OSError there: anything else ends the run on all hosts, in the middle. On a connection that has
    ended before a command, paramiko raises one of these two, in words of its own. A command during which the connection ends
    has failed, and nothing says why (Channel.recv_exit_status returns -1).

    pyinfra waits for the output of a command, and sends nothing meanwhile: the end of a host that has lost its power would
    never be noticed, and the run would wait for it for ever. A sign of life that is not acknowledged ends the connection
    (tcp(7), tcp_retries2: about 15 minutes).
    """
    connector = host.connector
    transport = connector.client.get_transport() if isinstance(connector, SSHConnector) and connector.client else None
    if transport:
        transport.set_keepalive(_KEEPALIVE)
    for name in _METHODS:
        method = getattr(SSHConnector, name)
        if not hasattr(method, "__wrapped__"):  # pyinfra runs deploy.py once for each host
            setattr(SSHConnector, name, _translated(method))


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def translated(connector: SSHConnector, *words: Any, **options: Any) -> Any:
        try:
            result = method(connector, *words, **options)
        except (EOFError, OSError, SSHException) as error:
            if isinstance(error, EOFError) or _is_lost(connector):
                raise SSHException(_LOST) from error
            raise
        has_failed = isinstance(result, tuple) and not result[0]  # a command, rather than a file
        if has_failed and _is_lost(connector):
            raise SSHException(_LOST)
        return result

    return translated


def _is_lost(connector: SSHConnector) -> bool:
    transport = connector.client.get_transport() if connector.client else None
    if transport is None:
        return True
    transport.join(1)  # a connection that ends wakes up who waits for a command first (Transport.run)
    return not transport.is_active()
