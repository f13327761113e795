"""Find the steps that builds run on this host, count what each has written, and stop them.

A step of BuildKit's is a child of a runc that a dockerd or a buildkitd has started; nothing else is. The engine is this
host's, or it runs in a container.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from bulkhead import procfs
from bulkhead.docker import cgroups
from bulkhead.docker.engines import bundle_of, step_of
from bulkhead.docker.redaction import redacted
from bulkhead.docker.standard_error import write_line, write_to
from bulkhead.files import is_within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bulkhead.docker.engines import NestedEngine


class BuildStep(NamedTuple):
    """A step of a build, while it runs."""

    id: str
    pid: int  # of its first process
    cgroup: str  # directory
    written: int  # bytes so far
    words: str  # its command line, as `redacted` shows it
    container: str = ""  # its container's name, where the builder is the classic one
    is_nested: bool = False  # whether its engine is a Docker in a container: its client is none of this host's Docker


def steps_of(dockerd: int) -> list[BuildStep]:
    """Return the steps that BuildKit runs in this host's Docker.

    Args:
        dockerd: its PID.
    """
    return [step for step, _ in _steps_of(dockerd)]


def nested_steps(engines: Iterable[NestedEngine], volume: str) -> list[BuildStep]:
    """Return the steps that engines in containers run, as far as they are certain.

    Such a step's control group is below the container's, and what it writes goes to Docker's volume.

    Args:
        volume: where the volume is mounted.
    """
    found = []
    for engine in engines:
        for step, bundle in _steps_of(engine.pid):
            if is_within(step.cgroup, [engine.container]) and _is_on(volume, engine.pid, bundle):
                found.append(step._replace(is_nested=not engine.is_builder))
    return found


def _steps_of(engine: int) -> Iterator[tuple[BuildStep, str]]:
    """Yield each step that an engine runs, and the directory that it runs the step from."""
    for runc in procfs.children(engine):
        command = procfs.command_line(runc)
        identifier = step_of(command)
        for pid in procfs.children(runc) if identifier else []:
            if cgroup := cgroups.group_of(pid, identifier):  # if there is none, runc is still setting the step up
                words = redacted(procfs.command_line(pid))
                yield BuildStep(identifier, pid, cgroup, cgroups.written(cgroup), words), bundle_of(command)
                break


def _is_on(volume: str, pid: int, path: str) -> bool:
    """Return whether a path of a process is on a volume. The step's files are on the same filesystem as its bundle."""
    try:
        return os.stat(procfs.seen_by(pid, path)).st_dev == os.stat(volume).st_dev
    except OSError:
        return False


def refreshed(step: BuildStep) -> BuildStep | None:
    """Return a step as it is now; None if it has ended."""
    return step._replace(written=cgroups.written(step.cgroup)) if cgroups.members(step.cgroup) else None


def abort(step: BuildStep, why: str) -> None:
    """Write the reason to a step's output, and kill all of its processes.

    Raises:
        OSError: they cannot be killed.
    """
    assert step.id in os.path.basename(step.cgroup), step.cgroup
    if is_within(cgroups.directory_of(step.pid), [step.cgroup]):  # else it is another process by now
        write_line(step.pid, why)
    try:
        write_to(f"{step.cgroup}/cgroup.kill", b"1")
    except FileNotFoundError:  # the step has ended, or the kernel is older than 5.14
        # With the first process of its PID namespace the kernel kills all the others.
        for pid in (step.pid, *cgroups.members(step.cgroup)):
            _kill(pid, step.cgroup)


def _kill(pid: int, cgroup: str) -> None:
    """Kill a process, if it is in a control group or in one below it."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            if is_within(cgroups.directory_of(pid), [cgroup]):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
