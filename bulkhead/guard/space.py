"""Make space on Docker's volume: reclaim idle build cache, and give back the ballast."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bulkhead.docker import engines
from bulkhead.guard import ballast, jobs, policy
from bulkhead.guard.stopper import SETTLING
from bulkhead.text import short
from bulkhead.watch.results import CRITICAL, OK

if TYPE_CHECKING:
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.reporter import Reporter, StateFile
    from bulkhead.guard.volume_monitor import VolumeMonitor

_M = 2**20

# Minimum interval in seconds between two reclaims: after one that made space, after one that did not, while nothing grows.
_INTERVAL, _INTERVAL_IN_VAIN, _INTERVAL_AT_REST = 10.0, 60.0, 600.0
_AFTERMATH = 60.0  # seconds after a stop in which the build's cache becomes idle
_WORTHWHILE = (
    64 * _M
)  # bytes: the next reclaim is worth it if the last one freed so many, or so many were written since
_QUIET = 30.0  # seconds without growth before the ballast is taken
_LEAST_FREE = 64 * _M  # bytes: with less Docker may not be able to answer
_TIMEOUT = 120  # seconds


class CacheReclaimer:
    """Reclaims idle build cache when the floor comes near."""

    def __init__(self, volume: VolumeMonitor, reporter: Reporter, state_file: StateFile, runner: JobRunner) -> None:
        self._volume = volume
        self._reporter = reporter
        self._state_file = state_file
        self._runner = runner
        self._last = float("-inf")  # monotonic seconds
        self._free_after = 0  # bytes that the last reclaim left free
        self._interval = _INTERVAL

    def reclaim_soon(self) -> None:
        """Let the next reclaim be due at once: a stopped build leaves cache that becomes idle."""
        self._last = float("-inf")

    def reclaim(self, now: float, last_stop: float) -> None:
        """Start a reclaim in the background, if it is time for one.

        Args:
            now: monotonic seconds.
            last_stop: when the guard last stopped a build, in monotonic seconds.
        """
        volume, since = self._volume, now - self._last
        has_grown = volume.free < self._free_after - _WORTHWHILE
        is_aftermath = now - last_stop < _AFTERMATH  # the first reclaim found the cache still in use
        if (
            self._runner.is_running("reclaim")
            or since < (_INTERVAL if is_aftermath else self._interval)
            or now - last_stop < SETTLING
            or not (has_grown or is_aftermath or since >= _INTERVAL_AT_REST)
            or not engines.dockerd()
        ):
            return
        self._last, self._free_after = now, volume.free
        config, need = volume.config, 2 * volume.floor + int(volume.rate.value * policy.SOON)
        self._runner.start("reclaim", lambda: jobs.reclaim_cache(config, need), _TIMEOUT, self._take_result)

    def _take_result(self, freed: int) -> None:
        volume = self._volume
        # Only what is written from now on makes another reclaim worthwhile.
        self._free_after = volume.free
        self._interval = _INTERVAL if freed >= _WORTHWHILE else _INTERVAL_IN_VAIN
        if freed >= _WORTHWHILE:
            volume.rate.forget()
            self._state_file.record_reclaim(freed)
            text = f"{short(freed)} of idle build cache removed: {volume.config.volume_mount} has {short(volume.free)} left"
            self._reporter.alert_once("reclaimed", OK, text, time.monotonic())


class BallastKeeper:
    """Takes the ballast while there is space, and gives it back when the volume is full."""

    def __init__(self, volume: VolumeMonitor, reporter: Reporter) -> None:
        self._volume = volume
        self._reporter = reporter

    def is_needed(self) -> bool:
        """Tell whether so little is free, even for root, that Docker may not be able to answer."""
        config = self._volume.config
        return bool(config.guard_ballast) and self._volume.free_for_root < max(_LEAST_FREE, ballast.size(config) // 2)

    def give_back(self, now: float) -> None:
        """Delete the ballast, and send an alert; do nothing if there is none."""
        volume = self._volume
        if size := ballast.give_back(volume.config):
            volume.note_growth(now)
            volume.rate.forget()
            self._reporter.alert(
                CRITICAL,
                f"{volume.config.volume_mount} is full ({short(volume.free)} left): the ballast of {short(size)} was deleted "
                "so that Docker can answer. `bulkhead rescue` makes space",
                reclaim=True,
            )

    def take(self, now: float) -> None:
        """Take the ballast if the volume is quiet and has space for it. Delete it if the settings want none."""
        volume, config = self._volume, self._volume.config
        if not config.guard_ballast:
            ballast.give_back(config)
        elif volume.free > 2 * volume.floor + ballast.size(config) and now - volume.last_growth > _QUIET:
            try:
                if ballast.take(config):
                    jobs.say(f"the ballast of {short(ballast.held(config))} is on {config.volume_mount}")
            except OSError as error:
                self._reporter.complain(f"there is no ballast: {error}", now)
            volume.rate.forget()
