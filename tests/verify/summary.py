"""Summarize a verification for people: a line for each host, and under it each property that does not hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PropertyResult:
    """The result for one property of a host.

    Args:
        host: its name.
        sentence: the property, in words.
        found: what was found instead; empty where the property holds.
        checked: False where it could not be checked.
    """

    host: str
    sentence: str
    found: str = ""
    checked: bool = True


def sentence(test: str, *cases: object) -> str:
    """Return a test's name and its parameters as words.

    >>> sentence("test_store_is_on_the_volume", "/var/lib/docker")
    'store is on the volume (/var/lib/docker)'
    """
    words = test.removeprefix("test_").replace("_", " ")
    return f"{words} ({', '.join(map(str, cases))})" if cases else words


def summary(hosts: Iterable[str], results: Iterable[PropertyResult]) -> list[str]:
    """Return the lines to print."""
    by_host: dict[str, list[PropertyResult]] = {host: [] for host in hosts}
    for result in results:
        by_host[result.host].append(result)
    width = max(map(len, by_host), default=0)
    lines = []
    for host, of_host in by_host.items():
        failed = [result for result in of_host if result.found and result.checked]
        unchecked = [result for result in of_host if not result.checked]
        counts = [f"{len(of_host) - len(failed) - len(unchecked)} passed", f"{len(failed)} failed"]
        lines.append(f"{host:<{width}}  {', '.join(counts + ([f'{len(unchecked)} not checked'] if unchecked else []))}")
        for result in failed:
            lines += [f"{'':<{width}}    does not hold: {result.sentence}", *_indented(result.found, width + 10)]
        for found in dict.fromkeys(result.found for result in unchecked):
            lines += [f"{'':<{width}}    could not be checked:", *_indented(found, width + 10)]
    return lines


def _indented(text: str, width: int) -> list[str]:
    return [f"{'':<{width}}{line}" for line in text.splitlines()]
