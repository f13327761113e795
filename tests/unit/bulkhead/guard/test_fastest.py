"""An alert about growth that nobody may stop names the processes that write most."""

from __future__ import annotations

import time

import pytest

from bulkhead import procfs
from bulkhead.guard import fastest, jobs
from bulkhead.watch import alert
from bulkhead.watch.alert_store import News
from bulkhead.watch.results import CRITICAL, WARNING

from ..configs import config

M = 2**20
CONTAINER = "0123456789ab" + "c" * 52


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> dict[int, int]:
    """Return the bytes that each process writes in the second that is measured."""
    speeds: dict[int, int] = {}
    written: dict[int, int] = {}

    def read(pid: int) -> int:
        written[pid] = written.get(pid, -speeds[pid]) + speeds[pid]
        return written[pid] + 3 * M * pid

    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(procfs, "process_ids", lambda: sorted(speeds))
    monkeypatch.setattr(procfs, "bytes_written", read)
    monkeypatch.setattr(procfs, "name", {1: "systemd", 2: "mysqld", 3: "rsync", 4: "cp", 5: "tar"}.get)
    monkeypatch.setattr(
        procfs, "cgroup", lambda pid: f"0::/system.slice/docker-{CONTAINER}.scope" if pid == 2 else "0::/user.slice"
    )
    return speeds


def test_fastest_three_are_named_with_their_containers(speeds: dict[int, int], slept: list[float]) -> None:
    speeds |= {1: 0, 2: 98 * M, 3: 12 * M, 4: 20 * M, 5: 11 * M}
    assert fastest.describe() == (
        "The most is written now, to whichever disk, with 98M/s by mysqld (2 in the container 0123456789ab), "
        "20M/s by cp (4), 12M/s by rsync (3)"
    )
    assert slept == [1.0]


def test_name_that_a_process_gives_itself_stays_on_one_line(
    speeds: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds[4] = 20 * M
    monkeypatch.setattr(procfs, "name", lambda _: "cp\nOK: fine|x")
    assert fastest.describe().endswith("20M/s by cp\\nOK: fine/x (4)")


def test_nobody_is_named_who_writes_little(speeds: dict[int, int]) -> None:
    speeds |= {1: 0, 2: M - 1}
    assert fastest.describe() == ""
    speeds[3] = M
    assert fastest.describe() == "The most is written now, to whichever disk, with 1.0M/s by rsync (3)"


@pytest.mark.parametrize(("rate", "named"), [(98 * M, True), (0, False)])
def test_alert_names_them_if_it_should(
    speeds: dict[int, int], monkeypatch: pytest.MonkeyPatch, rate: int, named: bool
) -> None:
    speeds[3] = rate
    sent: list[News] = []
    monkeypatch.setattr(jobs, "say", lambda _: None)
    monkeypatch.setattr(alert, "report_event", lambda _, news, __: sent.extend(news) or [])
    assert jobs.send_alerts(config(), [(CRITICAL, "it fills", True, True), (WARNING, "stopped", True, False)]) == 2
    ending = ". The most is written now, to whichever disk, with 98M/s by rsync (3)" if named else ""
    assert sent == [News(CRITICAL, f"it fills{ending}", True), News(WARNING, "stopped", True)]
