"""Reservations, and the queue of builds that wait for room."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bulkhead.build import queue
from bulkhead.build.arguments import Arguments
from bulkhead.build.checklist import Checklist
from bulkhead.build.queue import BuildQueue
from bulkhead.guard import loop, reservations
from bulkhead.guard.reservations import Account, Accounts, Reservation, identity

from .build_host import CONFIG, BuildHost, G, as_user, preflight, run

OURS = identity(os.getpid())


class QueueClock:
    """The clock of the queue. It moves when somebody waits, and then things happen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.events: dict[float, Callable[[], object]] = {}
        monkeypatch.setattr(queue, "_PAUSE", 20.0)
        monkeypatch.setattr(queue, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at in [at for at in self.events if at <= self.now]:
            self.events.pop(at)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> QueueClock:
    return QueueClock(monkeypatch)


def other(name: str, need: int, *, since: float = 0, waits: bool = False) -> Reservation:
    """Let another build reserve space, or wait for it: it lives as long as this test."""
    place = Reservation(f"{name} 0", name, need, 0, since, 50 * G, waits, client=OURS)
    reservations.save(place)
    return place


def files(host: BuildHost) -> list[str]:
    return sorted(os.listdir(host.place / "builds"))


def test_two_builds_do_not_start_where_only_one_fits(host: BuildHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.cache = 0
    other("web", 25 * G)
    assert run(need=25 * G) == 3
    output = capsys.readouterr().err
    assert (
        "free: 50.0 GiB; needed: 25.0 GiB (--need 25G) above the guard's floor of 2.0 GiB and the 25.0 GiB that 1 other "
        "build may still need: 2.0 GiB missing"
    ) in output
    assert output.rstrip().endswith("not started, because of: room")
    assert "Or wait for the other builds: --wait" in output
    assert not host.has_begun()
    assert files(host) == ["web 0.json"]
    assert run(need=22 * G) == 0


def test_preflight_counts_what_others_have_reserved(host: BuildHost, capsys: pytest.CaptureFixture[str]) -> None:
    other("web", 25 * G)
    assert preflight(need=25 * G, as_json=True) == 0, "idle cache of 3 GiB can go"
    assert json.loads(capsys.readouterr().out)["reserved"] == 25 * G
    assert files(host) == ["web 0.json"]


def test_what_a_build_has_written_already_is_not_reserved_any_more(host: BuildHost) -> None:
    other("web", 25 * G)
    host.cache = 0
    host.used += 20 * G
    assert run(need=10 * G) == 3
    host.account = Account(steps=20 * G, total=20 * G)
    assert run(need=10 * G) == 0


def test_reservation_is_there_while_the_build_runs_and_gone_after_it(host: BuildHost) -> None:
    host.docker('while grep -q \'"client": ""\' builds/*.json; do sleep 0.01; done; cp -r builds seen')
    assert run("-t app:1 .", need=5 * G, limit=9 * G) == 0
    (known,) = (host.place / "seen").iterdir()
    values = json.loads(known.read_text())
    assert (values["name"], values["need"], values["limit"], values["used"]) == ("app:1", 5 * G, 9 * G, 50 * G)
    assert values["process"] == OURS
    assert values["client"].split()[0] != OURS.split()[0]
    assert values["client"].split()[1] != "0"
    assert files(host) == []


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(("counts_at", "returns_at"), [(1000.95, 1001), (9e9, 1003)], ids=["at-work", "stuck"])
def test_guard_has_three_seconds_to_count_once_more(
    monkeypatch: pytest.MonkeyPatch, counts_at: float, returns_at: float
) -> None:
    clock = [1000.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    place = BuildQueue(Checklist(CONFIG, Arguments.of(["."]), G, 0, lambda _: None), "app", 0)
    place._place = place._place._replace(client="7 7")
    assert (place.process, place.client) == (OURS, "7 7")
    monkeypatch.setattr(queue, "time", SimpleNamespace(time=lambda: clock[0], monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(reservations, "accounts", lambda: Accounts(counts_at if clock[0] >= counts_at else 900.0))
    assert place.accounts().time == (counts_at if counts_at < 2000 else 900)
    assert clock[0] == pytest.approx(returns_at, abs=0.11)


def test_build_that_waits_starts_when_the_other_has_ended(
    host: BuildHost, clock: QueueClock, capsys: pytest.CaptureFixture[str]
) -> None:
    web = other("web", 30 * G)
    clock.events[1100] = lambda: reservations.remove(web)
    assert run(need=25 * G, wait=600.0) == 0
    assert 1100 <= clock.now < 1120
    lines = [line for line in capsys.readouterr().err.splitlines() if "waits" in line]
    assert lines == [
        "bulkhead: waits for 7.0G of room, after web; gives up in 10 min 0 s",
        "bulkhead: waits for 7.0G of room, after web; gives up in 9 min 0 s",
    ]
    assert host.cache == 3 * G, "it would not have been enough"
    assert files(host) == []


def test_build_gives_up_after_its_time(host: BuildHost, clock: QueueClock, capsys: pytest.CaptureFixture[str]) -> None:
    other("web", 30 * G)
    assert run(need=25 * G, wait=600.0) == 3
    assert 1600 <= clock.now < 1620
    assert "failed   room: waited 10 min 0 s. free: " in capsys.readouterr().err
    assert files(host) == ["web 0.json"]


def test_who_came_first_starts_first(host: BuildHost, clock: QueueClock) -> None:
    host.cache = 0
    first = other("first", 40 * G, since=900, waits=True)
    other("last", 40 * G, since=1001, waits=True)
    assert run(need=9 * G) == 3, "the first in the queue would have to wait longer"
    assert run(need=8 * G) == 0, "it fits beside the first"
    clock.events[1050] = lambda: reservations.remove(first)
    assert run(need=9 * G, wait=600.0) == 0, "the last is behind it"
    assert clock.now < 1080


def test_build_that_never_fits_is_not_queued(
    host: BuildHost, clock: QueueClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(need=99 * G, wait=600.0) == 3
    assert clock.now == 1000
    output = capsys.readouterr().err
    assert "The volume has only 100.0 GiB: grow the volume (setting volume_size), or give a smaller --need" in output
    assert "reclaim" not in output
    assert host.cache == 3 * G, "nothing was removed in vain"


def test_cache_of_a_build_that_has_ended_is_removed_for_one_that_waits(host: BuildHost, clock: QueueClock) -> None:
    host.cache = 0
    web = other("web", 30 * G)

    def end() -> None:
        reservations.remove(web)
        host.used += 30 * G
        host.cache = 30 * G

    clock.events[1020] = end
    assert run(need=25 * G, wait=600.0) == 0
    assert host.cache == 0
    assert clock.now < 1060, "at once, not only a minute after the first attempt"


def test_cache_goes_for_a_build_that_waits_as_soon_as_it_is_enough(host: BuildHost, clock: QueueClock) -> None:
    def free_some() -> None:
        host.used -= 5 * G

    other("web", 30 * G)
    clock.events[1100] = free_some
    assert run(need=25 * G, wait=600.0) == 0
    assert host.cache == 0
    assert clock.now < 1200


def test_ctrl_c_leaves_the_queue(host: BuildHost, clock: QueueClock, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        assert len(files(host)) == 2
        raise KeyboardInterrupt

    other("web", 30 * G)
    clock.events[1010] = interrupt
    with pytest.raises(KeyboardInterrupt):
        run(need=25 * G, wait=600.0)
    assert "bulkhead: left the queue: the build was not started" in capsys.readouterr().err
    assert files(host) == ["web 0.json"]
    assert not host.has_begun()


@pytest.mark.usefixtures("host")
def test_on_a_terminal_one_line_shows_the_queue(
    clock: QueueClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    web = other("web", 30 * G)
    clock.events[1021] = lambda: reservations.remove(web)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    place = BuildQueue(Checklist(CONFIG, Arguments.of(["."]), 25 * G, 0, lambda _: None), "app", 0)
    place._checklist.inspect()
    place.enter(600)
    output = capsys.readouterr().err
    assert output.endswith("\r\033[Kbulkhead: waits for 7.0G of room, after web; gives up in 9 min 40 s\r\033[K")


@pytest.mark.parametrize("user", ["root", "other"])
def test_build_of_a_user_who_cannot_reserve_space_starts_with_a_warning(
    host: BuildHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], user: str
) -> None:
    monkeypatch.setattr(reservations, "DIRECTORY", str(host.place / "none"))
    if user == "other":
        as_user(monkeypatch)
        assert run() == 0
        expected = (
            f"warning  reservation: the space cannot be reserved: there is no {host.place}/none: the guard makes it"
        )
        assert expected in capsys.readouterr().err
        assert run(wait=60.0) == 3
        assert "the guard makes it. --wait needs that" in capsys.readouterr().err
    else:
        assert run() == 0, "root makes it"
        assert (host.place / "none").stat().st_mode & 0o777 == 0o770


# -- limits


@pytest.mark.usefixtures("host")
def test_no_more_is_reserved_than_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight(need=30 * G, limit=20 * G) == 0
    output = capsys.readouterr().out
    assert "needed: 20.0 GiB (--limit 20G)" in output
    assert "ok       limit: the guard ends this build if its steps write more than 20.0 GiB" in output
    assert preflight(need=10 * G, limit=20 * G) == 0
    assert "needed: 10.0 GiB (--need 10G)" in capsys.readouterr().out


def test_limit_that_nobody_would_hold_is_refused(
    host: BuildHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(words: str = "-t app .") -> str:
        assert run(words, limit=20 * G) == 3
        return capsys.readouterr().err

    assert "failed   limit: --builder may send the build to another engine: the guard cannot count it there" in refused(
        "--builder other ."
    )
    monkeypatch.setenv("BUILDX_BUILDER", "other")
    assert "failed   limit: BUILDX_BUILDER may send" in refused()
    monkeypatch.delenv("BUILDX_BUILDER")
    (host.place / "cgroup.controllers").unlink()
    assert "failed   limit: this host has no cgroup v2: the guard cannot tell the steps of builds apart" in refused()
    monkeypatch.setattr(loop, "is_alive", lambda: False)
    assert "failed   limit: only the guard holds a limit, and docker-guard.service does not run" in refused()
    assert not host.has_begun()


@pytest.mark.usefixtures("host")
def test_limit_needs_the_reservation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    as_user(monkeypatch)
    monkeypatch.setattr(reservations, "DIRECTORY", str(tmp_path / "none"))
    assert run(limit=20 * G) == 3
    assert "the guard makes it. --limit needs that" in capsys.readouterr().err
