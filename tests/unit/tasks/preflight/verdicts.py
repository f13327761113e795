"""What preflight decides on an example host."""

from __future__ import annotations

from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.preflight.examine import examine
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.preflight.plan import Plan

from ..example_hosts import bare_host, settings


def plan_of(state: HostState, storage: Storage, wanted: Settings | None = None, warnings: tuple[str, ...] = ()) -> Plan:
    """The plan for a host that has nothing against it but these warnings."""
    result = examine(wanted or settings(), state, storage)
    assert result.findings == ()
    assert result.warnings == warnings
    assert result.plan
    return result.plan


def finding(state: HostState, storage: Storage, wanted: Settings | None = None) -> Finding:
    """The one finding on a host."""
    result = examine(wanted or settings(), state, storage)
    assert result.plan is None
    (only,) = result.findings
    return only


def all_found(wanted: Settings, storage: Storage, state: HostState | None = None) -> list[str]:
    """What was found on a host, finding by finding."""
    return [found.found for found in examine(wanted, state or bare_host(), storage).findings]


def assert_says(found: Finding, *, found_has: str, needed: str, action: str) -> None:
    assert found_has in found.found
    assert needed in found.needed
    assert action in found.action
