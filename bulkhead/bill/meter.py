"""Measure a build from beside it: how the disk fills, and what docker prints."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from bulkhead.storage.space import space_of
from bulkhead.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bulkhead.bill.transcript import Transcript

_INTERVAL = 0.05  # seconds between two samples
_CHUNK = 2**16  # bytes
_LATE = 10.0  # seconds that output may come after docker's end: a child of docker's can have the pipe


class Peak:
    """The most that filesystems have held above their start, sampled in a thread of its own.

    Args:
        paths: a directory on each filesystem.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.bytes = 0
        self.time = time.monotonic()  # of the peak
        self._paths = paths
        self._start = self._used()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ends.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._ends.wait(_INTERVAL):
            self._sample()

    def _sample(self) -> None:
        with contextlib.suppress(OSError):  # the build goes on
            above = self._used() - self._start
            if above > self.bytes:
                self.bytes, self.time = above, time.monotonic()

    def _used(self) -> int:
        return sum(space_of(path).used for path in self._paths)


class Tee:
    """Pass on what docker prints, and read it."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._threads: list[threading.Thread] = []
        self.writers: dict[int, int] = {}  # standard output and error → the descriptor that docker gets in its place
        self.outputs = {target: Stream(target, "w", closefd=False) for target in (1, 2)}

    def start(self) -> None:
        for target in (1, 2):
            reader, self.writers[target] = os.pipe()
            self._threads.append(threading.Thread(target=self._run, args=(reader, target), daemon=True))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Close what docker has by now: its output ends when it does."""
        for descriptor in self.writers.values():
            os.close(descriptor)
        self.writers = {}

    def stop(self) -> None:
        self.close()
        deadline = time.monotonic() + _LATE
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _run(self, reader: int, target: int) -> None:
        with open(reader, "rb", buffering=0) as source:
            while data := source.read(_CHUNK):
                self._transcript.feed(target, data)
                while data:
                    data = data[self.outputs[target].write(data) :]


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block all signals. A thread that starts meanwhile leaves them to the one that waits for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
