"""As many operations and collecting commands as deploy.py has on a host that is as it should be, which do nothing.

`scripts/benchmark fleet` runs it: what it costs is pyinfra's own cost.
"""

from __future__ import annotations

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import StringCommand, operation
from pyinfra.facts.server import Command

OPERATIONS = 18


@operation()
def idle() -> Generator[StringCommand, None, None]:
    """Do nothing."""
    host.noop("nothing is to be done")
    yield from ()


host.get_fact(Command, command="true")
for number in host.loop(range(OPERATIONS)):
    idle(name=f"Operation {number}")
