"""`bulkhead guard`: no build fills Docker's volume. docker-guard.service runs it, always.

A loop samples the free space a few times a second. Before the volume reaches its floor, the loop acts in this order. It
reclaims idle build cache. It stops the running steps of builds, the fastest-growing first, as many as necessary. Where
Docker itself writes for a build (COPY, context, export, a builder in a container), it interrupts the client. It stops
nothing but builds. The loop never waits: jobs that may take long run in the background.
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
from bulkhead.guard.job_runner import JobRunner
from bulkhead.guard.policy import ABORT, BALLAST, DOCKER, NOTHING, RECLAIM
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

_REACTION = 1.0  # seconds from a decision until nothing of the build writes any more
_RETURN = 2.0  # further seconds while several builds fill the volume: until the space of one is back, the others go on
_SLOW, _RARE = 5.0, 30.0  # seconds between checks of what changes rarely, and of what changes very rarely


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
        self.writers = Writers(volume, runner)
        self.stopper = Stopper(volume, self.writers, reporter, state_file, runner)
        self.unstoppable = UnstoppableGrowth(volume, reporter)
        self.cache = CacheReclaimer(volume, reporter, state_file, runner)
        self.ballast = BallastKeeper(volume, reporter)
        self.snapshot = SnapshotKeeper(volume, reporter, runner)
        self.rescuer = Rescuer(volume, reporter, runner)
        self.checks = CheckWatch(volume, reporter)
        self.build_limits = BuildLimits(reporter, state_file, runner)
        self.pause = AT_ONCE  # seconds until the next turn
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
        _notify("READY=1")

    def round(self, now: float) -> float:
        """Sample the volume, and act. A failure is reported, and never raised: the loop must go on.

        Args:
            now: monotonic seconds.

        Returns:
            Seconds until the next turn.
        """
        try:
            if now - self._last_slow >= _SLOW:
                self._last_slow = now
                self._check_slow(now)
            if self.runner:
                self.runner.collect()
            if not self.volume.is_mounted:
                return _SLOW
            self.pause = self._sample(now)
            self.build_limits.check(now)
            if self.volume.size:
                self.state_file.write(now, unless_within=_RARE)
        except Exception as error:
            self.reporter.complain(f"a turn of the guard failed: {error!r}", now)
            self.pause = policy.NEAR
        return self.pause

    def _sample(self, now: float) -> float:
        volume = self.volume
        if not volume.sample(now):
            return 0.0
        free, rate, floor = volume.free, volume.rate.value, volume.floor
        if rate:
            expected = self.stopper.history.expected(free, now)
            level = policy.judge(free, rate, floor, self._reaction(), expected)
        else:
            level = policy.judge(free, rate, floor, 0)
        if level == NOTHING:
            return policy.interval(free, rate, floor)
        # Docker is root: it also has what is reserved for root.
        if self.ballast.is_needed():
            level = BALLAST
        self._act(level, now)
        longest = AT_ONCE if now - self.stopper.history.last < SETTLING else policy.REST
        return min(policy.interval(free, rate, floor), longest)

    def _reaction(self) -> float:
        """Return the seconds from now until a build that must be stopped no longer writes."""
        growing = self.writers.growing()
        is_slow = len(growing) > 1 or growing == [DOCKER]
        return _REACTION + self.pause + self.writers.cost + (_RETURN if is_slow else 0)

    def _act(self, level: int, now: float) -> None:
        stops = self.stopper.history
        if level >= BALLAST:
            self.ballast.give_back(now)
        if self.volume.rate.value and self.writers.scan(now, stops.last):
            stops.forget_ended(now)
        if level == RECLAIM:
            importlib.import_module("bulkhead.docker.engine")  # slow, and may soon be needed in a hurry
        if level >= ABORT and self.volume.rate.value:
            if self.stopper.stop_one(now):
                self.unstoppable.report(now, self.writers.similar)
            elif stops.last == now:
                self.cache.reclaim_soon()
        else:
            self.unstoppable.end()
        self.cache.reclaim(now, stops.last)
        if self.volume.rate.value:
            self.state_file.write(now, unless_within=1)

    # -- what changes rarely

    def _check_slow(self, now: float) -> None:
        volume = self.volume
        _notify(f"WATCHDOG=1\nSTATUS={short(volume.free)} free, +{short(volume.rate.value)}/s")
        self._make_way()
        self._read_config(now)
        volume.check_mount()
        self.unstoppable.forget_report(now)
        if volume.is_sampled:
            self.snapshot.check(now)
        if now - self._last_rare >= _RARE and (volume.is_sampled or not volume.is_mounted):
            self._last_rare = now
            self.checks.check(now)
            if volume.is_sampled:
                self.ballast.take(now)
                self.rescuer.check(now)
        # Alerts wait while a stopped build ends: that is more urgent.
        if now - self.stopper.history.last >= SETTLING:
            self.reporter.send_alerts(volume.config, self.runner)

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


def _notify(text: str) -> None:
    """Send a message to systemd (sd_notify(3)). A socket's name that begins with @ is abstract."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        address = f"\0{path[1:]}" if path.startswith("@") else path
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto(text.encode(), address)
