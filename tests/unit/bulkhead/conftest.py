"""What the host program's tests share."""

from __future__ import annotations

import functools
import signal
from pathlib import Path

import pytest

from bulkhead import command_line, procfs

from ..fake_proc import FakeProc


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> None:
    """In the background of a shell SIGINT is ignored, and by every process of a test too: what has a handler is not handed on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_parser() -> None:
    """The parser is the same for every command line. To make it takes longer than most commands."""
    command_line._parser = functools.cache(command_line._parser)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    """A made-up /proc in place of the real one."""
    proc = FakeProc(tmp_path / "proc")
    monkeypatch.setattr(procfs, "PROC", str(proc.path))
    return proc
