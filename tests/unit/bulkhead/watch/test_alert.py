"""What is told when, and that every receiver gets it: through the real Apprise where there is one."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import syslog
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state
from bulkhead.docker import usage
from bulkhead.watch import alert, alert_store
from bulkhead.watch import apprise as watch_apprise
from bulkhead.watch.alert import decide
from bulkhead.watch.alert_store import CAPACITY, Message, News, Queue, Standing
from bulkhead.watch.apprise import Delivery, blanked, result_of
from bulkhead.watch.findings import CRITICAL, OK, UNKNOWN, WARNING, CheckResult

from ..configs import config

HOUR = 3600.0
VOLUME = "/srv/docker-volume"


def use(level: int, text: str = "/ 85 % used", mount: str = "/") -> CheckResult:
    return CheckResult(f"use:{mount}", level, text, mount)


# -- what is told


def told(levels: list[int], *, step: float = HOUR, reminder: float = 4) -> list[str]:
    """What is told of a finding that has these levels, one check after the other."""
    standing: dict[str, Standing] = {}
    lines = []
    for number, level in enumerate(levels):
        standing, news = decide(standing, [use(level)], 1e9 + number * step, reminder)
        lines.append("; ".join(item.text for item in news))
    return lines


def test_every_change_of_level_is_told_once_and_the_recovery_too() -> None:
    assert told([OK, WARNING, WARNING, CRITICAL, WARNING, OK, OK]) == [
        "",
        "WARNING: / 85 % used",
        "",
        "CRITICAL (was WARNING for 2 h): / 85 % used",
        "WARNING (was CRITICAL for 1 h): / 85 % used",
        "OK (was WARNING for 1 h): / 85 % used",
        "",
    ]


def test_reminders_of_what_stands_become_ever_rarer_and_at_least_one_comes_a_week() -> None:
    lines = told([WARNING] * 24 * 30)
    hours = [hour for hour, line in enumerate(lines) if line.startswith("still WARNING")]
    assert [after - before for before, after in zip([0, *hours], hours, strict=False)] == [
        4,
        8,
        16,
        32,
        64,
        128,
        168,
        168,
    ]
    assert lines[28] == "still WARNING after 28 h: / 85 % used"


def test_a_change_of_level_begins_the_reminders_anew() -> None:
    lines = told([WARNING] * 13 + [CRITICAL] * 5)
    assert [hour for hour, line in enumerate(lines) if line.startswith("still")] == [4, 12, 17]


def test_what_is_no_longer_found_has_recovered() -> None:
    standing, _ = decide({}, [CheckResult("read-only:/", CRITICAL, "/ cannot be written to", "/")], 0, 4)
    standing, news = decide(standing, [], 2 * HOUR, 4)
    assert news == [News(OK, "OK (was CRITICAL for 2 h): no longer so: / cannot be written to")]
    assert not standing


@pytest.mark.parametrize("step", [-30 * 24 * HOUR, -HOUR])
def test_clock_that_was_set_back_does_not_hold_reminders_back(step: float) -> None:
    standing, _ = decide({}, [use(WARNING)], 1e9, 4)
    standing, news = decide(standing, [use(WARNING)], 1e9 + step, 4)
    assert not news
    _, news = decide(standing, [use(WARNING)], 1e9 + step + 4 * HOUR, 4)
    assert [item.text for item in news] == ["still WARNING after 4 h: / 85 % used"]


def test_changes_of_one_check_are_one_message_with_the_worst_first() -> None:
    findings = [use(UNKNOWN, "a"), use(WARNING, "b", "/home"), use(CRITICAL, "c", "/boot")]
    _, news = decide({}, findings, 0, 4)
    message = Message.of(news, 0, "ci-7")
    assert message.title == "CRITICAL: ci-7"
    assert message.text == "CRITICAL: c\nWARNING: b\nUNKNOWN: a"


def test_message_is_no_longer_than_chats_take_and_says_what_it_leaves_out() -> None:
    message = Message.of([News(WARNING, f"{number:03}" * 60) for number in range(40)], 0, "ci-7")
    assert len(message.text) < 1320
    assert message.text.endswith("\nand 33 more")


def test_message_has_room_for_all_that_comes_with_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [(f"image registry.example.com/{'long/' * 50}{number}:tag", 10**12) for number in range(9)]
    monkeypatch.setattr(usage, "reclaimable", lambda _: names)
    way_out = alert._way_out(config(volume_mount=str(host.place)))
    assert "/long/0:tag 931.3 GiB, " in way_out
    message = Message.of([News(CRITICAL, "x" * 4000, reclaim=True)] * 300, 0, "ci-7")
    body = message.body(400 * 24 * HOUR, 99_999, way_out)
    assert "`bulkhead status`" in body
    assert "99999" in body
    assert len(body) < 1900


def test_mount_point_of_any_bytes_is_told_in_characters_that_print() -> None:
    _, news = decide({}, [use(WARNING, "/srv/\udcff\n\x1b[2J 85 % used")], 0, 4)
    assert news[0].text == r"WARNING: /srv/\udcff\n\x1b[2J 85 % used"


@pytest.mark.parametrize(
    ("finding", "helps"),
    [
        (use(WARNING, mount=VOLUME), True),
        (CheckResult(f"forecast:{VOLUME}", CRITICAL, "", VOLUME), True),
        (use(WARNING, mount="/"), False),
        (CheckResult(f"read-only:{VOLUME}", CRITICAL, "", VOLUME), False),
    ],
    ids=lambda value: value.key if isinstance(value, CheckResult) else "",
)
def test_way_to_reclaim_is_shown_where_it_helps(finding: CheckResult, helps: bool) -> None:
    _, news = decide({}, [finding], 0, 4, VOLUME)
    body = Message.of(news, 0, "ci-7").body(0, 0, "Do it: `bulkhead prune`")
    assert ("`bulkhead prune`" in body, "`bulkhead status`" in body) == (helps, not helps)


def test_message_carries_its_time_and_says_when_it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    message = Message(0, OK, "OK: ci-7", "fine", False)
    assert message.body(60, 0, "") == "fine\n\n1970-01-01 00:00:00 UTC\n"
    late = "1970-01-01 00:00:00 UTC, sent 2 h late: this receiver could not be reached.\n"
    assert message.body(2 * HOUR, 0, "") == f"fine\n\n{late}"


# -- queues


def test_queue_that_nobody_empties_is_bounded_and_knows_how_many_it_has_dropped() -> None:
    queue = Queue()
    for number in range(CAPACITY + 7):
        queue.add(Message(number, OK, "", "", False))
    assert (len(queue.messages), queue.messages[0].time, queue.dropped) == (CAPACITY, 7, 7)
    assert "Older messages that were dropped: 7" in queue.messages[0].body(0, queue.dropped, "")


def test_message_that_is_dropped_while_it_is_sent_was_not_lost() -> None:
    queue = Queue()
    for number in range(CAPACITY + 1):
        queue.add(Message(number, OK, "", "", False))
    sending, dropped = queue.messages[0], queue.dropped
    queue.add(Message(1000, OK, "", "", False))
    queue.sent(sending, dropped)
    assert (len(queue.messages), queue.dropped) == (CAPACITY, 0)


class Host:
    """A host with an empty state, where what systemctl and the system's log are told is noted."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.log: list[str] = []
        (place / "bin").mkdir()
        self.program("systemctl", f'echo "$@" >>{place}/systemctl')

    def program(self, name: str, script: str) -> None:
        path = self.place / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def receivers(self, **addresses: str) -> None:
        lines = "".join(f"{name}={address}\n" for name, address in addresses.items())
        (self.place / "receivers").write_text(lines)

    def apprise(self, script: str) -> None:
        """Stand in for Apprise with a script that knows the address as $1, and the title as $2."""
        read = 'for option; do case $option in --config=*) file=${option#--config=file://};; --title=*) title=${option#--title=};; esac; done\naddress=$(sed s/^bulkhead=// "${file%%\\?*}")'
        self.program("apprise", f'{read}\nset -- "$address" "$title"\n{script}')

    @property
    def starts(self) -> list[str]:
        file = self.place / "systemctl"
        return [line for line in file.read_text().splitlines() if line.startswith("start")] if file.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(state, "PERSISTENT", f"{tmp_path}/var")
    monkeypatch.setattr(state, "VOLATILE", f"{tmp_path}/run")
    monkeypatch.setattr(watch_apprise, "RECEIVERS", f"{tmp_path}/receivers")
    monkeypatch.setattr(syslog, "syslog", lambda _, text: host.log.append(text))
    return host


