"""Show how the volume fills while a build runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Protocol

from bulkhead.guard import policy
from bulkhead.storage.space import Space, space_of
from bulkhead.text import in_time, short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_INTERVAL = 0.5  # seconds between two samples of the volume
_EVERY = {"title": 1.0, "lines": 10.0}  # seconds between two updates, by kind of display
_REACH = 4.0  # the guard stops a build at most so many seconds before the floor is reached
_EARLY = 2.0  # seconds in which the guard notices a build and begins to count
_OTHERS = 2.0  # seconds between two searches for other builds
ENDING = 15.0  # seconds that a stopped build may take to end, on a busy host
_BAR = 10  # characters
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD}
_BY_THE_KERNEL = 0x80  # si_code (sigaction(2)): Ctrl-C, which every process in the foreground gets


class Gauge:
    """Measure how the volume fills while a build runs, and whether other builds run beside it.

    Args:
        floor: bytes that the guard keeps free.
        other_builds: returns the builds of others.
    """

    def __init__(self, path: str, floor: int, other_builds: Callable[[], object] = list) -> None:
        self.volume = space_of(path)
        self.floor = floor
        self.peak = 0  # bytes above the start
        self.early = 0  # the peak of the first two seconds
        self.is_disturbed = False  # whether other builds ran meanwhile
        self.rate = policy.Rate()
        self._path = path
        self._start = self.volume.used
        self._began = time.monotonic()
        self._other_builds = other_builds
        self._last_search = float("-inf")
        self._short = float("-inf")  # when the free space was last about to reach the floor

    def sample(self) -> None:
        with contextlib.suppress(OSError):  # the build goes on
            self.volume = space_of(self._path)
        now = time.monotonic()
        self.peak = max(self.peak, self.volume.used - self._start)
        if now - self._began < _EARLY:
            self.early = self.peak
        if not self.is_disturbed and now - self._last_search >= _OTHERS:
            self._last_search = now
            self.is_disturbed = bool(self._other_builds())
        self.rate.add(now, self.volume.available)
        if policy.judge(self.volume.available, self.rate.value, self.floor, _REACH) >= policy.ABORT:
            self._short = now

    def is_short(self) -> bool:
        """Return whether the volume was full, or about to be, within the last few seconds."""
        return time.monotonic() - self._short < ENDING

    def __str__(self) -> str:
        return describe(self.volume, self.volume.used - self._start, self.rate.value, self.floor)


class BuildRecorder(Protocol):
    """What measures a build from beside it."""

    streams: dict[int, int]  # as run_watched takes them, once the build is about to begin
    steps_written: int | None  # bytes that the build's steps have written, by the guard's count
    is_disturbed: bool  # whether other builds ran meanwhile

    def begin(self) -> None: ...
    def started(self) -> None: ...
    def ended(self) -> None: ...


def describe(volume: Space, written: int, rate: float, floor: int) -> str:
    """Return the live line.

    Args:
        volume: its space now.
        written: bytes since the start.
        rate: bytes a second.
        floor: bytes that must stay free.
    """
    filled = int(volume.percent * _BAR / 100)
    parts = [
        f"{volume.percent:.0f} % used",
        f"{short(volume.available)} free",
        f"{short(max(written, 0))} since the start",
    ]
    if volume.available <= floor:
        parts.append("below the floor")
    elif rate:
        parts += [f"+{short(rate)}/s", f"{in_time((volume.available - floor) / rate)} to the floor"]
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {', '.join(parts)}"


def kind_of_display(progress: str, is_terminal: bool) -> str:
    """Return how to show progress beside docker's own output: "title", "lines", or "" for not at all."""
    if is_terminal and progress != "plain":
        return "title" if os.environ.get("TERM", "dumb") != "dumb" else ""
    return "" if progress in ("quiet", "rawjson") else "lines"


class Display:
    """Show the gauge while a build runs.

    Args:
        kind: "title", "lines", or "" for not at all.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._next = time.monotonic() + _EVERY.get(kind, float("inf"))
        self._has_title = False

    def show(self, gauge: Gauge) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY[self._kind]
        if self._kind == "lines":
            say(str(gauge))
            return
        # The terminal saves the old title (XTWINOPS), and restores it at the end.
        _write(f"{'' if self._has_title else _KEEP_TITLE}\033]2;{gauge}\a")
        self._has_title = True

    def end(self) -> None:
        if self._has_title:
            _write(_OLD_TITLE)
        if self._kind == "title":
            _write(_SHOW_CURSOR)  # a killed docker leaves it hidden


_KEEP_TITLE, _OLD_TITLE, _SHOW_CURSOR = "\033[22;2t", "\033[23;2t", "\033[?25h"


def run_watched(
    command: Sequence[str],
    gauge: Gauge,
    display: Display,
    begin: Callable[[int], None],
    streams: Mapping[int, int] | None = None,
) -> tuple[int, bool]:
    """Run a command as if the user had called it, and sample the volume meanwhile.

    Args:
        begin: is called with the command's PID.
        streams: the command's descriptors that are not ours: number → what the command gets.

    Returns:
        Its exit code (below 0: minus the number of the signal that ended it), and whether a signal asked it to end.
    """
    # A program that ignores SIGCHLD, which it can inherit, never learns the exit code of its child.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Leave ignored signals alone, such as SIGHUP under nohup: once blocked, they would arrive.
    handled = {number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    # Block the signals and wait for them together with the next sample: none can slip in between.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    is_interrupted = False
    try:
        # Python itself ignores these; the command must not inherit that.
        defaults = [signal.SIGPIPE, signal.SIGXFSZ]
        given = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in (streams or {}).items()]
        child = os.posix_spawnp(
            command[0], [*command], os.environ, file_actions=given, setsigmask=before, setsigdef=defaults
        )
        with contextlib.suppress(OSError):  # nothing is counted for it, and the build goes on
            begin(child)
        while True:
            received = signal.sigtimedwait(handled, _INTERVAL)
            if received and received.si_signo != signal.SIGCHLD:
                is_interrupted = True
                if received.si_code != _BY_THE_KERNEL:
                    os.kill(child, received.si_signo)
            gauge.sample()
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                # A Ctrl-C that came meanwhile would end this program as soon as it is no longer blocked.
                while received := signal.sigtimedwait(handled, 0):
                    is_interrupted |= received.si_signo != signal.SIGCHLD
                return os.waitstatus_to_exitcode(status), is_interrupted
            display.show(gauge)
    finally:
        display.end()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def say(line: str) -> None:
    _write(f"bulkhead: {line}\n")


def show_line(line: str) -> None:
    """Put a line on the terminal in place of the last one."""
    if sys.stderr.isatty():
        _write(f"\r\033[K{line and f'bulkhead: {line}'}")


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it: the build goes on
        sys.stderr.write(text)
        sys.stderr.flush()
