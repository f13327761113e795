"""The examples in docstrings hold."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest
from bulkhead import alert, build, builds, check, engine, estimate, guard, journal, metrics, status, system

import sizes
from pyinfra_lvm import fstab, model, operations
from tasks import units, version
from tests.verify import summary

HOST_PROGRAM = [alert, build, builds, check, engine, estimate, guard, journal, metrics, status, system]


@pytest.mark.parametrize(
    "module",
    [fstab, model, operations, sizes, summary, units, version, *HOST_PROGRAM],
    ids=lambda module: module.__name__,
)
def test_examples_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