def test_what_is_told_is_queued_for_each_receiver_and_its_delivery_started(host: Host) -> None:
    lines = alert.changed(config(receiver_names=("mail", "slack")), [use(WARNING)], 0)
    assert lines == host.log == ["WARNING: / 85 % used"]
    assert alert_store.queued() == {"mail": 1, "slack": 1}
    assert host.starts == ["start --no-block bulkhead-alert.service"]


def test_without_receivers_the_log_has_it_and_nothing_is_started(host: Host) -> None:
    alert.changed(config(), [use(WARNING)], 0)
    assert host.log == ["WARNING: / 85 % used"]
    assert [item.key for item in alert_store.standing()] == ["use:/"]
    assert not host.starts


def test_what_has_happened_is_told_at_once_and_leaves_nothing_standing(host: Host) -> None:
    assert (
        alert.tell(config(receiver_names=("mail", "slack")), [alert_store.News(CRITICAL, "a build was stopped")], 0)
        == []
    )
    assert host.log == ["a build was stopped"]
    assert alert_store.queued() == {"mail": 1, "slack": 1}
    assert host.starts == ["start --no-block bulkhead-alert.service"]
    assert alert_store.standing() == []


def test_what_has_happened_is_in_the_log_where_nobody_receives_alerts(host: Host) -> None:
    assert alert.tell(config(), [alert_store.News(CRITICAL, "a build was stopped")], 0) == []
    assert host.log == ["a build was stopped"]
    assert not host.starts


