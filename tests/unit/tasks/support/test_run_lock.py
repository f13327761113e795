"""The run lock, its script run on this machine: who holds it, and that it goes with its holder."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.support.run_lock import _SCRIPT, Holder, RunLockHolder


def started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for another connection's sshd."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def ask(lock: Path, mode: str, patience: int = 5) -> str:
    words = ["sh", "-c", _SCRIPT, "run-lock", str(lock), mode, "ann on desk (process 7)", str(patience)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


def test_looking_writes_nothing(tmp_path: Path) -> None:
    assert ask(tmp_path / "lock", "read") == "free"
    assert list(tmp_path.iterdir()) == []


def test_lock_is_taken_and_is_no_obstacle_to_its_own_run(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert ask(lock, "take") == "free"
    assert "ann on desk (process 7), since 20" in lock.read_text()
    assert ask(lock, "read") == "free"
    assert ask(lock, "take") == "free"


def test_lock_of_a_living_connection_is_named_and_kept(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"{other.pid} {started(other.pid)} bob on laptop (process 9), since yesterday\n")
    for mode in ("read", "take"):
        assert ask(lock, mode) == f"held bob on laptop (process 9), since yesterday; process {other.pid} on the host"
    assert "bob" in lock.read_text()


def test_lock_goes_with_its_connection(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"{other.pid} {started(other.pid)} bob\n")
    other.kill()
    other.wait()
    assert ask(lock, "take") == "free"
    assert "ann" in lock.read_text()


def test_later_process_of_the_same_number_does_not_hold_it(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"{other.pid} {int(started(other.pid)) - 1} bob\n")
    assert ask(lock, "read") == "free"


def leave_behind(seconds: float) -> None:
    """A command of a run whose connection is gone: its parent has ended, it has not."""
    subprocess.run(["sh", "-c", f"BULKHEAD_RUN=1 setsid sleep {seconds} >/dev/null 2>&1 &"], check=True)
    time.sleep(0.2)


def test_last_command_of_a_killed_run_is_waited_for(tmp_path: Path) -> None:
    leave_behind(2.5)
    began = time.monotonic()
    assert ask(tmp_path / "lock", "take") == "free"
    assert time.monotonic() - began > 1.5


def test_lock_that_is_asked_for_by_a_run_that_is_killed_is_not_waited_for(tmp_path: Path) -> None:
    """It would take itself for what was left behind, and the next run would wait for it."""
    leave_behind(3)
    lock = tmp_path / "lock"
    asked = f'BULKHEAD_RUN=1 setsid sh -c "$0" run-lock {lock} take bob 60 >/dev/null 2>&1 & sleep 0.5'
    subprocess.run(["sh", "-c", asked, _SCRIPT], check=True)
    began = time.monotonic()
    assert ask(lock, "take", patience=30) == "free"
    assert time.monotonic() - began < 10
    assert "ann" in lock.read_text()


def test_last_command_of_a_killed_run_that_does_not_end_is_named(tmp_path: Path) -> None:
    leave_behind(4)
    answer = ask(tmp_path / "lock", "take", patience=1)
    holder = RunLockHolder().process([answer])
    assert holder.left
    assert holder.words.startswith("a command of a run that was killed; process ")


def test_answers_are_read() -> None:
    assert RunLockHolder().process(["free"]) == Holder()
    assert RunLockHolder().process(["held bob on laptop"]) == Holder("bob on laptop")
