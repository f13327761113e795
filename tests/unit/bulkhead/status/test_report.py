"""`bulkhead status` shows at a glance how a host is, and what it cannot find out."""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state
from bulkhead.docker import usage
from bulkhead.docker.usage import Usage
from bulkhead.move import commands as move_commands
from bulkhead.outage import journal, unit
from bulkhead.outage.journal import Journal
from bulkhead.snapshot import snapshots
from bulkhead.snapshot.snapshots import Snapshot
from bulkhead.status import commands, report
from bulkhead.status import page as status_page
from bulkhead.status.commands import as_json
from bulkhead.status.page import render
from bulkhead.status.report import Aborted, DataLocation, GuardStatus, Pruned, Status, gather
from bulkhead.storage import lvm
from bulkhead.storage.filesystems import FilesystemUsage
from bulkhead.storage.lvm import GroupUsage
from bulkhead.watch import alert_store, check
from bulkhead.watch.alert_store import Standing
from bulkhead.watch.findings import CRITICAL, OK, UNKNOWN, WARNING, CheckResult, Observation
from bulkhead.watch.forecast import Forecast

from ..configs import config

G = 2**30
NOW = 1764021300.0
VOLUME = "/srv/docker-volume"
ANSWERS = CheckResult("docker", OK, "Docker answers")
GUARDS = CheckResult("unit:docker-guard.service", OK, "docker-guard.service is active")


