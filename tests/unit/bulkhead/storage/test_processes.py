"""Who uses a directory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from bulkhead.storage.processes import users_of

from ...processes import may_mount, orphan


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home2").mkdir()
    (tmp_path / "home" / "file").write_text("x" * 5000)
    return tmp_path / "home"


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


@pytest.mark.skipif(not may_mount(), reason="a root of its own needs root")
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
