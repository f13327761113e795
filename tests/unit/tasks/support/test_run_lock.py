"""The run lock, its script run on this machine: who holds it, and that it goes with its holder."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pyinfra.context import ctx_host

from pyinfra_lvm.collection import Question
from tasks.support import run_lock
from tasks.support.files import Present
from tasks.support.run_lock import _SCRIPT, Holder, RunLockHolder

from ...processes import orphan
from ..operations import OperationHost, stand_in


def started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for another connection's sshd."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def with_fast_sleep(lock: Path, also: str = ":") -> dict[str, str]:
    """An environment whose `sleep` notes the seconds that it was asked for, does something else, and takes a twentieth of one."""
    programs = lock.parent / "bin"
    programs.mkdir(exist_ok=True)
    stand_in(programs, "sleep", f'echo "$1" >>{lock.parent}/slept; {also}; exec /bin/sleep 0.05')
    return os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}


def ask(lock: Path, mode: str, patience: int = 5, also: str = ":") -> str:
    words = ["sh", "-c", _SCRIPT, "run-lock", str(lock), mode, "ann on desk (process 7)", str(patience)]
    done = subprocess.run(words, env=with_fast_sleep(lock, also), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


def slept(lock: Path) -> int:
    """The seconds that the script has waited."""
    return sum(map(int, (lock.parent / "slept").read_text().split()))


def test_reading_writes_nothing(tmp_path: Path) -> None:
    assert ask(tmp_path / "lock", "read") == "free"
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_lock_is_taken_and_is_no_obstacle_to_its_own_run(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert ask(lock, "take") == "free"
    assert "ann on desk (process 7), since 20" in lock.read_text()
    assert ask(lock, "read") == "free"
    assert ask(lock, "take") == "free"


def test_two_runs_that_take_it_at_once_take_turns_and_reading_waits_for_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with_fast_sleep(lock)
    stand_in(tmp_path / "bin", "flock", f'[ "$*" = 9 ] && [ ! -s {lock} ] && [ -e {lock} ] && touch {tmp_path}/locked')
    assert ask(lock, "read") == "free"
    assert not (tmp_path / "locked").exists()
    assert ask(lock, "take") == "free"
    assert (tmp_path / "locked").exists(), "it was not locked, or was written before it was"


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


@contextmanager
def left_behind() -> Iterator[int]:
    """Start a command of a run whose connection is gone, and return its number: its parent has ended, it has not."""
    pid = orphan("env", "BULKHEAD_RUN=1", "/bin/sleep", "250")
    environment = Path(f"/proc/{pid}/environ")
    while b"BULKHEAD_RUN=1" not in environment.read_bytes():
        time.sleep(0.01)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_last_command_of_a_killed_run_is_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with left_behind() as pid:
        ends_in_the_third_second = f"[ $(wc -l <{tmp_path}/slept) -lt 3 ] || kill -9 {pid} 2>/dev/null"
        assert ask(lock, "take", patience=200, also=ends_in_the_third_second) == "free"
    assert slept(lock) >= 3


def test_lock_that_is_asked_for_by_a_run_that_is_killed_is_not_waited_for(tmp_path: Path) -> None:
    """It would take itself for what was left behind, and the next run would wait for it."""
    lock = tmp_path / "lock"
    with left_behind() as pid:
        # The shell is the connection of the killed run: it ends as soon as the script has begun to wait.
        asked = f'BULKHEAD_RUN=1 setsid sh -c "$0" run-lock {lock} take bob 200 >/dev/null 2>&1 &'
        until = f"until [ -e {tmp_path}/slept ]; do /bin/sleep 0.01; done"
        subprocess.run(["sh", "-c", f"{asked} {until}", _SCRIPT], env=with_fast_sleep(lock), check=True, timeout=60)
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        assert ask(lock, "take", patience=60) == "free"
        assert time.monotonic() - began < 10
    assert "ann" in lock.read_text()


def test_command_that_has_ended_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with_fast_sleep(lock)
    real = shutil.which("grep")
    stand_in(
        tmp_path / "bin",
        "grep",
        f'case "$*" in *BULKHEAD_RUN*) echo /proc/99999999/environ ;; *) exec {real} "$@" ;; esac',
    )
    assert ask(lock, "take", patience=0) == "free"


def test_last_command_of_a_killed_run_that_does_not_end_is_named(tmp_path: Path) -> None:
    with left_behind():
        answer = ask(tmp_path / "lock", "take", patience=1)
    assert slept(tmp_path / "lock") == 1
    holder = RunLockHolder().process([answer])
    assert holder.left
    assert holder.words.startswith("a command of a run that was killed; process ")


def test_answers_are_read() -> None:
    assert RunLockHolder().process(["free"]) == Holder()
    assert RunLockHolder().process(["held bob on laptop"]) == Holder("bob on laptop")
    assert RunLockHolder().process(["a greeting", "of this host", "held bob"]) == Holder("bob")


def test_lock_is_only_read_and_nothing_waited_for_unless_it_is_asked_for() -> None:
    words = [shlex.split(RunLockHolder().command(**given)) for given in ({}, {"take": True, "patience": 900})]
    assert [[mode, patience] for *_, mode, _, patience in words] == [["read", "0"], ["take", "900"]]


def test_last_command_of_a_killed_run_is_waited_for_a_quarter_of_an_hour_and_the_host_read_again() -> None:
    asked: list[tuple[bool, int]] = []
    left = Holder("a command of a run that was killed", left=True)

    def ask(questions: list[Question]) -> bool:
        assert questions[1:] == others
        lock = questions[0].arguments
        asked.append((lock["take"], lock["patience"]))
        return True

    others = [Question(Present, {"paths": ["/x"]})]
    host = OperationHost({RunLockHolder: left})
    with pytest.MonkeyPatch.context() as patched, ctx_host.use(host):
        patched.setattr(run_lock.collection, "collect", ask)
        patched.setattr(run_lock, "fact", lambda *_, patience, **__: Holder() if patience else left)
        assert run_lock.collect(others, take=True) == ""
        assert asked == [(True, 0), (True, 900)]
        assert host.logged == ["Waiting until it has ended, 15 minutes at most: a command of a run that was killed"]
        patched.setattr(run_lock, "fact", lambda *_, **__: Holder("bob"))
        assert run_lock.collect(others) == "bob"
        assert asked[2:] == [(False, 0)]
        patched.setattr(run_lock.collection, "collect", lambda _: False)
        assert run_lock.collect(others) is None


@pytest.mark.parametrize("error", [KeyError, OSError])  # until Python 3.12, since 3.13
def test_user_without_an_entry_in_passwd_is_named_by_its_number(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", fail)
    assert f"uid {os.getuid()} on " in RunLockHolder().command()
