"""Keep the results of lab tests, and clean up after them. Only the main process of a run does this."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lab.machine import Machine
from tests.lab.ledger import FAILED, FORGOTTEN, PASSED, SKIPPED, LabResult, Ledger, Tree, tree

PREFIX = "test"  # of the names of machines; the number of the process that makes the machine follows
# Seconds within which a further signal is ignored: a terminal and a script may both send one.
_SECOND_SIGNAL = 3.0


class Recorder:
    """Write the result of each test into the ledger of the commit, as soon as the test ends.

    Args:
        started_on: the tree when the run began. Results are kept only while it is clean and stays as it is.
        again: the tests of this run count as passed only if they pass once more.
    """

    def __init__(self, started_on: Tree, *, again: bool = False) -> None:
        self.started_on = started_on
        self.again = again
        self.ledger = Ledger(started_on.commit)
        self.run = f"{time.time():.0f}"
        self.dropped = 0
        self._seconds: dict[str, dict[str, float]] = {}
        self._outcomes: dict[str, str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._begin([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._begin(ids)

    def _begin(self, tests: list[str]) -> None:
        if self.again and self.started_on.clean:
            for test in self.ledger.passed() & set(tests):
                self.ledger.add(LabResult(test, FORGOTTEN, self.run))
        self.again = False  # each worker reports its collection, and they are all the same

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid
        self._seconds.setdefault(test, {})[report.when] = report.duration
        if report.failed:
            self._outcomes[test] = FAILED
        elif report.skipped:
            self._outcomes.setdefault(test, SKIPPED)
        # The last report of a test. "???" is how xdist reports a test in which a worker has crashed.
        if report.when in ("teardown", "???"):
            seconds = self._seconds.pop(test)
            outcome = self._outcomes.pop(test, PASSED)
            itself = seconds.get("call", 0) + seconds.get("teardown", 0)
            self._keep(LabResult(test, outcome, self.run, round(seconds.get("setup", 0), 1), round(itself, 1)))

    def _keep(self, result: LabResult) -> None:
        if self.started_on.clean and tree() == self.started_on:
            self.ledger.add(result)
        else:
            self.dropped += 1

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.dropped:
            terminalreporter.write_line(
                f"{self.dropped} results are not kept for a commit: the checkout has changes that are not committed, or "
                "has changed during the run"
            )


def stop_on_signals() -> None:
    """End the run on SIGTERM and SIGHUP as on Ctrl-C, even if a shell has started this process with Ctrl-C ignored."""
    first: list[float] = []

    def stop(*_: object) -> None:
        if first and time.monotonic() - first[0] < _SECOND_SIGNAL:
            return
        first[:] = [time.monotonic()]
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup wants it ignored
            signal.signal(number, stop)


def remove_machines_left_behind() -> None:
    """Remove the machines of test processes that have been killed."""
    for machine in Machine.all():
        made_by = re.match(rf"{PREFIX}(\d+)-", machine.name)
        # A user's own machine may have such a name, but only tests set the time of the prune.
        if made_by and "prune_time" in machine.settings and not _is_python(int(made_by[1])):
            with contextlib.suppress(FileNotFoundError):  # another run has removed it
                machine.destroy()


def _is_python(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
