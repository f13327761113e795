"""What the program remembers from one run to the next: small files, replaced whole, that survive a full root disk."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

from bulkhead import names

if TYPE_CHECKING:
    from collections.abc import Iterator

PERSISTENT = names.PROGRAM_STATE
VOLATILE = names.PROGRAM_RUN


def load(name: str) -> dict[str, Any]:
    """What was saved last under a name; empty where there is nothing.

    A damaged file is set aside as NAME.json.damaged and counts as none, as does one that cannot be read.
    """
    # Whatever reaches the persistent directory removes the volatile file: where that is, it is the newer.
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
    """Remember these values in place of the old ones.

    Raises:
        OSError: neither directory takes them.
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
    """Remember these values until the next boot, and wear no disk.

    Raises:
        OSError: the directory in memory does not take them.
    """
    make_volatile()
    _replace(VOLATILE, name, json.dumps(values))


def make_volatile() -> None:
    """Have the directory in memory, for root alone."""
    # Whoever could open a lock in there could hold it, and so keep every check from its work.
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


@contextlib.contextmanager
def locked(name: str, seconds: float) -> Iterator[None]:
    """One at a time under a name.

    Args:
        seconds: to wait for another.

    Raises:
        TimeoutError: the other is still at work.
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
