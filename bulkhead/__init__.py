"""docker-bulkhead's program on each host. Python's standard library only."""

from __future__ import annotations

__version__ = "0.2.0"  # of the whole project: pyproject.toml takes it from here
