"""What counts as disuse: time that the host was up, and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state, uptime
from bulkhead.uptime import Clocks, Uptime, advanced

HOUR, DAY = 3600, 86400
BEGIN = 1.7e9


class Host:
    """A host with clocks: of its boots, its sleeps and its set clock."""

    def __init__(self) -> None:
        self.boot, self.awake, self.time = 0, 500.0, BEGIN
        self.known: dict[str, Any] = {}

    def runs(self, hours: float) -> Uptime:
        """Let time pass with a check every 15 minutes."""
        for _ in range(int(hours * 4)):
            self.awake += 900
            self.time += 900
            self.check()
        return self.check()

    def check(self) -> Uptime:
        self.known = json.loads(
            json.dumps(advanced(self.known, Clocks(str(self.boot), self.awake, self.time))._asdict())
        )
        return advanced(self.known, Clocks(str(self.boot), self.awake, self.time))

    def is_off(self, hours: float) -> None:
        self.time += hours * HOUR
        self.boot, self.awake = self.boot + 1, 30.0


@pytest.fixture
def host() -> Host:
    host = Host()
    host.check()
    return host


def test_moment_is_found_on_a_host_that_is_always_up(host: Host) -> None:
    found = host.runs(60)
    assert found.before(48 * HOUR) == pytest.approx(host.time - 48 * HOUR, abs=1)
    assert found.before(0) == host.time
    assert len(found.points) == 2


def test_nothing_is_older_than_the_first_look(host: Host) -> None:
    assert host.runs(47).before(48 * HOUR) == 0
    assert host.runs(1).before(48 * HOUR) == pytest.approx(BEGIN, abs=1)


def test_weekend_with_the_host_off_does_not_count(host: Host) -> None:
    host.runs(40)
    stopped = host.time  # a container, on Friday evening
    host.is_off(62)
    assert host.runs(4).before(48 * HOUR) < BEGIN + 1 < stopped
    assert host.runs(43).before(48 * HOUR) < stopped
    assert host.runs(2).before(48 * HOUR) >= stopped


def test_suspended_host_ages_nothing(host: Host) -> None:
    host.runs(10)
    stopped = host.time
    host.time += 62 * HOUR  # CLOCK_MONOTONIC stands still
    assert host.runs(47).before(48 * HOUR) <= stopped
    assert host.runs(2).before(48 * HOUR) >= stopped


@pytest.mark.parametrize("days", [-3, 3])
def test_clock_that_is_set_ages_nothing(host: Host, days: int) -> None:
    host.runs(60)
    stopped = [host.time - HOUR, host.time]
    host.time += days * DAY
    stopped += [host.time + 1, host.time + HOUR]
    assert host.runs(2).before(4 * HOUR) < min(stopped)
    before = host.runs(10).before(4 * HOUR)
    assert [moment for moment in stopped if moment > before] == [moment for moment in stopped if moment > host.time]


def test_clock_that_was_behind_after_the_boot_ages_nothing(host: Host) -> None:
    host.runs(60)
    real = host.time
    host.is_off(1)
    host.time = BEGIN - 900 * DAY  # no battery
    host.runs(1)
    stopped = host.time
    host.time = real + 2 * HOUR
    assert host.runs(5).before(10 * HOUR) < stopped
    assert host.runs(20).before(10 * HOUR) == pytest.approx(host.time - 10 * HOUR, abs=1)


def test_time_since_the_boot_is_counted_without_sleep(host: Host) -> None:
    assert host.check().since_boot == 500
    host.runs(10)
    host.is_off(1)
    assert host.runs(2).since_boot == pytest.approx(2 * HOUR + 30)


def test_time_between_the_last_look_and_the_shutdown_does_not_count(host: Host) -> None:
    host.runs(10)
    host.awake += 14 * 60
    host.is_off(0.25)
    assert host.check().up == pytest.approx(10 * HOUR + 30)


@pytest.mark.parametrize("known", [{}, {"boot": "a"}, {"points": 7}, {"boot": "a", "points": [["x", 1]]}])
def test_what_is_damaged_begins_anew(known: dict[str, Any]) -> None:
    found = advanced(known, Clocks("a", 7200, BEGIN))
    assert (found.up, found.since_boot, found.before(1)) == (0, 7200, 0)


def test_number_of_points_has_a_bound(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uptime, "_POINTS", 10)
    for _ in range(12):
        host.is_off(1)
        host.check()
    assert len(host.check().points) == 10


def test_uptime_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    first = uptime.remember()
    assert state.load("uptime")["boot"] == first.boot
    assert uptime.remember().up >= 0
    assert uptime.current().up >= state.load("uptime")["up"]