def usage_of(**changed: Any) -> Usage:
    values = {"images": 30 * G, "containers": G, "build_cache": 14 * G, "volumes": 6 * G, "logs": G // 2}
    return Usage(**{**values, "reclaimable": {"images": 12 * G}, **changed})


def host(**changed: Any) -> Status:
    """A host whose Docker volume is nearly full."""
    seen = Observation(
        filesystems=[
            FilesystemUsage("/", 30 * G, 15 * G, 15 * G, 2_000_000, 1_700_000, False),
            FilesystemUsage(VOLUME, 60 * G, 54 * G, 3 * G, 4_000_000, 3_000_000, False),
        ],
        forecasts={"/": Forecast(0.0, None), VOLUME: Forecast(G / 3600, 3 * 3600)},
        groups=[GroupUsage("ubuntu-vg", 100 * G, 2 * G)],
        snapshots=[lvm.SnapshotUsage("ubuntu-vg", "before", "docker-lv", 41.5)],
        findings=[CheckResult(f"use:{VOLUME}", CRITICAL, f"{VOLUME} 94 % used", VOLUME), ANSWERS, GUARDS],
    )
    values = {
        "host": "ci-7",
        "now": NOW,
        "volume": VOLUME,
        "group": "ubuntu-vg",
        "reserve": 5 * G,
        "seen": seen,
        "usage": usage_of(),
        "guard": GuardStatus(NOW - 1, 3 * G, 4 * G, G // 4, []),
        "places": [DataLocation("/var/lib/docker", "Docker runs on the volume.", "finalized", NOW - 86400, "", {})],
    }
    return Status(**{**values, **changed})


def row(page: str, beginning: str) -> str:
    (found,) = [line for line in page.splitlines() if re.match(rf"\s*{re.escape(beginning)}\s", line)]
    return found


# -- the page


def test_the_first_lines_say_which_host_how_bad_and_why() -> None:
    first, second, *_ = render(host(), False, 80).splitlines()
    assert first.startswith("ci-7  CRITICAL")
    assert second == f"  CRITICAL    {VOLUME} 94 % used"


def test_the_worst_is_told_first() -> None:
    findings = [
        CheckResult("docker", UNKNOWN, "c"),
        CheckResult("use:/home", WARNING, "b"),
        CheckResult("use:/", CRITICAL, "a"),
    ]
    lines = render(host(seen=Observation(findings=findings), failed={"disks": "-"}), False, 80).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["CRITICAL", "WARNING", "UNKNOWN"]


def test_a_filesystem_has_its_bar_figures_and_forecast_in_a_row() -> None:
    assert row(render(host(), False, 80), VOLUME).split() == [
        VOLUME, "[########.]", "94", "%", "54G", "60G", "3.0G", "+1.0G/h", "3", "h",
    ]  # fmt: skip


def test_what_does_not_fill_has_no_time_left_and_what_is_unknown_is_asked() -> None:
    seen = host().seen
    seen.forecasts.pop(VOLUME)
    page = render(host(seen=seen), False, 80)
    assert row(page, "/").split()[-2:] == ["0", "-"]
    assert row(page, VOLUME).split()[-2:] == ["?", "?"]
    assert "is known, to root, after five checks" in page


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int) -> None:
    seen = host().seen
    seen.filesystems.append(FilesystemUsage(f"/srv/{'models/' * 20}", G, G, 0, 0, 0, False))
    seen.findings.append(CheckResult("reserve:ubuntu-vg", WARNING, "words " * 50))
    failed = Pruned(NOW - 60, G, ["image " * 40])
    guard = GuardStatus(NOW, G, 0, 0, [Aborted(NOW, "x" * 200, G)])
    page = render(host(seen=seen, pruned=failed, guard=guard), False, width)
    assert max(map(len, page.splitlines())) <= width


def test_colour_changes_nothing_but_colours() -> None:
    coloured = render(host(), True, 80)
    assert f"\033[{status_page._COLOURS[CRITICAL]}m#" in coloured
    assert re.sub(r"\033\[[0-9;]*m", "", coloured) == render(host(), False, 80)


def test_what_fills_the_volume_is_shown_with_what_of_it_can_be_had_back() -> None:
    page = render(host(), False, 80)
    assert row(page, "images").endswith("30G    12G reclaimable")
    assert row(page, "build cache").endswith("14G")


def test_the_reserve_is_beside_what_is_free() -> None:
    page = render(host(), False, 80)
    assert "2.0G of 100G free; the reserve is 5.0G" in row(page, "ubuntu-vg")
    assert "ubuntu-vg/before of docker-lv, 41 % full" in row(page, "snapshot")


def test_a_snapshot_of_ours_has_its_age_and_an_end() -> None:
    taken = {"before": NOW - 5 * 3600}
    page = render(host(taken=taken, snapshot_hours=24), False, 120)
    assert row(page, "snapshot").endswith("41 % full, 5 h old; goes in 19 h")
    assert row(render(host(taken=taken), False, 120), "snapshot").endswith("41 % full, 5 h old")
    late = render(host(taken={"before": NOW - 3 * 86400}, snapshot_hours=24), False, 120)
    assert row(late, "snapshot").endswith("3 d old; goes in 0 min")


def test_the_guard_says_what_it_keeps_free_and_how_much_that_leaves() -> None:
    page = render(host(), False, 80)
    assert row(page, "floor").endswith("3.0G stay free; 1.0G until then")
    assert row(page, "ballast").endswith("256M")
    below = render(host(guard=GuardStatus(NOW, 3 * G, 2 * G, 0, [])), False, 80)
    assert row(below, "floor").endswith("3.0G stay free; less than that is free")
    assert row(below, "ballast").endswith("none")


def test_builds_that_the_guard_has_stopped_are_shown_the_last_one_first_and_not_for_pages() -> None:
    aborted = [Aborted(NOW - 3600 * hours, f"pip install part-{hours}\n", 8 * G) for hours in range(9, 0, -1)]
    page = render(host(guard=GuardStatus(NOW, G, G, 0, aborted)), False, 80)
    shown = [line for line in page.splitlines() if line.startswith("  stopped")]
    assert shown[0] == r"  stopped     1 h ago, with 8.0G written: pip install part-1\n"
    assert len(shown) == 5


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"guard": GuardStatus(NOW - 600, G, 2 * G, 0, [])}, "silent      it looked 10 min ago for the last time"),
        ({"guard": None}, "unknown     it has not looked yet"),
        (
            {"seen": Observation(findings=[CheckResult(GUARDS.key, WARNING, "docker-guard.service is inactive")])},
            "Guard\n  WARNING     docker-guard.service is inactive",
        ),
        ({"seen": Observation(findings=[ANSWERS])}, "Guard\n  none: no build is stopped"),
        ({"seen": Observation(), "failed": {"disks": "no configuration"}}, "Guard\n  unknown     no configuration"),
    ],
    ids=["silent", "new", "dead", "off", "unknown"],
)
def test_a_guard_that_does_not_guard_is_told(changed: dict[str, Any], text: str) -> None:
    assert text in render(host(**changed), False, 80)


def test_a_move_is_shown_with_its_time_its_old_data_and_its_reason() -> None:
    place = DataLocation(
        "/var/lib/docker", "Docker runs on its old data.", "failed", NOW, "no room", {"/var/lib/docker": 2 * G}
    )
    page = render(host(places=[place]), False, 120)
    assert "  Docker runs on its old data.\n    since     2025-" in page
    assert "    kept      2.0 GiB beneath /var/lib/docker; `bulkhead finalize` removes it" in page
    assert "    reason    no room" in page


