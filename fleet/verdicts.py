"""The verdict on each host, and how it reads: a line for each host, details for those that differ, and a summary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["unchanged", "changed", "refused", "failed"]

VERDICTS: tuple[Verdict, ...] = ("unchanged", "changed", "refused", "failed")
_WARNINGS = ("Warning", "Note")  # with which this project's own begin
BAD: frozenset[Verdict] = frozenset({"refused", "failed"})


@dataclass(frozen=True)
class HostVerdict:
    """What a run has done to a host, or in a dry run would do.

    Args:
        host: its name.
        verdict: of the run.
        operations: that have changed it, or would.
        reason: why it was refused or has failed, in one line.
        details: the same at length.
        warnings: of the run on this host.
    """

    host: str
    verdict: Verdict
    operations: tuple[str, ...] = ()
    reason: str = ""
    details: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def exit_code(verdicts: Sequence[HostVerdict]) -> int:
    """Return 1 where a host was refused or has failed, otherwise 0."""
    return int(any(one.verdict in BAD for one in verdicts))


def host_lines(verdicts: Sequence[HostVerdict], *, dry: bool) -> Iterator[str]:
    """Yield a line for each host."""
    width = max((len(one.host) for one in verdicts), default=0)
    for one in verdicts:
        yield f"{one.host:<{width}}  {_word(one.verdict, dry):<12}  {_in_short(one)}".rstrip()


def detail_lines(verdicts: Sequence[HostVerdict], *, dry: bool) -> Iterator[str]:
    """Yield what differs from a host that is as it should be. What is the same on several hosts comes once."""
    same: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for one in verdicts:
        if found := one.details or one.operations:
            # What a host that has failed without details has to show are the operations that did change it.
            word = _word(one.verdict if one.details else "changed", dry)
            same.setdefault((word, found), []).append(one.host)
        for warning in one.warnings:
            word, _, text = warning.partition(": ")
            word, text = (word.lower(), text) if word in _WARNINGS else ("warning", warning)
            same.setdefault((word, tuple(text.splitlines())), []).append(one.host)
    for (word, lines), hosts in same.items():
        yield from ("", f"{word}, {_listed(hosts)}:", *(f"  {line}" for line in lines))


def summary(verdicts: Sequence[HostVerdict], *, dry: bool) -> str:
    """Return how many hosts there are of each verdict.

    >>> summary([HostVerdict("a", "unchanged"), HostVerdict("b", "refused", reason="no space")], dry=False)
    '2 hosts: 1 unchanged, 1 refused'
    """
    counts = Counter(one.verdict for one in verdicts)
    words = [f"{counts[verdict]} {_word(verdict, dry)}" for verdict in VERDICTS if counts[verdict]]
    return f"{len(verdicts)} host{'' if len(verdicts) == 1 else 's'}: {', '.join(words)}"


def as_json(verdicts: Sequence[HostVerdict], *, dry: bool) -> str:
    """Return everything as JSON."""
    counts = Counter(one.verdict for one in verdicts)
    hosts = [
        {
            "host": one.host,
            "verdict": one.verdict,
            "reason": one.reason,
            "operations": one.operations,
            "details": one.details,
            "warnings": one.warnings,
        }
        for one in verdicts
    ]
    return json.dumps({"dry": dry, "summary": {name: counts[name] for name in VERDICTS}, "hosts": hosts}, indent=1)


def _word(verdict: Verdict, dry: bool) -> str:
    return "would change" if dry and verdict == "changed" else verdict


def _in_short(one: HostVerdict) -> str:
    if one.verdict == "changed":
        return f"{len(one.operations)} operation{'' if len(one.operations) == 1 else 's'}"
    return one.reason


def _listed(hosts: Sequence[str]) -> str:
    return f"{', '.join(hosts[:3])} and {len(hosts) - 3} more" if len(hosts) > 3 else ", ".join(hosts)
