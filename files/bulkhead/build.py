"""`bulkhead build`: `docker build`, after a look at whether it fits; `bulkhead preflight`: the look alone.

What docker build prints and reads is its own, untouched. What is said here goes to standard error. How the volume fills is
shown in the terminal's title (OSC 2): on a terminal BuildKit redraws its lines by moving the cursor back over them, so that
any line of somebody else's, and any region set apart for one, would spoil them; a title moves no cursor, and one write is
one sequence. Where there is no terminal, or docker prints plain lines, it is a line every few seconds.

Exit codes: those of docker build (128 and the signal's number where one has ended it), but
3: not begun, the reason is told;
4: the guard has stopped it.
The builder before BuildKit passes on the code of a step that fails, which can be a 3 or a 4 as well.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from bulkhead import check, estimate, filesystems, growth, guard, prune, state, usage
from bulkhead.check import short
from bulkhead.config import Config
from bulkhead.engine import Engine, EngineError, programs_that_build
from bulkhead.estimate import Arguments, Need, as_option
from bulkhead.mounts import mounts_of
from bulkhead.system import PROBLEMS, in_words
from sizes import human

OK, WARNING, FAILED = "ok", "warning", "failed"
NOT_BEGUN, STOPPED = 3, 4  # exit codes

_INTERVAL = 0.5  # seconds between two looks at the volume
_EVERY = {"title": 1.0, "lines": 10.0}  # seconds between two times that it is shown
_REACH = 4.0  # seconds ahead of the floor at which the guard stops a build at the earliest
_ENDING = 15.0  # seconds that a build which was stopped takes to end, on a host that is busy
_BAR = 10  # characters
_NAMED = 3  # things that could be reclaimed
_LEAST = 64 * 2**20  # bytes: with less, all came from the cache, or nothing was left here

_OUR_HOSTS = ("unix:///run/docker.sock", "unix:///var/run/docker.sock")

_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD}
_BY_THE_KERNEL = 0x80  # si_code (sigaction(2)): Ctrl-C, which all in the foreground get


# -- before it


class Item(NamedTuple):
    """A line of the checklist."""

    name: str
    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.name}: {self.text}"


class Volume(NamedTuple):
    """Bytes, as df counts them."""

    size: int
    used: int
    free: int  # to others than root, as `bulkhead reclaim` and the guard have it

    @classmethod
    def of(cls, path: str) -> Volume:
        counts = os.statvfs(path)
        blocks = (counts.f_blocks, counts.f_blocks - counts.f_bfree, counts.f_bavail)
        return cls(*(number * counts.f_frsize for number in blocks))

    @property
    def percent(self) -> float:
        return 100 * self.used / ((self.used + self.free) or 1)


def room(free: int, floor: int, need: Need) -> Item:
    """Whether there is room for a build above what the guard keeps free."""
    figures = (
        f"free: {human(free)}; needed: {human(need.bytes)} ({need.source}) above the guard's floor of {human(floor)}"
    )
    missing = need.bytes + floor - free
    return Item("room", FAILED, f"{figures}: {human(missing)} missing") if missing > 0 else Item("room", OK, figures)


class Checklist:
    """What is looked at before a build.

    Args:
        need: bytes that the user gives.
        say: takes each line as it comes.
    """

    def __init__(self, config: Config, arguments: Arguments, need: int | None, say: Callable[[str], None]) -> None:
        self.config = config
        self.items: list[Item] = []
        self.need = Need(0, "")
        self.floor = self.free = 0
        self._arguments = arguments
        self._asked = need
        self._say = say

    @property
    def failed(self) -> list[str]:
        """Names."""
        return [item.name for item in self.items if item.level == FAILED]

    @property
    def wanted(self) -> int:
        """Bytes that should be free."""
        return self.need.bytes + self.floor

    def add(self, item: Item) -> None:
        self.items.append(item)
        self._say(str(item))

    def look(self, *, makes_room: bool) -> None:
        """Look at everything, as far as there is sense in it.

        Args:
            makes_room: remove idle build cache where that makes it fit.
        """
        self.add(_docker())
        self.add(_volume(self.config))
        if self.failed:
            return
        self.add(_inodes(self.config))
        self.add(_guard(self.config))
        self.add(_other_builds())
        self.need = estimate.need_of(self._asked, self._arguments, estimate.load(), _has_image)
        self._measure()
        if self.free < self.wanted and makes_room and not self.failed:
            try:
                # Nothing else goes unasked: of images in no container, one may be what the build begins from.
                prune.reclaim_cache(self.config, self.wanted, self._say, wait=5)
            except PROBLEMS as error:
                self._say(f"no build cache was removed: {in_words(error)}")
            self._measure()
        self.add(self._room(makes_room))

    def _measure(self) -> None:
        volume = Volume.of(self.config.volume)
        self.free, self.floor = volume.free, guard.floor_of(self.config.floor, volume.size)

    def _room(self, makes_room: bool) -> Item:
        found = room(self.free, self.floor, self.need)
        if found.level == OK:
            return found
        try:
            things = usage.reclaimable(Engine())
        except PROBLEMS as error:
            return found._replace(text=f"{found.text}. What could be reclaimed is not known: {in_words(error)}")
        if not things:
            return found._replace(text=f"{found.text}. Nothing could be reclaimed: the volume must grow (volume_size)")
        if _is_root() and not makes_room and dict(things).get("build cache", 0) >= self.wanted - self.free:
            return found._replace(level=WARNING, text=f"{found.text}. A build removes so much idle build cache first")
        command = _reclaim_command(self.wanted)
        return found._replace(text=f"{found.text}. Could be reclaimed: {in_short(things)}: {command}")


def in_short(things: Sequence[tuple[str, int]]) -> str:
    """
    >>> in_short([("build cache", 2**30), ("image a", 2**29), ("image b", 2**28), ("image c", 2**27), ("image d", 2**27)])
    'build cache 1.0 GiB, image a 512.0 MiB, image b 256.0 MiB, 2 more 256.0 MiB'
    """
    words = [f"{name} {human(size)}" for name, size in things[:_NAMED]]
    if more := things[_NAMED:]:
        words.append(f"{len(more)} more {human(sum(size for _, size in more))}")
    return ", ".join(words)


def _docker() -> Item:
    if not shutil.which("docker"):
        return Item("docker", FAILED, "there is no command docker")
    if not prune.docker_runs():
        return Item("docker", FAILED, "docker.service is not active")
    try:
        if reason := check.silence():
            return Item("docker", FAILED, f"Docker {reason}")
    except PermissionError:
        return Item("docker", FAILED, "only root and members of the group docker may talk to Docker")
    if what := _elsewhere():
        return Item("docker", WARNING, f"{what} may send the build to another engine than the one looked at here")
    return Item("docker", OK, "answers")


def _elsewhere() -> str:
    """What sends a build to another engine than this host's own, looked for in docker's order; empty: nothing."""
    if host := os.environ.get("DOCKER_HOST"):
        return "" if host in _OUR_HOSTS else "DOCKER_HOST"
    if context := os.environ.get("DOCKER_CONTEXT"):
        return "" if context == "default" else "DOCKER_CONTEXT"
    path = os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            context = json.load(file).get("currentContext")
    except (OSError, ValueError, AttributeError):  # there is none, or docker itself will say what is wrong with it
        return ""
    return f"the context {context} (`docker context use`)" if context not in (None, "", "default") else ""


def _volume(config: Config) -> Item:
    wrong = [*filesystems.out_of_place(mounts_of(), config), *filesystems.put_elsewhere(config)]
    if wrong:
        return Item("volume", FAILED, "; ".join(wrong))
    return Item("volume", OK, f"{config.volume} is mounted, and Docker's data is on it")


def _inodes(config: Config) -> Item:
    counts = os.statvfs(config.volume)
    if not counts.f_files:
        return Item("inodes", OK, "no limit")
    percent = 100 * (counts.f_files - counts.f_ffree) / counts.f_files
    level = FAILED if percent >= config.critical else WARNING if percent >= config.warning else OK
    return Item("inodes", level, f"{int(percent)} % used, {counts.f_ffree} free")


def _guard(config: Config) -> Item:
    if check.GUARD not in config.units:
        return Item("guard", WARNING, "off by the settings: nothing stops a build that takes more than there is")
    if _guard_is_alive():
        return Item("guard", OK, f"{check.GUARD} is active")
    return Item("guard", FAILED, f"{check.GUARD} is not active: `systemctl start {check.GUARD}`")


def _guard_is_alive() -> bool:
    try:
        return guard.is_alive()
    except OSError:  # systemd does not say
        return False


def _other_builds() -> Item:
    if builds := programs_that_build():
        return Item("builds", WARNING, f"beside {', '.join(map(str, builds))}, which may need room, too")
    return Item("builds", OK, "none under way")


def _has_image(name: str) -> bool:
    return _size_of(name) is not None


def _reclaim_command(wanted: int) -> str:
    return f"`{'' if _is_root() else 'sudo '}bulkhead reclaim --need {as_option(wanted)}`"


def _is_root() -> bool:
    return os.geteuid() == 0


def _snapshot(config: Config, need: Need, arguments: Arguments) -> Item:
    if not _is_root():
        return Item("snapshot", FAILED, "only root can take one")
    from bulkhead import snapshot

    try:
        snapshot.create(config, writes=need.bytes, note=f"before a build of {arguments.tag or arguments.context}")
    except PROBLEMS as error:
        return Item("snapshot", FAILED, in_words(error))
    return Item("snapshot", OK, "taken: `bulkhead snapshot rollback` goes back to it")


def _of_snapshot(config: Config) -> str:
    """What has become of it."""
    from bulkhead import snapshot

    try:
        standing = snapshot.ours(config)
    except OSError as error:
        return f"whether the snapshot still stands is not known: {in_words(error)}"
    if not standing:
        return "the snapshot no longer stands: more was written than it could hold, or it was too old"
    return f"the snapshot: {snapshot.described(config, standing[0], time.time())}"


# -- the commands


def preflight(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead preflight`; the exit code: 3 where a build would not be begun."""
    say: Callable[[str], None] = (lambda _: None) if options.json else print
    checklist = Checklist(config, Arguments.of(options.arguments), options.need, say)
    checklist.look(makes_room=False)
    if options.json:
        values = {
            "fits": not checklist.failed,
            "need": checklist.need.bytes,
            "source": checklist.need.source,
            "free": checklist.free,
            "floor": checklist.floor,
            "checks": [item._asdict() for item in checklist.items],
        }
        print(json.dumps(values, indent=4))
    return NOT_BEGUN if checklist.failed else 0


