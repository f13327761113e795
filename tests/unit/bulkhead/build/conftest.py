"""Fixtures of the tests of builds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bulkhead import personal_state, state
from bulkhead.build import checklist
from bulkhead.build import progress as build_progress
from bulkhead.docker import cgroups, client_engine, daemon, roots
from bulkhead.guard import loop, reservations
from bulkhead.outage import journal, lock
from bulkhead.prune import pruner, remover
from bulkhead.storage import filesystems

from ..fake_engine import fake_engine
from .build_host import BuildHost


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BuildHost]:
    host = BuildHost(tmp_path)
    host.docker("exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in (
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "BUILDKIT_PROGRESS",
        "BUILDX_BUILDER",
        "BUILDX_CONFIG",
        "DOCKER_BUILDKIT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client_engine, "_is_our_socket", lambda _, host: host == "unix:///var/run/docker.sock")
    monkeypatch.setattr(personal_state, "DEPLOYED", str(tmp_path))
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setattr(journal, "PATH", str(tmp_path / "lib/relocation.json"))
    monkeypatch.setattr(lock, "lock", lambda: state.locked("move", 0))
    for module in (daemon, pruner, remover):
        monkeypatch.setattr(module, "docker_runs", lambda: True)
    monkeypatch.setattr(remover, "_SETTLING", 0)
    monkeypatch.setattr(daemon, "silence", lambda: "")
    monkeypatch.setattr(filesystems, "out_of_place", lambda *_: [])
    monkeypatch.setattr(roots, "off_the_volume", lambda *_, **__: ([], []))
    monkeypatch.setattr(filesystems, "unmarked", lambda _: [])
    monkeypatch.setattr(loop, "is_alive", lambda: True)
    monkeypatch.setattr(reservations, "DIRECTORY", str(tmp_path / "builds"))
    monkeypatch.setattr(reservations, "DOCKER_API", str(tmp_path / "docker.sock"))
    monkeypatch.setattr(reservations, "accounts", host.accounts)
    (tmp_path / "builds").mkdir()
    monkeypatch.setattr(cgroups, "ROOT", str(tmp_path))
    (tmp_path / "cgroup.controllers").touch()
    monkeypatch.setattr(checklist, "programs_that_build", list)
    monkeypatch.setattr(build_progress, "_INTERVAL", 0.02)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "statvfs", host.statvfs)
    with fake_engine(tmp_path / "docker.sock", host.answer) as engine:
        monkeypatch.setattr(checklist, "Engine", lambda: engine)
        monkeypatch.setattr(pruner, "Engine", lambda: engine)
        yield host


@pytest.fixture
def snapshots(host: BuildHost, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    from bulkhead.snapshot import commands as snapshot_commands
    from bulkhead.snapshot import snapshots as snapshot_snapshots

    for module in (snapshot_commands, snapshot_snapshots):
        monkeypatch.setattr(module, "create", lambda _, **values: host.snapshots.append(values))
    for module in (snapshot_commands, snapshot_snapshots):
        monkeypatch.setattr(module, "ours", lambda _: [])
    return host.snapshots


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """Return a build context: 1,000 bytes of a program, 9,000 of data."""
    place = tmp_path / "context"
    for name, size in (("main.c", 1000), ("data/model", 8000), ("data/deep/more", 1000)):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x" * size)
    (place / "link").symlink_to("/nowhere")
    return place
