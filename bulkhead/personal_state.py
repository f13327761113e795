"""Remember values for who runs the program: root those of the host, everybody else their own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

from bulkhead import files, state

if TYPE_CHECKING:
    from collections.abc import Iterator


def load(name: str) -> dict[str, Any]:
    """Return the values that were saved last under a name; none if there are none, or they cannot be read."""
    if os.geteuid() == 0:
        return state.load(name)
    try:
        with open(path(name), encoding="utf-8") as file:
            values = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def save(name: str, values: dict[str, Any]) -> None:
    """Remember values in place of those that were saved before under the name.

    Raises:
        OSError: they cannot be saved.
    """
    if os.geteuid() == 0:
        state.save(name, values)
    else:
        files.replace_file(path(name), json.dumps(values), 0o600, takes_reserve=False)


@contextlib.contextmanager
def locked(name: str, seconds: float) -> Iterator[None]:
    """Hold the lock of a name.

    Args:
        seconds: that root waits for another holder. Nobody else shares a lock with others.

    Raises:
        OSError: it cannot be held.
    """
    if os.geteuid() == 0:
        with state.locked(name, seconds):
            yield
        return
    os.makedirs(os.path.dirname(path(name)), mode=0o700, exist_ok=True)
    with open(f"{path(name)}.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def path(name: str) -> str:
    """Return the path of the values of a user other than root."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{base}/bulkhead/{name}.json"
