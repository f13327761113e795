"""bulkhead: the program of docker-bulkhead on each host. Python's standard library only."""

from __future__ import annotations

__version__ = "0.1.0"
