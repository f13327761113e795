"""Decide which results of a check become alerts, queue them for each receiver, and send what is queued."""

from __future__ import annotations

import os
import subprocess
import syslog
import time
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.names import ALERT_SERVICE
from bulkhead.text import count, plain, span
from bulkhead.watch.alert_store import AlertState, Message, News, OpenAlert, Queue, changing
from bulkhead.watch.apprise import APPRISE_TYPES, send
from bulkhead.watch.results import CRITICAL, LEVELS, OK, UNKNOWN, WARNING, CheckResult, complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from bulkhead.config import Config

_HOUR = 3600
_WEEK = 7 * 24 * _HOUR

_PRIORITIES = {
    OK: syslog.LOG_NOTICE,
    WARNING: syslog.LOG_WARNING,
    CRITICAL: syslog.LOG_CRIT,
    UNKNOWN: syslog.LOG_WARNING,
}


def run(config: Config, options: argparse.Namespace) -> int:
    """`bulkhead alert`."""
    return test(config) if options.test else deliver(config)


def decide(
    standing: Mapping[str, OpenAlert], results: Sequence[CheckResult], now: float, reminder: float, volume: str = ""
) -> tuple[dict[str, OpenAlert], list[News]]:
    """Decide which alerts are open after a check, and what is news: each change of a level, and reminders.

    A result that is no longer there counts as OK.

    Args:
        reminder: hours until the first reminder. Each later one takes twice as long, at most a week.
        volume: where Docker's volume is mounted.
    """
    after: dict[str, OpenAlert] = {}
    news: list[News] = []
    for result in results:
        was = standing.get(result.key)
        text = plain(result.text)
        level = LEVELS[result.level]
        line = ""
        if was and was.level == result.level:
            alert = OpenAlert(was.key, was.level, text, min(was.since, now), min(was.reported, now), was.reminders)
            if now - alert.reported >= min(reminder * _HOUR * 2 ** min(alert.reminders, 20), _WEEK):
                line = f"still {level} after {span(now - alert.since)}: {text}"
                alert = OpenAlert(was.key, was.level, text, alert.since, now, was.reminders + 1)
        else:
            alert = OpenAlert(result.key, result.level, text, now, now)
            if was:
                line = f"{level} (was {LEVELS[was.level]} for {span(now - was.since)}): {text}"
            elif result.level:
                line = f"{level}: {text}"
        if alert.level:
            after[result.key] = alert
        if line:
            about_space = result.mount == volume and result.key.startswith(("use:", "inodes:", "forecast:"))
            news.append(News(result.level, line, bool(result.level) and about_space))
    found = {result.key for result in results}
    for was in standing.values():
        if was.key not in found:
            line = f"OK (was {LEVELS[was.level]} for {span(now - was.since)}): resolved: {was.text}"
            news.append(News(OK, line))
    return after, news


def report_changes(config: Config, results: Sequence[CheckResult], now: float) -> list[str]:
    """Queue the news of a check, and start the delivery of everything that is queued.

    Returns:
        The news, and what goes wrong with the delivery, in lines.

    Raises:
        OSError: the alerts cannot be saved. The system's log has them.
    """
    with changing() as alerts:
        alerts.standing, news = decide(alerts.standing, results, now, config.alert_reminder, config.volume_mount)
        _queue(alerts, config, news, now)
        waiting = any(queue.messages for queue in alerts.queues.values())
    return [*(item.text for item in news), *(_start_delivery() if waiting else [])]


def report_event(config: Config, news: Sequence[News], now: float) -> list[str]:
    """Queue news of an event that no check would find, and start the delivery of everything that is queued.

    Returns:
        What goes wrong with the delivery, in lines.

    Raises:
        OSError: the news cannot be saved. The system's log has them.
    """
    with changing() as alerts:
        _queue(alerts, config, news, now)
    return _start_delivery() if config.receiver_names else []


