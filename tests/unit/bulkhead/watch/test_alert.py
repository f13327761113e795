"""Which results of a check become alerts, and their delivery."""

from __future__ import annotations

import threading
import time

import pytest

from bulkhead import state
from bulkhead.docker import usage
from bulkhead.watch import advice, alert, alert_store
from bulkhead.watch import apprise as watch_apprise
from bulkhead.watch.alert import decide
from bulkhead.watch.alert_store import Message, News, OpenAlert, Queue
from bulkhead.watch.results import CRITICAL, OK, WARNING, CheckResult

from ..configs import config
from .alert_host import HOUR, VOLUME, AlertHost, use


def reported(levels: list[int], *, step: float = HOUR, reminder: float = 4) -> list[str]:
    """Return the news of a result that has these levels, one check after the other."""
    standing: dict[str, OpenAlert] = {}
    lines = []
    for number, level in enumerate(levels):
        standing, news = decide(standing, [use(level)], 1e9 + number * step, reminder)
        lines.append("; ".join(item.text for item in news))
    return lines


def test_every_change_of_level_is_news_once_and_so_is_the_recovery() -> None:
    assert reported([OK, WARNING, WARNING, CRITICAL, WARNING, OK, OK]) == [
        "",
        "WARNING: / 85 % used",
        "",
        "CRITICAL (was WARNING for 2 h): / 85 % used",
        "WARNING (was CRITICAL for 1 h): / 85 % used",
        "OK (was WARNING for 1 h): / 85 % used",
        "",
    ]


def test_reminders_become_ever_rarer_down_to_one_a_week() -> None:
    lines = reported([WARNING] * 24 * 30)
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
    lines = reported([WARNING] * 13 + [CRITICAL] * 5)
    assert [hour for hour, line in enumerate(lines) if line.startswith("still")] == [4, 12, 17]


def test_result_that_is_gone_has_recovered() -> None:
    standing, _ = decide({}, [CheckResult("read-only:/", CRITICAL, "/ cannot be written to", "/")], 0, 4)
    standing, news = decide(standing, [], 2 * HOUR, 4)
    assert news == [News(OK, "OK (was CRITICAL for 2 h): resolved: / cannot be written to")]
    assert not standing


@pytest.mark.parametrize("step", [-30 * 24 * HOUR, -HOUR])
def test_clock_that_was_set_back_does_not_hold_reminders_back(step: float) -> None:
    standing, _ = decide({}, [use(WARNING)], 1e9, 4)
    standing, news = decide(standing, [use(WARNING)], 1e9 + step, 4)
    assert not news
    _, news = decide(standing, [use(WARNING)], 1e9 + step + 4 * HOUR, 4)
    assert [item.text for item in news] == ["still WARNING after 4 h: / 85 % used"]


