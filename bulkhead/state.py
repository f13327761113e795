"""Remember values from one run to the next, in small files that are replaced whole. A full root disk does not lose them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

from bulkhead import names
from bulkhead.files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PERSISTENT = names.PROGRAM_STATE
VOLATILE = names.PROGRAM_RUN


def load(name: str) -> dict[str, Any]:
    """Return the values that were saved last under a name; none if there are none.

    A file that cannot be read counts as none. A damaged one does too, and is renamed to NAME.json.damaged.
    """
    # Saving to the persistent directory removes the volatile file: if there is one, it is the newer.
    for path in (f"{VOLATILE}/{name}.json", f"{PERSISTENT}/{name}.json"):
        if (values := read(path)) is not None:
            return values
    return {}


def read(path: str) -> dict[str, Any] | None:
    """Return the values in a file; None if it cannot be read. A damaged one is renamed to PATH.damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
        if isinstance(values, dict):
            return values
    except OSError:
        return None
    except (ValueError, RecursionError):
        pass
    with contextlib.suppress(OSError):
        os.replace(path, f"{path}.damaged")
    return None


def save(name: str, values: dict[str, Any]) -> None:
    """Remember values in place of those that were saved before under the name.

    Raises:
        OSError: they cannot be written to either directory.
    """
    try:
        _save(PERSISTENT, name, values)
    except OSError:
        save_volatile(name, values)
    else:
        with contextlib.suppress(OSError):
            os.remove(f"{VOLATILE}/{name}.json")


def save_volatile(name: str, values: dict[str, Any]) -> None:
    """Remember values until the next boot, without writing to a disk.

    Raises:
        OSError: they cannot be written to the directory in memory.
    """
    make_volatile()
    _save(VOLATILE, name, values)


def make_volatile() -> None:
    """Create the directory in memory, for root alone."""
    # A user who could open a lock in it could hold the lock, and so keep every check from its work.
    os.makedirs(VOLATILE, exist_ok=True)
    os.chmod(VOLATILE, 0o700)


def _save(directory: str, name: str, values: dict[str, Any]) -> None:
    # The reserve is for what must not be lost. This can wait in memory.
    in_memory = directory == VOLATILE
    replace_file(f"{directory}/{name}.json", json.dumps(values), 0o600, takes_reserve=False, in_memory=in_memory)


@contextlib.contextmanager
def locked(name: str, seconds: float) -> Iterator[None]:
    """Hold the lock of a name.

    Args:
        seconds: to wait for another holder.

    Raises:
        TimeoutError: another holder still has it.
    """
    make_volatile()
    deadline = time.monotonic() + seconds
    with open(f"{VOLATILE}/{name}.lock", "w", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"another `bulkhead {name}` has been at work for {seconds:.0f} s") from None
            time.sleep(0.1)
        yield
