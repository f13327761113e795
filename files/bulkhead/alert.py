"""Alerts: what of a check is told, and to whom it still has to be. Apprise sends it, each receiver from its own queue."""

from __future__ import annotations

import contextlib
import os
import subprocess
import syslog
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.check import CRITICAL, LEVELS, OK, SEVERITY, UNKNOWN, WARNING, complain, plain, span

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from bulkhead.check import Finding
    from bulkhead.config import Config

RECEIVERS = "/etc/bulkhead/receivers"  # a line for each: NAME=ADDRESS
UNIT = "bulkhead-alert.service"
STATE = "alerts"  # what stands and what is queued, in one file: no cut comes between the two
CAPACITY = 100  # messages of a queue

_PATIENCE = 180  # seconds for a message: Apprise alone takes long to start on a busy host
_DOCKERS_PATIENCE = 60  # seconds for Docker to say what could be reclaimed
_LATE = 300  # seconds after which a message says that it is late
_LONGEST = 1300  # characters of what is told: Discord takes 2,000 with all the rest, and refuses a longer message
_NAME = 40  # characters of a name of what could be reclaimed
_TRIES = 5  # of a message before it waits behind the others: it may be this one that the receiver refuses
_HOUR = 3600
_WEEK = 7 * 24 * _HOUR

_TYPES = {OK: "success", WARNING: "warning", CRITICAL: "failure", UNKNOWN: "warning"}  # Apprise's
_PRIORITIES = {
    OK: syslog.LOG_NOTICE,
    WARNING: syslog.LOG_WARNING,
    CRITICAL: syslog.LOG_CRIT,
    UNKNOWN: syslog.LOG_WARNING,
}


def run(config: Config, options: argparse.Namespace) -> int:
    return test(config) if options.test else deliver(config)


# -- what is told


@dataclass(frozen=True)
class Standing:
    """An alert that stands."""

    key: str
    level: int
    text: str  # of the last check
    since: float  # seconds since the epoch: at this level
    told: float  # last
    reminders: int = 0


@dataclass(frozen=True)
class News:
    level: int
    text: str
    reclaim: bool = False  # less on Docker's volume would help


