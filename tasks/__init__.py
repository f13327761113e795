"""The capabilities of a host, one file for each."""

from __future__ import annotations