def run(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead build`; the exit code."""
    arguments = Arguments.of(options.arguments)
    checklist = Checklist(config, arguments, options.need, _say)
    checklist.look(makes_room=_is_root())
    if options.snapshot and not checklist.failed:
        checklist.add(_snapshot(config, checklist.need, arguments))
    if checklist.failed:
        _say(f"not begun, because of: {', '.join(checklist.failed)}")
        return NOT_BEGUN
    outcome = _build(config, options.arguments, arguments, checklist.floor)
    for line in told(outcome, checklist.wanted):
        _say(line)
    if options.snapshot:
        _say(_of_snapshot(config))
    if arguments.key and outcome.is_telling:
        _remember(arguments, outcome)
    return outcome.exit_code


class Outcome(NamedTuple):
    """What a build came to."""

    code: int  # of docker build
    is_interrupted: bool = False
    is_stopped: bool = False  # by the guard
    is_short: bool = False  # the volume was about to be full when it ended
    duration: float = 0  # seconds
    peak: int = 0  # bytes above the start
    free: int = 0  # bytes, when it ended
    size: int | None = None  # of the image, if that is known

    @property
    def exit_code(self) -> int:
        return STOPPED if self.is_stopped else self.code

    @property
    def is_telling(self) -> bool:
        """Whether the next one can be expected to need as much: not if all came from the cache, or something else failed."""
        if self.code == 0:
            return self.peak >= max((self.size or 0) // 100, _LEAST)
        return self.is_stopped or self.is_short


def told(outcome: Outcome, wanted: int) -> list[str]:
    """What there is to say after a build.

    Args:
        wanted: bytes that should have been free before it.
    """
    how = "built" if outcome.code == 0 else "interrupted" if outcome.is_interrupted else "failed"
    code = f", exit code {outcome.code}" if outcome.code else ""
    image = f"; the image has {human(outcome.size)}" if outcome.size else ""
    took = f"took {human(outcome.peak)} at its peak{image}; {human(outcome.free)} are free now"
    lines = [f"{how} after {in_time(outcome.duration)}{code}: {took}"]
    if outcome.is_stopped or outcome.is_short:
        why = "the guard has stopped it" if outcome.is_stopped else "Docker's volume was nearly full when it failed"
        command = _reclaim_command(wanted + outcome.peak)
        lines.append(f"{why}: it needs more than it found. {command} makes room, or a larger volume (volume_size)")
    return lines


def _build(config: Config, words: Sequence[str], arguments: Arguments, floor: int) -> Outcome:
    progress = arguments.progress or os.environ.get("BUILDKIT_PROGRESS", "")
    display = Display(kind_of_display(progress, sys.stderr.isatty()))
    began, gauge = time.time(), Gauge(config.volume, floor)
    returned, is_interrupted = _attend(["docker", "build", *words], gauge, display)
    is_short = returned != 0 and not is_interrupted and gauge.is_short()
    return Outcome(
        code=returned if returned >= 0 else 128 - returned,  # as a shell has it
        is_interrupted=is_interrupted,
        is_stopped=returned != 0 and not is_interrupted and _has_been_stopped(began, is_short),
        is_short=is_short,
        duration=time.time() - began,
        peak=gauge.peak,
        free=gauge.volume.free,
        size=_size_of(arguments.tag) if arguments.tag and returned == 0 else None,
    )


def _has_been_stopped(began: float, is_short: bool) -> bool:
    """Whether the guard has stopped this build, which ended just now; what it stopped earlier was somebody else's.

    Its notes are for root, and may come late: the room tells as well.
    """
    noted = state.load(guard.STATE).get("aborted", []) if _is_root() else []
    return any(each["time"] >= max(began, time.time() - _ENDING) for each in noted) or (is_short and _guard_is_alive())


def _size_of(name: str) -> int | None:
    """Bytes of an image; None where the engine has none of this name, as after a build that only pushes it."""
    try:
        return int(Engine().ask("GET", f"/images/{quote(name, safe='/:@')}/json")["Size"])
    except EngineError:
        return None


def _remember(arguments: Arguments, outcome: Outcome) -> None:
    try:
        estimate.remember(arguments.key, outcome.peak, outcome.size)
    except OSError as error:
        _say(f"what it took is not remembered: {in_words(error)}")
        return
    if outcome.code == 0:
        need = estimate.need_of(None, arguments, estimate.load(), _has_image)
        _say(f"the next one is expected to need {human(need.bytes)} ({need.source})")


# -- during it


class Gauge:
    """What happens to the volume while a build is under way."""

    def __init__(self, path: str, floor: int) -> None:
        self.volume = Volume.of(path)
        self.floor = floor
        self.peak = 0  # bytes above the start
        self.rate = growth.Rate()
        self._path = path
        self._start = self.volume.used
        self._short = float("-inf")  # when it was last about to reach the floor

    def look(self) -> None:
        with contextlib.suppress(OSError):  # of no matter to the build
            self.volume = Volume.of(self._path)
        now = time.monotonic()
        self.peak = max(self.peak, self.volume.used - self._start)
        self.rate.add(now, self.volume.free)
        if growth.judge(self.volume.free, self.rate.value, self.floor, _REACH) >= growth.ABORT:
            self._short = now

    def is_short(self) -> bool:
        """Whether there has been no room left to write to, or soon would have been, just now."""
        return time.monotonic() - self._short < _ENDING

    def __str__(self) -> str:
        return describe(self.volume, self.volume.used - self._start, self.rate.value, self.floor)


def describe(volume: Volume, written: int, rate: float, floor: int) -> str:
    """The live line.

    >>> describe(Volume(100 * 2**30, 60 * 2**30, 40 * 2**30), 2**30, 2**28, 5 * 2**30)
    '[######....] 60 % used, 40G free, 1.0G since the start, +256M/s, 2 min 20 s to the floor'
    """
    filled = int(volume.percent * _BAR / 100)
    parts = [f"{volume.percent:.0f} % used", f"{short(volume.free)} free", f"{short(max(written, 0))} since the start"]
    if volume.free <= floor:
        parts.append("below the floor")
    elif rate:
        parts += [f"+{short(rate)}/s", f"{in_time((volume.free - floor) / rate)} to the floor"]
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {', '.join(parts)}"


def in_time(number: float) -> str:
    """
    >>> in_time(59.9), in_time(192), in_time(36000)
    ('59 s', '3 min 12 s', '10 h')
    """
    if number < 60:
        return f"{int(number)} s"
    return f"{int(number) // 60} min {int(number) % 60} s" if number < 7200 else f"{int(number) // 3600} h"


def kind_of_display(progress: str, is_terminal: bool) -> str:
    """How to show what happens, beside what docker itself shows: "title", "lines", or not at all."""
    if is_terminal and progress != "plain":
        return "title" if os.environ.get("TERM", "dumb") != "dumb" else ""
    return "" if progress in ("quiet", "rawjson") else "lines"


class Display:
    """
    Args:
        kind: "title", "lines", or nothing.
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
            _say(str(gauge))
            return
        # What the title was is kept by the terminal (XTWINOPS), and comes back in the end.
        _write(f"{'' if self._has_title else _KEEP_TITLE}\033]2;{gauge}\a")
        self._has_title = True

    def end(self) -> None:
        if self._has_title:
            _write(_OLD_TITLE)
        if self._kind == "title":
            _write(_SHOW_CURSOR)  # which a docker that was killed has left hidden


_KEEP_TITLE, _OLD_TITLE, _SHOW_CURSOR = "\033[22;2t", "\033[23;2t", "\033[?25h"


def _attend(command: list[str], gauge: Gauge, display: Display) -> tuple[int, bool]:
    """Run a command as if it had been called itself.

    Returns:
        Its exit code, below 0 a signal's number, and whether it was asked to end.
    """
    # Whoever ignores that a child has ended, which can be inherited, gets no exit code of it.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # What is ignored, as SIGHUP is under nohup, would come all the same once it is blocked.
    heard = {number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    # Blocked, signals are waited for together with the next look, and none comes between.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    is_interrupted = False
    try:
        # Python itself ignores those that are set back to what they do.
        defaults = [signal.SIGPIPE, signal.SIGXFSZ]
        child = os.posix_spawnp(command[0], command, os.environ, setsigmask=before, setsigdef=defaults)
        while True:
            came = signal.sigtimedwait(heard, _INTERVAL)
            if came and came.si_signo != signal.SIGCHLD:
                is_interrupted = True
                if came.si_code != _BY_THE_KERNEL:
                    os.kill(child, came.si_signo)
            gauge.look()
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status), is_interrupted
            display.show(gauge)
    finally:
        display.end()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say(line: str) -> None:
    _write(f"bulkhead: {line}\n")


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it: the build goes on
        sys.stderr.write(text)
        sys.stderr.flush()
