"""Remember open alerts, and queue messages for each receiver."""

from __future__ import annotations

import contextlib
import syslog
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bulkhead import state
from bulkhead.text import count, span
from bulkhead.watch.results import LEVELS, SEVERITY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STATE = "alerts"  # open alerts and queues in one file: a power cut cannot separate them
CAPACITY = 100  # messages in a queue
_LATE = 300  # seconds after which a message says that it is late
_LONGEST = 1100  # characters of text: Discord refuses a message of more than 2,000 in all
_TRIES = 5  # to send a message before it goes behind the others: perhaps the receiver refuses just this one


# -- alerts


@dataclass(frozen=True)
class OpenAlert:
    key: str  # of the check's result
    level: int
    text: str  # of the last check
    since: float  # seconds since the epoch: when it reached this level
    reported: float  # seconds since the epoch: when a message last mentioned it
    reminders: int = 0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> OpenAlert:
        """Read an alert.

        Raises:
            IndexError, KeyError, TypeError, ValueError: these values are no alert.
        """
        return cls(
            key=values["key"],
            level=_level(values["level"]),
            text=str(values["text"]),
            since=float(values["since"]),
            reported=float(values["told"]),
            reminders=int(values["reminders"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it in the form of the state file and of `bulkhead status --json`."""
        return {
            "key": self.key,
            "level": self.level,
            "text": self.text,
            "since": self.since,
            "told": self.reported,
            "reminders": self.reminders,
        }


@dataclass(frozen=True)
class News:
    """One line of a message."""

    level: int
    text: str
    reclaim: bool = False  # whether freeing space on Docker's volume would help


def _level(number: int) -> int:
    return LEVELS.index(LEVELS[number])


# -- queues


@dataclass(frozen=True)
class Message:
    time: float
    level: int  # the worst of its lines
    title: str
    text: str
    reclaim: bool
    failures: int = 0  # failed attempts to send it

    @classmethod
    def of(cls, news: Sequence[News], now: float, host: str) -> Message:
        """Make one message of all news, the worst first."""
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
        """Return the text that the receiver gets.

        Args:
            now: when it is sent.
            dropped: how many older messages were dropped because the queue was full.
            way_out: how to free space on Docker's volume.
        """
        moment = time.strftime("%F %T %Z", time.localtime(self.time))
        late = now - self.time
        parts = [
            self.text,
            way_out if self.reclaim else "Details: `bulkhead status`" if self.level else "",
            f"This receiver could not be reached for a long time: {count(dropped, 'older message')} dropped."
            if dropped
            else "",
            moment if late < _LATE else f"{moment}, sent {span(late)} late: this receiver could not be reached.",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


@dataclass
class Queue:
    """The messages that a receiver has yet to get, the oldest first."""

    messages: list[Message] = field(default_factory=list)
    dropped: int = 0  # since a message was last sent

    def add(self, message: Message) -> None:
        self.messages.append(message)
        self.dropped += len(self.messages[:-CAPACITY])
        self.messages = self.messages[-CAPACITY:]

    @property
    def next(self) -> Message:
        """Return the oldest message. One that failed too often waits until only such are left; then they take turns."""
        return min(self.messages, key=lambda message: message.failures if message.failures >= _TRIES else 0)

    def failed(self, message: Message) -> None:
        """Count a failed attempt to send a message."""
        again = replace(message, failures=message.failures + 1)
        self.messages = [again if each == message else each for each in self.messages]

    def sent(self, message: Message, dropped: int) -> None:
        """Remove a message that was sent.

        Args:
            dropped: how many dropped messages it reported.
        """
        self.dropped -= dropped
        if message in self.messages:
            self.messages.remove(message)
        else:
            self.dropped -= 1  # it was dropped while it was being sent


@dataclass
class AlertState:
    standing: dict[str, OpenAlert] = field(default_factory=dict)  # open alerts, by key
    queues: dict[str, Queue] = field(default_factory=dict)  # by receiver

    @classmethod
    def load(cls) -> AlertState:
        """Read the state. A damaged one counts as empty: open alerts are then sent again."""
        try:
            return cls.of(state.load(STATE))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            syslog.syslog(syslog.LOG_WARNING, f"the open alerts are lost, their state is damaged: {error!r}")
            return cls()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AlertState:
        alerts = [OpenAlert.of(each) for each in values.get("standing", {}).values()]
        queues = {}
        for receiver, queue in values.get("queues", {}).items():
            messages = [
                Message(
                    float(message["time"]),
                    _level(message["level"]),
                    str(message["title"]),
                    str(message["text"]),
                    bool(message["reclaim"]),
                    int(message["failures"]),
                )
                for message in queue["messages"]
            ]
            queues[receiver] = Queue(messages, int(queue["dropped"]))
        return cls({alert.key: alert for alert in alerts}, queues)

    def values(self) -> dict[str, Any]:
        """Return the values to save: none if nothing is open and nothing queued, so that a quiet check is done early."""
        if not self.standing and not any(queue.messages or queue.dropped for queue in self.queues.values()):
            return {}
        return {
            "standing": {key: alert.as_dict() for key, alert in self.standing.items()},
            "queues": {receiver: asdict(queue) for receiver, queue in self.queues.items()},
        }


@contextlib.contextmanager
def changing() -> Iterator[AlertState]:
    """Lend the state to one changer at a time, for moments only, and save it afterwards."""
    with state.locked(STATE, 10):
        alerts = AlertState.load()
        before = alerts.values()
        yield alerts
        after = alerts.values()
        if after != before:
            state.save(STATE, after)


def open_alerts() -> list[OpenAlert]:
    return list(AlertState.load().standing.values())


def queued() -> dict[str, int]:
    """Return how many messages wait for each receiver."""
    return {receiver: len(queue.messages) for receiver, queue in AlertState.load().queues.items()}
