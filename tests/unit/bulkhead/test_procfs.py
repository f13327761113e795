"""Processes, logins, and who uses a directory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bulkhead import procfs
from bulkhead.procfs import Login, users_of

from ..cases import LOGINS, LoginCase
from ..fake_proc import FakeProc
from ..processes import orphan


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home2").mkdir()
    (tmp_path / "home" / "file").write_text("x" * 5000)
    return tmp_path / "home"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    proc = FakeProc(tmp_path / "proc")
    monkeypatch.setattr(procfs, "PROC", str(proc.path))
    return proc


# -- one process


def test_process_is_read_from_its_files(proc: FakeProc) -> None:
    proc.add(70, "/usr/bin/nginx -g daemon", name="nginx", cgroup="/system.slice/nginx.service", written=4096)
    proc.add(71, "worker", parent=70)
    proc.become(71)
    assert procfs.process_ids() == [1, 70, 71]
    assert (procfs.name(70), procfs.command_line(70)) == ("nginx", ["/usr/bin/nginx", "-g", "daemon"])
    assert (procfs.parent(71), [*procfs.ancestors(71)], procfs.children(70)) == (70, [71, 70], [71])
    assert (procfs.start_time(70), procfs.bytes_written(70)) == (7000, 4096)
    assert procfs.cgroup(70) == "0::/system.slice/nginx.service"
    assert procfs.namespace("self", "pid") == procfs.namespace(70, "pid")


@pytest.mark.usefixtures("proc")
def test_process_that_has_ended_has_nothing() -> None:
    assert (procfs.name(99), procfs.command_line(99), procfs.parent(99), procfs.children(99)) == ("", [], 0, [])
    assert (procfs.start_time(99), procfs.bytes_written(99), procfs.cgroup(99)) == (0, 0, "")
    assert not procfs.is_open_for_writing(99, 2)
    assert [*procfs.ancestors(99)] == [99]
    with pytest.raises(FileNotFoundError):
        procfs.namespace(99, "mnt")


def test_this_process_is_read_from_the_real_proc(tmp_path: Path) -> None:
    pid = os.getpid()
    assert pid in procfs.process_ids()
    assert procfs.parent(pid) == os.getppid()
    assert procfs.command_line(pid)[0] == sys.orig_argv[0]
    assert 0 < procfs.age(pid) < time.clock_gettime(time.CLOCK_BOOTTIME)
    assert procfs.boot_time() < time.time() - procfs.age(pid)
    with (tmp_path / "file").open("w") as written, (tmp_path / "file").open() as read:
        assert procfs.is_open_for_writing(pid, written.fileno())
        assert not procfs.is_open_for_writing(pid, read.fileno())


# -- logins


@pytest.mark.parametrize("case", LOGINS, ids=str)
def test_whether_a_process_belongs_to_our_login(proc: FakeProc, case: LoginCase) -> None:
    case.fill(proc)
    login = Login.parse(str(Login.of(case.own)))
    assert login.includes(case.other) == case.is_own


def test_own_login_has_its_own_processes_and_no_others() -> None:
    login = Login.parse(str(Login.own()))
    child = subprocess.Popen(["sleep", "100"])
    stranger = orphan("sleep", "100")
    try:
        assert login.includes(os.getpid())
        assert login.includes(child.pid)
        assert login.includes(os.getppid())
        assert not login.includes(stranger)
    finally:
        child.kill()
        child.wait()
        os.kill(stranger, signal.SIGKILL)


# -- who uses a directory


@pytest.mark.parametrize(
    ("command", "writes"),
    [
        ("cd {place}; exec sleep 100", False),
        ("exec sleep 100 <{place}/file", False),
        ("exec sleep 100 >>{place}/file", True),
        ("exec sleep 100 <>{place}/file", True),
        ("cp $(command -v sleep) {place}/program; exec {place}/program 100", False),
        (
            "exec python3 -c \"import mmap,time; f=open('{place}/file','r+'); m=mmap.mmap(f.fileno(),0); f.close(); time.sleep(100)\"",
            True,
        ),
    ],
    ids=["stands there", "reads", "appends", "reads and writes", "runs a program", "has it in memory"],
)
def test_every_kind_of_use_is_found(place: Path, command: str, writes: bool) -> None:
    pid = orphan("sh", "-c", command.format(place=place))
    beside = orphan("sh", "-c", f"cd {place}2; exec sleep 100")
    try:
        # A shell that has yet to become what it runs may use nothing, or something else.
        for _ in range(500):
            found = users_of([str(place)])
            if [(user.pid, user.writes) for user in found] == [(pid, writes)]:
                return
            time.sleep(0.01)
        raise AssertionError(f"{found} instead of process {pid}, writing: {writes}")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.kill(beside, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="a root of its own needs root")
def test_process_of_a_container_is_no_user_of_what_has_the_same_name_on_the_host(place: Path) -> None:
    script = (
        f"mount -t tmpfs none {place} && mkdir -p {place}{place} {place}/old {place}/bin {place}/lib {place}/lib64 {place}/usr && "
        f"for d in bin lib lib64 usr; do mount --rbind /$d {place}/$d; done; cd {place} && pivot_root . old && cd {place} && exec sleep 100"
    )
    pid = orphan("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
    try:
        for _ in range(500):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                    break
            time.sleep(0.01)
        assert os.readlink(f"/proc/{pid}/cwd") == str(place)
        assert users_of([str(place)]) == []
    finally:
        os.kill(pid, signal.SIGKILL)
