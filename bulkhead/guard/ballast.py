"""A file on Docker's volume that the guard deletes when nothing else is fast enough: Docker needs some space to make more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bulkhead.names import BALLAST
from bulkhead.storage.space import space_of

if TYPE_CHECKING:
    from bulkhead.config import Config

_SHARE = 50  # it takes at most a 50th of the volume


def size(config: Config) -> int:
    """Return the bytes that it should have.

    Raises:
        OSError: the volume does not answer.
    """
    return min(config.guard_ballast, space_of(config.volume_mount).size // _SHARE)


def held(config: Config) -> int:
    """Return the bytes that it has; 0: it is not there."""
    try:
        return os.lstat(_path(config)).st_blocks * 512
    except OSError:
        return 0


def take(config: Config) -> bool:
    """Make it, as large as it should be. Return False if it was there.

    This does not wait until it is on disk: after a power cut the next call makes it whole.

    Raises:
        OSError: the volume has no space for it. Then there is no ballast.
    """
    wanted, path = size(config), _path(config)
    if not wanted or (held(config) >= wanted and os.lstat(path).st_size == wanted):
        return False
    give_back(config)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, wanted)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return True


def give_back(config: Config) -> int:
    """Delete it. Return the bytes that come back; 0: there was none.

    Raises:
        OSError: it cannot be removed.
    """
    had = held(config)
    try:
        os.unlink(_path(config))
    except FileNotFoundError:
        return 0
    return had


def _path(config: Config) -> str:
    return f"{config.volume_mount}/{BALLAST}"
