"""The rules for Prometheus and the dashboard for Grafana fit the metrics that a host writes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from bulkhead import state, systemd, uptime
from bulkhead.docker import roots
from bulkhead.storage import filesystems, lvm
from bulkhead.storage.filesystems import FilesystemUsage
from bulkhead.storage.lvm import GroupUsage, MirrorHealth, SnapshotUsage
from bulkhead.watch import check, metrics
from bulkhead.watch.check import CheckClock, Limits
from bulkhead.watch.forecast import Forecast
from bulkhead.watch.results import OK, CheckResult, Observation

from .bulkhead.configs import config

MONITORING = Path(__file__).parents[2] / "files" / "monitoring"
RULES = MONITORING / "bulkhead.rules.yml"
RULES_TESTS = [MONITORING / "bulkhead.rules.test.yml", MONITORING / "bulkhead.rules.days.test.yml"]
DASHBOARD = MONITORING / "bulkhead.json"

# The metrics of a host that has a value for everything.
WRITTEN = metrics.text(
    Observation(
        [FilesystemUsage("/", 100, 70, 30, 1000, 900, False)],
        {"/": Forecast(1.0, 30.0)},
        [GroupUsage("ubuntu-vg", 100, 20)],
        [SnapshotUsage("ubuntu-vg", "before", "docker-lv", 40.0)],
        [CheckResult("use:/", OK, "/ 70 % used"), CheckResult("unit:docker-guard.service", OK, "it is active")],
        [MirrorHealth("docker-vg", "docker-lv", "", 100.0)],
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
@pytest.mark.parametrize(("command", "paths"), [("check", [RULES]), ("test", RULES_TESTS)])
def test_promtool_accepts_the_rules_and_they_pass_their_tests(command: str, paths: list[Path]) -> None:
    done = subprocess.run(["promtool", command, "rules", *paths], capture_output=True, text=True, check=False)
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


# -- each alert, from what a check finds to what Prometheus makes of it

GUARD, TIMER = "docker-guard.service", "docker-prune.timer"
CONFIG = config(watched_units=(TIMER, GUARD), extra_fstab=(SimpleNamespace(target="/srv/models"),))
ON_IT = FilesystemUsage("/srv/docker-volume", 100, 50, 50, 1000, 500, False)
G = 2**30


class Watched(NamedTuple):
    """What a check meets. By default all is well."""

    filesystem: FilesystemUsage = ON_IT
    trend: Forecast | None = Forecast(1.0, 30 * 86400.0)
    reserve: int = 5 * G
    snapshot: float = 10.0  # percent
    mirror: str = ""  # what is wrong with it
    is_lvm_silent: bool = False
    lost: Sequence[str] = ()  # why Docker's data is not on its volume
    unread: Sequence[str] = ()  # what keeps the check from knowing
    mounted: Sequence[str] = ("/srv/models",)
    silence: str = ""  # why Docker does not answer
    units: Mapping[str, str] = {}  # that are not active
    unguarded: float = 0.0
    prune: Mapping[str, Any] = {"time": 0, "freed": 0, "failed": []}
    queued: int = 0

    def metrics(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """Check this host, and return what is written for Prometheus."""
        with monkeypatch.context() as patched:
            for module, name, answer in (
                (check, "mounts_of", lambda: [SimpleNamespace(target=target) for target in self.mounted]),
                (check, "forecast", lambda *_: self.trend),
                (check, "silence", lambda: self.silence),
                (check, "_unguarded", lambda *_: self.unguarded),
                (filesystems, "watched", lambda *_: [self.filesystem]),
                (filesystems, "out_of_place", lambda *_: [*self.lost]),
                (filesystems, "unmarked", lambda _: []),
                (roots, "off_the_volume", lambda *_, **__: ([], [*self.unread])),
                (lvm, "list_groups", self._list_groups),
                (systemd, "unit_states", lambda units, _: {unit: self.units.get(unit, "active") for unit in units}),
                (state, "load", lambda name: dict(self.prune) if name == "prune" else {}),
                (uptime, "current", lambda: SimpleNamespace(before=lambda seconds: -seconds)),
            ):
                patched.setattr(module, name, answer)
            observation, _ = check.collect(CONFIG, Limits.of(CONFIG, None), CheckClock(0, 0, "a"), {}, {})
        guard = {"floor": G, "aborted": []}
        return metrics.text(observation, 0, dict(self.prune), guard, {"mail": self.queued})

    def _list_groups(self) -> tuple[list[GroupUsage], list[SnapshotUsage], list[MirrorHealth]]:
        if self.is_lvm_silent:
            raise OSError("timed out")
        snapshots = [SnapshotUsage("ubuntu-vg", "before-upgrade", "ubuntu-lv", self.snapshot)]
        return (
            [GroupUsage("ubuntu-vg", 100 * G, self.reserve)],
            snapshots,
            [MirrorHealth("docker-vg", "docker-lv", self.mirror, 100.0)],
        )


def pruned(**changed: Any) -> dict[str, Any]:
    return {"time": 0, "freed": 0, "failed": [], **changed}


# What a check meets → the alerts that fire after two checks.
ALERTED = {
    "all is well": (Watched(), ()),
    "nobody has measured how fast it fills": (Watched(trend=None), ()),
    "a filesystem is full": (Watched(ON_IT._replace(used=95, available=5)), ["BulkheadFilesystemCritical"]),
    "a filesystem is nearly full": (Watched(ON_IT._replace(used=85, available=15)), ["BulkheadCheckNotOk"]),
    "inodes run out": (Watched(ON_IT._replace(inodes_free=50)), ["BulkheadInodesCritical"]),
    "inodes get few": (Watched(ON_IT._replace(inodes_free=150)), ["BulkheadCheckNotOk"]),
    "inodes are not limited": (Watched(ON_IT._replace(inodes=0, inodes_free=0)), ()),
    "a filesystem is read-only": (Watched(ON_IT._replace(read_only=True)), ["BulkheadReadOnly"]),
    "a device is gone": (Watched(FilesystemUsage("/", 0, 0, 0, 0, 0, True)), ["BulkheadReadOnly"]),
    "it is full in 50 minutes": (Watched(trend=Forecast(1.0, 3000.0)), ["BulkheadFullWithinAnHour"]),
    "it is full in 3 hours": (Watched(trend=Forecast(1.0, 3 * 3600.0)), ["BulkheadCheckNotOk"]),
    "it empties": (Watched(trend=Forecast(-1.0, None)), ()),
    "the reserve is gone": (Watched(reserve=5 * G - 1), ["BulkheadReserveGone"]),
    "a snapshot gets full": (Watched(snapshot=85.0), ["BulkheadCheckNotOk"]),
    "a snapshot is full": (Watched(snapshot=95.0), ["BulkheadCheckNotOk"]),
    "a mirror lacks a disk": (Watched(mirror="partial"), ["BulkheadMirrorNotWhole"]),
    "a mirror's copies differ": (Watched(mirror="mismatches"), ["BulkheadMirrorNotWhole"]),
    "LVM is silent": (Watched(is_lvm_silent=True), ["BulkheadCheckNotOk"]),
    "Docker is on root": (Watched(lost=["/var/lib/docker is not mounted"]), ["BulkheadIsolationLost"]),
    "nobody can tell where Docker is": (Watched(unread=["no"]), ["BulkheadCheckNotOk"]),
    "an extra volume is missing": (Watched(mounted=()), ["BulkheadCheckNotOk"]),
    "Docker hangs": (Watched(silence="does not answer"), ["BulkheadDockerDown"]),
    "Docker is down": (Watched(units={"docker.service": "failed"}), ["BulkheadDockerDown"]),
    "the guard is down": (Watched(units={GUARD: "failed"}), ["BulkheadGuardDown"]),
    "the guard does not look": (Watched(unguarded=900.0), ["BulkheadGuardDown"]),
    "the prune is off": (Watched(units={TIMER: "inactive"}), ["BulkheadCheckNotOk"]),
    "a prune has failed": (Watched(prune=pruned(failed=["an image"])), ["BulkheadPruneFailed"]),
    "a prune is late": (Watched(prune=pruned(time=-51 * 3600)), ["BulkheadPruneStale"]),
    "a prune is a day old": (Watched(prune=pruned(time=-24 * 3600)), ()),
    "builds are in the way": (Watched(prune=pruned(skipped_nights=3, hindrance="a build")), ["BulkheadPruneSkipped"]),
    "a build was in the way": (Watched(prune=pruned(skipped_nights=2, hindrance="a build")), ()),
    "nothing was ever pruned": (Watched(prune={}), ()),  # so far: it fires after 50 hours
    "a message is stuck": (Watched(queued=2), ["BulkheadAlertsUndelivered"]),
}
# Those of which no single check can tell: the rules' own tests play them.
BY_TIME = {"BulkheadAbsent", "BulkheadStale", "BulkheadPruneNever"}


def series(text: str) -> list[dict[str, str]]:
    """Return metrics as promtool plays them: renewed every five minutes, with the labels that a scrape adds."""
    found = [{"series": 'up{job="node",instance="h"}', "values": "1x6"}]
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name, _, labels = name.partition("{")
            renewed = "0+300x6" if name == "bulkhead_check_timestamp_seconds" else f"{value}x6"
            found.append({"series": f'{name}{{job="node",instance="h",{labels or "}"}', "values": renewed})
    return found


@needs_promtool
def test_alerts_fire_on_what_a_host_writes_and_no_others_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tests = [
        {
            "name": name,
            "interval": "5m",
            "input_series": series(watched.metrics(monkeypatch)),
            "promql_expr_test": [
                {
                    "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "25m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts],
                }
            ],
        }
        for name, (watched, alerts) in ALERTED.items()
    ]
    rules_test = {"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": tests}
    (tmp_path / "alerts.yml").write_text(json.dumps(rules_test))
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "alerts.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_one_that_a_host_can_cause() -> None:
    caused = {alert for _, alerts in ALERTED.values() for alert in alerts}
    assert caused | BY_TIME == set(re.findall(r"alert: (\w+)", RULES.read_text()))


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_in_a_query_is_written_by_a_host(path: Path) -> None:
    names = names_in(path.read_text())
    assert names
    assert not names - names_in(WRITTEN)


def test_every_alert_is_tested() -> None:
    names = re.findall(r"alert: (\w+)", RULES.read_text())
    tested = "".join(path.read_text() for path in RULES_TESTS)
    assert not [name for name in names if name not in tested]


def test_dashboard_lets_the_user_choose_the_data_source_and_the_hosts() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "instance"]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}


def test_dashboard_shows_how_whole_a_mirror_is() -> None:
    shown = [query for query in queries(json.loads(DASHBOARD.read_text())) if "mirror" in query]
    assert [names_in(query) & {"bulkhead_check_level", "bulkhead_mirror_synced_ratio"} for query in shown] == [
        {"bulkhead_check_level"},
        {"bulkhead_mirror_synced_ratio"},
    ]


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & places, panel["title"]
        places |= taken
