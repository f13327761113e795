"""What a check prints, by the state of the host."""

from __future__ import annotations

import _socket
import json
import os
import socket
import syslog
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import errors, names, procfs, state, uptime
from bulkhead.config import Config
from bulkhead.docker import daemon, roots
from bulkhead.storage import filesystems, fstab, lvm
from bulkhead.storage.filesystems import FilesystemUsage
from bulkhead.storage.lvm import GroupUsage, MirrorHealth, SnapshotUsage
from bulkhead.watch import check, mirror_record
from bulkhead.watch.alert_store import News
from bulkhead.watch.check import CheckClock, Limits, remembered
from bulkhead.watch.forecast import Forecast, forecast
from bulkhead.watch.results import CRITICAL, OK, UNKNOWN, WARNING, CheckResult, Observation
from pyinfra_lvm.model import FstabEntry

from ..configs import config

G = 2**30
HOUR = 3600
LIMITS = Limits(warning=80, critical=90, hours_left=4)


def filesystem(percent: float = 50, mount: str = "/", **changed: Any) -> FilesystemUsage:
    values = {
        "size": 100 * G,
        "used": int(percent * G),
        "available": int((100 - percent) * G),
        "inodes": 0,
        "inodes_free": 0,
        "read_only": False,
    }
    return FilesystemUsage(mount, **{**values, **changed})


def levels(results: Iterator[CheckResult]) -> dict[str, int]:
    return {result.key: result.level for result in results}


# -- levels


@pytest.mark.parametrize(
    ("percent", "was", "level"),
    [
        (79.9, OK, OK),
        (80, OK, WARNING),
        (89.9, OK, WARNING),
        (90, OK, CRITICAL),
        (75, WARNING, WARNING),
        (74.9, WARNING, OK),
        (85, WARNING, WARNING),
        (85, CRITICAL, CRITICAL),
        (84.9, CRITICAL, WARNING),
        (75, CRITICAL, WARNING),
        (74.9, CRITICAL, OK),
    ],
)
def test_level_is_left_five_points_below_where_it_begins(percent: float, was: int, level: int) -> None:
    found = check.check_filesystem(filesystem(percent), None, LIMITS, {"use:/": was})
    assert levels(found) == {"use:/": level}


@pytest.mark.parametrize(("free", "level"), [(21, OK), (20, WARNING), (10, CRITICAL), (0, CRITICAL)])
def test_inodes_have_the_same_levels(free: int, level: int) -> None:
    found = check.check_filesystem(filesystem(3, inodes=100, inodes_free=free), None, LIMITS, {})
    assert levels(found) == {"use:/": OK, "inodes:/": level}


@pytest.mark.parametrize(
    ("hours", "was", "level"),
    [
        (4.1, OK, None),
        (4, OK, WARNING),
        (1, OK, CRITICAL),
        (5.9, WARNING, WARNING),
        (6.1, WARNING, None),
        (1.4, CRITICAL, CRITICAL),
        (1.6, CRITICAL, WARNING),
    ],
)
def test_filesystem_that_will_soon_be_full_is_reported(hours: float, was: int, level: int | None) -> None:
    trend = Forecast(1e6, hours * HOUR)
    found = levels(check.check_filesystem(filesystem(), trend, LIMITS, {"forecast:/": was}))
    assert found.get("forecast:/") == level


def test_read_only_filesystem_is_critical() -> None:
    assert levels(check.check_filesystem(filesystem(read_only=True), None, LIMITS, {}))["read-only:/"] == CRITICAL


def test_use_is_reported_with_its_trend() -> None:
    trend = Forecast(120 * 2**20 / HOUR, 3.5 * HOUR)
    result = next(check.check_filesystem(filesystem(83, "/srv/docker-volume"), trend, LIMITS, {}))
    assert result.text == "/srv/docker-volume 83 % used, 17G free, +120M/h, full in 3 h"
    assert result.mount == "/srv/docker-volume"


@pytest.mark.parametrize(
    ("trend", "text"),
    [
        (Forecast(G / HOUR, 25 * 60), "+1.0G/h, full in 25 min"),
        (Forecast(G / HOUR, 8 * 24 * HOUR), "+1.0G/h"),
        (Forecast(-G / HOUR, None), "-1.0G/h"),
        (Forecast(100, 1e6), "50G free"),
    ],
)
def test_trend_is_reported_as_far_as_it_matters(trend: Forecast, text: str) -> None:
    result = next(check.check_filesystem(filesystem(), trend, LIMITS, {}))
    assert result.text.endswith(text)


@pytest.mark.parametrize(("free", "level"), [(5 * G, OK), (5 * G - 1, WARNING)])
def test_reserve_of_dockers_group_is_watched(free: int, level: int) -> None:
    groups = [GroupUsage("ubuntu-vg", 100 * G, free), GroupUsage("other", 100 * G, 0)]
    assert levels(check.check_lvm(groups, [], config(), LIMITS, {})) == {"reserve:ubuntu-vg": level}


@pytest.mark.parametrize(
    ("name", "units", "level"),
    [
        ("docker-lv-snapshot", (names.GUARD_SERVICE,), OK),
        ("docker-lv-snapshot", (), WARNING),
        ("before", (names.GUARD_SERVICE,), WARNING),
    ],
    ids=["the guard drops it", "nobody drops it", "somebody else's"],
)
def test_reserve_may_be_lent_to_a_snapshot_of_ours(name: str, units: tuple[str, ...], level: int) -> None:
    snapshots = [SnapshotUsage("ubuntu-vg", name, "docker-lv", 10)]
    found = check.check_lvm([GroupUsage("ubuntu-vg", 100 * G, 0)], snapshots, config(watched_units=units), LIMITS, {})
    assert levels(found)["reserve:ubuntu-vg"] == level


def test_group_without_a_reserve_may_be_full() -> None:
    assert list(check.check_lvm([GroupUsage("ubuntu-vg", 100 * G, 0)], [], config(reserve_bytes=0), LIMITS, {})) == []


