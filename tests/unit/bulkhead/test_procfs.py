"""Processes as /proc shows them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from bulkhead import procfs

from ..fake_proc import FakeProc


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
    assert procfs.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip() != ""
    with (tmp_path / "file").open("w") as written, (tmp_path / "file").open() as read:
        assert procfs.is_open_for_writing(pid, written.fileno())
        assert not procfs.is_open_for_writing(pid, read.fileno())


def test_process_that_lives_and_is_not_shown_is_hidden(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, _: int) -> None:
        if pid == 99:
            raise ProcessLookupError
        if pid > 2**31:
            raise OverflowError
        if pid in (1, 70, 71):
            raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    for pid in (70, 71, 72):
        proc.add(pid, "docker build")
    assert not procfs.hides_others()
    proc.hide(1, 71, 72)
    assert procfs.hides_others()
    assert [procfs.is_hidden(pid) for pid in (70, 71)] == [False, True]
    assert not procfs.is_hidden(72), "this user's own process is never hidden: it ended in between"
    assert not procfs.is_hidden(99)
    assert not procfs.is_hidden(2**40)


def test_environment_and_sockets_are_read(proc: FakeProc) -> None:
    proc.add(70, "docker build", environment="A=b C=d=e", sockets=[7, 8])
    (proc.path / "70/fd/9").symlink_to("/dev/null")
    assert procfs.environment(70) == {"A": "b", "C": "d=e"}
    assert procfs.sockets(70) == {7, 8}
    for read in (procfs.environment, procfs.sockets):
        with pytest.raises(OSError, match="No such file"):
            read(99)


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/run/a.sock", "/run/a.sock"),
        ("/var/run/./a.sock", "/run/a.sock"),
        ("/var/near/../run/a.sock", "/run/a.sock"),
        ("/var/near/a.sock", "/var/x/a.sock"),
        ("/../../etc", "/etc"),
        ("/out/x", "/gone/x"),
    ],
)
def test_path_of_a_process_is_followed_from_its_root(proc: FakeProc, tmp_path: Path, path: str, leads_to: str) -> None:
    root = tmp_path / "root"
    (root / "var").mkdir(parents=True)
    (root / "var/run").symlink_to("/run")
    (root / "var/near").symlink_to("x")
    (root / "out").symlink_to("../../gone")
    (root / "loop").symlink_to("loop")
    proc.add(70, "docker", root=str(root))
    assert procfs.seen_by(70, path) == f"{proc.path}/70/root{leads_to}"
    with pytest.raises(OSError, match="too many links"):
        procfs.seen_by(70, "/loop")