def _queue(alerts: AlertState, config: Config, news: Sequence[News], now: float) -> None:
    for item in news:
        syslog.syslog(_PRIORITIES[item.level], item.text)
    for gone in set(alerts.queues) - set(config.receiver_names):
        queue = alerts.queues.pop(gone)
        if queue.messages:
            text = f"{gone} is no longer a receiver: {count(len(queue.messages), 'queued message')} dropped"
            syslog.syslog(syslog.LOG_WARNING, text)
    if news:
        message = Message.of(news, now, os.uname().nodename)
        for receiver in config.receiver_names:
            alerts.queues.setdefault(receiver, Queue()).add(message)


def _start_delivery() -> list[str]:
    """Start the unit that sends what is queued.

    Returns:
        What goes wrong with it, in lines.
    """
    try:
        subprocess.run(["systemctl", "start", "--no-block", ALERT_SERVICE], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        complain(problem := f"alerts wait for the next check: {ALERT_SERVICE} cannot be started: {error}")
        return [problem]
    return []


# -- delivery


def deliver(config: Config) -> int:
    """Send what is queued, to all receivers at once.

    Returns:
        The exit code: 1 if messages still wait.

    Raises:
        TimeoutError: another delivery is running.
    """
    from concurrent.futures import ThreadPoolExecutor

    way_out = ""
    failed: set[str] = set()
    with state.locked("alert", 5):
        # Repeat until no more messages come: starting the unit while it runs does nothing.
        while queues := {
            receiver: queue
            for receiver, queue in AlertState.load().queues.items()
            if queue.messages and receiver in config.receiver_names and receiver not in failed
        }:
            if not way_out and any(message.reclaim for queue in queues.values() for message in queue.messages):
                from bulkhead.watch import advice

                way_out = advice.way_out(config)
            with ThreadPoolExecutor(len(queues)) as pool:
                done = pool.map(_empty, queues, [way_out] * len(queues))
                failed |= {receiver for receiver, is_empty in zip(queues, done, strict=True) if not is_empty}
    return int(bool(failed))


def _empty(receiver: str, way_out: str) -> bool:
    """Send a receiver its messages until its queue is empty or one fails.

    Returns:
        Whether none failed.
    """
    while (queue := AlertState.load().queues.get(receiver, Queue())).messages:
        message = queue.next
        if message.reclaim and not way_out:
            return True  # it came just now: the next round sends it
        result = send(
            receiver, message.title, message.body(time.time(), queue.dropped, way_out), APPRISE_TYPES[message.level]
        )
        if not result.reached:
            print(f"{receiver}: failed: {result.problem}; {len(queue.messages)} queued", flush=True)
            with changing() as alerts:
                if receiver in alerts.queues:
                    alerts.queues[receiver].failed(message)
            return False
        # A power cut here sends it twice; in the other order the message would be lost.
        with changing() as alerts:
            if receiver in alerts.queues:
                alerts.queues[receiver].sent(message, queue.dropped)
        print(f"{receiver}: sent{f' in part: {result.problem}' if result.problem else ''}", flush=True)
    return True


def test(config: Config) -> int:
    """Send each receiver a message, and print which got it.

    Returns:
        The exit code: 1 if a receiver did not get it, or if there is none.
    """
    from concurrent.futures import ThreadPoolExecutor

    if not config.receiver_names:
        print("there are no receivers: name them in the setting alert_receivers")
        return 1
    host = os.uname().nodename
    body = f"Alerts of {host} reach this receiver.\n\n{time.strftime('%F %T %Z')}\n"
    with ThreadPoolExecutor(len(config.receiver_names)) as pool:
        results = list(pool.map(lambda receiver: send(receiver, f"Test: {host}", body, "info"), config.receiver_names))
    for receiver, result in zip(config.receiver_names, results, strict=True):
        partly = "in part, " if result.reached else ""
        print(f"{receiver}: {f'failed: {partly}{result.problem}' if result.problem else 'sent'}")
    return int(any(result.problem for result in results))
