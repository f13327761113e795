"""Take care of what changes rarely: the snapshot, a Docker that the full volume has stopped, and cron's checks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.docker import engines
from bulkhead.docker.start import start_limit
from bulkhead.files import changed_at
from bulkhead.guard import jobs
from bulkhead.guard.reporter import REPEAT
from bulkhead.text import span
from bulkhead.watch.results import CRITICAL, OK, WARNING

if TYPE_CHECKING:
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.reporter import Reporter
    from bulkhead.guard.volume_monitor import VolumeMonitor

_SNAPSHOT_INTERVAL, _SNAPSHOT_INTERVAL_QUIET = 5.0, 30.0  # seconds
_QUIET = 30.0  # seconds without growth
_DROP_TIMEOUT, _RESCUE_TIMEOUT = 600, 900  # seconds; a rescue gets Docker's start limit beside it
_CHECKS_MISSED = 3
_STOPPED = "Docker, stopped by its full volume,"


class SnapshotKeeper:
    """Drops the snapshot that bulkhead took, before it is full or when it is old."""

    def __init__(self, volume: VolumeMonitor, reporter: Reporter, runner: JobRunner) -> None:
        self._volume = volume
        self._reporter = reporter
        self._runner = runner
        self._last = float("-inf")  # monotonic seconds

    def check(self, now: float) -> None:
        """Start a check of the snapshot in the background, if there is one and it is time."""
        config = self._volume.config
        is_quiet = now - self._volume.last_growth >= _QUIET
        if now - self._last < (_SNAPSHOT_INTERVAL_QUIET if is_quiet else _SNAPSHOT_INTERVAL):
            return
        self._last = now
        if os.path.lexists(f"/dev/{config.vg_name}/{config.snapshot}"):
            self._runner.start("snapshot", lambda: jobs.due_snapshots(config), _DROP_TIMEOUT, self._drop)

    def _drop(self, due: list[tuple[str, str]]) -> None:
        if due:
            config = self._volume.config
            release_lock(self._runner)
            self._runner.start("snapshot", lambda: jobs.drop_due_snapshots(config), _DROP_TIMEOUT, self._report)

    def _report(self, dropped: list[str]) -> None:
        for text in dropped:
            self._reporter.alert(WARNING, text)


class Rescuer:
    """Rescues a Docker that the full volume has stopped (no space, or no inodes), if the settings say so."""

    def __init__(self, volume: VolumeMonitor, reporter: Reporter, runner: JobRunner) -> None:
        self._volume = volume
        self._reporter = reporter
        self._runner = runner
        self._last = self._last_failure = float(
            "-inf"
        )  # monotonic seconds: the last rescue, the last alert that one failed

    def check(self, now: float) -> None:
        """Start a rescue in the background, if Docker is down, a floor is not free, and it is time."""
        volume, config = self._volume, self._volume.config
        is_due = now - self._last >= REPEAT and not self._runner.is_running("rescue")
        has_floors = all(supply.free >= supply.floor for supply in volume.supplies)
        if not config.guard_rescue or not is_due or has_floors or engines.dockerd():
            return
        self._last = now
        release_lock(self._runner)
        timeout = _RESCUE_TIMEOUT + start_limit(config.docker_start_limit)
        self._runner.start("rescue", lambda: jobs.rescue_docker(config), timeout, self._report)

    def _report(self, result: tuple[list[str], list[str]] | None) -> None:
        if not result:
            return
        done, wrong = ("; ".join(lines)[-600:] for lines in result)
        self._volume.forget_rates()
        if not wrong:
            self._last_failure = float("-inf")
            self._reporter.alert(WARNING, f"{_STOPPED} has been brought back. What was done: {done}")
        elif self._last - self._last_failure >= self._volume.config.alert_reminder * 3600:
            self._last_failure = self._last
            text = (
                f"{_STOPPED} could not be brought back: {wrong}. What was done: {done}. The guard tries it again every "
            )
            self._reporter.alert(CRITICAL, f"{text}{span(REPEAT)}")


class CheckWatch:
    """Notices that cron no longer runs check-disk. It measures by the monotonic clock, which nobody can set."""

    def __init__(self, volume: VolumeMonitor, reporter: Reporter) -> None:
        self._volume = volume
        self._reporter = reporter
        self._last: tuple[float, float] | None = None  # time of the last check, and when the guard noticed it
        self._is_missed = False

    def check(self, now: float) -> None:
        """Send an alert if several checks were missed, and another when cron runs them again."""
        last = max(changed_at(f"{directory}/check.json") for directory in (state.VOLATILE, state.PERSISTENT))
        if self._last is None or last != self._last[0]:
            if self._is_missed:
                self._is_missed = False
                self._reporter.alert(OK, "cron runs check-disk again")
            self._last = (last, now)
        late = now - self._last[1]
        if late > _CHECKS_MISSED * self._volume.config.check_interval * 60 and not self._is_missed:
            self._is_missed = True
            self._reporter.alert(
                WARNING, f"check-disk has not run for {span(late)}: `systemctl status cron` may say why"
            )


def release_lock(runner: JobRunner) -> None:
    """Stop a reclaim that runs: a more urgent job needs its lock."""
    runner.stop("reclaim", "a more urgent job needed its lock")
