"""What the guard reports: to the journal, to those who get alerts, and to the other commands through its state file."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from bulkhead import state
from bulkhead.guard import ballast, jobs
from bulkhead.text import short
from bulkhead.watch.results import CRITICAL, WARNING

if TYPE_CHECKING:
    from bulkhead.guard.job_runner import JobRunner
    from bulkhead.guard.volume_monitor import VolumeMonitor

STATE = "guard"
REPEAT = 600.0  # seconds until the same is reported, or tried, again
_WORSE, _LONGEST_REMINDER = (
    60.0,
    7 * 24 * 3600.0,
)  # seconds until a worse state, and an unchanged one, is reported again
_QUEUED = 50  # alerts that may wait
_ALERT_TIMEOUT = 60  # seconds


class Reporter:
    """Reports, and remembers what it has reported."""

    def __init__(self, volume: VolumeMonitor) -> None:
        self._volume = volume
        self._alerts: list[
            tuple[int, str, bool]
        ] = []  # that wait to be sent: level, text, whether to name what to reclaim
        self._last: dict[str, float] = {}  # text or name → when it was last reported, in monotonic seconds
        self._published = float("-inf")
        known = state.load(STATE)
        aborted, total, reclaimed = (known.get(name) for name in ("aborted", "aborted_total", "reclaimed"))
        self._aborted: deque[Any] = deque(aborted if isinstance(aborted, list) else [], 20)
        self._aborted_total = total if isinstance(total, int) else len(self._aborted)
        self._reclaimed = reclaimed if isinstance(reclaimed, dict) else {}

    def alert(self, level: int, text: str, *, reclaim: bool = False) -> None:
        """Report to the journal, and to those who get alerts.

        Args:
            level: of the alert, as a check has them.
            reclaim: the alert names what could be reclaimed.
        """
        jobs.say(text)
        self._alerts.append((level, text, reclaim))

    def alert_once(self, name: str, level: int, text: str, now: float) -> None:
        """Report, unless something of this name was reported a moment ago."""
        if now - self._last.get(name, float("-inf")) >= REPEAT:
            self._last[name] = now
            self.alert(level, text)

    def complain(self, text: str, now: float) -> None:
        """Report to the journal; the same text at most every ten minutes."""
        if now - self._last.get(text, float("-inf")) >= REPEAT:
            self._last = {key: at for key, at in self._last.items() if now - at < REPEAT}
            self._last[text] = now
            jobs.say(text)

    def report_stop(self, now: float, what: str, identifier: str, words: str, written: int, why: str) -> None:
        """Record that a build was stopped, and report it.

        Args:
            what: "step" or "command".
            identifier: of the step or of the client.
            words: its command line.
            written: bytes.
        """
        volume = self._volume
        figures = {"free": volume.free, "floor": volume.floor, "rate": int(volume.rate.value)}
        self._aborted.append(
            {"time": time.time(), "what": what, "id": identifier, "words": words, "written": written, **figures}
        )
        self._aborted_total += 1
        volume.rate.forget()
        text = f"the build {what} `{words}`" + (f", which has written {short(written)}" if written else "") + f": {why}"
        jobs.say(f"stops {text}")
        self._alerts.append((WARNING, f"the guard has stopped {text}", True))
        self.publish(now)  # `bulkhead build` reads it as soon as docker has ended

    def record_reclaim(self, freed: int) -> None:
        self._reclaimed = {"time": time.time(), "freed": freed}

    def send_alerts(self, runner: JobRunner) -> None:
        """Send the alerts that wait, beside the loop. What could not be sent is tried again."""
        if self._alerts and not runner.is_running("alert"):
            self._alerts = alerts = self._alerts[-_QUEUED:]
            config = self._volume.config
            runner.start("alert", lambda: jobs.send_alerts(config, alerts), _ALERT_TIMEOUT, self._remove_sent)

    def _remove_sent(self, count: int) -> None:
        del self._alerts[:count]

    def publish(self, now: float, *, unless_within: float = 0) -> None:
        """Write the state file for the other commands.

        Args:
            unless_within: do nothing if it was written within so many seconds.
        """
        if now - self._published < unless_within:
            return
        self._published = now
        volume = self._volume
        values = {
            "time": time.time(),
            "uptime": time.clock_gettime(time.CLOCK_BOOTTIME),
            "free": volume.free,
            "rate": int(volume.rate.value),
            "floor": volume.floor,
            "reclaimed": self._reclaimed,
            "aborted": [*self._aborted],
            "aborted_total": self._aborted_total,
            "ballast": ballast.held(volume.config),
        }
        try:
            state.save_volatile(STATE, values)
        except OSError as error:
            self.complain(f"the state of the guard cannot be written: {error}", now)


class UnstoppableGrowth:
    """Reports that the volume fills by something that is no build, or no build that may be stopped; leaves it alone."""

    def __init__(self, volume: VolumeMonitor, reporter: Reporter) -> None:
        self._volume = volume
        self._reporter = reporter
        self._since: tuple[float, int] | None = None  # when it began, and the bytes that were free then
        self._reported: tuple[int, float, float] | None = None  # bytes free, when, seconds until the next reminder
        self._last_low = float("-inf")  # when the floor was last near

    def stop(self) -> None:
        """Note that the volume does not fill by it now."""
        self._since = None

    def report(self, now: float, similar: list[str]) -> None:
        """Report it once it has gone on for a second; again when a tenth of the floor more is gone, or for a reminder.

        Args:
            similar: names of containers that look like steps of a build, and were left alone.
        """
        volume = self._volume
        self._since = since, free = self._since or (now, volume.free)
        if now - since < 1 or volume.free >= free:
            return
        pause = volume.config.alert_reminder * 3600
        if self._reported:
            reported_free, at, pause = self._reported
            has_fallen = volume.free <= reported_free - volume.floor // 10 and now - at >= _WORSE
            if not has_fallen and now - at < pause:
                return
            pause = min(2 * pause, _LONGEST_REMINDER)
        self._reported, self._last_low = (volume.free, now, pause), now
        left_alone = f" Left alone, though they look like a build's steps: {', '.join(similar)}." if similar else ""
        self._reporter.alert(
            CRITICAL,
            f"{volume.describe()}. What fills it is no build that the guard may stop.{left_alone} "
            "`bulkhead status` shows what is there",
            reclaim=True,
        )

    def settle(self, now: float) -> None:
        """Forget what was reported once the floor has not been near for a while."""
        if self._volume.free < self._volume.floor * 1.1:
            self._last_low = now
        elif now - self._last_low >= REPEAT:
            self._reported = None
