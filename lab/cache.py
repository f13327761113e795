"""The directories outside the checkout where the lab keeps images, machines and keys."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


def root() -> Path:
    """Return ``$BULKHEAD_CACHE``, by default ``~/.cache/docker-bulkhead``."""
    return Path(os.environ.get("BULKHEAD_CACHE") or Path.home() / ".cache" / "docker-bulkhead")


def images() -> Path:
    return root() / "images"


def machines() -> Path:
    return root() / "lab" / "machines"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock for ``path`` while the block runs, so that only one process makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def ssh_key() -> Path:
    """Return the private ssh key of this lab; make it on first use. Every image has the public key."""
    key = root() / "lab" / "id_ed25519"
    with locked(key):
        if not key.exists():
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "docker-bulkhead-lab", "-f", key], check=True
            )
    return key
