"""The facts on what real hosts printed: Debian 12 and 13, both layouts, provisioned and fresh.

The fixtures were recorded on machines of the lab; a changed command has to be recorded again.
"""

from __future__ import annotations

from pathlib import Path

from pyinfra_testing.facts import make_fact_tests

HERE = Path(__file__).parent

TestHostFacts = make_fact_tests("tasks", "facts.HostFacts", HERE / "tasks" / "facts")
TestStorageLayout = make_fact_tests("pyinfra_lvm", "facts.StorageLayout", HERE / "pyinfra_lvm" / "facts")
