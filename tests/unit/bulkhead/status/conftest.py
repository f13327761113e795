"""A host on which everything answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead import state
from bulkhead.docker import usage
from bulkhead.guard import reservations
from bulkhead.outage import unit
from bulkhead.snapshot import snapshots
from bulkhead.status import report
from bulkhead.storage import lvm
from bulkhead.watch import alert_store, check
from bulkhead.watch.results import Observation

from .example_status import ANSWERS, usage_of


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Make everything on the host answer. Return what makes a part of it fail."""
    monkeypatch.setattr(state, "PERSISTENT", f"{tmp_path}/lib")
    monkeypatch.setattr(state, "VOLATILE", f"{tmp_path}/run")
    monkeypatch.setattr(reservations, "DIRECTORY", f"{tmp_path}/builds")
    monkeypatch.setattr(check, "collect", lambda *_: (Observation(results=[ANSWERS]), {}))
    monkeypatch.setattr(usage, "usage", lambda _: usage_of())
    monkeypatch.setattr(unit, "is_under_way", lambda: False)
    monkeypatch.setattr(report, "output_of", lambda *_: "Wed 2026-11-25 03:00:00 UTC\n")
    monkeypatch.setattr(alert_store, "open_alerts", list)
    monkeypatch.setattr(alert_store, "queued", dict)
    monkeypatch.setattr(report.os, "geteuid", lambda: 0)
    (tmp_path / "cron").write_text("# check\nPATH=/bin\n*/15 * * * * root check-disk 80 >/dev/null\n")
    monkeypatch.setattr(report, "CRON", f"{tmp_path}/cron")
    monkeypatch.setattr(snapshots, "ours", lambda _: [])
    monkeypatch.setattr(lvm, "list_disk_room", list)
    return monkeypatch
