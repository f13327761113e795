"""Why preflight refuses a host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAVE_OUT = "or leave this host out"


@dataclass(frozen=True)
class Finding:
    """One reason to refuse a host: what was found, what is needed instead, and what its owner can do."""

    found: str
    needed: str
    action: str

    def __str__(self) -> str:
        return f"  found:  {self.found}\n  needed: {self.needed}\n  do:     {self.action}"


class Refused(Exception):
    """Nothing further can be judged before its owner has acted on these findings.

    Args:
        findings: every finding so far.
    """

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings


def report(name: str, findings: Sequence[Finding]) -> str:
    """Return the message for a host that is refused.

    Args:
        name: of the host.
    """
    count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
    return "\n\n".join([f"{name} was left untouched: {count}", *map(str, findings)])