def test_runs_say_when_they_were_and_when_they_are_next() -> None:
    pruned = Pruned(NOW - 18 * 3600, 4 * G, [])
    page = render(host(checked=NOW - 240, next_check=NOW + 660, pruned=pruned, next_prune=NOW + 6 * 3600), False, 80)
    assert row(page, "check").split("  ")[-1].strip() == "next in 11 min"
    assert "4 min ago" in row(page, "check")
    assert "18 h ago      next in 6 h" in row(page, "prune")
    assert "4.0G" in row(page, "freed")


def test_a_prune_that_failed_says_at_what_and_not_for_pages() -> None:
    page = render(host(pruned=Pruned(NOW, 0, [f"image {number}: in use" for number in range(100)])), False, 80)
    assert "image 0: in use" in page
    assert "image 5: in use" not in page
    assert "and 95 more: `journalctl -u docker-prune`" in page


def test_before_the_first_runs_there_are_none_yet() -> None:
    page = render(host(), False, 80)
    assert row(page, "check").endswith("none yet")
    assert row(page, "prune").endswith("none yet")


def test_alerts_that_stand_and_messages_that_wait_are_shown() -> None:
    standing = [Standing(f"use:{VOLUME}", CRITICAL, "94 % used", since=NOW - 7200, told=NOW - 600)]
    page = render(host(standing=standing, queued={"slack": 3, "mail": 0}), False, 80)
    assert f"  CRITICAL    use:{VOLUME} since 2 h, told 10 min ago" in page
    assert "  waiting     3 messages for slack" in page
    assert "mail" not in page


