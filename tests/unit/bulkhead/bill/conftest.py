"""Fixtures of the tests of bills."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bulkhead import config, personal_state, state

from .bills import BillDocker, saved_image


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory of a user on a machine without the deploy."""
    monkeypatch.setattr(config, "PATH", str(tmp_path / "etc/bulkhead.json"))
    monkeypatch.setattr(config.Config.load.__func__, "__defaults__", (str(tmp_path / "etc/bulkhead.json"),))  # type: ignore[attr-defined]
    monkeypatch.setattr(personal_state, "DEPLOYED", str(tmp_path / "etc/bulkhead.json"))
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive of an image: one for all tests, because it takes 0.1 s to make."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    path.write_bytes(saved_image())
    return path


@pytest.fixture
def docker(home: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> BillDocker:
    """Return a docker in PATH."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "BUILDX_BUILDER", "DOCKER_BUILDKIT", "BUILDKIT_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    return BillDocker(home, archive)
