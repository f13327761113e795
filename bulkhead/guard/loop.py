"""`bulkhead guard`: no build fills Docker's volume. docker-guard.service runs it, always.

A loop samples the free space and the free inodes a few times a second. Before one of them reaches its floor, the loop acts
in this order. It reclaims idle build cache. It stops the running steps of builds, the fastest-growing first, as many as
necessary. Where Docker itself writes for a build (COPY, context, export, a builder in a container), it interrupts the
client. It stops nothing but builds, and builds only if the volume lasts longer for it. The loop never waits: jobs that may
take long run in the background.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from bulkhead import systemd
from bulkhead.config import PATH as CONFIGURATION
from bulkhead.config import Config
from bulkhead.docker import cgroups
from bulkhead.errors import Problem
from bulkhead.files import changed_at
from bulkhead.guard import jobs, policy
from bulkhead.guard.build_limits import BuildLimits
from bulkhead.guard.classic_steps import ClassicSteps
from bulkhead.guard.job_runner import JobRunner
from bulkhead.guard.policy import ABORT, BALLAST, DOCKER, RECLAIM
from bulkhead.guard.reporter import Reporter, StateFile, UnstoppableGrowth
from bulkhead.guard.space import BallastKeeper, CacheReclaimer
from bulkhead.guard.stopper import AT_ONCE, SETTLING, Stopper
from bulkhead.guard.upkeep import CheckWatch, Rescuer, SnapshotKeeper
from bulkhead.guard.volume_monitor import VolumeMonitor
from bulkhead.guard.writers import Writers
from bulkhead.names import GUARD_SERVICE
from bulkhead.storage import lvm
from bulkhead.text import short
from bulkhead.watch.results import WARNING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bulkhead.guard.supply import Supply

_REACTION = 1.0  # seconds from a decision until nothing of the build writes any more
_RETURN = 2.0  # further seconds while several builds fill the volume: until the space of one is back, the others go on
# Seconds between checks of what changes rarely, while something goes on and at rest, and of what changes very rarely.
_SLOW, _SLOW_AT_REST, _RARE = 5.0, 15.0, 30.0
_STATE_AT_REST = 60.0  # minimum interval in seconds between two writes of the state file, at rest
_REST = 1.0  # seconds in which nothing but the volume is looked at, at rest


def run(config: Config, _options: argparse.Namespace) -> int:
    guard = Guard(config)
    guard.begin()
    while True:
        time.sleep(guard.round(time.monotonic()))


def is_alive() -> bool:
    """Tell whether the guard runs.

    Raises:
        OSError: systemd does not say.
    """
    return systemd.unit_states([GUARD_SERVICE], lvm.PATIENCE)[GUARD_SERVICE] == "active"


class Guard:
    """The loop. One `round` of it decides which parts do their work now."""

    def __init__(self, config: Config) -> None:
        self.volume = volume = VolumeMonitor(config)
        self.reporter = reporter = Reporter()
        self.state_file = state_file = StateFile(volume, reporter)
        self.runner = runner = JobRunner(reporter.complain)
        classic = ClassicSteps(runner)
        self.writers = Writers(volume, classic)
        self.stopper = Stopper(volume, self.writers, reporter, state_file, runner)
        supplies: tuple[Supply, ...] = (volume.space, volume.inodes)
        self.unstoppable = {supply: UnstoppableGrowth(volume, supply, reporter) for supply in supplies}
        self.cache = CacheReclaimer(volume, reporter, state_file, runner)
        self.ballast = BallastKeeper(volume, reporter)
        self.snapshot = SnapshotKeeper(volume, reporter, runner)
        self.rescuer = Rescuer(volume, reporter, runner)
        self.checks = CheckWatch(volume, reporter)
        self.build_limits = BuildLimits(reporter, state_file, classic)
        self.pause = AT_ONCE  # seconds until the next turn
        self._is_resting = False  # whether there is nothing to do unless the volume changes
        self._rests_until = float("-inf")  # monotonic seconds
        self._last_slow = self._last_rare = float("-inf")  # monotonic seconds
        self._config_time = changed_at(CONFIGURATION)
        self._program_time = changed_at(sys.argv[0])

    def begin(self) -> None:
        """Tell the journal and systemd that the guard runs."""
        jobs.say(f"guards {self.volume.config.volume_mount}")
        if not os.path.exists(f"{cgroups.ROOT}/cgroup.controllers"):
            self.reporter.alert(
                WARNING,
                "this host has no cgroup v2: the guard cannot tell the steps of builds apart, and does not stop them",
            )
        _notify(lambda: "READY=1")

    def round(self, now: float) -> float:
        """Sample the volume, and act. A failure is reported, and never raised: the loop must go on.

        Args:
            now: monotonic seconds.

        Returns:
            Seconds until the next turn.
        """
        try:
            if now < self._rests_until and self.volume.is_unchanged(now):
                return policy.REST
            pause = self._turn(now)
        except Exception as error:
            self.reporter.complain(f"a turn of the guard failed: {error!r}", now)
            pause = self.pause = policy.NEAR
            self._is_resting = False  # at rest, the next turns would only look at the volume, and fail again
        self.build_limits.check(now)  # last: the volume comes first
        self._rests_until = now + _REST if self._is_resting else now
        return pause

    def _turn(self, now: float) -> float:
        if now - self._last_slow >= (_SLOW_AT_REST if self._is_resting else _SLOW):
            self._last_slow = now
            self._check_slow(now)
        if self.runner:
            self.runner.collect()
        if self._is_resting and self.volume.is_unchanged(now):
            return policy.REST
        if not self.volume.is_mounted:
            self._is_resting = False  # else its return would be noticed late
            return _SLOW
        self.pause = self._sample(now)
        if self.volume.size:
            self.state_file.write(now, unless_within=_RARE)
        return self.pause

    def _sample(self, now: float) -> float:
        volume, self._is_resting = self.volume, False
        if not volume.sample(now):
            return 0.0
        levels = {supply: self._judge(supply, now, supply.rate.value) for supply in volume.supplies}
        pause = min(policy.interval(each.free, each.rate.value, each.floor) for each in levels)
        if not any(levels.values()):
            has_begun = self._last_rare > float("-inf")
            self._is_resting = has_begun and not volume.is_growing and not self.runner
            return pause
        # Docker is root: it also has what is reserved for root.
        if self.ballast.is_needed():
            levels[volume.space] = BALLAST
        self._act(levels, now)
        return min(pause, AT_ONCE) if now - self.stopper.history.last < SETTLING else pause

    def _judge(self, supply: Supply, now: float, rate: float) -> int:
        free, floor = supply.free, supply.floor
        if not rate:
            return policy.judge(free, rate, floor, 0)
        return policy.judge(free, rate, floor, self._reaction(supply), self.stopper.history.expected(supply, now))

    def _reaction(self, supply: Supply) -> float:
        """Return the seconds from now until a build that must be stopped no longer writes."""
        growing = policy.growing(supply.history.speeds(), supply.rate.value)
        is_slow = len(growing) > 1 or growing == [DOCKER]
        return _REACTION + self.pause + self.writers.cost + self.build_limits.cost + (_RETURN if is_slow else 0)

    def _act(self, levels: dict[Supply, int], now: float) -> None:
        stops = self.stopper.history
        if max(levels.values()) >= BALLAST:
            self.ballast.give_back(now)
        for supply, level in levels.items():
            if level and supply.is_growing and self.writers.scan(now, stops.last, supply):
                stops.forget_ended(now)
        if max(levels.values()) == RECLAIM:
            importlib.import_module("bulkhead.docker.engine")  # slow, and may soon be needed in a hurry
        for supply, level in levels.items():
            if level < ABORT or not supply.is_growing:
                self.unstoppable[supply].end()
                continue
            # What was taken at once, as an allocated file is, does not go on, and the builds are not to blame.
            rate = min(supply.rate.value, supply.history.fill_rate())
            if self._judge(supply, now, rate) >= ABORT and (left_alone := self.stopper.stop_one(now, supply)):
                self.unstoppable[supply].report(now, left_alone)
        if stops.last == now:
            self.cache.reclaim_soon()
        self.cache.reclaim(now, stops.last)
        if self.volume.is_growing:
            self.state_file.write(now, unless_within=1)

    # -- what changes rarely

    def _check_slow(self, now: float) -> None:
        volume = self.volume
        _notify(lambda: f"WATCHDOG=1\nSTATUS={short(volume.space.free)} free, +{short(volume.space.rate.value)}/s")
        self._make_way()
        self._read_config(now)
        is_rare = now - self._last_rare >= _RARE
        if is_rare or not self._is_resting:  # at rest, another filesystem in its place is noticed anyway
            volume.check_mount()
        for unstoppable in self.unstoppable.values():
            unstoppable.forget_report(now)
        if volume.is_sampled:
            self.snapshot.check(now)
        self.cache.report(now)
        if is_rare and (volume.is_sampled or not volume.is_mounted):
            self._last_rare = now
            self.checks.check(now)
            if volume.is_sampled:
                self.ballast.take(now)
                self.rescuer.check(now)
                if self._is_resting:
                    self.state_file.write(now, unless_within=_STATE_AT_REST)
        # Alerts wait while a stopped build ends: that is more urgent.
        if now - self.stopper.history.last >= SETTLING:
            self.reporter.send_alerts(volume.config, self.runner)
        self._is_resting = self._is_resting and not self.runner  # the results of jobs are to be collected

    def _make_way(self) -> None:
        """End if a new version has replaced the program: the old one can no longer load its modules. systemd starts it."""
        if not self.runner and changed_at(sys.argv[0]) not in (self._program_time, 0.0):
            jobs.say("ends: a new version of the program takes over")
            raise SystemExit(0)

    def _read_config(self, now: float) -> None:
        if (changed := changed_at(CONFIGURATION)) == self._config_time:
            return
        self._config_time = changed
        config = self.volume.config
        try:
            config = Config.load()
        except Problem as problem:
            self.reporter.complain(f"keeps its old configuration: {problem}", now)
        self.volume.configure(config)


def _notify(text: Callable[[], str]) -> None:
    """Send a message to systemd (sd_notify(3)). A socket's name that begins with @ is abstract."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        address = f"\0{path[1:]}" if path.startswith("@") else path
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto(text().encode(), address)