# -- what cannot be had


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A host on which everything answers. Returns what makes a part of it fail."""
    monkeypatch.setattr(state, "PERSISTENT", f"{tmp_path}/lib")
    monkeypatch.setattr(state, "VOLATILE", f"{tmp_path}/run")
    monkeypatch.setattr(check, "collect", lambda *_: (Observation(findings=[ANSWERS]), {}))
    monkeypatch.setattr(usage, "usage", lambda _: usage_of())
    monkeypatch.setattr(unit, "is_under_way", lambda: False)
    monkeypatch.setattr(report, "output_of", lambda *_: "Wed 2026-11-25 03:00:00 UTC\n")
    monkeypatch.setattr(alert_store, "standing", list)
    monkeypatch.setattr(alert_store, "queued", dict)
    monkeypatch.setattr(report.os, "geteuid", lambda: 0)
    (tmp_path / "cron").write_text("# check\nPATH=/bin\n*/15 * * * * root check-disk 80 >/dev/null\n")
    monkeypatch.setattr(report, "CRON", f"{tmp_path}/cron")
    monkeypatch.setattr(snapshots, "ours", lambda _: [])
    return monkeypatch


def refuse(*_: object) -> Any:
    raise PermissionError("not for you")


@pytest.mark.usefixtures("machine")
def test_a_host_that_answers_has_nothing_that_failed() -> None:
    found = gather(config(), list)
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
        (alert_store, "standing", "alerts"),
        (alert_store, "queued", "messages"),
        (snapshots, "ours", "snapshots"),
    ],
)
def test_a_part_that_fails_is_told_and_the_others_are_shown(
    machine: pytest.MonkeyPatch, module: Any, name: str, part: str
) -> None:
    machine.setattr(check, "collect", lambda *_: (host().seen, {}))
    machine.setattr(snapshots, "ours", lambda _: [Snapshot("before", G, 41.5, 7)])
    machine.setattr(module, name, refuse)
    found = gather(config(), list)
    assert found.failed == {part: "not for you"}
    page = render(found, False, 80)
    assert "not for you" in page
    assert "Runs" in page


@pytest.mark.usefixtures("machine")
def test_a_move_whose_journal_is_damaged_hides_nothing_else() -> None:
    found = gather(config(), refuse)
    assert "whether it was moved: not for you" in render(found, False, 80)
    assert found.usage


@pytest.mark.parametrize(
    "values",
    [
        {"time": 3},
        {"levels": 7, "samples": 8},
        {"time": "now", "floor": 1, "free": 1, "ballast": 0, "aborted": []},
        {"time": 1, "floor": 1, "free": 1, "ballast": 0, "aborted": [7]},
    ],
)
def test_a_state_that_is_not_what_it_should_be_is_no_traceback(
    machine: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    machine.setattr(check, "collect", lambda *_: (Observation(findings=[GUARDS]), {}))
    for name in ("check", "prune", "guard"):
        state.save(name, values)
    render(gather(config(), list), False, 80)


def test_docker_is_not_waited_for_when_it_hangs(machine: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    machine.setattr(report, "PATIENCE", 0.05)
    machine.setattr(usage, "usage", lambda _: done.wait(60))
    began = time.monotonic()
    page = render(gather(config(), list), False, 80)
    done.set()
    assert time.monotonic() - began < 5
    assert "Docker does not say within 0.05 s what it holds" in page


def test_a_docker_that_is_down_is_not_asked_as_its_socket_would_start_it(machine: pytest.MonkeyPatch) -> None:
    down = CheckResult("docker", UNKNOWN, "Docker does not run: docker.service is inactive")
    machine.setattr(check, "collect", lambda *_: (Observation(findings=[down]), {}))
    machine.setattr(usage, "usage", lambda _: pytest.fail("Docker was asked"))
    page = render(gather(config(), list), False, 120)
    assert f"What fills {VOLUME}\n  unknown     {down.text}" in page


def test_others_than_root_are_told_what_they_do_not_see(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(check, "collect", lambda *_: (Observation(findings=[GUARDS]), {}))
    machine.setattr(report.os, "geteuid", lambda: 1000)
    page = render(gather(config(), list), False, 80)
    assert "the last check is unknown: only root sees it" in page
    assert "Alerts\n  unknown     only root sees it" in page
    assert "Guard\n  unknown     only root sees it" in page


@pytest.mark.parametrize(
    ("schedule", "minutes"),
    [("*/15 * * * *", 10), ("*/7 * * * *", 6), ("*/40 * * * *", 10), ("5 4 * * *", None)],
)
@pytest.mark.usefixtures("machine")
def test_the_next_check_is_when_cron_has_it(tmp_path: Path, schedule: str, minutes: int | None) -> None:
    (tmp_path / "cron").write_text(f"{schedule} root check-disk 80 >/dev/null\n")
    at = time.mktime((2026, 11, 24, 13, 50, 0, 0, 0, -1))
    expected = None if minutes is None else at + 60 * minutes
    assert report._next_by_cron(at + 20) == expected


def test_a_timer_that_is_stopped_has_no_next_run(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(report, "output_of", lambda *_: "\n")
    assert gather(config(), list).next_prune is None


def test_a_rollback_that_is_not_finished_is_shown(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setattr(journal, "ROLLBACK", f"{tmp_path}/rollback.json")
    Journal(journal.ROLLBACK).enter(journal.SWITCHING)
    status = gather(config(), list)
    assert "`bulkhead relocate --recover` tries again" in as_json(status)["rollback"]
    assert "LVM was told to restore the volume" in row(render(status, False, 120), "rollback")
    Journal(journal.ROLLBACK).enter(journal.DONE)
    assert gather(config(), list).rollback == ""


# -- for programs


def test_for_programs_dockers_move_is_at_the_top_and_the_others_are_by_their_directories() -> None:
    models = DataLocation("/srv/models", "/srv/models is on its volume.", "done", NOW, "", {"/srv/models": G})
    shown = as_json(host(places=[models, *host().places]))
    assert (shown["phase"], shown["since"], shown["reason"], shown["old"]) == ("finalized", NOW - 86400, "", {})
    assert shown["under_way"] is False
    assert shown["extra_volumes"]["/srv/models"]["old"] == {"/srv/models": G}


def test_for_programs_it_is_json_with_the_figures(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.setattr(check, "collect", lambda *_: (host().seen, {}))
    machine.setattr(snapshots, "ours", lambda _: [Snapshot("before", G, 41.5, 7)])
    machine.setattr(move_commands, "moves", lambda *_: [])
    aborted = {"time": NOW, "words": "make", "written": G, "id": "what else it remembers"}
    state.save("guard", {"time": NOW, "floor": G, "free": G, "ballast": 0, "rate": 0.0, "aborted": [aborted]})
    assert commands.run(config(), argparse.Namespace(json=True)) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [round(filesystem["percent"]) for filesystem in shown["filesystems"]] == [50, 95]
    assert shown["forecasts"][VOLUME]["seconds_left"] == 3 * 3600
    assert shown["usage"]["images"] == 30 * G
    assert shown["guard"]["aborted"][0]["words"] == "make"
    assert shown["taken"] == {"before": 7}


def test_what_is_no_terminal_gets_no_colours(machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine.setattr(move_commands, "moves", lambda *_: [])
    assert commands.run(config(), argparse.Namespace(json=False)) == 0
    assert "\033" not in capsys.readouterr().out