@pytest.mark.usefixtures("host")
def test_nothing_is_kept_once_nothing_stands_and_nothing_is_queued() -> None:
    alert.changed(config(), [use(WARNING)], 0)
    assert state.load("alerts")
    alert.changed(config(), [use(OK)], 900)
    assert state.load("alerts") == {}


def test_what_waits_is_tried_again_after_a_check_that_has_nothing_to_tell(host: Host) -> None:
    for now in (0, 900):
        alert.changed(config(receiver_names=("mail",)), [use(WARNING)], now)
    assert alert_store.queued() == {"mail": 1}
    assert len(host.starts) == 2


def test_messages_of_a_receiver_that_was_removed_are_dropped_and_the_log_says_so(host: Host) -> None:
    alert.changed(config(receiver_names=("mail", "slack")), [use(WARNING)], 0)
    alert.changed(config(receiver_names=("mail",)), [use(WARNING)], 900)
    assert alert_store.queued() == {"mail": 1}
    assert host.log[-1] == "slack is no receiver any more; queued for it, and dropped: 1"


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
def test_damaged_state_makes_what_stands_told_anew(host: Host, content: str) -> None:
    alert.changed(config(receiver_names=("mail",)), [use(WARNING)], 0)
    (host.place / "var/alerts.json").write_text(content)
    assert alert.changed(config(receiver_names=("mail",)), [use(WARNING)], 900) == ["WARNING: / 85 % used"]
    assert alert_store.queued() == {"mail": 1}


def test_delivery_that_cannot_be_started_is_told(host: Host) -> None:
    host.program("systemctl", "exit 1")
    lines = alert.changed(config(receiver_names=("mail",)), [use(WARNING)], 0)
    assert lines[1].startswith("alerts wait for the next check: bulkhead-alert.service cannot be started")


# -- delivery


