"""Docker's units and its daemon."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from bulkhead import systemd
from bulkhead.docker import daemon

from ..programs import program


def systemctl(place: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program(place / "systemctl", script)
    monkeypatch.setenv("PATH", str(place), prepend=os.pathsep)


@pytest.mark.parametrize("state", ["active", "reloading", "activating", "deactivating", "inactive", "failed"])
def test_docker_that_starts_or_stops_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    systemctl(tmp_path, monkeypatch, f'[ "$*" = "is-active docker.service" ] && echo {state}')
    assert daemon.docker_runs() == (state in ("active", "reloading"))


def test_docker_does_not_run_where_systemd_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, monkeypatch, "echo Failed to connect to bus >&2; exit 1")
    assert not daemon.docker_runs()
    with pytest.raises(OSError, match="`systemctl` says: Failed to connect to bus"):
        systemd.is_running("docker.service")


def test_states_of_several_units_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, monkeypatch, '[ "$*" = "is-active a.service b.timer" ] && printf "active\\nfailed\\n"; exit 3')
    assert systemd.unit_states(["a.service", "b.timer"]) == {"a.service": "active", "b.timer": "failed"}
    with pytest.raises(OSError, match="`systemctl` says"):
        systemd.unit_states(["a.service"])


def test_units_that_do_not_exist_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, monkeypatch, 'printf "not-found\\n\\nloaded\\n\\nmasked\\n"')
    assert daemon.existing_units(daemon.UNITS) == ["docker.service", "containerd.service"]


@pytest.mark.parametrize(
    ("answer", "silence"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nOK", ""),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", "does not answer as it should: HTTP/1.0 503 Service Unavailable"),
        (b"", "does not answer as it should: nothing"),
    ],
    ids="yes refuses hangs-up".split(),
)
def test_whether_docker_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, silence: str) -> None:
    monkeypatch.setattr(daemon, "DOCKER_API", f"{tmp_path}/docker.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(daemon.DOCKER_API)
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert daemon.silence() == silence
        thread.join()


def test_docker_that_is_down_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "DOCKER_API", f"{tmp_path}/docker.sock")
    assert daemon.silence() == "does not answer: No such file or directory"
