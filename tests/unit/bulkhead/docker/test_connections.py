"""Whether a process is connected to another one, as this kernel sees it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bulkhead import procfs
from bulkhead.docker import connections

CLIENT = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
)


def test_process_is_connected_as_long_as_its_connection_is_open(tmp_path: Path) -> None:
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        process.stdout.readline()
        if connections.is_connected(process.pid, os.getpid()) is None:
            process.communicate()
            pytest.skip("this kernel does not show the ends of connections")
        assert connections.is_connected(process.pid, os.getpid()) is False  # nobody has accepted it
        accepted, _ = listener.accept()
        assert connections.is_connected(process.pid, os.getpid()) is True
        assert connections.is_connected(process.pid, process.pid) is False
        accepted.close()
        assert connections.is_connected(process.pid, os.getpid()) is False
        process.communicate()


def test_process_that_has_ended_or_has_another_network_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connections.is_connected(2**22 + 1, os.getpid()) is None
    assert connections.is_connected(os.getpid(), 0) is None, "the server is hidden from this user"
    namespace = procfs.namespace
    monkeypatch.setattr(procfs, "namespace", lambda pid, kind: str(tmp_path) if pid == "self" else namespace(pid, kind))
    assert connections.is_connected(os.getpid(), os.getpid()) is None