def test_each_receiver_gets_its_messages_oldest_first_and_they_are_gone(host: Host) -> None:
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise(f'echo "$1 $(head -1)" >>{host.place}/got')
    both = config(receiver_names=("mail", "slack"))
    alert.changed(both, [use(WARNING)], 0)
    alert.changed(both, [use(CRITICAL)], HOUR)
    assert alert.deliver(both) == 0
    got = (host.place / "got").read_text().splitlines()
    expected = ["WARNING: / 85 % used", "CRITICAL (was WARNING for 1 h): / 85 % used"]
    assert [line.split(" ", 1)[1] for line in got if line.startswith("mailto:")] == expected
    assert [line.split(" ", 1)[1] for line in got if line.startswith("slack:")] == expected
    assert alert_store.queued() == {"mail": 0, "slack": 0}


def test_receiver_that_fails_keeps_its_messages_and_the_other_gets_its_own(host: Host) -> None:
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise(f'echo "$1" >>{host.place}/tried; case $1 in mailto*) exit 1;; esac')
    both = config(receiver_names=("mail", "slack"))
    alert.changed(both, [use(WARNING)], 0)
    alert.changed(both, [use(OK)], HOUR)
    assert alert.deliver(both) == 1
    assert alert_store.queued() == {"mail": 2, "slack": 0}
    assert sorted((host.place / "tried").read_text().split()) == ["mailto://a", "slack://b", "slack://b"]
    host.apprise("")
    assert alert.deliver(both) == 0
    assert not any(alert_store.queued().values())


def test_message_that_a_receiver_refuses_holds_back_no_other_for_long(host: Host) -> None:
    host.receivers(mail="mailto://a")
    host.apprise(f"read text; case $text in *refused*) exit 1;; esac; echo $text >>{host.place}/got")
    mail = config(receiver_names=("mail",))
    for number, text in enumerate(("refused", "too: refused", "good")):
        alert.changed(mail, [use(WARNING + number % 2, text)], number)
    for _ in range(11):  # five for each that is refused, and one
        alert.deliver(mail)
    assert (host.place / "got").exists()
    assert alert_store.queued() == {"mail": 2}, "nothing is lost"
    alert.changed(mail, [use(OK, "later")], 5)
    alert.deliver(mail)
    assert (host.place / "got").read_text().endswith(": later\n")


def test_messages_that_failed_while_the_receiver_was_away_reach_it_beside_one_that_it_refuses(host: Host) -> None:
    host.receivers(mail="mailto://a")
    host.apprise("exit 1")
    mail = config(receiver_names=("mail",))
    alert.changed(mail, [use(WARNING, "refused")], 0)
    alert.changed(mail, [use(CRITICAL, "good")], 1)
    for _ in range(30):
        alert.deliver(mail)
    host.apprise(f"read text; case $text in *refused*) exit 1;; esac; echo $text >>{host.place}/got")
    for _ in range(2):
        alert.deliver(mail)
    assert "good" in (host.place / "got").read_text()


def test_receiver_that_hangs_delays_no_other_and_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_apprise, "_PATIENCE", 3)
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise(f"case $1 in mailto*) exec sleep 100;; esac; date +%s >{host.place}/got")
    both = config(receiver_names=("mail", "slack"))
    alert.changed(both, [use(WARNING)], 0)
    began = time.time()
    assert alert.deliver(both) == 1
    assert time.time() - began < 10
    assert int((host.place / "got").read_text()) - began < 2
    assert alert_store.queued() == {"mail": 1, "slack": 0}


def test_message_that_comes_while_another_is_sent_is_sent_too(host: Host) -> None:
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise(f"case $1 in mailto*) touch {host.place}/begun; sleep 1;; esac; head -1 >>{host.place}/got")
    both = config(receiver_names=("mail", "slack"))
    alert.changed(both, [use(WARNING)], 0)
    delivery = threading.Thread(target=alert.deliver, args=[both])
    delivery.start()
    while not (host.place / "begun").exists():
        time.sleep(0.01)
    began = time.monotonic()
    alert.changed(both, [use(CRITICAL)], HOUR)
    assert time.monotonic() - began < 0.5, "the check waited for the delivery"
    delivery.join()
    assert len((host.place / "got").read_text().splitlines()) == 4
    assert alert_store.queued() == {"mail": 0, "slack": 0}


