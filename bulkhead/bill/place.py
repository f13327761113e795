"""Where the engine keeps its data, as far as this machine can see it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead.bill.client import CONTAINER, ENGINE
from bulkhead.docker import roots
from bulkhead.storage.space import space_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bulkhead.bill.client import Builder

_CONTAINERD = "io.containerd.snapshotter.v1"  # in DriverStatus, where images are in containerd's store
_MARGIN = 5  # percent of the filesystem that stay free beside what docker save needs, at least


class Place(NamedTuple):
    """The filesystems that a build writes to."""

    paths: tuple[str, ...]  # a directory on each; none: they cannot be seen from here
    unknown: str = ""  # why not


def place_of(info: Mapping[str, Any], builder: Builder) -> Place:
    """Return where a build writes.

    Args:
        info: what the engine says of itself.
    """
    if builder.driver not in (ENGINE, CONTAINER):
        return Place((), f"the builder ({builder.driver or 'of an unknown driver'}) keeps its data outside Docker")
    host = os.uname()
    # Docker Desktop and a Docker in a container have a name of their own, and Docker Desktop a kernel of its own.
    if info.get("Name") != host.nodename or info.get("KernelVersion") != host.release:
        return Place((), f"the engine ({info.get('Name') or 'without a name'}) has its data on another machine")
    directories = [str(info.get("DockerRootDir", ""))]
    # A containerd that dockerd has started itself keeps its data in Docker's directory.
    if uses_containerd(info) and os.path.isdir(root := roots.containerd_root()):
        directories.append(root)
    found: dict[int, str] = {}
    try:
        for directory in directories:
            found.setdefault(os.stat(directory).st_dev, directory)
    except OSError as error:
        return Place((), f"{error.filename} cannot be seen from here: {error.strerror}")
    return Place(tuple(found.values()))


def uses_containerd(info: Mapping[str, Any]) -> bool:
    """Return whether the engine keeps images in containerd's store."""
    return any(_CONTAINERD in str(pair) for pair in info.get("DriverStatus") or ())


def obstacle_to_saving(info: Mapping[str, Any], place: Place, size: int, largest_unseen: int, floor: int = 0) -> str:
    """Return why docker must not save an image; empty: it may.

    Where images are not in containerd's store, `docker save` first writes all of the image beside Docker's data, and only
    then sends it (moby, image/tarexport/save.go: MkdirTemp; daemon: TMPDIR is DATA-ROOT/tmp).

    Args:
        size: bytes of the image.
        largest_unseen: bytes of an image that may be saved where the free space cannot be seen.
        floor: bytes that the guard keeps free.
    """
    if uses_containerd(info):
        return ""
    if not place.paths:
        return (
            ""
            if size <= largest_unseen
            else "docker save needs the space of the image once more, and how much is free cannot be seen from here"
        )
    space = space_of(place.paths[0])
    wanted = size + max(space.size * _MARGIN // 100, floor)
    if space.available >= wanted:
        return ""
    return f"docker save needs the space of the image once more: {wanted >> 20} MiB, and {space.available >> 20} MiB are free"
