"""Alerts: what of a check is told, and to whom it still has to be. Apprise sends it, each receiver from its own queue."""

from __future__ import annotations

import contextlib
import os
import subprocess
import syslog
import time
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.names import ALERT_SERVICE, DOCKER
from bulkhead.text import plain, span
from bulkhead.watch.alert_store import Book, Message, News, Queue, Standing, changing
from bulkhead.watch.apprise import APPRISE_TYPES, send
from bulkhead.watch.findings import CRITICAL, LEVELS, OK, UNKNOWN, WARNING, CheckResult, complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from bulkhead.config import Config

_DOCKERS_PATIENCE = 60  # seconds for Docker to say what could be reclaimed
_NAME = 40  # characters of a name of what could be reclaimed
_HOUR = 3600
_WEEK = 7 * 24 * _HOUR

_PRIORITIES = {
    OK: syslog.LOG_NOTICE,
    WARNING: syslog.LOG_WARNING,
    CRITICAL: syslog.LOG_CRIT,
    UNKNOWN: syslog.LOG_WARNING,
}


def run(config: Config, options: argparse.Namespace) -> int:
    return test(config) if options.test else deliver(config)


def decide(
    standing: Mapping[str, Standing], findings: Sequence[CheckResult], now: float, reminder: float, volume: str = ""
) -> tuple[dict[str, Standing], list[News]]:
    """What stands after a check, and what of it is told: each change of a level, and now and then what stays.

    What is no longer found is as good as OK.

    Args:
        reminder: hours until the first reminder. Each later one takes twice as long, at most a week.
        volume: where Docker's volume is mounted.
    """
    after: dict[str, Standing] = {}
    news: list[News] = []
    for finding in findings:
        was = standing.get(finding.key)
        text = plain(finding.text)
        level = LEVELS[finding.level]
        told = ""
        if was and was.level == finding.level:
            alert = Standing(was.key, was.level, text, min(was.since, now), min(was.told, now), was.reminders)
            if now - alert.told >= min(reminder * _HOUR * 2 ** min(alert.reminders, 20), _WEEK):
                told = f"still {level} after {span(now - alert.since)}: {text}"
                alert = Standing(was.key, was.level, text, alert.since, now, was.reminders + 1)
        else:
            alert = Standing(finding.key, finding.level, text, now, now)
            if was:
                told = f"{level} (was {LEVELS[was.level]} for {span(now - was.since)}): {text}"
            elif finding.level:
                told = f"{level}: {text}"
        if alert.level:
            after[finding.key] = alert
        if told:
            about_space = finding.mount == volume and finding.key.startswith(("use:", "inodes:", "forecast:"))
            news.append(News(finding.level, told, bool(finding.level) and about_space))
    found = {finding.key for finding in findings}
    for was in standing.values():
        if was.key not in found:
            told = f"OK (was {LEVELS[was.level]} for {span(now - was.since)}): no longer so: {was.text}"
            news.append(News(OK, told))
    return after, news


def changed(config: Config, findings: Sequence[CheckResult], now: float) -> list[str]:
    """Queue what there is to tell of a check, and have everything that is queued sent.

    Returns:
        What is told, in lines.

    Raises:
        OSError: it can be kept nowhere; the system's log has it.
    """
    with changing() as book:
        book.standing, news = decide(book.standing, findings, now, config.alert_reminder, config.volume_mount)
        _queue(book, config, news, now)
        waiting = any(queue.messages for queue in book.queues.values())
    told = [item.text for item in news]
    return [*told, *(_start_delivery() if waiting else [])]


def tell(config: Config, news: Sequence[News], now: float) -> list[str]:
    """Queue what has happened, which no check would find, and have everything that is queued sent.

    Returns:
        What goes wrong with the sending, in lines.

    Raises:
        OSError: it can be kept nowhere; the system's log has it.
    """
    with changing() as book:
        _queue(book, config, news, now)
    return _start_delivery() if config.receiver_names else []


def _queue(book: Book, config: Config, news: Sequence[News], now: float) -> None:
    for item in news:
        syslog.syslog(_PRIORITIES[item.level], item.text)
    for gone in set(book.queues) - set(config.receiver_names):
        queue = book.queues.pop(gone)
        if queue.messages:
            text = f"{gone} is no receiver any more; queued for it, and dropped: {len(queue.messages)}"
            syslog.syslog(syslog.LOG_WARNING, text)
    if news:
        message = Message.of(news, now, os.uname().nodename)
        for receiver in config.receiver_names:
            book.queues.setdefault(receiver, Queue()).add(message)


