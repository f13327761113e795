"""What is written to a process's standard error, and where nothing is."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from bulkhead.docker import standard_error

from .building_host import BuildingHost


def test_file_that_a_process_may_only_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    with path.open("rb") as errors:
        process = subprocess.Popen(["sleep", "60"], stderr=errors)
    standard_error.write_line(process.pid, "no room")
    process.kill()
    process.wait()
    assert path.read_text() == "kept"


def test_terminal_is_written_and_so_is_no_file_of_another_user_nor_a_device(
    host: BuildingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.process(80, "docker build .")
    (host.proc / "80" / "fdinfo").mkdir()
    (host.proc / "80" / "fdinfo" / "2").write_text("pos:\t0\nflags:\t0100002\n")
    ours, theirs = os.openpty()
    errors = host.proc / "80" / "fd" / "2"
    errors.symlink_to(os.ttyname(theirs))
    standard_error.write_line(80, "no room")
    assert b"no room" in os.read(ours, 100)
    os.close(ours)
    os.close(theirs)

    written: list[str] = []
    monkeypatch.setattr(standard_error, "write_to", lambda path, _: written.append(path))
    errors.unlink()
    errors.symlink_to("/dev/null")
    standard_error.write_line(80, "no room")
    errors.unlink()
    errors.symlink_to("/etc/passwd" if os.geteuid() else tmp_path / "theirs")
    if not os.geteuid():
        (tmp_path / "theirs").touch()
        os.chown(tmp_path / "theirs", 1000, 1000)
    standard_error.write_line(80, "no room")
    assert written == []


def test_pipe_that_is_full_or_broken_is_not_waited_for() -> None:
    read, write = os.pipe()
    process = subprocess.Popen(["sleep", "60"], stderr=write)
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"x" * 4096)
    standard_error.write_line(process.pid, "no room")
    assert os.read(read, 8192) == b"x" * 4096
    os.close(read)
    standard_error.write_line(process.pid, "no room")
    process.kill()
    process.wait()
    os.close(write)