def test_message_has_room_for_all_that_comes_with_it(host: AlertHost, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [(f"image registry.example.com/{'long/' * 50}{number}:tag", 10**12) for number in range(9)]
    monkeypatch.setattr("bulkhead.systemd.is_running", lambda *_: True)
    monkeypatch.setattr(usage, "reclaimable", lambda *_: names)
    holds = usage.Usage(10**13, 10**13, 10**13, 10**13, 10**13, {})
    monkeypatch.setattr(usage, "usage", lambda _: holds)
    monkeypatch.setattr(advice, "enough", lambda *_: 10**15)
    way_out = advice.way_out(config(volume_mount=str(host.place)))
    assert "/long/0:tag 931G, " in way_out
    assert "It holds images" in way_out
    message = Message.of([News(CRITICAL, "x" * 4000, reclaim=True)] * 300, 0, "ci-7")
    body = message.body(400 * 24 * HOUR, 99_999, way_out)
    assert "`bulkhead status`" in body
    assert "99999" in body
    assert len(body) < 1900


def test_mount_point_of_any_bytes_is_news_in_printable_characters() -> None:
    _, news = decide({}, [use(WARNING, "/srv/\udcff\n\x1b[2J 85 % used")], 0, 4)
    assert news[0].text == r"WARNING: /srv/\udcff\n\x1b[2J 85 % used"


@pytest.mark.parametrize(
    ("result", "helps"),
    [
        (use(WARNING, mount=VOLUME), True),
        (CheckResult(f"forecast:{VOLUME}", CRITICAL, "", VOLUME), True),
        (use(WARNING, mount="/"), False),
        (CheckResult(f"read-only:{VOLUME}", CRITICAL, "", VOLUME), False),
    ],
    ids=lambda value: value.key if isinstance(value, CheckResult) else "",
)
def test_way_to_reclaim_is_shown_where_it_helps(result: CheckResult, helps: bool) -> None:
    _, news = decide({}, [result], 0, 4, VOLUME)
    body = Message.of(news, 0, "ci-7").body(0, 0, "Reclaim it: `bulkhead prune`")
    assert ("`bulkhead prune`" in body, "`bulkhead status`" in body) == (helps, not helps)


def test_news_are_queued_for_each_receiver_and_the_delivery_starts(host: AlertHost) -> None:
    lines = alert.report_changes(config(receiver_names=("mail", "slack")), [use(WARNING)], 0)
    assert lines == host.log == ["WARNING: / 85 % used"]
    assert alert_store.queued() == {"mail": 1, "slack": 1}
    assert host.starts == ["start --no-block bulkhead-alert.service"]


def test_without_receivers_the_log_has_it_and_nothing_is_started(host: AlertHost) -> None:
    alert.report_changes(config(), [use(WARNING)], 0)
    assert host.log == ["WARNING: / 85 % used"]
    assert [item.key for item in alert_store.open_alerts()] == ["use:/"]
    assert not host.starts


def test_news_of_an_event_are_queued_and_open_no_alert(host: AlertHost) -> None:
    assert (
        alert.report_event(
            config(receiver_names=("mail", "slack")), [alert_store.News(CRITICAL, "a build was stopped")], 0
        )
        == []
    )
    assert host.log == ["a build was stopped"]
    assert alert_store.queued() == {"mail": 1, "slack": 1}
    assert host.starts == ["start --no-block bulkhead-alert.service"]
    assert alert_store.open_alerts() == []


def test_news_of_an_event_are_in_the_log_where_nobody_receives_alerts(host: AlertHost) -> None:
    assert alert.report_event(config(), [alert_store.News(CRITICAL, "a build was stopped")], 0) == []
    assert host.log == ["a build was stopped"]
    assert not host.starts


def test_delivery_is_tried_again_after_a_check_without_news(host: AlertHost) -> None:
    for now in (0, 900):
        alert.report_changes(config(receiver_names=("mail",)), [use(WARNING)], now)
    assert alert_store.queued() == {"mail": 1}
    assert len(host.starts) == 2


def test_messages_of_a_removed_receiver_are_dropped_and_the_log_has_it(host: AlertHost) -> None:
    alert.report_changes(config(receiver_names=("mail", "slack")), [use(WARNING)], 0)
    alert.report_changes(config(receiver_names=("mail",)), [use(WARNING)], 900)
    assert alert_store.queued() == {"mail": 1}
    assert host.log[-1] == "slack is no longer a receiver: 1 queued message dropped"


def test_delivery_that_cannot_be_started_is_reported(host: AlertHost) -> None:
    host.program("systemctl", "exit 1")
    lines = alert.report_changes(config(receiver_names=("mail",)), [use(WARNING)], 0)
    assert lines[1].startswith("alerts wait for the next check: bulkhead-alert.service cannot be started")


def test_each_receiver_gets_its_messages_oldest_first_and_they_are_gone(host: AlertHost) -> None:
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise(f'echo "$1 $(head -1)" >>{host.place}/got')
    both = config(receiver_names=("mail", "slack"))
    alert.report_changes(both, [use(WARNING)], 0)
    alert.report_changes(both, [use(CRITICAL)], HOUR)
    assert alert.deliver(both) == 0
    got = (host.place / "got").read_text().splitlines()
    expected = ["WARNING: / 85 % used", "CRITICAL (was WARNING for 1 h): / 85 % used"]
    assert [line.split(" ", 1)[1] for line in got if line.startswith("mailto:")] == expected
    assert [line.split(" ", 1)[1] for line in got if line.startswith("slack:")] == expected
    assert alert_store.queued() == {"mail": 0, "slack": 0}


def test_receiver_that_fails_keeps_its_messages_and_the_other_gets_its_own(host: AlertHost) -> None:
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise(f'echo "$1" >>{host.place}/tried; case $1 in mailto*) exit 1;; esac')
    both = config(receiver_names=("mail", "slack"))
    alert.report_changes(both, [use(WARNING)], 0)
    alert.report_changes(both, [use(OK)], HOUR)
    assert alert.deliver(both) == 1
    assert alert_store.queued() == {"mail": 2, "slack": 0}
    assert sorted((host.place / "tried").read_text().split()) == ["mailto://a", "slack://b", "slack://b"]
    host.apprise("")
    assert alert.deliver(both) == 0
    assert not any(alert_store.queued().values())


def test_message_that_a_receiver_refuses_holds_back_no_other_for_long(host: AlertHost) -> None:
    host.receivers(mail="mailto://a")
    host.apprise(f"read text; case $text in *refused*) exit 1;; esac; echo $text >>{host.place}/got")
    mail = config(receiver_names=("mail",))
    for number, text in enumerate(("refused", "too: refused", "good")):
        alert.report_changes(mail, [use(WARNING + number % 2, text)], number)
    for _ in range(11):  # five for each that is refused, and one
        alert.deliver(mail)
    assert (host.place / "got").exists()
    assert alert_store.queued() == {"mail": 2}, "nothing is lost"
    alert.report_changes(mail, [use(OK, "later")], 5)
    alert.deliver(mail)
    assert (host.place / "got").read_text().endswith(": later\n")


def test_messages_that_failed_while_the_receiver_was_away_reach_it_beside_one_that_it_refuses(host: AlertHost) -> None:
    host.receivers(mail="mailto://a")
    host.apprise("exit 1")
    mail = config(receiver_names=("mail",))
    alert.report_changes(mail, [use(WARNING, "refused")], 0)
    alert.report_changes(mail, [use(CRITICAL, "good")], 1)
    for _ in range(30):
        alert.deliver(mail)
    host.apprise(f"read text; case $text in *refused*) exit 1;; esac; echo $text >>{host.place}/got")
    for _ in range(2):
        alert.deliver(mail)
    assert "good" in (host.place / "got").read_text()


def test_receiver_that_hangs_delays_no_other_and_is_given_up(host: AlertHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_apprise, "_PATIENCE", 3)
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise(f"case $1 in mailto*) exec sleep 100;; esac; date +%s.%N >{host.place}/got")
    both = config(receiver_names=("mail", "slack"))
    alert.report_changes(both, [use(WARNING)], 0)
    began = time.time()
    assert alert.deliver(both) == 1
    assert time.time() - began < 10
    assert float((host.place / "got").read_text()) - began < 3
    assert alert_store.queued() == {"mail": 1, "slack": 0}


def test_message_that_comes_while_another_is_sent_is_sent_too(host: AlertHost) -> None:
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise(
        f"cd {host.place}; case $1 in mailto*) touch begun; until [ -e go ]; do sleep 0.02; done;; esac; head -1 >>got"
    )
    both = config(receiver_names=("mail", "slack"))
    alert.report_changes(both, [use(WARNING)], 0)
    delivery = threading.Thread(target=alert.deliver, args=[both])
    delivery.start()
    while not (host.place / "begun").exists():
        time.sleep(0.01)
    alert.report_changes(both, [use(CRITICAL)], HOUR)
    assert delivery.is_alive(), "the check waited for the delivery"
    (host.place / "go").touch()
    delivery.join()
    assert len((host.place / "got").read_text().splitlines()) == 4
    assert alert_store.queued() == {"mail": 0, "slack": 0}


def test_message_is_sent_twice_after_a_cut_between_sending_and_saving(
    host: AlertHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.receivers(mail="mailto://a")
    host.apprise(f"head -1 >>{host.place}/got")
    mail = config(receiver_names=("mail",))
    alert.report_changes(mail, [use(WARNING)], 0)
    with monkeypatch.context() as cut:
        cut.setattr(Queue, "sent", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            alert.deliver(mail)
    alert.deliver(mail)
    assert (host.place / "got").read_text() == "WARNING: / 85 % used\n" * 2


def test_second_delivery_at_the_same_time_is_refused(host: AlertHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(time, "monotonic", iter(range(1000)).__next__)
    with state.locked("alert", 0), pytest.raises(TimeoutError):
        alert.deliver(config(receiver_names=("mail",)))
    assert host.log == []


def test_message_about_dockers_volume_has_the_reclaimable_space_or_that_docker_does_not_answer(
    host: AlertHost,
) -> None:
    host.program("systemctl", "exit 3")
    host.receivers(mail="mailto://a")
    host.apprise(f"cat >{host.place}/got")
    mail = config(receiver_names=("mail",), volume_mount=str(host.place))
    alert.report_changes(mail, [use(WARNING, mount=str(host.place))], 0)
    alert.deliver(mail)
    got = (host.place / "got").read_text()
    assert "Reclaimable: unknown, Docker does not answer." in got
    assert "`bulkhead rescue --dry-run` shows what would bring it back." in got


def test_test_of_receivers_prints_which_failed(host: AlertHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.receivers(mail="mailto://a", slack="slack://b")
    host.apprise("case $1 in slack*) echo 2026-11-24 21:57:48,103 - WARNING - no such team; exit 1;; esac")
    assert alert.test(config(receiver_names=("mail", "slack", "pager"))) == 1
    assert capsys.readouterr().out.splitlines() == [
        "mail: sent",
        "slack: failed: no such team",
        f"pager: failed: {host.place}/receivers has no address for it",
    ]


def test_test_without_receivers_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert alert.test(config()) == 1
    assert "there are no receivers" in capsys.readouterr().out


def test_test_of_receivers_without_apprise_fails(
    host: AlertHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", f"{host.place}/bin")
    host.receivers(mail="mailto://a")
    assert alert.test(config(receiver_names=("mail",))) == 1
    expected = "mail: failed: the command apprise cannot be started: No such file or directory\n"
    assert capsys.readouterr().out == expected
