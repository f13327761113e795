"""One file for each capability of a host."""

from __future__ import annotations
