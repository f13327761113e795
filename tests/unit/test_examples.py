"""The examples in docstrings hold."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(TOP).with_suffix("").parts)
    for folder in ("benchmarks", "bulkhead", "fleet", "lab", "pyinfra_lvm", "settings", "tasks", "tests/verify")
    for path in sorted((TOP / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