def decide(
    standing: Mapping[str, Standing], findings: Sequence[Finding], now: float, reminder: float, volume: str = ""
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


# -- queues


@dataclass(frozen=True)
class Message:
    time: float
    level: int  # the worst that it tells
    title: str
    text: str
    reclaim: bool
    failures: int = 0  # to send it

    @classmethod
    def of(cls, news: Sequence[News], now: float, host: str) -> Message:
        """One for all that a check has to tell, the worst first."""
        ordered = sorted(news, key=lambda item: SEVERITY.index(item.level), reverse=True)
        lines: list[str] = []
        for item in ordered:
            if lines and len("\n".join([*lines, item.text])) > _LONGEST:
                lines.append(f"and {len(ordered) - len(lines)} more")
                break
            lines.append(item.text[:_LONGEST])
        level = ordered[0].level
        return cls(now, level, f"{LEVELS[level]}: {host}", "\n".join(lines), any(item.reclaim for item in news))

    def body(self, now: float, dropped: int, way_out: str) -> str:
        """What the receiver reads.

        Args:
            now: when it is sent.
            dropped: older messages that its queue had no room for.
            way_out: what could be reclaimed, and how.
        """
        moment = time.strftime("%F %T %Z", time.localtime(self.time))
        late = now - self.time
        parts = [
            self.text,
            way_out if self.reclaim else "More: `bulkhead status`" if self.level else "",
            f"This receiver could not be reached for long. Older messages that were dropped: {dropped}"
            if dropped
            else "",
            moment if late < _LATE else f"{moment}, sent {span(late)} late: this receiver could not be reached.",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


@dataclass
class Queue:
    """What a receiver has yet to get, the oldest first."""

    messages: list[Message] = field(default_factory=list)
    dropped: int = 0  # since one was sent

    def add(self, message: Message) -> None:
        self.messages.append(message)
        self.dropped += len(self.messages[:-CAPACITY])
        self.messages = self.messages[-CAPACITY:]

    @property
    def next(self) -> Message:
        """The oldest; one that has failed too often waits until there are only such, and they take turns."""
        return min(self.messages, key=lambda message: message.failures if message.failures >= _TRIES else 0)

    def failed(self, message: Message) -> None:
        again = replace(message, failures=message.failures + 1)
        self.messages = [again if each == message else each for each in self.messages]

    def sent(self, message: Message, dropped: int) -> None:
        """Take away what was sent.

        Args:
            dropped: how many dropped ones it told of.
        """
        self.dropped -= dropped
        if message in self.messages:
            self.messages.remove(message)
        else:
            self.dropped -= 1  # while it was being sent


@dataclass
class Book:
    """What stands, and what is queued."""

    standing: dict[str, Standing] = field(default_factory=dict)  # by key
    queues: dict[str, Queue] = field(default_factory=dict)  # by receiver

    @classmethod
    def load(cls) -> Book:
        """Read it. What is no book counts as none: what stands is then told anew."""
        try:
            return cls.of(state.load(STATE))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            syslog.syslog(syslog.LOG_WARNING, f"the alerts that stood are not known any more: {error!r}")
            return cls()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Book:
        book = cls()
        for alert in values.get("standing", {}).values():
            book.standing[alert["key"]] = Standing(
                alert["key"],
                LEVELS.index(LEVELS[alert["level"]]),
                str(alert["text"]),
                float(alert["since"]),
                float(alert["told"]),
                int(alert["reminders"]),
            )
        for receiver, queue in values.get("queues", {}).items():
            messages = [
                Message(
                    float(message["time"]),
                    LEVELS.index(LEVELS[message["level"]]),
                    str(message["title"]),
                    str(message["text"]),
                    bool(message["reclaim"]),
                    int(message["failures"]),
                )
                for message in queue["messages"]
            ]
            book.queues[receiver] = Queue(messages, int(queue["dropped"]))
        return book

    def values(self) -> dict[str, Any]:
        """To be saved; empty where nothing stands and nothing is queued: a check that has nothing to tell is then done."""
        is_empty = not self.standing and not any(queue.messages or queue.dropped for queue in self.queues.values())
        return {} if is_empty else asdict(self)


@contextlib.contextmanager
def _changing() -> Iterator[Book]:
    """The book, to be changed by one at a time, and never for long."""
    with state.locked(STATE, 10):
        book = Book.load()
        before = book.values()
        yield book
        after = book.values()
        if after != before:
            state.save(STATE, after)


def standing() -> list[Standing]:
    """The alerts that stand."""
    return list(Book.load().standing.values())


def queued() -> dict[str, int]:
    """How many messages wait for each receiver."""
    return {receiver: len(queue.messages) for receiver, queue in Book.load().queues.items()}


def changed(config: Config, findings: Sequence[Finding], now: float) -> list[str]:
    """Queue what there is to tell of a check, and have everything that is queued sent.

    Returns:
        What is told, in lines.

    Raises:
        OSError: it can be kept nowhere; the system's log has it.
    """
    with _changing() as book:
        book.standing, news = decide(book.standing, findings, now, config.reminder, config.volume)
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
    with _changing() as book:
        _queue(book, config, news, now)
    return _start_delivery() if config.receivers else []


def _queue(book: Book, config: Config, news: Sequence[News], now: float) -> None:
    for item in news:
        syslog.syslog(_PRIORITIES[item.level], item.text)
    for gone in set(book.queues) - set(config.receivers):
        queue = book.queues.pop(gone)
        if queue.messages:
            text = f"{gone} is no receiver any more; queued for it, and dropped: {len(queue.messages)}"
            syslog.syslog(syslog.LOG_WARNING, text)
    if news:
        message = Message.of(news, now, os.uname().nodename)
        for receiver in config.receivers:
            book.queues.setdefault(receiver, Queue()).add(message)


def _start_delivery() -> list[str]:
    """What goes wrong with it, in lines."""
    try:
        subprocess.run(["systemctl", "start", "--no-block", UNIT], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        complain(problem := f"alerts wait for the next check: {UNIT} cannot be started: {error}")
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
            if queue.messages and receiver in config.receivers and receiver not in failed
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
        result = send(receiver, message.title, message.body(time.time(), queue.dropped, way_out), _TYPES[message.level])
        if not result.reached:
            print(f"{receiver}: failed: {result.problem}; {len(queue.messages)} queued", flush=True)
            with _changing() as book:
                if receiver in book.queues:
                    book.queues[receiver].failed(message)
            return False
        # A cut here sends it twice; the other way round it would be lost.
        with _changing() as book:
            if receiver in book.queues:
                book.queues[receiver].sent(message, queue.dropped)
        print(f"{receiver}: sent{f' in part: {result.problem}' if result.problem else ''}", flush=True)
    return True


def test(config: Config) -> int:
    """Send each receiver a message and print who got it; the exit code: 1 if one did not, or there is none."""
    from concurrent.futures import ThreadPoolExecutor

    if not config.receivers:
        print("there are no receivers of alerts: alert_receivers of the settings names them")
        return 1
    host = os.uname().nodename
    body = f"A test of {host}'s alerts: this one arrived.\n\n{time.strftime('%F %T %Z')}\n"
    with ThreadPoolExecutor(len(config.receivers)) as pool:
        results = list(pool.map(lambda receiver: send(receiver, f"Test: {host}", body, "info"), config.receivers))
    for receiver, result in zip(config.receivers, results, strict=True):
        partly = "in part, " if result.reached else ""
        print(f"{receiver}: {f'failed: {partly}{result.problem}' if result.problem else 'sent'}")
    return int(any(result.problem for result in results))


@dataclass(frozen=True)
class Result:
    reached: bool  # somebody
    problem: str = ""  # without any part of the address


def send(receiver: str, title: str, body: str, kind: str) -> Result:
    """Send a message through Apprise.

    It gets a configuration of this one address, which has no name on any disk: of a file with all of them a single line
    that it does not understand makes it refuse the rest, and some names of tags mean every address to it.

    Args:
        kind: info, success, warning or failure.
    """
    try:
        address = _address(receiver)
    except OSError as error:
        return Result(False, f"{RECEIVERS} cannot be read: {error.strerror}")
    if not address:
        return Result(False, f"{RECEIVERS} has no address of this name")
    descriptor = os.memfd_create("receiver")
    try:
        os.write(descriptor, f"bulkhead={address}\n".encode(errors="surrogateescape"))
        done = subprocess.run(
            [
                "apprise",
                "-vvv",  # the reason of a failed connection is in the debug lines alone
                f"--config=file:///proc/self/fd/{descriptor}?format=text",
                "--tag=bulkhead",
                f"--title={title}",
                f"--notification-type={kind}",
            ],
            input=body,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_PATIENCE,
            pass_fds=[descriptor],
            env=_environment(os.environ),
        )
    except subprocess.TimeoutExpired:
        return Result(False, f"Apprise did not end within {_PATIENCE} s")
    except OSError as error:
        return Result(False, f"the program apprise cannot be started: {error.strerror}")
    finally:
        os.close(descriptor)
    return result_of(done.returncode, done.stdout, done.stderr, address)


def _address(receiver: str) -> str:
    with open(RECEIVERS, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            name, _, address = line.partition("=")
            if name.strip() == receiver:
                return address.strip()
    return ""


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What Apprise sees: proxies as we have them, and nothing of whoever calls us.

    A home that can have no files keeps it from the user's plug-ins and .netrc, and from storing anything there (since
    1.9 it would, tokens included).
    """
    kept = {name: value for name, value in ours.items() if not name.startswith("APPRISE_")}
    return {**kept, "HOME": "/dev/null", "LC_ALL": "C.UTF-8", "LANGUAGE": "en"}


def result_of(code: int, output: str, errors: str, address: str) -> Result:
    """What Apprise's end means.

    An address can have several recipients. Apprise fails if one of them did: what the others got is not sent again and
    again for its sake.
    """
    import re

    # Apprise before 1.2.1 (Debian 12's) takes Slack's own answer for a failure (caronc/apprise#195, #777): each check would
    # send the message again.
    slack_has_it = re.search(r"Failed to send to Slack: error=200\.\s[^\n]*Response Details:\s+b'ok'", output)
    if code == 0 or slack_has_it:
        return Result(True)
    said = re.findall(
        r"^\S+ \S+ - (?:(?:WARNING|ERROR|CRITICAL) - |DEBUG - (?=\S+ Exception: ))(?!The persistent storage |Failed to load|You must specify)(.+)$",
        output,
        re.MULTILINE,
    )
    if not said:
        said = errors.strip().split("\n")[-1:]
    shown = [blanked(line.strip(" .\r"), address).removesuffix(" on line 1") for line in said]  # it is given no other
    problem = "; ".join(dict.fromkeys(shown))[-500:]
    reached = re.search(r"^\S+ \S+ - INFO - Sent ", output, re.MULTILINE) is not None
    return Result(reached, problem or f"Apprise's exit code is {code}")


def blanked(text: str, address: str) -> str:
    """A text without any part of an address but its scheme, however the part is written."""
    import re
    from urllib.parse import quote, unquote

    written = re.split(r"[/:@?&=+,;#]+", address.partition("://")[2])
    meant = [unquote(part) for part in written]
    quoted = [quote(part, errors="replace") for part in meant]
    as_bytes = [repr(part.encode(errors="replace"))[2:-1] for part in meant]
    parts = {*written, *meant, *quoted, *as_bytes}
    words = {word.lower() for part in parts for word in re.findall(r"[A-Za-z0-9]{2,}", part)} - {"to", "from"}
    text = re.sub(r"[A-Za-z0-9+.-]+://\S+", "***", text)
    # A short part can be within an ordinary word: there it says nothing, and it is blanked as a word of its own.
    for part in sorted(parts | words, key=len, reverse=True):
        if len(part) >= 6:
            text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    text = re.sub(r"[A-Za-z0-9]+", lambda word: "***" if word[0].lower() in words else word[0], text)
    return re.sub(r"\*{3}(?:[^\w\s]?\*{3})+", "***", text)


def _way_out(config: Config) -> str:
    """What could be reclaimed on Docker's volume, and how. Docker may be hung: it is not waited for for ever."""
    import threading

    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(_reclaimable()), daemon=True)
    asking.start()
    asking.join(_DOCKERS_PATIENCE)
    command = "bulkhead prune"
    with contextlib.suppress(OSError):
        volume = os.statvfs(config.volume)
        whole = (volume.f_blocks - volume.f_bfree + volume.f_bavail) * volume.f_frsize
        command = f"bulkhead reclaim --need {enough(whole, config.warning)}"
    return f"Could be reclaimed: {found[0] if found else 'unknown'}.\nDo it: `{command}`. More: `bulkhead status`"


def enough(whole: int, warning: int) -> str:
    """What must be free for a warning to end, 5 points below where it begins.

    >>> enough(60 * 2**30, 80)
    '15G'
    """
    return f"{-(-whole * (105 - warning) // (100 * 2**30))}G"


def _reclaimable() -> str:
    from bulkhead.engine import Engine
    from bulkhead.system import PROBLEMS
    from bulkhead.usage import reclaimable
    from sizes import human

    try:
        # Its socket is not touched while it does not run: systemd would start it.
        subprocess.run(["systemctl", "is-active", "--quiet", "docker.service"], check=True, timeout=10)
        found = reclaimable(Engine())[:5]
        return ", ".join(f"{name[-_NAME:]} {human(size)}" for name, size in found) or "nothing"
    except PROBLEMS:
        return "unknown, Docker does not answer"
