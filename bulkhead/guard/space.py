"""Make space on Docker's volume: reclaim idle build cache, and give back the ballast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead.docker import engines
from bulkhead.guard import ballast, jobs, policy
from bulkhead.guard.stopper import SETTLING
from bulkhead.text import count, short, span
from bulkhead.watch.results import CRITICAL, OK

if TYPE_CHECKING:
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.reporter import Reporter, StateFile
    from bulkhead.guard.supply import Supply
    from bulkhead.guard.volume_monitor import VolumeMonitor

_M = 2**20

# Minimum interval in seconds between two reclaims: after one that made space, after one that did not, while nothing grows.
_INTERVAL, _INTERVAL_IN_VAIN, _INTERVAL_AT_REST = 10.0, 60.0, 600.0
_AFTERMATH = 60.0  # seconds after a stop in which the build's cache becomes idle
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
        self._left: dict[Supply, int] = {}  # by the last reclaim
        self._interval = _INTERVAL
        self._news: list[tuple[float, int]] = []  # when a reclaim made space, and bytes: not yet reported
        self._last_report = float("-inf")

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
        has_grown = any(each.free < self._left.get(each, 0) - each.worthwhile for each in volume.supplies)
        is_aftermath = now - last_stop < _AFTERMATH  # the first reclaim found the cache still in use
        if (
            self._runner.is_running("reclaim")
            or since < (_INTERVAL if is_aftermath else self._interval)
            or now - last_stop < SETTLING
            or not (has_grown or is_aftermath or since >= _INTERVAL_AT_REST)
            or not engines.dockerd()
        ):
            return
        self._last, self._left = now, {each: each.free for each in volume.supplies}
        config = volume.config
        space, inodes = (2 * each.floor + int(each.rate.value * policy.SOON) for each in (volume.space, volume.inodes))
        self._runner.start(
            "reclaim",
            lambda: jobs.reclaim_cache(config, space, inodes),
            _TIMEOUT,
            lambda freed: self._take_result(now, *freed),
        )

    def _take_result(self, began: float, freed: int, freed_inodes: int) -> None:
        volume = self._volume
        # Only what is written from now on makes another reclaim worthwhile.
        self._left = {each: each.free for each in volume.supplies}
        is_worthwhile = freed >= volume.space.worthwhile or freed_inodes >= volume.inodes.worthwhile
        self._interval = _INTERVAL if is_worthwhile else _INTERVAL_IN_VAIN
        if is_worthwhile:
            volume.forget_rates()
            self._state_file.record_reclaim(freed)
            self._news.append((began, freed))

    def report(self, now: float) -> None:
        """Send an alert about the reclaims since the last one, at most once in `alert_reminder` hours."""
        config = self._volume.config
        if not self._news or now - self._last_report < config.alert_reminder * 3600:
            return
        since, times = self._news[0][0], len(self._news)
        often = f" in {count(times, 'reclaim')} within {span(now - since)}" if times > 1 else ""
        freed, left = (short(size) for size in (sum(size for _, size in self._news), self._volume.space.free))
        self._reporter.alert(OK, f"{freed} of idle build cache removed{often}: {config.volume_mount} has {left} left")
        self._news, self._last_report = [], now


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
            volume.forget_rates()
            self._reporter.alert(
                CRITICAL,
                f"{volume.config.volume_mount} is full ({short(volume.space.free)} left): the ballast of {short(size)} was deleted "
                "so that Docker can answer. `bulkhead rescue` makes space",
                reclaim=True,
            )

    def take(self, now: float) -> None:
        """Take the ballast if the volume is quiet and has space for it. Delete it if the settings want none."""
        volume, config = self._volume, self._volume.config
        if not config.guard_ballast:
            ballast.give_back(config)
        elif volume.space.free > 2 * volume.space.floor + ballast.size(config) and now - volume.last_growth > _QUIET:
            try:
                if ballast.take(config):
                    jobs.say(f"the ballast of {short(ballast.held(config))} is on {config.volume_mount}")
            except OSError as error:
                self._reporter.complain(f"there is no ballast: {error}", now)
            volume.forget_rates()
