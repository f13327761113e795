"""The host program's tests run apart: pyinfra brings gevent, which takes the ends of processes for itself."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from bulkhead import procfs

from ..fake_proc import FakeProc


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> None:
    """In the background of a shell SIGINT is ignored, and by every process of a test too: what has a handler is not handed on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    """A made-up /proc in place of the real one."""
    proc = FakeProc(tmp_path / "proc")
    monkeypatch.setattr(procfs, "PROC", str(proc.path))
    return proc


def pytest_collection_finish(session: pytest.Session) -> None:
    if "gevent.monkey" in sys.modules and not session.config.option.collectonly:
        pytest.exit("run them apart: pytest tests/unit/bulkhead, and pytest tests/unit --ignore tests/unit/bulkhead", 4)
