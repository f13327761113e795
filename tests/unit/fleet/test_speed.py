"""What pyinfra is spared leaves its results as they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyinfra
import pyinfra.api.arguments
import pyinfra.api.connectors
import pyinfra.api.util
import pytest

from fleet.speed import spare

REPLACED = (
    (pyinfra.api.util, "stack"),
    (pyinfra.api.util, "getframeinfo"),
    (pyinfra.api.connectors, "entry_points"),
    (pyinfra.api.arguments, "get_type_hints"),
)


def results() -> list[Any]:
    state = SimpleNamespace(current_deploy_filename=__file__, current_op_file_number=0)
    order = pyinfra.api.util.get_operation_order_from_stack(state)  # type: ignore[arg-type]
    connectors = pyinfra.api.connectors.get_all_connectors()
    return [order, connectors, pyinfra.api.arguments.all_global_arguments()]


def test_results_are_those_of_pyinfra_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in REPLACED:
        monkeypatch.setattr(module, name, getattr(module, name))  # the test puts them back
    found = []
    for is_spared in (False, True):
        if is_spared:
            spare()
        found.append(results())  # from one line: its number is in the order
    assert found[0] == found[1]
    assert len(found[0][0]) > 1
