"""Run work beside a loop that must not wait: each job is a forked process that sends its result over a pipe.

A thread would share the loop's fate and memory. A process that hangs can be killed, and the memory of its imports goes with
it. The process that forks must have no threads.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_killed: list[int] = []  # killed processes that have not been waited for yet


class Job:
    """A running job.

    Args:
        work: runs in the process; its result must fit into JSON.
        seconds: after which it is killed.

    Raises:
        OSError: no process can be made.
    """

    def __init__(self, work: Callable[[], Any], seconds: float) -> None:
        self.result: Any = None
        self.error = ""  # why there is no result
        self._deadline = time.monotonic() + seconds
        self._output = b""
        _reap()
        self._pipe, theirs = os.pipe()
        try:
            self._process = os.fork()
            if not self._process:
                _work(work, theirs)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)

    def has_ended(self) -> bool:
        """Tell, without waiting, whether it has ended: then `result` or `error` is set."""
        if self._pipe < 0:
            return True
        while select.select([self._pipe], [], [], 0)[0]:
            part = os.read(self._pipe, 2**16)
            if not part:
                self._end()
                return True
            self._output += part
        if time.monotonic() > self._deadline:
            self.stop("it did not end in time")
            return True
        return False

    def stop(self, why: str) -> None:
        """Kill it, which releases its locks. A process that waits for a dead device may never end: nobody waits for it."""
        if self._pipe >= 0:
            os.kill(self._process, signal.SIGKILL)
            _killed.append(self._process)
            self._end(why)

    def _end(self, error: str = "") -> None:
        os.close(self._pipe)
        self._pipe = -1
        _reap()
        if not error:
            os.waitpid(self._process, 0)
        try:
            self.result, self.error = (None, error) if error else json.loads(self._output)
        except ValueError:
            self.error = "it ended without a result"


def _reap() -> None:
    _killed[:] = [process for process in _killed if os.waitpid(process, os.WNOHANG) == (0, 0)]


def _work(work: Callable[[], Any], pipe: int) -> None:
    code = 1
    try:
        os.environ.pop("NOTIFY_SOCKET", None)  # only the loop talks to systemd
        os.nice(max(-os.nice(0), 0))  # the loop may be in a hurry; a job is not
        try:
            answer = [work(), ""]
        except Exception as error:  # of any kind: the loop goes on
            answer = [None, f"{error}" or repr(error)]
        content = json.dumps(answer).encode()
        while content:
            content = content[os.write(pipe, content) :]
        code = 0
    finally:
        os._exit(code)