def test_cut_between_sending_and_noting_it_sends_it_twice(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.receivers(mail="mailto://a")
    host.apprise(f"head -1 >>{host.place}/got")
    mail = config(receiver_names=("mail",))
    alert.changed(mail, [use(WARNING)], 0)
    with monkeypatch.context() as cut:
        cut.setattr(Queue, "sent", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            alert.deliver(mail)
    alert.deliver(mail)
    assert (host.place / "got").read_text() == "WARNING: / 85 % used\n" * 2


def test_second_delivery_at_the_same_time_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(time, "monotonic", iter(range(1000)).__next__)
    with state.locked("alert", 0), pytest.raises(TimeoutError):
        alert.deliver(config(receiver_names=("mail",)))
    assert host.log == []


def test_message_about_dockers_volume_says_what_can_be_reclaimed_or_that_docker_does_not_answer(host: Host) -> None:
    host.program("systemctl", "exit 3")
    host.receivers(mail="mailto://a")
    host.apprise(f"cat >{host.place}/got")
    mail = config(receiver_names=("mail",), volume_mount=str(host.place))
    alert.changed(mail, [use(WARNING, mount=str(host.place))], 0)
    alert.deliver(mail)
    got = (host.place / "got").read_text()
    assert "Could be reclaimed: unknown, Docker does not answer." in got
    assert "Do it: `bulkhead reclaim --need " in got


def test_docker_that_hangs_does_not_hold_messages_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert, "_DOCKERS_PATIENCE", 0.2)
    monkeypatch.setattr(alert, "_reclaimable", lambda: time.sleep(5) or "")
    assert "Could be reclaimed: unknown." in alert._way_out(config(volume_mount=str(host.place)))


# -- the test of the receivers


def test_of_receivers_says_which_failed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise("case $1 in slack*) echo 2026-11-24 21:57:48,103 - WARNING - no such team; exit 1;; esac")
    assert alert.test(config(receiver_names=("mail", "slack", "pager"))) == 1
    assert capsys.readouterr().out.splitlines() == [
        "mail: sent",
        "slack: failed: no such team",
        f"pager: failed: {host.place}/receivers has no address of this name",
    ]


def test_of_receivers_that_are_not_there_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert alert.test(config()) == 1
    assert "there are no receivers" in capsys.readouterr().out


def test_of_receivers_without_apprise_says_so(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", f"{host.place}/bin")
    host.receivers(mail="mailto://a")
    assert alert.test(config(receiver_names=("mail",))) == 1
    expected = "mail: failed: the program apprise cannot be started: No such file or directory\n"
    assert capsys.readouterr().out == expected


def test_address_is_in_no_argument_and_no_variable_and_those_of_apprise_are_not_passed_on(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPRISE_URLS", "json://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    host.receivers(mail="mailto://a:secret@b")
    host.apprise(
        f"tr '\\0' '\\n' </proc/$$/cmdline >{host.place}/seen; tr '\\0' '\\n' </proc/$$/environ >>{host.place}/seen"
    )
    assert watch_apprise.send("mail", "title", "body", "info") == Delivery(True)
    seen = (host.place / "seen").read_text()
    assert "--title=title" in seen
    assert "secret" not in seen
    assert "APPRISE_URLS" not in seen
    assert "HTTPS_PROXY=http://proxy:3128" in seen


# -- what Apprise says


ADDRESS = "mailtos://us%65r:pä55%20w0rd@smtp.example.com:587?to=ops@example.com&bearer=tok3n"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "Invalid configuration found bulkhead=" + ADDRESS + " on line 1.",
            "Invalid configuration found bulkhead=*** on line 1.",
        ),
        ("Connection error to smtp.example.com. Reason: refused", "Connection error to ***. Reason: refused"),
        ("to Smtp.Example.COM port 587 as user", "to *** port *** as ***"),
        ("max retries with url: /p%C3%A455%20w0rd", "max retries with url: /***"),
        (r"auth b'p\xc3\xa455 w0rd' refused", "auth b'***' refused"),
        ('"ops@example.com" is unknown, tok3n too', '"***" is unknown, *** too'),
        ("us%65r and w0rd", "*** and ***"),
        ("[Errno 111] Connection refused", "[Errno 111] Connection refused"),
    ],
)
def test_every_part_of_an_address_is_blanked_however_it_is_written(said: str, shown: str) -> None:
    assert blanked(said, ADDRESS) == shown


