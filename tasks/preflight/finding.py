"""Why a host is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was found on a host, what is needed instead, and what its owner can do."""

    found: str
    needed: str
    action: str

    def __str__(self) -> str:
        return f"  found:  {self.found}\n  needed: {self.needed}\n  do:     {self.action}"


class Refused(Exception):
    """There is no volume to be had on this host."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings


def refused(found: str, needed: str, action: str) -> Refused:
    return Refused(Finding(found, needed, action))
