"""`bulkhead guard`: no build fills Docker's volume. docker-guard.service runs it, always.

A loop looks at the free space a few times a second. Before the floor is reached, in this order: build cache that is not in
use is reclaimed; the running steps of builds are ended, the fastest-growing first, as many as it takes; where Docker itself
writes for a build (COPY, context, export, a builder in a container), the command line that builds is interrupted. What is no
build is never stopped. Nothing in the loop waits: what may take long is done beside it (aside.py).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead import command, state
from bulkhead.config import PATH as CONFIGURATION
from bulkhead.config import Config
from bulkhead.docker import running_builds
from bulkhead.errors import Problem
from bulkhead.guard import ballast, policy
from bulkhead.guard.background import Job
from bulkhead.guard.jobs import (
    classic_steps,
    drop_due_snapshots,
    reclaim_cache,
    remove_step,
    rescue_docker,
    say,
    send_alerts,
)
from bulkhead.guard.policy import ABORT, BALLAST, DOCKER, NOTHING, RECLAIM
from bulkhead.names import GUARD_SERVICE, MARKER
from bulkhead.storage import lvm
from bulkhead.storage.volume import floor_of, is_mounted
from bulkhead.text import short, span
from bulkhead.watch.findings import CRITICAL, OK, WARNING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

STATE = "guard"
_M = 2**20
_REACTION = 1.0  # seconds from a decision until nothing of the build writes any more
_RETURN = 2.0  # seconds more where several fill the volume: until one's space is back, the others go on
_SETTLING = 3.0  # seconds in which space comes back
_SETTLING_SLOWLY = 10.0  # the same on a busy disk: waited for only beside what hardly grows
_AFTER_STEP, _AFTER_CLIENT = 0.3, 2.0  # seconds until it shows what that has done
_AT_ONCE = 0.1  # the same, below half the floor

# Seconds at least between two looks at containers that may be steps: where there are some or a twentieth of the floor is soon
# written, and else.
_CLASSIC_LOOKS, _CLASSIC_LOOKS_AT_REST = 1.0, 10.0
_SLOW, _RARE = 5.0, 30.0  # seconds between looks at what changes rarely, and hardly ever

# Seconds between two: after one that made room, after one that did not, and where nothing grows.
_RECLAIMS, _RECLAIMS_IN_VAIN, _RECLAIMS_AT_REST = 10.0, 60.0, 600.0
_AFTERMATH = 60.0  # seconds after a build was stopped in which its cache comes free
_RECLAIM_AGAIN = 64 * _M  # bytes less than the last reclaim has left, or else the next has nothing to do
_AGAIN = 600.0  # seconds until the same is told, or tried, again
_WORSE, _LONGEST_REMINDER = 60.0, 7 * 24 * 3600.0  # seconds until it is told that it is worse, and that it still is so
_NEWS = 50  # that wait to be told
_QUIET = 30.0  # seconds without growth after which the ballast is taken
_LEAST_FREE = 64 * _M  # bytes: with less Docker may not be able to answer
_CHECKS_MISSED = 3
_RECLAIM_MAY_TAKE, _RESCUE_MAY_TAKE, _DROP_MAY_TAKE, _MAY_TAKE = 120, 900, 600, 60  # seconds


def run(config: Config, _options: argparse.Namespace) -> int:
    guard = Guard(config)
    guard.begin()
    while True:
        time.sleep(guard.round(time.monotonic()))


def is_alive() -> bool:
    """Whether there is a guard at work.

    Raises:
        OSError: systemd does not say.
    """
    return command.output_of(["systemctl", "is-active", GUARD_SERVICE], lvm.PATIENCE).strip() == "active"


class Stopped(NamedTuple):
    """A build's step, or its command line, that has been ended."""

    at: float  # monotonic
    written: int  # bytes that should come back
    free: int  # then


def expected(stopped: list[Stopped], free: int, now: float) -> int:
    """Bytes that are still to come back of what has been stopped just now."""
    recent = [each for each in stopped if now - each.at <= _SETTLING]
    if not recent:
        return 0
    return max(sum(each.written for each in recent) - max(free - recent[0].free, 0), 0)