def test_reason_is_in_warnings_and_exceptions_and_nothing_else_of_the_debug_lines_is_shown() -> None:
    output = (
        "2026-11-24 21:57:48,000 - DEBUG - Login ID: somebody\n"
        "2026-11-24 21:57:48,000 - WARNING - The persistent storage could not be fully initialized\n"
        "2026-11-24 21:57:48,000 - WARNING - Connection error while submitting email\n"
        "2026-11-24 21:57:48,000 - DEBUG - Socket Exception: [Errno 111] Connection refused\n"
    )
    expected = "Connection error while submitting email; Socket Exception: [Errno 111] Connection refused"
    assert result_of(1, output, "", "mailto://x") == Delivery(False, expected)


def test_of_a_crash_only_the_last_line_is_shown() -> None:
    assert result_of(1, "", 'Traceback\n  File "x"\nKeyError: secret', "json://secret") == Delivery(
        False, "KeyError: ***"
    )


def test_address_with_several_recipients_of_whom_one_got_it_is_not_tried_again() -> None:
    output = (
        '2026-11-24 21:57:48,000 - INFO - Sent Email notification to "a@x.org"\n'
        '2026-11-24 21:57:48,000 - WARNING - Sending email to "b@x.org" failed\n'
    )
    assert result_of(1, output, "", "mailto://x.org?to=a@x.org,b@x.org").reached


# -- with Apprise itself

needs_apprise = pytest.mark.skipif(not shutil.which("apprise"), reason="the program apprise is not installed")


