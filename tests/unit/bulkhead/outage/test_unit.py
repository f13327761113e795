"""A move runs in a unit of systemd's, and whoever began it reads along."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state
from bulkhead.errors import Failed
from bulkhead.outage import unit


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run."""
    found: list[list[str]] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        found.append(words)
        return subprocess.CompletedProcess(words, 0, "inactive\nfailed\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path))
    monkeypatch.setattr(unit, "LOG", f"{tmp_path}/log")
    return found


def test_unit_is_started_with_a_recovery_after_its_end(commands: list[list[str]]) -> None:
    unit.begin("relocate", "--foreground")
    started = commands[-1]
    assert started[:3] == ["systemd-run", "--quiet", f"--unit={unit.UNIT}"]
    assert f"--property=ExecStopPost={unit.PROGRAM} relocate --recover" in started
    assert started[-3:] == [unit.PROGRAM, "relocate", "--foreground"]


def test_unit_that_runs_already_is_left_alone(commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "is_under_way", lambda: True)
    unit.begin("relocate", "--foreground")
    assert commands == []


def test_those_who_follow_get_all_lines(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    del commands
    running = [True, False]
    unit.say("copying")
    capfd.readouterr()
    monkeypatch.setattr(unit, "is_under_way", lambda: running.pop(0))
    monkeypatch.setattr(unit, "_POLL_INTERVAL", 0)
    unit.follow()
    assert capfd.readouterr().out == "copying\n"


def test_log_that_cannot_be_written_ends_nothing(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    del commands
    monkeypatch.setattr(unit, "LOG", "/dev/full")
    unit.say("going back to the old data")
    assert capfd.readouterr().out == "going back to the old data\n"


def test_failure_is_reported_and_becomes_the_exit_code(commands: list[list[str]]) -> None:
    del commands

    def fail() -> None:
        raise Failed("the volume is full")

    assert unit.in_the_unit(fail) == 1
    assert Path(unit.LOG).read_text() == "failed: the volume is full\n"
    assert unit.in_the_unit(lambda: None) == 0
