"""What `bulkhead status` collects, and what it cannot find out."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import state
from bulkhead.docker import usage
from bulkhead.guard import reservations
from bulkhead.outage import journal, unit
from bulkhead.outage.journal import Journal
from bulkhead.snapshot import snapshots
from bulkhead.snapshot.snapshots import Snapshot
from bulkhead.status import report
from bulkhead.status.commands import as_json
from bulkhead.status.page import render
from bulkhead.status.report import DataLocation, collect
from bulkhead.storage import lvm
from bulkhead.watch import alert_store, check
from bulkhead.watch.results import UNKNOWN, CheckResult, Observation

from ..configs import config
from .example_status import GUARDS, VOLUME, G, example_status, row, usage_of


def refuse(*_: object) -> Any:
    raise PermissionError("not for you")


@pytest.mark.usefixtures("machine")
def test_a_host_that_answers_has_no_failed_part() -> None:
    found = collect(config(), list)
    assert found.failed == {}
    assert found.usage == usage_of()
    assert found.next_prune == 1795575600


@pytest.mark.parametrize(
    ("module", "name", "part"),
    [
        (check, "collect", "disks"),
        (usage, "usage", "usage"),
        (unit, "is_under_way", "under way"),
        (report, "_unfinished", "rollback"),
        (report, "output_of", "next prune"),
        (alert_store, "open_alerts", "alerts"),
        (alert_store, "queued", "messages"),
        (snapshots, "ours", "snapshots"),
        (lvm, "list_disk_room", "disk room"),
    ],
)
def test_a_part_that_fails_is_shown_as_unknown_beside_the_others(
    machine: pytest.MonkeyPatch, module: Any, name: str, part: str
) -> None:
    machine.setattr(check, "collect", lambda *_: (example_status().observation, {}))
    machine.setattr(snapshots, "ours", lambda _: [Snapshot("before", G, 41.5, 7)])
    machine.setattr(module, name, refuse)
    found = collect(config(), list)
    assert found.failed == {part: "not for you"}
    page = render(found, False, 80)
    assert "not for you" in page
    assert "Runs" in page


@pytest.mark.usefixtures("machine")
def test_a_move_whose_journal_is_damaged_hides_nothing_else() -> None:
    found = collect(config(), refuse)
    assert "whether it was moved: not for you" in render(found, False, 80)
    assert found.usage


def test_state_of_a_guard_that_knew_no_floor_for_inodes_is_read(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(check, "collect", lambda *_: (Observation(results=[GUARDS]), {}))
    state.save("guard", {"time": 1, "floor": G, "free": 2 * G, "ballast": 0, "aborted": []})
    page = render(collect(config(), list), False, 80)
    assert row(page, "floor").endswith("1.0G kept free; 1.0G left above it")
    assert "inodes" not in page


@pytest.mark.parametrize(
    "values",
    [
        {"time": 3},
        {"levels": 7, "samples": 8},
        {"time": "now", "floor": 1, "free": 1, "ballast": 0, "aborted": []},
        {"time": 1, "floor": 1, "free": 1, "ballast": 0, "aborted": [7]},
    ],
)
def test_damaged_state_causes_no_traceback(machine: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    machine.setattr(check, "collect", lambda *_: (Observation(results=[GUARDS]), {}))
    for name in ("check", "prune", "guard"):
        state.save(name, values)
    assert "the last prune is unknown" in render(collect(config(), list), False, 80)


@pytest.mark.parametrize(
    ("phase", "pending", "reason"),
    [("", True, "no room"), ("", False, ""), ("", None, "no room"), ("failed", False, "no room")],
)
def test_reason_of_a_move_that_could_not_begin_is_shown_while_there_is_something_to_move(
    phase: str, pending: bool | None, reason: str
) -> None:
    class PendingMove:
        path = "/var/lib/docker"
        journal = Journal("", phase=phase, reason="no room")

        @property
        def is_pending(self) -> bool:
            if pending is None:
                raise PermissionError("not for you")
            return pending

        def outcome(self) -> str:
            return "Docker's data has not been moved."

    assert DataLocation.of(PendingMove()).reason == reason  # type: ignore[arg-type]


def test_docker_is_not_waited_for_when_it_hangs(machine: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    machine.setattr(report, "PATIENCE", 0.05)
    machine.setattr(usage, "usage", lambda _: done.wait(60))
    began = time.monotonic()
    page = render(collect(config(), list), False, 80)
    done.set()
    assert time.monotonic() - began < 5
    assert "Docker did not report its disk usage within 0.05 s" in page


def test_a_docker_that_is_down_is_not_asked_because_its_socket_would_start_it(machine: pytest.MonkeyPatch) -> None:
    down = CheckResult("docker", UNKNOWN, "Docker does not run: docker.service is inactive")
    machine.setattr(check, "collect", lambda *_: (Observation(results=[down]), {}))
    machine.setattr(usage, "usage", lambda _: pytest.fail("Docker was asked"))
    page = render(collect(config(), list), False, 120)
    assert f"What fills {VOLUME}\n  unknown     {down.text}" in page


def test_others_than_root_learn_what_they_cannot_see(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(check, "collect", lambda *_: (Observation(results=[GUARDS]), {}))
    machine.setattr(report.os, "geteuid", lambda: 1000)
    page = render(collect(config(), list), False, 80)
    assert "the last check is unknown: only root can see it" in page
    assert "Alerts\n  unknown     only root can see it" in page
    assert "Guard\n  unknown     only root can see it" in page


@pytest.mark.parametrize(
    ("schedule", "minutes"),
    [("*/15 * * * *", 10), ("*/7 * * * *", 6), ("*/40 * * * *", 10), ("5 4 * * *", None)],
)
@pytest.mark.usefixtures("machine")
def test_the_next_check_follows_crons_schedule(tmp_path: Path, schedule: str, minutes: int | None) -> None:
    (tmp_path / "cron").write_text(f"{schedule} root check-disk 80 >/dev/null\n")
    at = time.mktime((2026, 11, 24, 13, 50, 0, 0, 0, -1))
    expected = None if minutes is None else at + 60 * minutes
    assert report._next_by_cron(at + 20) == expected


def test_a_timer_that_is_stopped_has_no_next_run(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(report, "output_of", lambda *_: "\n")
    assert collect(config(), list).next_prune is None


def test_a_rollback_that_is_not_finished_is_shown(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setattr(journal, "ROLLBACK", f"{tmp_path}/rollback.json")
    Journal(journal.ROLLBACK).enter(journal.SWITCHING)
    status = collect(config(), list)
    assert "`bulkhead relocate --recover` tries again" in as_json(status)["rollback"]
    assert "LVM was told to restore the volume" in row(render(status, False, 120), "rollback")
    Journal(journal.ROLLBACK).enter(journal.DONE)
    assert collect(config(), list).rollback == ""


def test_builds_that_run_or_wait_are_collected(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setattr(report, "space_of", lambda _: SimpleNamespace(used=60 * G))
    (tmp_path / "builds").mkdir()
    place = reservations.Reservation(reservations.identity(os.getpid()), "app", 25 * G, 0, time.monotonic(), 50 * G)
    reservations.save(place)
    reservations.save_accounts({place.process: reservations.Account(steps=8 * G, total=9 * G)}, [])
    status = collect(config(), list)
    (build,) = status.builds
    assert (build.name, build.need, build.reserved, build.written) == ("app", 25 * G, 16 * G, 8 * G)
    assert abs(build.since - time.time()) < 10