class Guard:
    """What it knows of the volume and of those who fill it; `round` is one turn of the loop."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.rate = policy.Rate()
        self.looks = policy.Looks()
        self.floor = self.size = self.free = 0
        self.pause = _AT_ONCE
        self._reaction_cost = 0.0  # seconds that the last look at who writes has taken
        self._volume: int | None = None  # number of the filesystem (f_fsid); None: it is not mounted
        self._steps: list[running_builds.BuildStep] = []  # at the last look
        self._classic: list[running_builds.BuildStep] = []  # among them, as Docker last told
        self._similar: list[str] = []  # containers that only look like steps
        self._stopped: list[Stopped] = []
        self._ended: dict[str, float] = {}  # step or client → when it was stopped
        self._patience = 0.0  # until then what was stopped last may show
        self._acted = float("-inf")
        self._grew = float("-inf")
        self._slow = self._rare = self._published = float("-inf")
        self._classic_looked = self._snapshot_looked = self._reclaimed = self._rescued = float("-inf")
        self._left_by_reclaim = 0
        self._reclaim_pause = _RECLAIMS
        # When it began to grow by what is no build, and what was free then.
        self._unexplained: tuple[float, int] | None = None
        # Where that was told: what was free, when, and the seconds until it is told again.
        self._complaint: tuple[int, float, float] | None = None
        self._low = float("-inf")  # when the floor was last near
        self._jobs: dict[str, tuple[Job, Callable[[Any], None]]] = {}
        self._news: list[tuple[int, str, bool]] = []
        self._told: dict[str, float] = {}
        self._config_time = _changed(CONFIGURATION)
        self._program_time = _changed(sys.argv[0])
        self._is_away = False  # it has been said that the volume is not mounted
        self._checked: tuple[float, float] | None = None  # the time of the last check's file; since when that is known
        self._check_is_missed = False
        known = state.load(STATE)
        aborted, total, reclaimed = (known.get(name) for name in ("aborted", "aborted_total", "reclaimed"))
        self._aborted: deque[Any] = deque(aborted if isinstance(aborted, list) else [], 20)
        self._aborted_total = total if isinstance(total, int) else len(self._aborted)
        self._last_reclaim = reclaimed if isinstance(reclaimed, dict) else {}

    # -- one turn

    def begin(self) -> None:
        say(f"guards {self.config.volume_mount}")
        if not os.path.exists(f"{running_builds.CGROUPS}/cgroup.controllers"):
            self._tell(
                WARNING, "the steps of builds cannot be told apart here, and are not stopped: there is no cgroup v2"
            )
        _notify("READY=1")

    def round(self, now: float) -> float:
        """Look, and do what is to be done; the seconds until the next turn. Whatever fails, there is a next one."""
        try:
            if now - self._slow >= _SLOW:
                self._slow = now
                self._look_around(now)
            if self._jobs:
                self._collect()
            if self._volume is None:
                return _SLOW
            self.pause = self._sample(now)
            if now - self._published >= _RARE and self.size:
                self._publish(now)
        except Exception as error:
            self._complain(f"a turn of the guard failed: {error!r}", now)
            self.pause = policy.NEAR
        return self.pause

    def _sample(self, now: float) -> float:
        counts = os.statvfs(self.config.volume_mount)
        if counts.f_fsid != self._volume:
            self._look_at_mount()
            return 0.0
        self.free = free = counts.f_bavail * counts.f_frsize
        if (size := counts.f_blocks * counts.f_frsize) != self.size:  # grown online
            self.size, self.floor = size, floor_of(self.config.guard_floor, size)
        self.rate.add(now, free)
        rate = self.rate.value
        if rate:
            self._grew = now
        coming = expected(self._stopped, free, now) if self._stopped else 0
        level = policy.judge(free, rate, self.floor, self._reaction(), coming)
        if level == NOTHING:
            return policy.interval(free, rate, self.floor)
        # What root may take beyond what others may is room for Docker, too.
        if counts.f_bfree * counts.f_frsize < self._small():
            level = BALLAST
        self._act(level, now)
        return min(policy.interval(free, rate, self.floor), _AT_ONCE if now - self._acted < _SETTLING else policy.REST)

    def _reaction(self) -> float:
        fill = policy.growing(self.looks.speeds(), self.rate.value) if self.rate.value else []
        is_slow = len(fill) > 1 or fill == [DOCKER]
        return _REACTION + self.pause + self._reaction_cost + (_RETURN if is_slow else 0)

    def _small(self) -> int:
        return max(_LEAST_FREE, ballast.size(self.config) // 2) if self.config.guard_ballast else 0

    def _act(self, level: int, now: float) -> None:
        if level >= BALLAST:
            self._give_back_ballast(now)
        if self.rate.value:
            self._look_at_writers(now)
        if level == RECLAIM:
            importlib.import_module("bulkhead.docker.engine")  # which takes a while: it may soon be needed in a hurry
        if level >= ABORT and self.rate.value:
            self._stop_one(now)
        else:
            self._unexplained = None
        self._reclaim(now)
        if now - self._published >= 1 and self.rate.value:
            self._publish(now)

    # -- who writes

    def _look_at_writers(self, now: float) -> None:
        pause = policy.pause_of_looks(self.free, self.rate.value, self.floor)
        if now - self.looks.time() < pause:
            return
        began = time.monotonic()
        dockerd = running_builds.dockerd()
        self._classic = [step for each in self._classic if (step := running_builds.refreshed(each))]
        self._steps = [*(running_builds.steps(dockerd) if dockerd else []), *self._classic]
        self._ended = {key: at for key, at in self._ended.items() if now - at <= _SETTLING}
        written = {step.id: step.written for step in self._steps}
        fill = policy.growing(self.looks.speeds(), self.rate.value)
        if dockerd and not written.keys() & fill:
            written[DOCKER] = running_builds.written_by_docker(dockerd)
        self.looks.add(now, written)
        self._reaction_cost = time.monotonic() - began
        is_calm = not self._classic and self.rate.value * _CLASSIC_LOOKS_AT_REST < self.floor / 20
        pause = max(pause, _CLASSIC_LOOKS_AT_REST if is_calm else _CLASSIC_LOOKS)
        is_due = now - max(self._classic_looked, self._acted) >= pause
        if dockerd and is_due and "classic" not in self._jobs:
            self._classic_looked = now
            self._begin("classic", classic_steps, _MAY_TAKE, self._found_classic)

    def _found_classic(self, result: Any) -> None:
        self._classic, self._similar = [running_builds.BuildStep(*each) for each in result[0]], result[1]
        for step in self._classic:
            self.looks.meet(step.id, step.written)

    # -- stopping

    def _stop_one(self, now: float) -> None:
        """Stop the build that fills the volume fastest; the next one when it shows that this was not enough."""
        if now < self._patience and not (self.free < self.floor // 2 and now - self._acted >= _AT_ONCE):
            return
        speeds, rate = self.looks.speeds(), self.rate.value
        if now - self._acted < _SETTLING_SLOWLY and rate * _SETTLING_SLOWLY < self.floor / 10:
            return
        left = [step for step in self._steps if step.id not in self._ended]
        if step := policy.first_to_go(left, speeds, rate):
            self._abort(step, now)
        elif DOCKER in policy.growing(speeds, rate) and now >= self._patience and self._interrupt(now):
            pass
        elif speeds and not expected(self._stopped, self.free, now):
            self._tell_unexplained(now)

    def _abort(self, step: running_builds.BuildStep, now: float) -> None:
        began = time.monotonic()
        why = self._why()
        self._patience, self._acted = now + _AFTER_STEP, now
        self._ended[step.id] = now
        running_builds.abort(
            step, f"docker-guard stops this build: {why}. This step has written {short(step.written)}."
        )
        self._reaction_cost += time.monotonic() - began
        self._stopped = [*self._stopped[-20:], Stopped(now, step.written, self.free)]
        self._has_stopped(now, "step", step.id, step.words, step.written, why)
        if step.container:
            self._begin(f"remove {step.id}", lambda: remove_step(step.id), _MAY_TAKE, lambda _: None)

    def _interrupt(self, now: float) -> bool:
        """Interrupt a command line that has Docker write; whether there was one."""
        building, pulling = running_builds.clients()
        # One whose build is at a step has not Docker itself write for it, nor has one whose step was stopped, and which ends.
        at_a_step = len(self._steps) + sum(now - each.at <= _SETTLING_SLOWLY for each in self._stopped)
        candidates = building if len(building) > at_a_step or self.free < self.floor // 2 else []
        if self.config.guard_stop_pulls:
            candidates = [*candidates, *pulling]
        for client in candidates:
            key = f"{client.pid} {client.started}"
            if key in self._ended:
                continue
            why = self._why()
            self._ended[key] = now
            if not running_builds.interrupt(client, f"docker-guard interrupts this: {why}."):
                continue
            self._patience, self._acted = now + _AFTER_CLIENT, now
            self._has_stopped(now, "command", key, client.words, 0, why)
            return True
        return False

    def _why(self) -> str:
        return (
            f"{self.config.volume_mount} has {short(self.free)} left, fills by {short(self.rate.value)}/s "
            f"and {'is' if self.free < self.floor else 'would fall'} below its floor of {short(self.floor)}"
        )

    def _tell_unexplained(self, now: float) -> None:
        """What grows is no build, or none that may be stopped: it is told, and left alone."""
        self._unexplained = since, free = self._unexplained or (now, self.free)
        if now - since < 1 or self.free >= free:
            return
        pause = self.config.alert_reminder * 3600
        if self._complaint:
            told_free, told, pause = self._complaint
            has_fallen = self.free <= told_free - self.floor // 10 and now - told >= _WORSE
            if not has_fallen and now - told < pause:
                return
            pause = min(2 * pause, _LONGEST_REMINDER)
        self._complaint, self._low = (self.free, now, pause), now
        looks = (
            f" Left alone, though they look like a build's steps: {', '.join(self._similar)}." if self._similar else ""
        )
        self._tell(
            CRITICAL,
            f"{self._why()}. What fills it is no build that could be stopped.{looks} `bulkhead status` shows what is there",
            reclaim=True,
        )

    def _has_stopped(self, now: float, what: str, identifier: str, words: str, written: int, why: str) -> None:
        """Note it, and tell."""
        figures = {"free": self.free, "floor": self.floor, "rate": int(self.rate.value)}
        self._aborted.append(
            {"time": time.time(), "what": what, "id": identifier, "words": words, "written": written, **figures}
        )
        self._aborted_total += 1
        self._reclaimed = float("-inf")  # what it has left in the cache is idle now
        self.rate.forget()
        text = f"the build {what} `{words}`" + (f", which has written {short(written)}" if written else "") + f": {why}"
        say(f"stops {text}")
        self._news.append((WARNING, f"the guard has stopped {text}", True))
        self._publish(now)  # `bulkhead build` asks as soon as docker has ended

    # -- making room

    def _reclaim(self, now: float) -> None:
        since = now - self._reclaimed
        has_grown = self.free < self._left_by_reclaim - _RECLAIM_AGAIN
        # What a stopped build leaves was still in use at the first look.
        is_aftermath = now - self._acted < _AFTERMATH
        if (
            "reclaim" in self._jobs
            or since < (_RECLAIMS if is_aftermath else self._reclaim_pause)
            or now - self._acted < _SETTLING
            or not (has_grown or is_aftermath or since >= _RECLAIMS_AT_REST)
        ):
            return
        if not running_builds.dockerd():
            return
        self._reclaimed, self._left_by_reclaim = now, self.free
        need = 2 * self.floor + int(self.rate.value * policy.SOON)
        self._begin("reclaim", lambda: reclaim_cache(self.config, need), _RECLAIM_MAY_TAKE, self._has_reclaimed)

    def _has_reclaimed(self, freed: int) -> None:
        # What has been given back is no reason to look again at once for more of it.
        self._left_by_reclaim = self.free
        self._reclaim_pause = _RECLAIMS if freed >= _RECLAIM_AGAIN else _RECLAIMS_IN_VAIN
        if freed >= _RECLAIM_AGAIN:
            self.rate.forget()
            self._last_reclaim = {"time": time.time(), "freed": freed}
            text = f"{short(freed)} of idle build cache removed: {self.config.volume_mount} has {short(self.free)} left"
            self._tell(OK, text, now=time.monotonic(), once="reclaimed")

    def _give_back_ballast(self, now: float) -> None:
        if size := ballast.give_back(self.config):
            self._grew = now
            self.rate.forget()
            self._tell(
                CRITICAL,
                f"{self.config.volume_mount} is full ({short(self.free)} left): the ballast of {short(size)} is given back, so that "
                "Docker can answer. `bulkhead rescue` makes room",
                reclaim=True,
            )

    def _take_ballast(self, now: float) -> None:
        if not self.config.guard_ballast:
            ballast.give_back(self.config)
        elif self.free > 2 * self.floor + ballast.size(self.config) and now - self._grew > _QUIET:
            try:
                if ballast.take(self.config):
                    say(f"the ballast of {short(ballast.held(self.config))} is on {self.config.volume_mount}")
            except OSError as error:
                self._complain(f"there is no ballast: {error}", now)
            self.rate.forget()

    # -- what changes rarely

    def _look_around(self, now: float) -> None:
        _notify(f"WATCHDOG=1\nSTATUS={short(self.free)} free, +{short(self.rate.value)}/s")
        self._make_way()
        self._read_config(now)
        self._look_at_mount()
        if self.free < self.floor * 1.1:
            self._low = now
        elif now - self._low >= _AGAIN:
            self._complaint = None
        is_sampled = self._volume is not None and self.size > 0
        if is_sampled:
            self._watch_snapshot(now)
        if now - self._rare >= _RARE and (is_sampled or self._volume is None):
            self._rare = now
            self._look_at_checks(now)
            if is_sampled:
                self._take_ballast(now)
                self._rescue(now)
        self._send_news(now)

    def _make_way(self) -> None:
        """End for systemd to start the program that has replaced this one, which can no longer load its own modules."""
        if not self._jobs and _changed(sys.argv[0]) not in (self._program_time, 0.0):
            say("ends: another program is in its place, and goes on")
            raise SystemExit(0)

    def _read_config(self, now: float) -> None:
        if (changed := _changed(CONFIGURATION)) == self._config_time:
            return
        self._config_time = changed
        try:
            self.config = Config.load()
        except Problem as problem:
            self._complain(f"goes on with the configuration that it had: {problem}", now)
        self.size = 0  # another floor

    def _look_at_mount(self) -> None:
        volume = os.statvfs(self.config.volume_mount).f_fsid if is_mounted(self.config.volume_mount) else None
        if volume != self._volume:
            self._volume, self.size, self.free = volume, 0, 0
            self.rate.forget()
        if self._is_away != (volume is None):
            self._is_away = volume is None
            is_away = f"not mounted, or has lost its {MARKER}: nothing is guarded until it is back"
            say(f"{self.config.volume_mount} is {is_away if self._is_away else 'mounted'}")

    def _look_at_checks(self, now: float) -> None:
        """Tell when cron no longer calls check-disk: by the time on this side, which no clock that is set can move."""
        last = max(_changed(f"{directory}/check.json") for directory in (state.VOLATILE, state.PERSISTENT))
        if self._checked is None or last != self._checked[0]:
            if self._check_is_missed:
                self._check_is_missed = False
                self._tell(OK, "check-disk is called by cron again")
            self._checked = (last, now)
        late = now - self._checked[1]
        if late > _CHECKS_MISSED * self.config.check_interval * 60 and not self._check_is_missed:
            self._check_is_missed = True
            self._tell(WARNING, f"check-disk has not looked for {span(late)}: `systemctl status cron` may say why")

    def _watch_snapshot(self, now: float) -> None:
        if now - self._snapshot_looked < (_SLOW if now - self._grew < _QUIET else _RARE):
            return
        name = f"/dev/{self.config.vg_name}/{self.config.snapshot}"
        if os.path.lexists(name) and "snapshot" not in self._jobs:
            self._snapshot_looked = now
            self._unlock()
            self._begin("snapshot", lambda: drop_due_snapshots(self.config), _DROP_MAY_TAKE, self._have_dropped)

    def _have_dropped(self, dropped: list[str]) -> None:
        for text in dropped:
            self._tell(WARNING, text)

    def _rescue(self, now: float) -> None:
        is_due = now - self._rescued >= _AGAIN and "rescue" not in self._jobs
        if not self.config.guard_rescue or not is_due or self.free >= self.floor or running_builds.dockerd():
            return
        self._rescued = now
        self._unlock()
        self._begin("rescue", lambda: rescue_docker(self.config), _RESCUE_MAY_TAKE, self._has_rescued)

    def _has_rescued(self, result: tuple[list[str], list[str]] | None) -> None:
        if result:
            said, wrong = ("; ".join(lines)[-600:] for lines in result)
            self.rate.forget()
            end = f"could not be brought back: {wrong}" if wrong else "has been brought back"
            self._tell(
                CRITICAL if wrong else WARNING, f"Docker, stopped by its full volume, {end}. What was done: {said}"
            )

    # -- telling

    def _tell(self, level: int, text: str, *, now: float = 0, once: str = "", reclaim: bool = False) -> None:
        """In the journal, and to those who are alerted.

        Args:
            once: a name for what is not told again for a while.
        """
        if once:
            if now - self._told.get(once, float("-inf")) < _AGAIN:
                return
            self._told[once] = now
        say(text)
        self._news.append((level, text, reclaim))

    def _send_news(self, now: float) -> None:
        # Not while what has been stopped ends: that is in a greater hurry.
        if self._news and "alert" not in self._jobs and now - self._acted >= _SETTLING:
            self._news = news = self._news[-_NEWS:]
            self._begin("alert", lambda: send_alerts(self.config, news), _MAY_TAKE, self._have_told)

    def _have_told(self, count: int) -> None:
        """What could not be told is tried again."""
        del self._news[:count]

    def _complain(self, text: str, now: float) -> None:
        """In the journal, the same not all the time."""
        if now - self._told.get(text, float("-inf")) >= _AGAIN:
            self._told = {key: at for key, at in self._told.items() if now - at < _AGAIN}
            self._told[text] = now
            say(text)

    def _publish(self, now: float) -> None:
        self._published = now
        values = {
            "time": time.time(),
            "uptime": time.clock_gettime(time.CLOCK_BOOTTIME),
            "free": self.free,
            "rate": int(self.rate.value),
            "floor": self.floor,
            "reclaimed": self._last_reclaim,
            "aborted": [*self._aborted],
            "aborted_total": self._aborted_total,
            "ballast": ballast.held(self.config),
        }
        try:
            state.save_volatile(STATE, values)
        except OSError as error:
            self._complain(f"what it sees cannot be shown: {error}", now)

    # -- beside the loop

    def _begin(self, name: str, work: Callable[[], Any], seconds: float, then: Callable[[Any], None]) -> None:
        if name in self._jobs:
            return
        try:
            self._jobs[name] = (Job(work, seconds), then)
        except OSError as error:  # no process can be made: what the loop does itself goes on
            self._complain(f"{name}: {error}", time.monotonic())

    def _unlock(self) -> None:
        """What is in a greater hurry changes the host now: a reclaim that goes on has the lock."""
        if "reclaim" in self._jobs:
            self._jobs["reclaim"][0].stop("something else was in a greater hurry")

    def _collect(self) -> None:
        for name, (job, then) in [*self._jobs.items()]:
            if job.has_ended():
                del self._jobs[name]
                if job.error:
                    self._complain(f"{name}: {job.error}", time.monotonic())
                else:
                    then(job.result)


# -- systemd


def _notify(text: str) -> None:
    """Tell systemd (sd_notify(3)); a name with @ is an abstract socket."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        address = f"\0{path[1:]}" if path.startswith("@") else path
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto(text.encode(), address)


def _changed(path: str) -> float:
    """When a file was last changed; 0 where there is none."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
