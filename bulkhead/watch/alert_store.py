"""Remember open alerts, and queue messages for each receiver."""

from __future__ import annotations

import contextlib
import syslog
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bulkhead import state
from bulkhead.text import span
from bulkhead.watch.findings import LEVELS, SEVERITY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STATE = "alerts"  # what stands and what is queued, in one file: no cut comes between the two
CAPACITY = 100  # messages of a queue
_LATE = 300  # seconds after which a message says that it is late
_LONGEST = 1300  # characters of what is told: Discord takes 2,000 with all the rest, and refuses a longer message
_TRIES = 5  # of a message before it waits behind the others: it may be this one that the receiver refuses


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
def changing() -> Iterator[Book]:
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
