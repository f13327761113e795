"""The nightly prune's units."""

from __future__ import annotations

from typing import Any

import pytest

from tasks import prune
from tasks.support import units
from tasks.support.units import SystemdFiles, UnitFiles

from .operations import OperationHost, commands


def test_prune_that_waits_ends_with_its_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(prune.units, "unit_files_removed", lambda **arguments: given.update(arguments))
    prune.removed()
    monkeypatch.undo()
    del given["name"]
    found = UnitFiles(dict.fromkeys(given["paths"], ""), False, frozenset())
    stop, *_ = commands(units.unit_files_removed, OperationHost({SystemdFiles: found}), **given)
    assert stop == "systemctl disable --quiet --no-reload --now docker-prune.timer docker-prune.service"
