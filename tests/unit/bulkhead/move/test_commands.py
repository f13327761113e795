"""What the commands hand to the unit that moves data."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest

from bulkhead.move import commands
from bulkhead.outage import journal, unit

from ..configs import config


def test_directory_is_handed_on_whole_because_the_unit_works_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, ...]] = []
    move = SimpleNamespace(
        path=f"{tmp_path}/models",
        is_pending=False,
        stops="",
        journal=SimpleNamespace(phase=journal.ROLLED_BACK),
        refuse_impossible_rollback=lambda: None,
        written_since=list,
        outcome=str,
    )
    monkeypatch.setattr(commands, "moves", lambda *_: [move])
    for name, fake in {"begin": lambda *words: begun.append(words), "follow": lambda: None, "has_failed": bool}.items():
        monkeypatch.setattr(unit, name, fake)
    monkeypatch.chdir(tmp_path)
    back = argparse.Namespace(directory="models", foreground=False, yes=True)
    there = argparse.Namespace(directories=["models"], foreground=False, recover=False, join=False)
    assert commands.rollback(config(), back) == 0
    assert commands.relocate(config(), there) == 0
    assert begun == [("rollback", "--foreground", move.path), ("relocate", "--foreground", move.path)]
