"""The host program's tests run apart: pyinfra brings gevent, which takes the ends of processes for itself."""

from __future__ import annotations

import sys

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    if "gevent.monkey" in sys.modules and not session.config.option.collectonly:
        pytest.exit("run them apart: pytest tests/unit/bulkhead, and pytest tests/unit --ignore tests/unit/bulkhead", 4)
