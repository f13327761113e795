"""Fixtures of the tests of the gate."""

from __future__ import annotations

from ..bill.conftest import home

__all__ = ["home"]