@pytest.mark.parametrize(
    ("percent", "was", "level"), [(79, OK, OK), (80, OK, WARNING), (76, WARNING, WARNING), (100, OK, CRITICAL)]
)
def test_snapshot_that_fills_is_reported(percent: float, was: int, level: int) -> None:
    snapshots = [SnapshotUsage("vg", "before", "docker-lv", percent)]
    (result,) = check.check_lvm([], snapshots, config(), LIMITS, {"snapshot:vg/before": was})
    assert (result.key, result.level) == ("snapshot:vg/before", level)
    assert result.text == f"snapshot vg/before of docker-lv {percent} % full"


@pytest.mark.parametrize(
    ("problem", "synced", "level", "text"),
    [
        ("", 100, OK, "mirror docker-vg/docker-lv has both copies"),
        ("", 42.9, OK, "mirror docker-vg/docker-lv is being synchronized: 42 %"),
        ("partial", 100, WARNING, "mirror docker-vg/docker-lv lacks a disk: what is written has one copy."),
        ("refresh", 100, WARNING, "`lvchange --refresh docker-vg/docker-lv` uses it again"),
        ("mismatches", 100, WARNING, "mirror docker-vg/docker-lv has copies that differ"),
    ],
)
def test_mirror_that_is_not_whole_is_a_warning(problem: str, synced: float, level: int, text: str) -> None:
    result = check.check_mirror(MirrorHealth("docker-vg", "docker-lv", problem, synced))
    assert (result.key, result.level) == ("mirror:docker-vg/docker-lv", level)
    assert text in result.text


def test_mirror_that_is_not_activated_without_a_disk_is_critical() -> None:
    result = check.check_mirror(MirrorHealth("docker-vg", "docker-lv", "partial", 0, is_active=False))
    assert result.level == CRITICAL
    assert "is not active: `journalctl -u docker-mirror` says why. If the disk that answers is stale" in result.text


@pytest.mark.parametrize("problem", ["partial", "refresh"])
@pytest.mark.parametrize("is_active", [True, False])
def test_mirror_of_others_says_nothing_of_docker(problem: str, is_active: bool) -> None:
    lost = MirrorHealth("data-vg", "data", problem, 0, is_active=is_active)
    result = check.check_mirror(lost, is_dockers=False)
    assert (result.level, "ocker" in result.text.replace("docs/mirror.md", "")) == (WARNING, False)
    assert (
        "The other disk is stale: Docker does not start from it alone."
        in check.check_mirror(MirrorHealth("docker-vg", "docker-lv", problem, 0)).text
    )


# -- memory


def after(known: dict[str, Any], now: float, size: int, uptime: float, boot: str = "a") -> dict[str, Any]:
    through_the_file: dict[str, Any] = json.loads(json.dumps(known))
    return remembered(through_the_file, {"/": size}, CheckClock(now, uptime, boot))


