"""The page that `bulkhead status` shows."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import pytest

from bulkhead import terminal
from bulkhead.status.page import render
from bulkhead.status.report import Aborted, DataLocation, GuardedBuild, GuardStatus, Pruned
from bulkhead.storage import lvm
from bulkhead.storage.filesystems import FilesystemUsage
from bulkhead.watch import check
from bulkhead.watch.alert_store import OpenAlert
from bulkhead.watch.results import CRITICAL, UNKNOWN, WARNING, CheckResult, Observation

from .example_status import ANSWERS, GUARDS, NOW, VOLUME, G, example_status, row, usage_of


def test_the_first_lines_say_which_host_how_bad_and_why() -> None:
    first, second, *_ = render(example_status(), False, 80).splitlines()
    assert first.startswith("ci-7  CRITICAL")
    assert second == f"  CRITICAL    {VOLUME} 94 % used"


def test_the_worst_is_reported_first() -> None:
    results = [
        CheckResult("docker", UNKNOWN, "c"),
        CheckResult("use:/home", WARNING, "b"),
        CheckResult("use:/", CRITICAL, "a"),
    ]
    lines = render(
        example_status(observation=Observation(results=results), failed={"disks": "-"}), False, 80
    ).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["CRITICAL", "WARNING", "UNKNOWN"]


def test_a_filesystem_has_its_bar_figures_and_forecast_in_a_row() -> None:
    assert row(render(example_status(), False, 80), VOLUME).split() == [
        VOLUME, "[########.]", "94", "%", "54G", "60G", "3.0G", "+1.0G/h", "3", "h",
    ]  # fmt: skip


def test_filesystem_that_does_not_fill_has_no_time_left_and_an_unknown_trend_is_a_question_mark() -> None:
    observation = example_status().observation
    observation.forecasts.pop(VOLUME)
    page = render(example_status(observation=observation), False, 80)
    assert row(page, "/").split()[-2:] == ["0", "-"]
    assert row(page, VOLUME).split()[-2:] == ["?", "?"]
    assert "known to root, after five checks" in page


@pytest.mark.parametrize("width", [40, 50, 60, 71, 72, 80, 120, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "2026-11-24 03:00:00 UTC")
    observation = example_status().observation
    observation.filesystems.append(FilesystemUsage(f"/srv/{'models/' * 20}", G, G, 0, 0, 0, False))
    observation.results.append(CheckResult("reserve:ubuntu-vg", WARNING, "words " * 50))
    failed = Pruned(NOW - 60, G, ["image " * 40])
    guard = GuardStatus(NOW, G, 0, 0, [Aborted(NOW, "x" * 200, G)])
    page = render(example_status(observation=observation, pruned=failed, guard=guard), False, width)
    assert max(map(len, page.splitlines())) <= width


def test_colour_changes_nothing_but_colours() -> None:
    coloured = render(example_status(), True, 80)
    assert f"\033[{terminal.COLOURS[CRITICAL]}m#" in coloured
    assert re.sub(r"\033\[[0-9;]*m", "", coloured) == render(example_status(), False, 80)


def test_contents_of_the_volume_are_shown_with_what_can_be_reclaimed() -> None:
    page = render(example_status(), False, 80)
    assert row(page, "images").endswith("30G    12G reclaimable")
    assert row(page, "build cache").endswith("14G")


def test_the_reserve_is_shown_beside_the_free_space() -> None:
    page = render(example_status(), False, 80)
    assert "2.0G of 100G free; the reserve is 5.0G" in row(page, "ubuntu-vg")
    assert "ubuntu-vg/before of docker-lv, 41 % full" in row(page, "snapshot")


def test_what_could_grow_is_shown() -> None:
    def page(free: int, group: str = "ubuntu-vg") -> str:
        observation = example_status().observation
        observation.groups = [lvm.GroupUsage("ubuntu-vg", 100 * G, free)]
        room = [lvm.DiskRoom("/dev/vda", group, 20 * G)]
        return render(example_status(observation=observation, disk_room=room), False, 120)

    assert row(page(6 * G), "ubuntu-vg").endswith("; the reserve is 5.0G; Docker's volume can grow by 1.0G")
    assert row(page(6 * G - 1), "ubuntu-vg").endswith("; the reserve is 5.0G")
    assert row(page(G), "disk").endswith("/dev/vda has grown by 20G, which are not used; see docs/grow.md")
    assert "has grown" not in page(G, "another-vg")


def test_mirror_is_shown_and_its_disks_share_what_is_free() -> None:
    observation = example_status().observation
    observation.groups = [lvm.GroupUsage("ubuntu-vg", 100 * G, 50 * G, raid=True)]
    observation.mirrors = [lvm.MirrorHealth("ubuntu-vg", "docker-lv", "partial", 100.0)]
    observation.results += map(check.check_mirror, observation.mirrors)
    page = render(example_status(observation=observation), False, 120)
    assert "ubuntu-vg/docker-lv lacks a disk: what is written has one copy" in row(page, "mirror")
    assert row(page, "ubuntu-vg").endswith("; the reserve is 5.0G")


def test_our_snapshot_is_shown_with_its_age_and_its_end() -> None:
    taken = {"before": NOW - 5 * 3600}
    page = render(example_status(taken=taken, snapshot_hours=24), False, 120)
    assert row(page, "snapshot").endswith("41 % full, 5 h old; dropped in 19 h")
    assert row(render(example_status(taken=taken), False, 120), "snapshot").endswith("41 % full, 5 h old")
    late = render(example_status(taken={"before": NOW - 3 * 86400}, snapshot_hours=24), False, 120)
    assert row(late, "snapshot").endswith("3 d old; dropped in 0 min")


def test_the_guards_floor_is_shown_with_what_is_left_above_it() -> None:
    page = render(example_status(), False, 80)
    assert row(page, "floor").endswith("3.0G kept free; 1.0G left above it")
    assert row(page, "ballast").endswith("256M")
    below = render(example_status(guard=GuardStatus(NOW, 3 * G, 2 * G, 0, [])), False, 80)
    assert row(below, "floor").endswith("3.0G kept free; less than that is free now")
    assert row(below, "ballast").endswith("none")


def test_the_guards_floor_for_inodes_is_shown_where_the_filesystem_limits_them() -> None:
    guard = GuardStatus(NOW, 3 * G, 4 * G, 0, [], inode_floor=196_608, inodes_free=200_000)
    page = render(example_status(guard=guard), False, 80)
    assert row(page, "inodes").endswith("196608 kept free; 3392 left above it")
    page = render(example_status(guard=replace(guard, inodes_free=196_608)), True, 80)
    assert f"\033[{terminal.COLOURS[WARNING]}m    inodes" in page
    assert "196608 kept free; less than that is free now" in page
    assert "inodes" not in render(example_status(guard=replace(guard, inode_floor=0)), False, 80)


def test_stopped_builds_are_shown_the_last_one_first_but_not_all_of_them() -> None:
    aborted = [Aborted(NOW - 3600 * hours, f"pip install part-{hours}\n", 8 * G) for hours in range(9, 0, -1)]
    page = render(example_status(guard=GuardStatus(NOW, G, G, 0, aborted)), False, 80)
    shown = [line for line in page.splitlines() if line.startswith("  stopped")]
    assert shown[0] == r"  stopped     1 h ago, after it wrote 8.0G: pip install part-1\n"
    assert len(shown) == 5


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"guard": GuardStatus(NOW - 600, G, 2 * G, 0, [])}, "silent      its last sample is 10 min old"),
        ({"guard": None}, "unknown     it has not sampled the volume yet"),
        (
            {
                "observation": Observation(
                    results=[CheckResult(GUARDS.key, WARNING, "docker-guard.service is inactive")]
                )
            },
            "Guard\n  WARNING     docker-guard.service is inactive",
        ),
        ({"observation": Observation(results=[ANSWERS])}, "Guard\n  off: it stops no build"),
        (
            {"observation": Observation(), "failed": {"disks": "no configuration"}},
            "Guard\n  unknown     no configuration",
        ),
    ],
    ids=["silent", "new", "dead", "off", "unknown"],
)
def test_a_guard_that_does_not_work_is_shown(changed: dict[str, Any], text: str) -> None:
    assert text in render(example_status(**changed), False, 80)


def test_a_move_is_shown_with_its_time_its_old_data_and_its_reason() -> None:
    place = DataLocation(
        "/var/lib/docker", "Docker runs on its old data.", "failed", NOW, "no room", {"/var/lib/docker": 2 * G}
    )
    page = render(example_status(places=[place]), False, 120)
    assert "  Docker runs on its old data.\n    since     2025-" in page
    assert "    kept      2.0 GiB beneath /var/lib/docker; `bulkhead finalize` removes it" in page
    assert "    reason    no room" in page


def test_a_move_that_could_not_begin_is_shown_with_its_reason() -> None:
    place = DataLocation("/var/lib/docker", "Docker's data has not been moved.", "", 0, "no room", {})
    page = render(example_status(places=[place]), False, 120)
    assert "  Docker's data has not been moved.\n    reason    no room" in page
    assert "since" not in page
    assert "not been moved" not in render(example_status(places=[replace(place, reason="")]), False, 120)


def test_runs_are_shown_with_the_last_and_the_next() -> None:
    pruned = Pruned(NOW - 18 * 3600, 4 * G, [])
    page = render(
        example_status(checked=NOW - 240, next_check=NOW + 660, pruned=pruned, next_prune=NOW + 6 * 3600), False, 80
    )
    assert row(page, "check").split("  ")[-1].strip() == "next in 11 min"
    assert "4 min ago" in row(page, "check")
    assert "18 h ago      next in 6 h" in row(page, "prune")
    assert "4.0G" in row(page, "freed")


def test_failures_of_a_prune_are_shown_but_not_all_of_them() -> None:
    page = render(
        example_status(pruned=Pruned(NOW, 0, [f"image {number}: in use" for number in range(100)])), False, 80
    )
    assert "image 0: in use" in page
    assert "image 5: in use" not in page
    assert "and 95 more: `journalctl -u docker-prune`" in page


def test_prune_that_something_is_in_the_way_of_is_shown() -> None:
    hindrance = "images stay during a build: a build"
    page = render(example_status(pruned=Pruned(NOW, 0, [], hindrance)), False, 80)
    assert row(page, "skipped").endswith(hindrance)
    page = render(example_status(pruned=Pruned(NOW, 0, [], hindrance, 3)), True, 80)
    assert f"\033[{terminal.COLOURS[WARNING]}m    skipped   \033[0m{hindrance} (3 nights in a row)" in page
    assert "skipped" not in render(example_status(pruned=Pruned(NOW, 0, [])), False, 80)


def test_anonymous_volumes_without_a_container_are_shown() -> None:
    page = render(example_status(usage=usage_of(anonymous=4, anonymous_bytes=2 * G)), False, 110)
    what = "2.0G in 4 anonymous volumes that no container has; `bulkhead reclaim --volumes` removes them"
    assert row(page, "of these").endswith(what)
    assert "anonymous" not in render(example_status(), False, 110)


def test_runs_are_none_yet_before_the_first() -> None:
    page = render(example_status(), False, 80)
    assert row(page, "check").endswith("none yet")
    assert row(page, "prune").endswith("none yet")


def test_open_alerts_and_waiting_messages_are_shown() -> None:
    alerts = [OpenAlert(f"use:{VOLUME}", CRITICAL, "94 % used", since=NOW - 7200, reported=NOW - 600)]
    page = render(example_status(alerts=alerts, queued={"slack": 3, "mail": 0}), False, 80)
    assert f"  CRITICAL    use:{VOLUME} for 2 h, last reported 10 min ago" in page
    assert "  waiting     3 messages for slack" in page
    assert "mail" not in page


def test_guarded_builds_are_shown_with_what_they_have_reserved() -> None:
    assert "Guarded builds" not in render(example_status(), False, 80)
    builds = [
        GuardedBuild("app", NOW - 180, 25 * G, 5 * G, 12 * G, 20 * G, is_waiting=False),
        GuardedBuild("web", NOW - 60, 30 * G, 30 * G, 0, 0, is_waiting=True),
    ]
    page = render(example_status(builds=builds), False, 100)
    assert (
        "Guarded builds\n"
        "  running     app for 3 min: 5.0G of 25G still reserved, its steps have written 12G of at most 20G\n"
        "  waiting     web for 1 min: needs 30G\n"
    ) in page
    assert "only root and members" in render(example_status(failed={"builds": "only root and members"}), False, 80)


def test_volume_that_is_no_logical_volume_is_named_as_such() -> None:
    page = " ".join(render(example_status(group="", reserve=0), False, 80).split())
    assert "This host's Docker volume is no logical volume: it is a filesystem that was adopted." in page
    assert "no logical volume" not in render(example_status(), False, 80)
