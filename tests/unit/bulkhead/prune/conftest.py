"""Let the program prune a fake engine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bulkhead import state, uptime
from bulkhead.docker import daemon
from bulkhead.outage import journal, lock
from bulkhead.prune import attempt, commands, memory, pruner, remover
from bulkhead.prune import reclaim as reclaiming

from ..fake_engine import fake_engine
from .contents import NOW, FakeContents


@pytest.fixture
def contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeContents]:
    contents = FakeContents()
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setattr(time, "time", NOW.timestamp)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(remover, "_SETTLING", 0)
    monkeypatch.setattr(pruner, "programs_that_build", lambda: contents.building)
    monkeypatch.setattr(memory, "DEVICES", str(tmp_path / "net"))
    for name in ("current", "remember"):
        monkeypatch.setattr(uptime, name, lambda: contents.uptime)
    monkeypatch.setattr(journal, "PATH", str(tmp_path / "lib/relocation.json"))
    monkeypatch.setattr(journal, "ROLLBACK", str(tmp_path / "lib/rollback.json"))
    for module in (daemon, attempt, pruner, remover):
        monkeypatch.setattr(module, "docker_runs", contents.runs)
    monkeypatch.setattr(lock, "lock", lambda: state.locked("move", 0))
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=contents.free, f_frsize=1))
    with fake_engine(tmp_path / "docker.sock", contents.answer) as engine:
        for module in (commands, attempt, reclaiming, pruner):
            monkeypatch.setattr(module, "Engine", lambda: engine)
        yield contents
