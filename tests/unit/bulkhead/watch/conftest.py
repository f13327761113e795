"""Fixtures of the tests of alerts."""

from __future__ import annotations

import os
import syslog
from pathlib import Path

import pytest

from bulkhead import state
from bulkhead.watch import apprise as watch_apprise

from .alert_host import AlertHost


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AlertHost:
    host = AlertHost(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(state, "PERSISTENT", f"{tmp_path}/var")
    monkeypatch.setattr(state, "VOLATILE", f"{tmp_path}/run")
    monkeypatch.setattr(watch_apprise, "RECEIVERS", f"{tmp_path}/receivers")
    monkeypatch.setattr(syslog, "syslog", lambda _, text: host.log.append(text))
    return host
