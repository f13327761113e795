"""Fixtures of the tests of the checklist: a host for builds on which everything answers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bulkhead import state
from bulkhead.guard import ballast
from bulkhead.watch import check
from bulkhead.watch.results import OK, CheckResult, Observation

from ..build.build_host import BuildHost
from ..build.conftest import host
from ..status.conftest import machine
from ..status.example_status import ANSWERS

__all__ = ["host", "machine", "ready"]


@pytest.fixture
def ready(host: BuildHost, machine: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make the host one on which nothing is wrong, and stand in an empty directory on it."""
    project = host.place / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    results = [ANSWERS, CheckResult("unit:docker-prune.timer", OK, "docker-prune.timer is active")]
    machine.setattr(check, "collect", lambda *_: (Observation(results=results), {}))
    machine.setattr(ballast, "held", lambda _: 256 * 2**20)
    Path(state.PERSISTENT).mkdir(exist_ok=True)
    state.save("check", {"samples": {"/": [[time.time() - 240, 1]]}})
    machine.setattr(os, "geteuid", lambda: 0)
    return machine
