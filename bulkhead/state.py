"""Remember values from one run to the next, in small files that are replaced whole. A full root disk does not lose them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

from bulkhead import names
from bulkhead.files import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

PERSISTENT = names.PROGRAM_STATE
VOLATILE = names.PROGRAM_RUN


def load(name: str) -> dict[str, Any]:
    """Return the values that were saved last under a name; none if there are none.

    A file that cannot be read counts as none. A damaged one does too, and is renamed to NAME.json.damaged.
    """
    # Saving to the persistent directory removes the volatile file: if there is one, it is the newer.
    for path in (f"{VOLATILE}/{name}.json", f"{PERSISTENT}/{name}.json"):
        try:
            with open(path, encoding="utf-8") as file:
                values = json.load(file)
            if isinstance(values, dict):
                return values
        except OSError:
            continue
        except (ValueError, RecursionError):
            pass
        with contextlib.suppress(OSError):
            os.replace(path, f"{path}.damaged")
    return {}


def save(name: str, values: dict[str, Any]) -> None:
    """Remember values in place of those that were saved before under the name.

    Raises:
        OSError: they cannot be written to either directory.
    """
    try:
        os.makedirs(PERSISTENT, exist_ok=True)
        _replace(PERSISTENT, name, json.dumps(values))
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
    _replace(VOLATILE, name, json.dumps(values))


def make_volatile() -> None:
    """Create the directory in memory, for root alone."""
    # A user who could open a lock in it could hold the lock, and so keep every check from its work.
    os.makedirs(VOLATILE, exist_ok=True)
    os.chmod(VOLATILE, 0o700)


def _replace(directory: str, name: str, content: str) -> None:
    path = f"{directory}/{name}.json"
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.rename(f"{path}.new", path)
    sync_directory(directory)


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