@pytest.fixture
def web() -> Iterator[tuple[int, list[Any]]]:
    """An HTTP server, its port, and what it was sent. What has /refuse in its path it refuses."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, content["title"], content["message"], content["type"]))
            self.send_response(403 if "refuse" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, got
        server.shutdown()


@pytest.fixture
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """An SMTP server, its port, and the mails that it took. It knows nobody at unknown.org."""
    got: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            for line in self.rfile:
                answer = b"250 ok"
                if line[:4].upper() == b"RCPT" and b"@unknown.org" in line:
                    answer = b"550 5.1.1 no such user " + line[8:].strip()
                if line[:4].upper() == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    got.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.wfile.write(answer + b"\r\n")
                if line[:4].upper() == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], got
        server.shutdown()


@needs_apprise
def test_apprise_takes_an_alert_and_its_recovery_to_a_web_server(host: Host, web: tuple[int, list[Any]]) -> None:
    port, got = web
    host.receivers(hook=f"json://user:secret@127.0.0.1:{port}/path")
    hook = config(receiver_names=("hook",))
    alert.changed(hook, [use(CRITICAL, "/ 95 % used - „full“ @everyone")], time.time() - 1)
    alert.changed(hook, [use(OK, "/ 50 % used")], time.time())
    assert alert.deliver(hook) == 0
    name = os.uname().nodename
    assert [(title, text.split("\n")[0], kind) for _, title, text, kind in got] == [
        (f"CRITICAL: {name}", "CRITICAL: / 95 % used - „full“ @everyone", "failure"),
        (f"OK: {name}", "OK (was CRITICAL for 0 min): / 50 % used", "success"),
    ]


@needs_apprise
def test_apprise_takes_an_alert_to_a_mail_server(host: Host, mail_server: tuple[int, list[str]]) -> None:
    port, got = mail_server
    host.receivers(mail=f"mailto://127.0.0.1:{port}?from=bulkhead@example.org&to=ops@example.org")
    mail = config(receiver_names=("mail",))
    alert.changed(mail, [use(WARNING)], time.time())
    assert alert.deliver(mail) == 0
    (content,) = got
    assert f"Subject: WARNING: {os.uname().nodename}" in content
    assert "To: ops@example.org" in content


@needs_apprise
def test_mail_of_which_one_recipient_is_unknown_reaches_the_other_once(
    host: Host, mail_server: tuple[int, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    port, got = mail_server
    to = "ops@example.org,gone@unknown.org"
    host.receivers(mail=f"mailto://127.0.0.1:{port}?from=bulkhead@example.org&to={to}")
    mail = config(receiver_names=("mail",))
    alert.changed(mail, [use(WARNING)], time.time())
    for _ in range(2):
        assert alert.deliver(mail) == 0
    assert len(got) == 1
    said = capsys.readouterr().out
    assert said.startswith("mail: sent in part: ")
    assert "no such user" in said
    assert "gone" not in said


@needs_apprise
def test_apprise_loads_only_the_receiver_that_is_meant_whatever_it_and_the_others_are_called(
    host: Host, web: tuple[int, list[Any]]
) -> None:
    port, got = web
    names = ("all", "always", "a b", "-x", "ü;,", "mail")
    host.receivers(
        **{name: f"json://127.0.0.1:{port}/{number}" for number, name in enumerate(names)},
        broken="not-a-scheme://x y",
    )
    for number, name in enumerate(names):
        assert watch_apprise.send(name, "-title", "body", "info") == Delivery(True)
        assert [path for path, *_ in got] == [f"/{number}"]
        got.clear()


@needs_apprise
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("json://user:s3cret@127.0.0.1:1/t0ken/", "Connection refused"),
        ("json://user:s3cret@127.0.0.1:{port}/refuse/t0ken/", "error=403"),
        ("json://user:s3cret@t0ken.invalid/", "Failed to"),
        ("mailto://user:s3cret@127.0.0.1:1?from=a@t0ken.org", "Connection refused"),
        ("slack://s3cret/t0ken", "Could not load URL ***"),
        ("nosuch://s3cret/t0ken", "Unparseable URL ***"),
        ("not-a-scheme://s3cret/t0ken", "Invalid Apprise TEXT configuration"),
    ],
)
def test_failure_of_apprise_has_its_reason_without_the_address(
    host: Host, web: tuple[int, list[Any]], address: str, reason: str
) -> None:
    address = address.format(port=web[0])
    host.receivers(x=address)
    result = watch_apprise.send("x", "title", "body", "info")
    assert not result.reached
    assert reason in result.problem
    for secret in ("s3cret", "t0ken", "127.0.0.1", address):
        assert secret not in result.problem


@needs_apprise
def test_apprise_reads_and_writes_nothing_in_the_users_home(
    host: Host, web: tuple[int, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, got = web
    home = host.place / "home"
    (home / ".config").mkdir(parents=True)
    for name in (".apprise", ".config/apprise"):
        (home / name).write_text(f"json://127.0.0.1:{port}/of-the-user\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("APPRISE_STORAGE_PATH", str(home / "storage"))
    before = sorted(home.rglob("*"))
    host.receivers(hook=f"json://127.0.0.1:{port}/ours", mail="mailto://127.0.0.1:1?from=a@b.org")
    alert.test(config(receiver_names=("hook", "mail")))
    assert [path for path, *_ in got] == ["/ours"]
    assert sorted(home.rglob("*")) == before


def test_alerts_survive_a_full_root_disk(host: Host) -> None:
    (host.place / "var").write_text("nothing can be written below this")
    alert.changed(config(receiver_names=("mail",)), [use(WARNING)], 0)
    assert alert.changed(config(receiver_names=("mail",)), [use(WARNING)], 900) == []
    assert alert_store.queued() == {"mail": 1}


def test_answer_of_slack_that_an_old_apprise_takes_for_a_failure_is_none() -> None:
    output = (
        "2026-11-24 23:04:30,001 - WARNING - Failed to send to Slack: error=200.\n"
        "2026-11-24 23:04:30,002 - DEBUG - Response Details:\n{}\n"
    )
    assert result_of(1, output.format("b'ok'"), "", "slack://a/b/c") == Delivery(True)
    refused = result_of(1, output.format("b'no_team'"), "", "slack://a/b/c")
    assert refused == Delivery(False, "Failed to send to Slack: error=200")
