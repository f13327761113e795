"""The metrics that Prometheus reads."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.storage.filesystems import FilesystemUsage
from bulkhead.storage.lvm import GroupUsage, MirrorHealth, SnapshotUsage
from bulkhead.watch import metrics
from bulkhead.watch.forecast import Forecast
from bulkhead.watch.results import CRITICAL, OK, UNKNOWN, WARNING, CheckResult, Observation


def observation() -> Observation:
    return Observation(
        [
            FilesystemUsage("/", size=100, used=40, available=50, inodes=10, inodes_free=4, read_only=False),
            FilesystemUsage('/srv/a"b', size=0, used=0, available=0, inodes=0, inodes_free=0, read_only=True),
        ],
        {"/": Forecast(2.5, 20.0), "/home": Forecast(-1.0, None)},
        [GroupUsage("ubuntu-vg", 1000, 100)],
        [SnapshotUsage("ubuntu-vg", "before", "docker-lv", 12.5)],
        [CheckResult("isolation", OK, ""), CheckResult("docker", UNKNOWN, ""), CheckResult("use:/", CRITICAL, "")],
        [MirrorHealth("docker-vg", "docker-lv", "refresh", 42.5)],
    )


def text(prune: dict[str, Any] | None = None, guard: dict[str, Any] | None = None, level: int = OK) -> str:
    found = observation()
    if guard is not None:
        found.results.append(CheckResult("unit:docker-guard.service", level, ""))
    return metrics.text(found, 1e9, prune or {}, guard or {}, {"mail": 2})


@pytest.mark.parametrize(
    "line",
    [
        "bulkhead_check_timestamp_seconds 1000000000.0",
        'bulkhead_filesystem_size_bytes{mountpoint="/"} 100.0',
        'bulkhead_filesystem_used_bytes{mountpoint="/"} 40.0',
        'bulkhead_filesystem_available_bytes{mountpoint="/"} 50.0',
        'bulkhead_filesystem_inodes{mountpoint="/"} 10.0',
        'bulkhead_filesystem_inodes_free{mountpoint="/"} 4.0',
        'bulkhead_filesystem_read_only{mountpoint="/"} 0.0',
        'bulkhead_filesystem_read_only{mountpoint="/srv/a\\"b"} 1.0',
        'bulkhead_filesystem_growth_bytes_per_second{mountpoint="/home"} -1.0',
        'bulkhead_filesystem_full_seconds{mountpoint="/"} 20.0',
        'bulkhead_check_level{check="use:/"} 2.0',
        "bulkhead_isolated 1.0",
        "bulkhead_docker_up 0.0",
        'bulkhead_volume_group_size_bytes{group="ubuntu-vg"} 1000.0',
        'bulkhead_volume_group_free_bytes{group="ubuntu-vg"} 100.0',
        'bulkhead_snapshot_used_ratio{group="ubuntu-vg",snapshot="before"} 0.125',
        'bulkhead_mirror_degraded{group="docker-vg",volume="docker-lv"} 1.0',
        'bulkhead_mirror_synced_ratio{group="docker-vg",volume="docker-lv"} 0.425',
        'bulkhead_alerts_queued{receiver="mail"} 2.0',
        "bulkhead_alerts_standing 2.0",
    ],
)
def test_figure_of_the_check_is_there(line: str) -> None:
    assert line in text().splitlines()


@pytest.mark.parametrize(("level", "isolated"), [(OK, 1.0), (UNKNOWN, 1.0), (CRITICAL, 0.0)])
def test_host_is_isolated_until_something_shows_that_it_is_not(level: int, isolated: float) -> None:
    found = Observation(results=[CheckResult("isolation", level, "")])
    assert f"bulkhead_isolated {isolated}" in metrics.text(found, 1e9, {}, {}, {}).splitlines()


def test_each_metric_is_explained_once_before_its_values() -> None:
    lines = text(guard={"floor": 1, "aborted": []}).splitlines()
    for number, line in enumerate(lines):
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert lines[number + 1] == f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
            assert lines[number + 2].startswith(name)
    explained = [line.split()[2] for line in lines if line.startswith("# HELP ")]
    assert len(explained) == len(set(explained))


def test_filesystem_that_does_not_fill_has_no_time() -> None:
    assert 'bulkhead_filesystem_full_seconds{mountpoint="/home"}' not in text()


def test_filesystem_that_does_not_answer_has_no_size() -> None:
    assert 'bulkhead_filesystem_size_bytes{mountpoint="/srv' not in text()


def test_prune_has_no_metrics_before_the_first() -> None:
    assert "prune" not in text()


@pytest.mark.parametrize(("failed", "success"), [([], "1.0"), (["the image a:1"], "0.0")])
def test_last_prune_is_there(failed: list[str], success: str) -> None:
    lines = text({"time": 9e8, "freed": 5 * 2**30, "removed": [], "failed": failed}).splitlines()
    assert "bulkhead_prune_timestamp_seconds 900000000.0" in lines
    assert "bulkhead_prune_freed_bytes 5368709120.0" in lines
    assert f"bulkhead_prune_success {success}" in lines
    assert "bulkhead_prune_skipped_nights 0.0" in lines


def test_nights_that_the_prune_was_skipped_are_there() -> None:
    assert "bulkhead_prune_skipped_nights 4.0" in text({"time": 9e8, "freed": 0, "failed": [], "skipped_nights": 4})


def test_guard_has_no_metrics_where_there_is_none() -> None:
    assert "guard" not in text()


@pytest.mark.parametrize(("level", "up"), [(OK, "1.0"), (WARNING, "0.0"), (UNKNOWN, "0.0")])
def test_guard_has_metrics(level: int, up: str) -> None:
    lines = text(guard={"floor": 2**31, "aborted": [{}, {}]}, level=level).splitlines()
    assert f"bulkhead_guard_up {up}" in lines
    assert "bulkhead_guard_floor_bytes 2147483648.0" in lines
    assert "bulkhead_guard_aborted_total 2.0" in lines
    assert "bulkhead_guard_aborted_total 31.0" in text(guard={"floor": 5, "aborted": [{}], "aborted_total": 31})


def test_guard_has_a_metric_of_its_floor_for_inodes() -> None:
    guard = {"floor": 2**31, "aborted": []}
    assert "bulkhead_guard_floor_inodes 196608.0" in text(guard={**guard, "inode_floor": 196_608})
    assert "floor_inodes" not in text(guard=guard), "the state of an older guard has none"


@pytest.mark.parametrize("guard", [{}, {"floor": None, "aborted": 3}, {"floor": 5}])
def test_guard_without_a_sample_is_up_all_the_same(guard: dict[str, Any]) -> None:
    written = text(guard=guard)
    assert "bulkhead_guard_up 1.0" in written
    assert "floor" not in written
