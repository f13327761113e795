"""The fact of storage on what real hosts printed; that of the host is in tasks/test_facts.py.

The fixtures were recorded on machines of the lab; a changed command has to be recorded again.
"""

from __future__ import annotations

from pathlib import Path

from pyinfra_testing.facts import make_fact_tests

HERE = Path(__file__).parent

TestStorageLayout = make_fact_tests("pyinfra_lvm", "facts.StorageLayout", HERE / "pyinfra_lvm" / "facts")
