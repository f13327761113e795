"""An engine with an image, two containers and a network, whose answers a test can change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bulkhead import procfs
from bulkhead.docker import cgroups
from bulkhead.docker.engine import Engine

from ..fake_engine import Query, fake_engine
from .building_host import BuildingHost

Answers = dict[str, Any]


@pytest.fixture
def answers() -> Answers:
    return {
        "GET /images/json": [{"Id": "sha256:1", "RepoTags": ["b:1", "a:1"], "RepoDigests": None}],
        "GET /containers/json": [{"Id": "c1"}, {"Id": "c2"}],
        "GET /containers/c1/json": engine_container("web", started="2"),
        "GET /containers/c2/json": engine_container("old", status="exited", started="1"),
        "GET /volumes": {"Volumes": None},
        "GET /networks": [
            {"Name": "bridge", "Id": "n1", "Scope": "local"},
            {"Name": "mine", "Id": "n2", "Scope": "local"},
            {"Name": "ingress", "Id": "n3", "Scope": "swarm"},
        ],
        "GET /system/df": {"BuildCache": None},
    }


def engine_container(name: str, status: str = "running", started: str = "1", **changes: Any) -> Answers:
    return {
        "Name": f"/{name}",
        "Id": {"web": "c1", "old": "c2"}[name],
        "Image": "sha256:1",
        "State": {
            "Status": status,
            "Running": status in ("running", "paused"),
            "Paused": status == "paused",
            "Restarting": status == "restarting",
            "StartedAt": started,
        },
        "Config": {"Image": "a:1"} | changes.pop("Config", {}),
        "HostConfig": {"RestartPolicy": {"Name": "no"}, "LogConfig": {"Type": "json-file"}, "AutoRemove": False}
        | changes,
    }


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def engine(tmp_path: Path, answers: Answers, asked: list[str]) -> Iterator[Engine]:
    def answer(method: str, path: str, _: Query) -> tuple[int, Any]:
        request = f"{method} {path}"
        asked.append(request)
        found = answers.get(request)
        if found is None:
            return 404, {"message": f"No such container: {request}"}
        return (500, {"message": found}) if isinstance(found, str) else (200, found)

    with fake_engine(tmp_path / "docker.sock", answer) as engine:
        yield engine


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildingHost:
    """A host with a dockerd of PID 10, which has written 7 bytes."""
    host = BuildingHost(tmp_path)
    monkeypatch.setattr(procfs, "PROC", str(host.proc))
    monkeypatch.setattr(cgroups, "ROOT", str(host.cgroups))
    host.process(10, "dockerd -H fd://", cgroup="/system.slice/docker.service", written=7)
    return host


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real process that waits."""
    with (tmp_path / "errors").open("ab") as errors:
        # Short sleeps: a signal that comes right before one is noticed only after it.
        program = "import time; print(flush=True)\nfor _ in range(600): time.sleep(0.1)"
        command = [sys.executable, "-c", program]
        process = subprocess.Popen(command, stderr=errors, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.read(1)
    yield process
    process.kill()
    process.communicate()
