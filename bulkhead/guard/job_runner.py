"""Run jobs in the background of the guard's loop, each in a process of its own, and hand over their results."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bulkhead.guard.background import Job

if TYPE_CHECKING:
    from collections.abc import Callable


class JobRunner:
    """Runs jobs that have a name: at most one of each name at a time.

    Args:
        complain: is called with what went wrong, and the time in monotonic seconds.
    """

    def __init__(self, complain: Callable[[str, float], None]) -> None:
        self._complain = complain
        self._jobs: dict[str, tuple[Job, Callable[[Any], None]]] = {}

    def __bool__(self) -> bool:
        """Whether any job runs."""
        return bool(self._jobs)

    def is_running(self, name: str) -> bool:
        return name in self._jobs

    def start(self, name: str, work: Callable[[], Any], seconds: float, then: Callable[[Any], None]) -> None:
        """Start a job, unless one of that name runs.

        Args:
            seconds: the job is killed after this time.
            then: is called with the job's result.
        """
        if name in self._jobs:
            return
        try:
            self._jobs[name] = (Job(work, seconds), then)
        except OSError as error:  # no process can be made: the loop goes on without the job
            self._complain(f"{name}: {error}", time.monotonic())

    def stop(self, name: str, why: str) -> None:
        """Kill a job if it runs. This releases the locks that it holds."""
        if name in self._jobs:
            self._jobs[name][0].stop(why)

    def collect(self) -> None:
        """Hand over the results of the jobs that have ended."""
        for name, (job, then) in [*self._jobs.items()]:
            if job.has_ended():
                del self._jobs[name]
                if job.error:
                    self._complain(f"{name}: {job.error}", time.monotonic())
                else:
                    then(job.result)