def _start_delivery() -> list[str]:
    """What goes wrong with it, in lines."""
    try:
        subprocess.run(["systemctl", "start", "--no-block", ALERT_SERVICE], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        complain(problem := f"alerts wait for the next check: {ALERT_SERVICE} cannot be started: {error}")
        return [problem]
    return []


# -- delivery


def deliver(config: Config) -> int:
    """Send what is queued, to all receivers side by side; the exit code: 1 if some of it has to wait.

    Raises:
        TimeoutError: another is at it.
    """
    from concurrent.futures import ThreadPoolExecutor

    way_out = ""
    failed: set[str] = set()
    with state.locked("alert", 5):
        # Again until nothing has come meanwhile: a start of the unit while it runs is none.
        while queues := {
            receiver: queue
            for receiver, queue in Book.load().queues.items()
            if queue.messages and receiver in config.receiver_names and receiver not in failed
        }:
            if not way_out and any(message.reclaim for queue in queues.values() for message in queue.messages):
                way_out = _way_out(config)
            with ThreadPoolExecutor(len(queues)) as pool:
                done = pool.map(_empty, queues, [way_out] * len(queues))
                failed |= {receiver for receiver, is_empty in zip(queues, done, strict=True) if not is_empty}
    return int(bool(failed))


def _empty(receiver: str, way_out: str) -> bool:
    """Send the messages that a receiver has to get, until there are none or one fails."""
    while (queue := Book.load().queues.get(receiver, Queue())).messages:
        message = queue.next
        if message.reclaim and not way_out:
            return True  # it has come just now
        result = send(
            receiver, message.title, message.body(time.time(), queue.dropped, way_out), APPRISE_TYPES[message.level]
        )
        if not result.reached:
            print(f"{receiver}: failed: {result.problem}; {len(queue.messages)} queued", flush=True)
            with changing() as book:
                if receiver in book.queues:
                    book.queues[receiver].failed(message)
            return False
        # A cut here sends it twice; the other way round it would be lost.
        with changing() as book:
            if receiver in book.queues:
                book.queues[receiver].sent(message, queue.dropped)
        print(f"{receiver}: sent{f' in part: {result.problem}' if result.problem else ''}", flush=True)
    return True


def test(config: Config) -> int:
    """Send each receiver a message and print who got it; the exit code: 1 if one did not, or there is none."""
    from concurrent.futures import ThreadPoolExecutor

    if not config.receiver_names:
        print("there are no receivers of alerts: alert_receivers of the settings names them")
        return 1
    host = os.uname().nodename
    body = f"A test of {host}'s alerts: this one arrived.\n\n{time.strftime('%F %T %Z')}\n"
    with ThreadPoolExecutor(len(config.receiver_names)) as pool:
        results = list(pool.map(lambda receiver: send(receiver, f"Test: {host}", body, "info"), config.receiver_names))
    for receiver, result in zip(config.receiver_names, results, strict=True):
        partly = "in part, " if result.reached else ""
        print(f"{receiver}: {f'failed: {partly}{result.problem}' if result.problem else 'sent'}")
    return int(any(result.problem for result in results))


def _way_out(config: Config) -> str:
    """What could be reclaimed on Docker's volume, and how. Docker may be hung: it is not waited for for ever."""
    import threading

    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(_reclaimable()), daemon=True)
    asking.start()
    asking.join(_DOCKERS_PATIENCE)
    command = "bulkhead prune"
    with contextlib.suppress(OSError):
        volume = os.statvfs(config.volume_mount)
        whole = (volume.f_blocks - volume.f_bfree + volume.f_bavail) * volume.f_frsize
        command = f"bulkhead reclaim --need {enough(whole, config.check_threshold)}"
    return f"Could be reclaimed: {found[0] if found else 'unknown'}.\nDo it: `{command}`. More: `bulkhead status`"


def enough(whole: int, warning: int) -> str:
    """What must be free for a warning to end, 5 points below where it begins.

    >>> enough(60 * 2**30, 80)
    '15G'
    """
    return f"{-(-whole * (105 - warning) // (100 * 2**30))}G"


def _reclaimable() -> str:
    from bulkhead.docker.engine import Engine
    from bulkhead.docker.usage import reclaimable
    from bulkhead.errors import PROBLEMS
    from bulkhead.sizes import human

    try:
        # Its socket is not touched while it does not run: systemd would start it.
        subprocess.run(["systemctl", "is-active", "--quiet", DOCKER], check=True, timeout=10)
        found = reclaimable(Engine())[:5]
        return ", ".join(f"{name[-_NAME:]} {human(size)}" for name, size in found) or "nothing"
    except PROBLEMS:
        return "unknown, Docker does not answer"
