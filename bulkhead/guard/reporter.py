"""What the guard reports: to the journal, to those who get alerts, and to the other commands through its state file."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from bulkhead import state
from bulkhead.guard import ballast, jobs
from bulkhead.watch.results import CRITICAL

if TYPE_CHECKING:
    from bulkhead.config import Config
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.supply import Supply
    from bulkhead.guard.volume_monitor import VolumeMonitor

STATE = "guard"  # name of the state file
REPEAT = 600.0  # seconds until the guard reports, or tries, the same again
_WORSE = 60.0  # seconds until the guard reports that growth has become worse
_LONGEST_REMINDER = 7 * 24 * 3600.0  # seconds
_QUEUE_SIZE = 50  # alerts that may wait
_STOPS_SHOWN = 20  # in the state file
_ALERT_TIMEOUT = 60  # seconds


class Reporter:
    """Writes to the journal, and keeps alerts until they are sent."""

    def __init__(self) -> None:
        self._alerts: list[tuple[int, str, bool, bool]] = []  # level, text, what else the alert names
        self._last: dict[str, float] = {}  # text → when the journal last got it, in monotonic seconds

    def alert(self, level: int, text: str, *, reclaim: bool = False, writers: bool = False, journal: str = "") -> None:
        """Report to the journal, and to those who get alerts.

        Args:
            level: of the alert, as in a check.
            reclaim: whether the alert names what could be reclaimed.
            writers: whether it names the processes that write most.
            journal: the line for the journal; empty: the same text.
        """
        jobs.say(journal or text)
        self._alerts.append((level, text, reclaim, writers))

    def complain(self, text: str, now: float) -> None:
        """Report to the journal; the same text at most every ten minutes."""
        if now - self._last.get(text, float("-inf")) >= REPEAT:
            self._last = {key: at for key, at in self._last.items() if now - at < REPEAT}
            self._last[text] = now
            jobs.say(text)

    def send_alerts(self, config: Config, runner: JobRunner) -> None:
        """Send the alerts that wait, in the background. Those that could not be sent are tried again."""
        if self._alerts and not runner.is_running("alert"):
            self._alerts = alerts = self._alerts[-_QUEUE_SIZE:]
            runner.start("alert", lambda: jobs.send_alerts(config, alerts), _ALERT_TIMEOUT, self._remove_sent)

    def _remove_sent(self, count: int) -> None:
        del self._alerts[:count]


class StateFile:
    """What the other commands read: the volume as last sampled, and what the guard has done."""

    def __init__(self, volume: VolumeMonitor, reporter: Reporter) -> None:
        self._volume = volume
        self._reporter = reporter
        self._last_write = float("-inf")  # monotonic seconds
        known = state.load(STATE)
        aborted, total, reclaimed = (known.get(name) for name in ("aborted", "aborted_total", "reclaimed"))
        self._aborted: deque[Any] = deque(aborted if isinstance(aborted, list) else [], _STOPS_SHOWN)
        self._aborted_total = total if isinstance(total, int) else len(self._aborted)
        self._reclaimed = reclaimed if isinstance(reclaimed, dict) else {}

    @property
    def stops(self) -> list[dict[str, Any]]:
        """The last builds that were stopped, the latest last."""
        return [*self._aborted]

    def record_stop(self, what: str, identifier: str, words: str, written: int) -> None:
        """Record that the guard stopped a build, with the state of the volume at this moment.

        Args:
            what: "step" or "command".
            identifier: of the step or of the client.
            words: its command line.
            written: bytes.
        """
        volume = self._volume
        figures = {"free": volume.space.free, "floor": volume.space.floor, "rate": int(volume.space.rate.value)}
        self._aborted.append(
            {"time": time.time(), "what": what, "id": identifier, "words": words, "written": written, **figures}
        )
        self._aborted_total += 1

    def record_reclaim(self, freed: int) -> None:
        """Record that a reclaim has freed so many bytes."""
        self._reclaimed = {"time": time.time(), "freed": freed}

    def write(self, now: float, *, unless_within: float = 0) -> None:
        """Write the file.

        Args:
            unless_within: do nothing if the last write was less than this many seconds ago.
        """
        if now - self._last_write < unless_within:
            return
        self._last_write = now
        volume = self._volume
        values = {
            "time": time.time(),
            "uptime": time.clock_gettime(time.CLOCK_BOOTTIME),
            "free": volume.space.free,
            "rate": int(volume.space.rate.value),
            "floor": volume.space.floor,
            "inodes_free": volume.inodes.free,
            "inode_floor": volume.inodes.floor,
            "reclaimed": self._reclaimed,
            "aborted": [*self._aborted],
            "aborted_total": self._aborted_total,
            "ballast": ballast.held(volume.config),
        }
        try:
            state.save_volatile(STATE, values)
        except OSError as error:
            self._reporter.complain(f"the guard cannot write its state file: {error}", now)


class UnstoppableGrowth:
    """Reports that something fills the volume that the guard may not stop."""

    def __init__(self, volume: VolumeMonitor, supply: Supply, reporter: Reporter) -> None:
        self._volume = volume
        self._supply = supply
        self._reporter = reporter
        self._since: tuple[float, int] | None = None  # when it began, and what was free then
        self._reported: tuple[int, float, float] | None = None  # what was free, when, seconds until the next reminder
        self._last_low = float("-inf")  # when the volume was last near its floor

    def report(self, now: float, what: str) -> None:
        """Report it after one second, again for each further tenth of the floor, and as a reminder.

        Args:
            what: fills the volume, in sentences.
        """
        supply, config = self._supply, self._volume.config
        self._since = since, free = self._since or (now, supply.free)
        if now - since < 1 or supply.free >= free:
            return
        pause = config.alert_reminder * 3600
        if self._reported:
            reported_free, at, pause = self._reported
            has_fallen = supply.free <= reported_free - supply.floor // 10 and now - at >= _WORSE
            if not has_fallen and now - at < pause:
                return
            pause = min(2 * pause, _LONGEST_REMINDER)
        self._reported, self._last_low = (supply.free, now, pause), now
        text = f"{supply.describe(config.volume_mount)}. {what}. `bulkhead status` shows what is there"
        self._reporter.alert(CRITICAL, text, reclaim=True, writers=True)

    def end(self) -> None:
        """Note that nothing of the kind fills the volume now."""
        self._since = None

    def forget_report(self, now: float) -> None:
        """Forget the last report when the volume has not been near its floor for ten minutes."""
        if self._supply.free < self._supply.floor * 1.1:
            self._last_low = now
        elif now - self._last_low >= REPEAT:
            self._reported = None
