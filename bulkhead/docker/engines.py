"""The engines whose builds write to Docker's volume: this host's Docker, and those in its containers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead import procfs
from bulkhead.docker import cgroups
from bulkhead.docker.daemon import process_of
from bulkhead.names import CONTAINERD, DOCKER

if TYPE_CHECKING:
    from collections.abc import Iterable

# How BuildKit starts a step, in dockerd (…/buildkit/executor/ID) and in buildkitd (…/runc-overlayfs/executor/ID).
_BUNDLE = re.compile(r"/(?:buildkit|runc-[a-z-]+)/executor/(\w+)$")


class NestedEngine(NamedTuple):
    """A dockerd or a buildkitd that runs in a container of this host's."""

    pid: int
    container: str  # directory of the container's control group
    is_builder: bool  # buildx has started it: its clients are clients of this host's Docker


def dockerd() -> int:
    """Return the PID of this host's dockerd; 0 if it does not run, or /proc hides it from this user."""
    return process_of(DOCKER, "dockerd")


def nested_engines() -> list[NestedEngine]:
    """Return the engines that run in containers of this host's Docker. It reads every process's name."""
    found = []
    for pid in procfs.process_ids():
        name = procfs.name(pid)
        if name in ("dockerd", "buildkitd") and (container := cgroups.container_of(pid)):
            # One that a Docker in a container has started has clients there, and not here.
            is_ours = not re.search(r"[0-9a-f]{64}", cgroups.directory_of(pid)[len(container) :])
            found.append(NestedEngine(pid, container, name == "buildkitd" and is_ours))
    return found


def step_of(words: list[str]) -> str:
    """Return the identifier of the step that a command line of runc's runs; empty if it runs no step of BuildKit's.

    >>> step_of("runc --log /l run --bundle /var/lib/docker/buildkit/executor/k7x k7x".split())
    'k7x'
    """
    bundle = _BUNDLE.search(bundle_of(words))
    return bundle[1] if bundle and bundle[1] == words[-1] else ""


def bundle_of(words: list[str]) -> str:
    """Return the directory that a command line of runc's runs a container from; empty if it runs none."""
    if "run" not in words or "--bundle" not in words[:-2]:
        return ""
    return words[words.index("--bundle") + 1]


def written_by_docker(
    dockerd: int, builders: Iterable[NestedEngine] = (), step_groups: frozenset[str] = frozenset()
) -> int:
    """Return the bytes that this host's Docker itself has written: it copies, unpacks and exports.

    Args:
        dockerd: its PID.
        builders: those of buildx, which count too.
        step_groups: directories of the steps' control groups. They do not count.
    """
    own = {dockerd, *(pid for pid in procfs.children(dockerd) if not step_of(procfs.command_line(pid)))}
    # Others have a containerd too: Kubernetes, and a Docker in a container.
    own |= {pid for pid in cgroups.processes_of(CONTAINERD) if procfs.name(pid) == "containerd"}
    containers = {engine.container for engine in builders}
    return sum(map(procfs.bytes_written, own)) + sum(cgroups.written(each, but=step_groups) for each in containers)
