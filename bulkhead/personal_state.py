"""Remember values for who runs the program: root of a host that the deploy has been on those of the host, all others their own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

from bulkhead import files, names, state

if TYPE_CHECKING:
    from collections.abc import Iterator


DEPLOYED = names.PROGRAM_CONFIGURATION  # is there where the deploy has been


def load(name: str) -> dict[str, Any]:
    """Return the values that were saved last under a name; none if there are none, or they cannot be read.

    A damaged file counts as none, and is renamed to NAME.json.damaged.
    """
    if _is_of_host():
        return state.load(name)
    try:
        return state.read(path(name)) or {}
    except OSError:
        return {}


def save(name: str, values: dict[str, Any]) -> None:
    """Remember values in place of those that were saved before under the name.

    Raises:
        OSError: they cannot be saved.
    """
    if _is_of_host():
        state.save(name, values)
        return
    with contextlib.suppress(FileNotFoundError), open(path(name), encoding="utf-8"):
        pass  # a file that `load` could not read, such as one of root's, is not replaced: it has what was saved before
    files.replace_file(path(name), json.dumps(values), 0o600, takes_reserve=False)


@contextlib.contextmanager
def locked(name: str, seconds: float) -> Iterator[None]:
    """Hold the lock of a name.

    Args:
        seconds: to wait for another holder of the host's lock.

    Raises:
        OSError: it cannot be held.
    """
    if _is_of_host():
        with state.locked(name, seconds):
            yield
        return
    os.makedirs(os.path.dirname(path(name)), mode=0o700, exist_ok=True)
    with open(f"{path(name)}.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_of_host() -> bool:
    """Return whether the values are the host's. In the container of a CI, root is a user like others."""
    return os.geteuid() == 0 and os.path.exists(DEPLOYED)


def path(name: str) -> str:
    """Return the path of the values.

    Raises:
        OSError: the user has no home.
    """
    if _is_of_host():
        return f"{state.PERSISTENT}/{name}.json"
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if base.startswith("~"):  # neither HOME nor an entry in passwd, as in the container of a CI
        raise OSError("there is no home directory to keep it in: set HOME or XDG_STATE_HOME")
    return f"{base}/bulkhead/{name}.json"
