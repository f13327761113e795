"""The rules for Prometheus and the dashboard for Grafana fit the metrics that a host writes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bulkhead.storage.filesystems import FilesystemUsage
from bulkhead.storage.lvm import GroupUsage, SnapshotUsage
from bulkhead.watch import metrics
from bulkhead.watch.forecast import Forecast
from bulkhead.watch.results import OK, CheckResult, Observation

MONITORING = Path(__file__).parents[2] / "files" / "monitoring"
RULES = MONITORING / "bulkhead.rules.yml"
DASHBOARD = MONITORING / "bulkhead.json"

# The metrics of a host that has a value for everything.
WRITTEN = metrics.text(
    Observation(
        [FilesystemUsage("/", 100, 70, 30, 1000, 900, False)],
        {"/": Forecast(1.0, 30.0)},
        [GroupUsage("ubuntu-vg", 100, 20)],
        [SnapshotUsage("ubuntu-vg", "before", "docker-lv", 40.0)],
        [CheckResult("use:/", OK, "/ 70 % used"), CheckResult("unit:docker-guard.service", OK, "it is active")],
    ),
    now=0,
    prune={"time": 0, "freed": 0, "failed": []},
    guard={"floor": 5, "aborted": []},
    queued={"mail": 0},
)

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="there is no promtool (Debian's package prometheus)"
)


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bbulkhead_[a-z_]+", text))


def queries(value: Any) -> list[str]:
    """Return every query of the dashboard, with its variable filled in as Grafana does."""
    if isinstance(value, list):
        return [query for item in value for query in queries(item)]
    if isinstance(value, dict):
        own = [value["expr"].replace("$instance", ".*")] if "expr" in value else []
        return own + queries(list(value.values()))
    return []


@needs_promtool
@pytest.mark.parametrize("arguments", [("check", RULES), ("test", MONITORING / "bulkhead.rules.test.yml")], ids=str)
def test_promtool_accepts_the_rules_and_they_pass_their_tests(arguments: tuple[str, Path]) -> None:
    command, path = arguments
    done = subprocess.run(["promtool", command, "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_metrics() -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=WRITTEN, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_promtool
def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    found = queries(json.loads(DASHBOARD.read_text()))
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(found)]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "queries.yml"], capture_output=True, text=True, check=False
    )
    assert f"{len(found)} rules found" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_in_a_query_is_written_by_a_host(path: Path) -> None:
    names = names_in(path.read_text())
    assert names
    assert not names - names_in(WRITTEN)


def test_every_alert_is_tested() -> None:
    names = re.findall(r"alert: (\w+)", RULES.read_text())
    tested = (MONITORING / "bulkhead.rules.test.yml").read_text()
    assert not [name for name in names if name not in tested]


def test_dashboard_lets_the_user_choose_the_data_source_and_the_hosts() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "instance"]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & places, panel["title"]
        places |= taken
