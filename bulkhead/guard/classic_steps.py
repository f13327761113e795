"""Know the running steps of the builder before BuildKit. Docker lists them, in the background: they are containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulkhead.docker import steps
from bulkhead.guard import jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.docker.steps import BuildStep
    from bulkhead.guard.job_runner import JobRunner

_TIMEOUT = 60  # seconds


class ClassicSteps:
    def __init__(self, runner: JobRunner) -> None:
        self.similar: list[str] = []  # names of containers that only look like steps
        self.last_listing = float("-inf")  # monotonic seconds
        self.tell: Callable[[list[BuildStep]], None] = lambda _: None  # is called with each new list
        self._runner = runner
        self._steps: list[BuildStep] = []  # as Docker last listed them

    def refreshed(self) -> list[BuildStep]:
        """Return the steps that still run, with what they have written by now."""
        self._steps = [step for each in self._steps if (step := steps.refreshed(each))]
        return self._steps

    def list_again(self, now: float) -> None:
        """Ask Docker for the steps, unless it is being asked."""
        if not self._runner.is_running("classic"):
            self.last_listing = now
            self._runner.start("classic", jobs.classic_steps, _TIMEOUT, self._take)

    def _take(self, found: Any) -> None:
        self._steps, self.similar = [steps.BuildStep(*each) for each in found[0]], found[1]
        self.tell(self._steps)