def history(quarters: int, start: float = 1e9, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the memory after checks every quarter of an hour, with a GiB written between them."""
    known = known or {}
    for quarter in range(quarters):
        known = after(known, start + quarter * 900, quarter * G, 1000 + quarter * 900)
    return known


@pytest.mark.parametrize("step", [-90 * 86400, -1800, 1800, 90 * 86400])
def test_clock_that_is_set_changes_no_forecast(step: float) -> None:
    known = history(8)
    stepped = after(known, 1e9 + 8 * 900 + step, 8 * G, 1000 + 8 * 900)
    assert forecast(stepped["samples"]["/"], 4 * G) == Forecast(G / 900, 4 * 900)


def test_history_outlives_a_reboot() -> None:
    known = after(history(8), 1e9 + 8 * 900, 8 * G, uptime=20, boot="b")
    assert forecast(known["samples"]["/"], 4 * G) == Forecast(G / 900, 4 * 900)


def test_samples_of_a_future_that_never_came_are_dropped() -> None:
    known = after(history(8), 1e9 - 86400, 8 * G, uptime=20, boot="b")
    assert known["samples"]["/"] == [(1e9 - 86400, 8 * G)]


def test_samples_of_a_day_are_kept() -> None:
    known = after(history(8), 1e9 + 86399, 8 * G, 1000 + 86399)
    assert known["samples"]["/"][0] == (1e9, 0)


def test_old_samples_are_dropped() -> None:
    known = after(history(8), 1e9 + 2 * 86400, 8 * G, 1000 + 2 * 86400)
    assert known["samples"]["/"] == [(1e9 + 2 * 86400, 8 * G)]


def test_checks_at_the_same_moment_are_one_sample() -> None:
    known = history(8)
    again = after(known, 1e9 + 7 * 900 + 1, 8 * G, 1000 + 7 * 900 + 1)
    assert again["samples"]["/"] == known["samples"]["/"]


def test_year_of_checks_leaves_no_more_than_a_day() -> None:
    known = history(96)
    size = len(json.dumps(known))
    year: dict[str, Any] = {}
    for quarter in range(365 * 96):
        # Each day another filesystem comes and goes.
        used = {"/": quarter * G, f"/mnt/{quarter // 96}": quarter}
        year = remembered(year, used, CheckClock(1e9 + quarter * 900, 1000.0 + quarter * 900, "a"))
    assert len(json.dumps(year)) < 3 * size
    assert set(year["samples"]) == {"/", "/mnt/364"}


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"samples": 7},
        {"boot": "a", "began": "x", "samples": {"/": []}},
        {"boot": "a", "began": 0, "samples": {"/": [["x", {}]]}},
        {"boot": "a", "began": 0, "samples": {"/": [[1, float("inf")]]}},
        {"boot": "a", "began": 0, "samples": {"/": [1]}},
    ],
)
def test_damaged_history_counts_as_empty(known: dict[str, Any]) -> None:
    assert remembered(known, {"/": 5}, CheckClock(1e9, 10, "a"))["samples"] == {"/": [(1e9, 5)]}


# -- the line


def line(*results: CheckResult, **observed: Any) -> str:
    return check.line(Observation(results=list(results), **observed), LIMITS, config())


USE = CheckResult("use:/", OK, "/ 50 % used, 50G free", "/")


def test_line_of_a_healthy_host_is_how_full_it_is() -> None:
    assert line(USE, CheckResult("isolation", OK, "Docker's data is on it")).startswith(
        "DISK OK - / 50 % used, 50G free |"
    )


def test_what_is_wrong_is_in_the_line_the_worst_first() -> None:
    output = line(USE, CheckResult("a", UNKNOWN, "a"), CheckResult("b", WARNING, "b"), CheckResult("c", CRITICAL, "c"))
    assert output.startswith("DISK CRITICAL - c; b; a |")


@pytest.mark.parametrize(
    ("found", "worst"), [((OK, UNKNOWN), UNKNOWN), ((UNKNOWN, WARNING), WARNING), ((WARNING, CRITICAL), CRITICAL)]
)
def test_unknown_is_better_than_wrong(found: tuple[int, ...], worst: int) -> None:
    assert Observation(results=[CheckResult(str(level), level, "") for level in found]).level == worst


def test_performance_data_have_their_limits() -> None:
    output = line(
        filesystems=[filesystem(50, inodes=200, inodes_free=150)],
        groups=[GroupUsage("ubuntu-vg", 100 * G, 10 * G)],
        snapshots=[SnapshotUsage("ubuntu-vg", "s", "docker-lv", 12.5)],
    )
    assert output.partition(" | ")[2].split(" '") == [
        f"'/'={50 * G}B;{80 * G};{90 * G};0;{100 * G}",
        "inodes /'=25.0%;80;90;0;100",
        f"free ubuntu-vg'={10 * G}B;{5 * G}:;;0;{100 * G}",
        "snapshot ubuntu-vg/s'=12.5%;80;90;0;100",
    ]


def test_names_cannot_break_the_line() -> None:
    output = line(CheckResult("use:", WARNING, "/a|b\nc 90 % used"), filesystems=[filesystem(mount="/a|b\n'c=d")])
    assert "\n" not in output
    text, _, performance = output.partition("|")
    assert text == r"DISK WARNING - /a/b\nc 90 % used "
    assert performance.startswith(r" '/a/b\n''c_d'=")


# -- a run


@dataclass
class CheckHost:
    """A host to check. The kernel's tables, the programs and Docker's socket are files in a directory."""

    path: Path
    percent: dict[str, float] = field(default_factory=dict)  # of each mount
    alerts: list[list[CheckResult]] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)  # that were reported
    log: list[tuple[int, str]] = field(default_factory=list)  # the system's
    missing: set[str] = field(default_factory=set)  # markers of the volume
    command_lines: dict[str, list[str]] = field(
        default_factory=lambda: {"dockerd": ["dockerd", "-H", "fd://"], "containerd": ["containerd"]}
    )
    info: bytes = b'{"DockerRootDir": "/var/lib/docker"}'  # by Docker

    def mount(self, *lines: str) -> None:
        (self.path / "mountinfo").write_text("".join(f"{line}\n" for line in lines))

    def program(self, name: str, script: str) -> None:
        (self.path / "bin").mkdir(exist_ok=True)
        path = self.path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def levels(self) -> dict[str, int]:
        """Return the levels that the alerts got last."""
        return {result.key: result.level for result in self.alerts[-1]}


ROOT = "22 1 254:1 / / rw - ext4 /dev/root rw"
VOLUME = "30 22 254:2 / /srv/docker-volume rw - ext4 /dev/mapper/vg-docker--lv rw"
DEAD = -1  # how full a filesystem is whose device is gone
STORES = [
    f"31 22 254:2 /{name} /var/lib/{name} rw - ext4 /dev/mapper/vg-docker--lv rw" for name in ("docker", "containerd")
]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckHost:
    host = CheckHost(tmp_path, {"/": 41, "/srv/docker-volume": 50})

    def statvfs(path: str) -> SimpleNamespace:
        if host.percent[path] == DEAD:
            raise OSError(5, "Input/output error", path)
        free = round((100 - host.percent[path]) * 1000)
        return SimpleNamespace(f_blocks=100_000, f_bfree=free, f_bavail=free, f_frsize=2**20, f_files=100, f_ffree=99)

    def report_changes(_: object, results: list[CheckResult], now: float) -> list[str]:
        host.alerts.append(list(results))
        return [f"reported at {now > 0}"]

    def report_event(_: object, news: list[News], now: float) -> list[str]:
        host.events += [(item.level, item.text) for item in news]
        return [f"reported at {now > 0}"]

    alert = SimpleNamespace(report_changes=report_changes, report_event=report_event)
    monkeypatch.setattr(check, "EMPTIED", f"{tmp_path}/emptied")
    monkeypatch.setattr("bulkhead.watch.alert", alert, raising=False)
    monkeypatch.setattr("bulkhead.watch.alert_store.queued", lambda: {"mail": 2})
    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(state, "PERSISTENT", f"{tmp_path}/lib")
    monkeypatch.setattr(state, "VOLATILE", f"{tmp_path}/run")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").symlink_to(tmp_path / "mountinfo")
    monkeypatch.setattr(procfs, "PROC", f"{tmp_path}/proc")
    monkeypatch.setattr(fstab, "FSTAB", "/dev/null")
    monkeypatch.setattr(roots, "DAEMON_JSON", f"{tmp_path}/daemon.json")
    monkeypatch.setattr(roots, "CONTAINERD_CONFIG", f"{tmp_path}/config.toml")
    monkeypatch.setattr(roots, "_command_line", lambda _, program: host.command_lines[program])
    monkeypatch.setattr(filesystems, "_is_missing", lambda path: path in host.missing)
    monkeypatch.setattr(syslog, "syslog", lambda priority, text: host.log.append((priority, text)))
    monkeypatch.setattr(daemon, "DOCKER_API", f"{tmp_path}/docker.sock")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    host.mount(ROOT, VOLUME, *STORES)
    host.program("systemctl", 'shift; for unit; do echo active; done; echo "$@" >>$(dirname "$0")/asked')
    host.program("lvs", "echo '  ubuntu-vg|107374182400|10737418240|docker-lv|||-wi-ao----||linear'")
    return host


EMPTY = "WARNING: Docker has begun empty: a boot found its disks blank, and made /srv/docker-volume anew"


def test_boot_that_made_the_volume_anew_is_reported_once(host: CheckHost, tmp_path: Path) -> None:
    (tmp_path / "emptied").touch()
    check.run(config())
    check.run(config())
    assert host.events == [(WARNING, EMPTY)]
    assert not (tmp_path / "emptied").exists()


def test_boot_that_made_the_volume_anew_is_reported_again_where_nobody_could_be_alerted(
    host: CheckHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "emptied").touch()

    def failing(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("bulkhead.watch.alert.report_event", failing)
    check.run(config())
    assert any("nobody could be alerted: no space left on device" in text for _, text in host.log)
    assert (tmp_path / "emptied").exists()


Docker = Callable[..., list[int]]


@pytest.fixture
def docker(host: CheckHost) -> Iterator[Docker]:
    """Return what starts a Docker with this answer, or without one if it is empty, and returns a list of its connections.

    It has another answer to who asks for its containers.
    """
    with socket.socket(socket.AF_UNIX) as server:

        def serve(answer: bytes, containers: bytes, connections: list[int]) -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(1)
                if answer:
                    asked = connection.recv(1000)
                    is_list = b"/containers/json" in asked
                    connection.sendall(containers if is_list else answer if b"_ping" in asked else INFO + host.info)
                    connection.close()
                else:
                    kept.append(connection)

        def start(answer: bytes, containers: bytes = b"HTTP/1.0 200 OK\r\n\r\n[]") -> list[int]:
            connections: list[int] = []
            server.bind(f"{host.path}/docker.sock")
            server.listen()
            threading.Thread(target=serve, args=(answer, containers, connections), daemon=True).start()
            return connections

        kept: list[socket.socket] = []
        yield start
        server.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


INFO = b"HTTP/1.0 200 OK\r\n\r\n"
PONG = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK"


@pytest.fixture
def healthy(host: CheckHost, docker: Docker) -> CheckHost:
    docker(PONG)
    return host


@pytest.mark.usefixtures("healthy")
def test_healthy_host_is_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(config()) == OK
    assert capsys.readouterr().out.startswith(
        "DISK OK - / 41 % used, 58G free; /srv/docker-volume 50 % used, 49G free | '/'="
    )


@pytest.mark.parametrize(("percent", "code"), [(79, OK), (80, WARNING), (90, CRITICAL)])
def test_exit_code_is_the_level(healthy: CheckHost, percent: float, code: int) -> None:
    healthy.percent["/srv/docker-volume"] = percent
    assert check.run(config()) == code


def test_level_that_stands_is_remembered_between_runs(healthy: CheckHost) -> None:
    healthy.percent["/"] = 81
    assert check.run(config()) == WARNING
    healthy.percent["/"] = 76
    assert check.run(config()) == WARNING
    healthy.percent["/"] = 74
    assert check.run(config()) == OK
    healthy.percent["/"] = 76
    assert check.run(config()) == OK


def open_alert() -> None:
    """Leave a state of alerts that is not empty, so that the check calls the alerts."""
    state.save("alerts", {"standing": {}})


def test_every_finding_is_reported_to_the_alerts(healthy: CheckHost) -> None:
    open_alert()
    check.run(config())
    assert healthy.levels() == dict.fromkeys(
        [
            "use:/",
            "inodes:/",
            "use:/srv/docker-volume",
            "inodes:/srv/docker-volume",
            "isolation",
            "reserve:ubuntu-vg",
            "docker",
            "unit:docker-prune.timer",
        ],
        OK,
    )


def test_check_without_news_does_not_call_the_alerts(healthy: CheckHost) -> None:
    check.run(config())
    assert healthy.alerts == []


@pytest.mark.usefixtures("healthy")
def test_verbose_adds_a_line_for_each_result_and_alert(capsys: pytest.CaptureFixture[str]) -> None:
    open_alert()
    check.run(config(), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert "OK: Docker's data is on /srv/docker-volume" in lines
    assert "OK: volume group ubuntu-vg has 10G free, its reserve is 5.0G" in lines
    assert lines[-1] == "reported at True"


@pytest.mark.usefixtures("healthy")
def test_json_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(config(), as_json=True) == OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == "OK"
    assert [(f["mount"], f["percent"]) for f in shown["filesystems"]] == [("/", 41), ("/srv/docker-volume", 50)]
    assert {"key": "docker", "level": 0, "text": "Docker answers", "mount": ""} in shown["findings"]


@pytest.mark.parametrize("how", [{"threshold": 30}, {"alert": False}])
def test_check_without_alerts_or_with_another_threshold_leaves_nothing(healthy: CheckHost, how: dict[str, Any]) -> None:
    check.run(config(), **how)
    assert healthy.alerts == []
    assert not (healthy.path / "lib").exists()


def test_check_by_others_than_root_alerts_nobody(
    healthy: CheckHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert check.run(config()) == OK, capsys.readouterr().out
    assert healthy.alerts == []
    assert not (healthy.path / "lib").exists()


@pytest.mark.parametrize(
    ("threshold", "code"), [(30, WARNING), (42, OK), (95, OK)], ids=["lower", "above", "above-critical"]
)
def test_threshold_of_ones_own_decides(healthy: CheckHost, threshold: int, code: int) -> None:
    healthy.percent = {"/": 41, "/srv/docker-volume": 93 if threshold == 95 else 10}
    assert check.run(config(), threshold=threshold) == code


def test_lost_isolation_is_critical(healthy: CheckHost, capsys: pytest.CaptureFixture[str]) -> None:
    healthy.mount(ROOT)
    assert check.run(config()) == CRITICAL
    assert "Docker is not isolated from the root disk: /srv/docker-volume is not mounted" in capsys.readouterr().out


def test_missing_marker_of_a_store_is_critical(healthy: CheckHost, capsys: pytest.CaptureFixture[str]) -> None:
    healthy.missing.add("/srv/docker-volume/docker/.docker-bulkhead")
    assert check.run(config()) == CRITICAL
    expected = "Docker will not start again without /srv/docker-volume/docker/.docker-bulkhead: run the deploy again"
    assert expected in capsys.readouterr().out


def test_docker_that_is_reported_to_keep_its_data_elsewhere_is_critical(
    healthy: CheckHost, capsys: pytest.CaptureFixture[str]
) -> None:
    (healthy.path / "daemon.json").write_text('{"data-root": "/home/docker"}')
    assert check.run(config()) == CRITICAL
    assert "daemon.json puts data into /home/docker" in capsys.readouterr().out


@pytest.mark.parametrize(("program", "what"), [("dockerd", "Docker"), ("containerd", "containerd")])
def test_daemon_that_was_started_with_another_root_is_critical(
    healthy: CheckHost, capsys: pytest.CaptureFixture[str], program: str, what: str
) -> None:
    if program == "dockerd":
        healthy.info = b'{"DockerRootDir": "/elsewhere"}'
    else:
        healthy.command_lines["containerd"] += ["--root=/elsewhere"]
    assert check.run(config()) == CRITICAL
    expected = f"Docker is not isolated from the root disk: the running {what} puts data into /elsewhere |"
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("info", [b"", b"[]", b'{"DockerRootDir": null}', b'{"DockerRootDir": "/var'])
def test_docker_that_does_not_say_where_its_data_is_is_unknown(
    healthy: CheckHost, capsys: pytest.CaptureFixture[str], info: bytes
) -> None:
    healthy.info = info
    assert check.run(config()) == UNKNOWN
    assert (
        "cannot tell whether Docker is isolated from the root disk: Docker does not say where its data is: it answers "
        "something else |" in capsys.readouterr().out
    )


def test_daemon_json_that_cannot_be_read_is_unknown(healthy: CheckHost, capsys: pytest.CaptureFixture[str]) -> None:
    (healthy.path / "daemon.json").write_text('{"data-root": ')
    assert check.run(config()) == UNKNOWN
    assert (
        f"isolated from the root disk: Docker does not start with {healthy.path}/daemon.json" in capsys.readouterr().out
    )


def test_lost_isolation_is_worse_than_what_cannot_be_read(healthy: CheckHost) -> None:
    (healthy.path / "daemon.json").write_text('{"data-root": ')
    healthy.mount(ROOT)
    assert check.run(config()) == CRITICAL


@pytest.mark.usefixtures("healthy")
def test_extra_volume_that_is_not_mounted_is_critical(capsys: pytest.CaptureFixture[str]) -> None:
    extra = FstabEntry.of("/dev/ubuntu-vg/home-lv", "/home", "ext4", ["defaults"])
    assert check.run(config(extra_fstab=(extra,))) == CRITICAL
    assert "/home is not mounted" in capsys.readouterr().out


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    ("found", "code", "text"),
    [
        ([], OK, "OK: /var/lib/docker-disk/disk has its 60G, and takes no discards"),
        (["it has holes", "it is not attached"], CRITICAL, "CRITICAL: it has holes; it is not attached"),
        (OSError("no answer"), UNKNOWN, "UNKNOWN: the file that is Docker's disk cannot be read: no answer"),
    ],
)
def test_file_that_is_the_disk_is_watched(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    found: list[str] | OSError,
    code: int,
    text: str,
) -> None:
    def problems(size: int, volume: str) -> list[str]:
        assert (size, volume) == (60 * G, "/srv/docker-volume")
        if isinstance(found, OSError):
            raise found
        return found

    monkeypatch.setattr("bulkhead.storage.disk_file.problems", problems)
    assert check.run(config(disk_file_bytes=60 * G), verbose=True) == code
    assert text in capsys.readouterr().out.splitlines()


def test_reserve_that_is_gone_is_a_warning(healthy: CheckHost, capsys: pytest.CaptureFixture[str]) -> None:
    healthy.program("lvs", "echo '  ubuntu-vg|107374182400|1073741824|docker-lv|||-wi-ao----||linear'")
    assert check.run(config()) == WARNING
    assert "volume group ubuntu-vg has 1.0G free, its reserve is 5.0G" in capsys.readouterr().out


def test_silent_lvm_is_no_recovery(
    healthy: CheckHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy.program("lvs", "echo '  ubuntu-vg|107374182400|0|docker-lv|||-wi-ao----||linear'")
    check.run(config())
    healthy.program("lvs", "exec sleep 60")
    monkeypatch.setattr(lvm, "PATIENCE", 0.2)
    assert check.run(config()) == UNKNOWN
    assert "LVM does not answer: `lvs` did not end within 0.2 s" in capsys.readouterr().out
    assert healthy.levels()["reserve:ubuntu-vg"] == UNKNOWN


def test_lost_disk_of_a_mirror_alerts_until_it_is_replaced(healthy: CheckHost) -> None:
    rows = (("p", 100, WARNING), ("", None, UNKNOWN), ("r", 100, WARNING), ("-", 12, OK))
    for health, synced, level in rows:
        open_alert()
        row = (
            f"echo 'docker-vg|9|9|docker-lv|||rwi-aor-{health}-|{synced}.00|raid,raid1'"
            if synced
            else "echo locked >&2; exit 5"
        )
        healthy.program("lvs", row)
        check.run(config())
        assert healthy.levels().get("mirror:docker-vg/docker-lv", OK) == level


@pytest.fixture
def record(healthy: CheckHost, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = healthy.path / "etc/record"
    for module in (check, mirror_record):
        monkeypatch.setattr(module, "MIRROR_RECORD", str(path))
    return path


def mirrored(
    host: CheckHost, health: str, synced: int = 100, second: str = "iwi-aor---", name: str = "docker-lv"
) -> None:
    """A host whose mirror has this health, and whose second copy has these attributes."""
    host.program("lvs", f"echo 'ubuntu-vg|9|9|{name}|||rwi-{health}|{synced}.00|raid,raid1'")
    rows = (f"ubuntu-vg|[{name}_rimage_0]|AAAA|iwi-aor---", f"ubuntu-vg|[{name}_rimage_1]|BBBB|{second}")
    host.program("pvs", f"printf '{rows[0]}\\n{rows[1]}\\n'")


def test_copy_that_is_not_stale_is_remembered_until_both_are_in_sync(healthy: CheckHost, record: Path) -> None:
    steps = (
        ("aor---", 100, "iwi-aor---", False),
        ("aor-p-", 100, "iwi-aor-p-", True),
        ("aor-r-", 100, "iwi-aor-r-", True),
        ("aor---", 40, "Iwi-aor---", True),
        ("aor---", 100, "Iwi-aor---", True),
        ("aor---", 100, "iwi-aor---", False),
    )
    for health, synced, second, is_remembered in steps:
        mirrored(healthy, health, synced, second)
        check.run(config())
        assert (record.read_text() if record.exists() else "") == "AAAA\n" * is_remembered


def test_nothing_is_remembered_of_a_mirror_that_is_inactive_or_of_others(healthy: CheckHost, record: Path) -> None:
    mirrored(healthy, "--r-p-", 0, "Iwi---r-p-")
    check.run(config())
    mirrored(healthy, "aor-p-", 100, "iwi-aor-p-", name="data")
    check.run(config())
    assert not record.exists()


def test_record_that_cannot_be_written_is_a_result(healthy: CheckHost, record: Path) -> None:
    record.with_name("record.new").mkdir(parents=True)
    mirrored(healthy, "aor-p-", 100, "iwi-aor-p-")
    check.run(config())
    assert healthy.levels()["mirror-record"] == UNKNOWN


def test_level_from_before_lvm_was_silent_is_still_left_five_points_below(healthy: CheckHost) -> None:
    for percent, level in ((92, CRITICAL), (None, UNKNOWN), (None, UNKNOWN), (87, CRITICAL), (84, WARNING)):
        output = (
            f"echo 'vg|9|9|before|docker-lv|{percent}|swi-a-s---||linear'" if percent else "echo locked >&2; exit 5"
        )
        healthy.program("lvs", output)
        check.run(config())
        assert healthy.levels()["snapshot:vg/before"] == level


def test_filesystem_whose_device_is_gone_has_not_recovered(healthy: CheckHost) -> None:
    for percent, level in ((85, WARNING), (DEAD, UNKNOWN), (DEAD, UNKNOWN), (77, WARNING), (74, OK)):
        open_alert()
        healthy.percent["/srv/docker-volume"] = percent
        check.run(config())
        assert healthy.levels()["use:/srv/docker-volume"] == level
        assert healthy.levels().get("read-only:/srv/docker-volume", OK) == (CRITICAL if percent == DEAD else OK)


def test_filesystem_whose_device_is_gone_does_not_empty(healthy: CheckHost) -> None:
    healthy.percent["/srv/docker-volume"] = DEAD
    check.run(config())
    assert set(state.load("check")["samples"]) == {"/"}


def prune(
    hours_ago: float, *failed: str, timer: bool = True, saved: dict[str, Any] | None = None
) -> dict[str, tuple[int, str]]:
    """Return the results of a prune, by key."""
    units = ("docker-prune.timer",) if timer else ()
    last = {"time": 1e9 - hours_ago * HOUR, "failed": list(failed)} | (saved or {})
    results = check.check_prune(last, config(watched_units=units), 1e9, late=1e9 - 50 * HOUR)
    return {key: (level, text) for key, level, text, _ in results}


def test_prune_that_failed_or_does_not_come_is_a_warning() -> None:
    assert prune(3) == {"prune": (OK, "the last prune was 3 h ago")}
    assert prune(49)["prune"][0] == OK
    assert prune(51) == {"prune": (WARNING, "the last prune was 2 d ago")}
    output = "the last prune was 3 h ago and failed: image a:1: in use"
    assert prune(3, "image a:1: in use", "image b:1") == {"prune": (WARNING, output)}


def test_prune_that_was_skipped_for_three_nights_is_a_warning() -> None:
    saved = {"hindrance": "images stay during a build: a build", "skipped_nights": 2}
    assert prune(3, saved=saved)["prune"][0] == OK
    assert prune(3, saved=saved | {"skipped_nights": 3})["prune"] == (
        WARNING,
        "the last prune was 3 h ago; something was in its way for 3 nights in a row: images stay during a build: a build. Set "
        "prune_time to a quieter hour, or run `bulkhead prune` when nothing is in the way",
    )


def test_prune_is_not_late_because_the_host_was_off(healthy: CheckHost, monkeypatch: pytest.MonkeyPatch) -> None:
    state.save("prune", {"time": time.time() - 62 * HOUR, "freed": 0, "removed": 0, "failed": []})
    moments = {50 * HOUR: time.time() - 90 * HOUR}
    monkeypatch.setattr(uptime, "current", lambda: SimpleNamespace(before=moments.get))
    monkeypatch.setattr(uptime, "remember", lambda: None)
    assert check.run(config()) == OK
    moments[50 * HOUR] = time.time() - 61 * HOUR
    assert check.run(config()) == WARNING
    assert healthy.levels()["prune"] == WARNING


@pytest.mark.usefixtures("healthy")
def test_check_remembers_the_uptime() -> None:
    check.run(config())
    first = state.load("uptime")["up"]
    check.run(config())
    assert state.load("uptime")["up"] > first


RUNNING = [
    {"ImageID": "sha256:a", "NetworkSettings": {"Networks": {"ci": {"NetworkID": "n1"}, "b": {"NetworkID": "n2"}}}},
    {"ImageID": "sha256:b", "NetworkSettings": {"Networks": {}}},
]


def test_check_remembers_what_runs_for_the_next_prune(host: CheckHost, docker: Docker) -> None:
    docker(PONG, b"HTTP/1.0 200 OK\r\nServer: Docker\r\n\r\n" + json.dumps(RUNNING).encode())
    now = time.time()
    state.save("counted", {"time": now - 100})
    state.save("sightings", {"images": {"old": now - 50, "just": now - 100, "counted": now - 150}, "networks": 7})
    check.run(config())
    uses = state.load("sightings")
    assert {*uses["images"]} == {"sha256:a", "sha256:b", "old", "just"}
    assert {*uses["networks"]} == {"n1", "n2"}
    assert all(now <= when <= time.time() for when in uses["networks"].values())
    assert host.alerts == []


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.0 500 Oh\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n[7]", b"HTTP/1.0 200 OK\r\n\r\n{"]
)
def test_list_of_containers_that_docker_does_not_give_is_no_problem(
    host: CheckHost, docker: Docker, answer: bytes
) -> None:
    docker(PONG, answer)
    assert check.run(config()) == OK
    assert state.load("sightings") == {}
    assert host.alerts == []


def test_prune_that_nobody_wants_may_be_long_ago() -> None:
    assert prune(900, timer=False)["prune"][0] == OK


def test_host_that_has_never_pruned_is_ok(healthy: CheckHost) -> None:
    assert check.run(config()) == OK
    state.save("prune", {"time": time.time(), "freed": 0, "removed": 0, "failed": ["image a:1: in use"]})
    assert check.run(config()) == WARNING
    assert healthy.levels()["prune"] == WARNING


def test_timer_that_is_not_active_is_a_warning(healthy: CheckHost, capsys: pytest.CaptureFixture[str]) -> None:
    healthy.program("systemctl", "echo active; echo inactive; exit 3")
    assert check.run(config()) == WARNING
    assert "docker-prune.timer is inactive" in capsys.readouterr().out


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
def test_stopped_docker_is_unknown_and_is_not_started(
    host: CheckHost, docker: Docker, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    connections = docker(PONG)
    host.program("systemctl", f"echo {state}; echo active; exit 3")
    assert check.run(config()) == UNKNOWN
    assert f"Docker does not run: docker.service is {state}" in capsys.readouterr().out
    assert connections == [], "systemd would have started it"


@pytest.mark.usefixtures("host")
def test_hung_docker_is_unknown_before_long(
    docker: Docker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    docker(b"")
    monkeypatch.setattr(daemon, "PATIENCE", 0.3)
    began = time.monotonic()
    assert check.run(config(watched_units=())) == UNKNOWN
    assert time.monotonic() - began < 10
    assert "Docker does not answer within 0.3 s" in capsys.readouterr().out


@pytest.mark.usefixtures("host")
def test_docker_without_its_socket_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(config()) == UNKNOWN
    assert "Docker does not answer: No such file or directory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "output"), [(b"HTTP/1.0 500 Internal Server Error\r\n", "HTTP/1.0 500 Internal"), (b"\r\n", "nothing")]
)
@pytest.mark.usefixtures("host")
def test_answer_that_is_none_is_reported(
    docker: Docker, capsys: pytest.CaptureFixture[str], answer: bytes, output: str
) -> None:
    docker(answer)
    assert check.run(config()) == UNKNOWN
    assert f"Docker does not answer as it should: {output}" in capsys.readouterr().out


@pytest.mark.usefixtures("healthy")
def test_user_who_may_not_ask_docker_is_content_with_its_unit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_socket, "socket", refused)
    assert check.run(config(), verbose=True) == OK
    output = capsys.readouterr().out
    assert "OK: docker.service is active" in output
    assert "answers" not in output


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("echo 'Failed to connect to bus' >&2; exit 1", "`systemctl` says: Failed to connect to bus"),
        ("exec sleep 60", "`systemctl` did not end within 0.3 s"),
    ],
)
def test_systemd_that_does_not_answer_is_unknown(
    host: CheckHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, script: str, output: str
) -> None:
    host.program("systemctl", script)
    if "sleep" in script:
        monkeypatch.setattr(check, "PATIENCE", 0.3)
    assert check.run(config()) == UNKNOWN
    assert f"cannot tell whether Docker runs: {output}" in capsys.readouterr().out
    assert host.levels()["unit:docker-prune.timer"] == UNKNOWN


def test_all_units_are_asked_for_at_once(healthy: CheckHost) -> None:
    check.run(config(watched_units=("docker-prune.timer", "docker-guard.service")))
    assert (healthy.path / "bin/asked").read_text() == "docker.service docker-prune.timer docker-guard.service\n"


@pytest.mark.parametrize(
    ("guard", "user", "output"),
    [
        ({"uptime": 480.0}, 0, ""),
        ({"uptime": 80.0}, 0, "docker-guard.service is active, but has not checked /srv/docker-volume for 7 min"),
        ({}, 0, "docker-guard.service is active, but has not checked /srv/docker-volume for 8 min"),  # since the boot
        ({"uptime": "x"}, 1000, ""),  # who cannot read it
    ],
)
def test_guard_that_runs_and_does_not_sample_is_a_warning(
    healthy: CheckHost,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    guard: dict[str, Any],
    user: int,
    output: str,
) -> None:
    monkeypatch.setattr(CheckClock, "read", lambda: CheckClock(1000.0, 500.0, "a"))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    (healthy.path / "run").mkdir()
    (healthy.path / "run/guard.json").write_text(json.dumps(guard))
    guarded = config(watched_units=("docker-prune.timer", "docker-guard.service"))
    assert check.run(guarded) == (WARNING if output else OK)
    assert output in capsys.readouterr().out


def test_guard_of_a_volume_that_is_not_mounted_has_nothing_to_sample(
    healthy: CheckHost, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy.mount(ROOT)
    check.run(config(watched_units=("docker-prune.timer", "docker-guard.service")))
    assert "has not checked" not in capsys.readouterr().out


def test_filesystem_that_fills_is_reported_before_it_is_full(
    healthy: CheckHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, uptime = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    for quarter in range(7):
        healthy.percent["/srv/docker-volume"] = 10 + 9.5 * quarter
        moment = CheckClock(now + quarter * 900, uptime + quarter * 900, "a")
        monkeypatch.setattr(CheckClock, "read", lambda moment=moment: moment)
        code = check.run(config())
    assert code == CRITICAL
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .startswith("DISK CRITICAL - /srv/docker-volume is filling up: 32G free, +37G/h, full in 52 min |")
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"samples": 7, "levels": [1]}', '{"levels": {"use:/": "x"}}'])
def test_damaged_state_is_begun_anew(healthy: CheckHost, content: str) -> None:
    check.run(config())
    (healthy.path / "lib/check.json").write_text(content)
    assert check.run(config()) == OK
    assert "use:/" not in state.load("check")["levels"]
    assert set(state.load("check")["samples"]) == {"/", "/srv/docker-volume"}


def test_levels_survive_a_directory_that_cannot_be_written(healthy: CheckHost) -> None:
    (healthy.path / "lib").write_text("in the way")
    healthy.percent["/"] = 91
    assert check.run(config()) == CRITICAL
    healthy.percent["/"] = 86
    assert check.run(config()) == CRITICAL


def test_alerts_go_out_also_where_nothing_can_be_remembered(
    healthy: CheckHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save", full)
    assert check.run(config()) == UNKNOWN
    assert "the check's state cannot be saved: [Errno 28] No space left on device" in capsys.readouterr().out
    assert healthy.levels()["state"] == UNKNOWN


def test_alerts_that_fail_are_reported(
    healthy: CheckHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ValueError("no such receiver")

    monkeypatch.setattr("bulkhead.watch.alert.report_changes", failing)
    healthy.percent["/"] = 81
    assert check.run(config()) == WARNING
    printed = capsys.readouterr()
    output = "nobody could be alerted: no such receiver"
    assert output in printed.out
    assert printed.err == f"bulkhead: {output}; / 81 % used, 19G free\n"
    assert healthy.log == [(syslog.LOG_ERR, f"{output}; / 81 % used, 19G free")]


def test_second_check_waits_and_reports_for_what(
    healthy: CheckHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "LOCK_PATIENCE", 0.2)
    with state.locked("check", 0):
        assert check.run(config()) == UNKNOWN
    output = "the check failed: another `bulkhead check` has been at work"
    printed = capsys.readouterr()
    assert f"DISK UNKNOWN - {output}" in printed.out
    assert f"bulkhead: {output}" in printed.err
    assert [priority for priority, text in healthy.log if text.startswith(output)] == [syslog.LOG_ERR]


@pytest.mark.parametrize(("user", "alert", "complains"), [(0, True, True), (0, False, False), (1000, True, False)])
def test_configuration_that_cannot_be_read_is_a_complaint_of_the_check_that_would_alert(
    host: CheckHost,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    alert: bool,
    complains: bool,
) -> None:
    def unreadable() -> None:
        raise errors.Problem("bulkhead.json cannot be read")

    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(Config, "load", unreadable)
    assert check.start(alert=alert) == UNKNOWN
    printed = capsys.readouterr()
    assert printed.out == "DISK UNKNOWN - bulkhead.json cannot be read\n"
    assert printed.err == ("bulkhead: bulkhead.json cannot be read\n" if complains else "")
    assert host.log == ([(syslog.LOG_ERR, "bulkhead.json cannot be read")] if complains else [])


def test_check_without_alerts_that_fails_disturbs_nobody(host: CheckHost, capsys: pytest.CaptureFixture[str]) -> None:
    (host.path / "mountinfo").write_text("nonsense\n")
    assert check.run(config(), alert=False) == UNKNOWN
    assert (capsys.readouterr().err, host.log) == ("", [])


def test_two_checks_at_once_both_print_their_line(healthy: CheckHost, capsys: pytest.CaptureFixture[str]) -> None:
    healthy.program("systemctl", "sleep 0.1; echo active; echo active")
    codes: list[int] = []
    checks = [threading.Thread(target=lambda: codes.append(check.run(config()))) for _ in range(2)]
    for each in checks:
        each.start()
    for each in checks:
        each.join()
    assert codes == [OK, OK]
    assert capsys.readouterr().out.count("DISK OK - ") == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_unforeseen_error_is_unknown_and_no_traceback(
    host: CheckHost, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    (host.path / "mountinfo").write_text("nonsense\n")
    assert check.run(config(), as_json=as_json) == UNKNOWN
    printed = capsys.readouterr()
    assert "the check failed: " in printed.out
    assert "Traceback" not in printed.out + printed.err


def test_metrics_are_written(healthy: CheckHost) -> None:
    directory = healthy.path / "textfiles"
    directory.mkdir()
    open_alert()
    check.run(config(metrics_directory=str(directory)))
    assert [path.name for path in directory.iterdir()] == ["bulkhead.prom"]
    assert (directory / "bulkhead.prom").stat().st_mode & 0o777 == 0o644
    written = (directory / "bulkhead.prom").read_text()
    assert 'bulkhead_alerts_queued{receiver="mail"} 2.0\n' in written
    assert "bulkhead_alerts_standing 0.0\n" in written


def test_metrics_that_cannot_be_written_are_reported(healthy: CheckHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(config(metrics_directory=f"{healthy.path}/none")) == UNKNOWN
    assert "the metrics cannot be written: " in capsys.readouterr().out
    assert healthy.levels()["metrics"] == UNKNOWN
