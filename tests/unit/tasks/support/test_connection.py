"""Commands that a run follows to their end, outside of operations and facts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from paramiko import SSHException

from tasks.support import connection


@pytest.mark.parametrize("error", [SSHException("the connection was lost"), OSError("no route to host")])
def test_host_that_is_lost_while_it_is_followed_fails_alone(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(*_: Any, **_options: Any) -> Any:
        raise error

    logged: list[Exception] = []
    monkeypatch.setattr(connection, "run", run)
    monkeypatch.setattr(connection, "log_host_command_error", lambda _, error: logged.append(error))
    assert not connection.follow(SimpleNamespace(), "bulkhead relocate --join")  # type: ignore[arg-type]
    assert logged == [error]
