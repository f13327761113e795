"""Docker is waited for as long as it makes progress."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.docker import start
from bulkhead.docker.engine import Engine
from bulkhead.docker.start import start_docker, start_limit
from bulkhead.errors import Failed

HANGS = "ActiveState=activating\nSubState=start\nTasksCurrent=9\nCPUUsageNSec=3000000000\n"


class SlowDocker(Engine):
    """A host whose Docker takes its time. Its clock goes on only while the program sleeps.

    Args:
        seconds: until the start ends.
        shown: what systemd shows after so many seconds.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float, shown: Callable[[float], str]) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.shown = shown
        self.code = 0
        self.error = ""
        self.killed = False
        self.is_silent = False
        self.commands: list[list[str]] = []
        monkeypatch.setattr(start, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep))
        monkeypatch.setattr(start, "output_of", lambda *_: self.shown(self.now))
        monkeypatch.setattr(subprocess, "run", lambda words, **_: self.commands.append(words))
        monkeypatch.setattr(subprocess, "Popen", self._begin)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _begin(self, words: list[str], **_: Any) -> SlowDocker:
        self.commands.append(words)
        return self

    # -- the systemctl that waits

    def __enter__(self) -> SlowDocker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.killed

    def poll(self) -> int | None:
        return self.code if self.now >= self.seconds else None

    def kill(self) -> None:
        self.killed = True

    @property
    def stderr(self) -> io.StringIO:
        return io.StringIO(self.error)

    def answers(self, timeout: float) -> bool:
        del timeout
        return not self.is_silent


def works(now: float) -> str:
    """A daemon that starts containers: every minute a second of CPU time."""
    return HANGS.replace("CPUUsageNSec=3", f"CPUUsageNSec={3 + int(now) // 60}")


def test_start_of_400_seconds_with_progress_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = SlowDocker(monkeypatch, 400, works)
    start_docker(docker, None)
    assert 400 <= docker.now < 410
    assert docker.commands == [
        ["systemctl", "reset-failed", "docker.socket", "docker.service", "containerd.service"],
        ["systemctl", "start", "containerd.service", "docker.service"],
    ]


@pytest.mark.parametrize("is_silent", [False, True], ids=["starting", "started"])
def test_start_without_progress_is_given_up(monkeypatch: pytest.MonkeyPatch, is_silent: bool) -> None:
    docker = SlowDocker(monkeypatch, 0 if is_silent else 400, lambda _: HANGS)
    docker.is_silent = is_silent
    with pytest.raises(Failed) as failed:
        start_docker(docker, None)
    assert str(failed.value) == (
        "Docker has not started, and has made no progress for 180 s: `journalctl --unit docker.service` shows where it stands"
    )
    assert 180 < docker.now < 190


def test_little_cpu_time_of_a_daemon_that_hangs_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = SlowDocker(monkeypatch, 400, lambda now: HANGS.replace("=3000000000", f"={3000000000 + int(now * 2e6)}"))
    with pytest.raises(Failed, match="no progress for 180 s"):
        start_docker(docker, None)


@pytest.mark.parametrize(
    "shown",
    [
        lambda now: HANGS.replace("TasksCurrent=9", f"TasksCurrent={9 + int(now) // 60}"),
        lambda _: HANGS.replace("SubState=start", "SubState=start-pre"),
    ],
    ids=["processes", "a program before it"],
)
def test_processes_and_what_runs_before_docker_are_progress(
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[float], str]
) -> None:
    docker = SlowDocker(monkeypatch, 400, shown)
    start_docker(docker, None)
    assert docker.now >= 400


@pytest.mark.parametrize(("setting", "limit"), [(None, 900), (300, 300)])
def test_start_that_goes_on_and_on_is_given_up_at_the_limit(
    monkeypatch: pytest.MonkeyPatch, setting: int | None, limit: int
) -> None:
    docker = SlowDocker(monkeypatch, 5000, works)
    with pytest.raises(Failed) as failed:
        start_docker(docker, setting)
    assert str(failed.value) == (
        f"Docker has not started within {limit} s, although it makes progress: a larger docker_start_limit gives it more time"
    )
    assert limit < docker.now < limit + 10


def test_start_that_fails_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = SlowDocker(monkeypatch, 4, works)
    docker.code, docker.error = 1, "Assertion failed on job for docker.service.\n"
    with pytest.raises(Failed) as failed:
        start_docker(docker, None)
    assert str(failed.value) == "`systemctl start docker.service` failed: Assertion failed on job for docker.service."
    assert docker.now < 10


@pytest.mark.parametrize(("containers", "setting", "limit"), [(3, None, 900), (300, None, 1500), (300, 600, 600)])
def test_limit_follows_the_number_of_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, containers: int, setting: int | None, limit: int
) -> None:
    monkeypatch.setattr(start, "DOCKER_STORE", str(tmp_path))
    assert start_limit(None) == 900
    for number in range(containers):
        (tmp_path / f"containers/{number}").mkdir(parents=True)
    assert start_limit(setting) == limit
