"""The examples in docstrings hold."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest
from bulkhead import alert, check, engine, journal, metrics, status, system

import sizes
from pyinfra_lvm import fstab, model, operations
from tasks import version
from tests.verify import summary

HOST_PROGRAM = [alert, check, engine, journal, metrics, status, system]


@pytest.mark.parametrize(
    "module",
    [fstab, model, operations, sizes, summary, version, *HOST_PROGRAM],
    ids=lambda module: module.__name__,
)
def test_examples_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
