"""Messages, queues, and what is remembered of alerts."""

from __future__ import annotations

import time

import pytest

from bulkhead import state
from bulkhead.watch import alert, alert_store
from bulkhead.watch.alert import decide
from bulkhead.watch.alert_store import CAPACITY, Message, News, Queue
from bulkhead.watch.results import CRITICAL, OK, UNKNOWN, WARNING

from ..configs import config
from .alert_host import HOUR, AlertHost, use


def test_changes_of_one_check_are_one_message_with_the_worst_first() -> None:
    results = [use(UNKNOWN, "a"), use(WARNING, "b", "/home"), use(CRITICAL, "c", "/boot")]
    _, news = decide({}, results, 0, 4)
    message = Message.of(news, 0, "ci-7")
    assert message.title == "CRITICAL: ci-7"
    assert message.text == "CRITICAL: c\nWARNING: b\nUNKNOWN: a"


def test_message_is_short_enough_for_chats_and_counts_what_it_leaves_out() -> None:
    message = Message.of([News(WARNING, f"{number:03}" * 60) for number in range(40)], 0, "ci-7")
    assert len(message.text) < 1120
    assert message.text.endswith("\nand 34 more")


def test_message_has_its_time_and_its_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    message = Message(0, OK, "OK: ci-7", "fine", False)
    assert message.body(60, 0, "") == "fine\n\n1970-01-01 00:00:00 UTC\n"
    late = "1970-01-01 00:00:00 UTC, sent 2 h late: this receiver could not be reached.\n"
    assert message.body(2 * HOUR, 0, "") == f"fine\n\n{late}"


def test_queue_that_nobody_empties_is_bounded_and_knows_how_many_it_has_dropped() -> None:
    queue = Queue()
    for number in range(CAPACITY + 7):
        queue.add(Message(number, OK, "", "", False))
    assert (len(queue.messages), queue.messages[0].time, queue.dropped) == (CAPACITY, 7, 7)
    assert "7 older messages dropped" in queue.messages[0].body(0, queue.dropped, "")


def test_message_that_is_dropped_while_it_is_sent_was_not_lost() -> None:
    queue = Queue()
    for number in range(CAPACITY + 1):
        queue.add(Message(number, OK, "", "", False))
    sending, dropped = queue.messages[0], queue.dropped
    queue.add(Message(1000, OK, "", "", False))
    queue.sent(sending, dropped)
    assert (len(queue.messages), queue.dropped) == (CAPACITY, 0)


@pytest.mark.usefixtures("host")
def test_state_is_empty_once_no_alert_is_open_and_no_message_queued() -> None:
    alert.report_changes(config(), [use(WARNING)], 0)
    assert state.load("alerts")
    alert.report_changes(config(), [use(OK)], 900)
    assert state.load("alerts") == {}


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"standing": {"use:/": {"key": "us',
        "[]",
        '{"standing": []}',
        '{"standing": {"use:/": {"level": 1}}}',
        '{"standing": {"use:/": {"key": "use:/", "level": 9, "text": "", "since": 0, "told": 0, "reminders": 0}}}',
        '{"queues": {"mail": {"messages": [{"time": "noon"}], "dropped": 0}}}',
    ],
)
def test_damaged_state_makes_open_alerts_be_sent_again(host: AlertHost, content: str) -> None:
    alert.report_changes(config(receiver_names=("mail",)), [use(WARNING)], 0)
    (host.place / "var/alerts.json").write_text(content)
    assert alert.report_changes(config(receiver_names=("mail",)), [use(WARNING)], 900) == ["WARNING: / 85 % used"]
    assert alert_store.queued() == {"mail": 1}


def test_alerts_survive_a_full_root_disk(host: AlertHost) -> None:
    (host.place / "var").write_text("nothing can be written below this")
    alert.report_changes(config(receiver_names=("mail",)), [use(WARNING)], 0)
    assert alert.report_changes(config(receiver_names=("mail",)), [use(WARNING)], 900) == []
    assert alert_store.queued() == {"mail": 1}
