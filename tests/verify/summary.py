"""What a verification found, for people: a line a host, and for what does not hold, what was found instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PropertyResult:
    """What became of a property on a host.

    Args:
        sentence: the property.
        found: what was found instead; empty where it holds.
        looked: False where the host could not be looked at for it.
    """

    host: str
    sentence: str
    found: str = ""
    looked: bool = True


def sentence(test: str, *cases: object) -> str:
    """A test's name and what it was parametrized with, as words.

    >>> sentence("test_store_is_on_the_volume", "/var/lib/docker")
    'store is on the volume (/var/lib/docker)'
    """
    words = test.removeprefix("test_").replace("_", " ")
    return f"{words} ({', '.join(map(str, cases))})" if cases else words


def summary(hosts: Iterable[str], results: Iterable[PropertyResult]) -> list[str]:
    """The lines to print."""
    by_host: dict[str, list[PropertyResult]] = {host: [] for host in hosts}
    for result in results:
        by_host[result.host].append(result)
    width = max(map(len, by_host), default=0)
    lines = []
    for host, of_host in by_host.items():
        failed = [result for result in of_host if result.found and result.looked]
        unseen = [result for result in of_host if not result.looked]
        counts = [f"{len(of_host) - len(failed) - len(unseen)} passed", f"{len(failed)} failed"]
        lines.append(f"{host:<{width}}  {', '.join(counts + ([f'{len(unseen)} not looked at'] if unseen else []))}")
        for result in failed:
            lines += [f"{'':<{width}}    does not hold: {result.sentence}", *_indented(result.found, width + 10)]
        for found in dict.fromkeys(result.found for result in unseen):
            lines += _indented(found, width + 4)
    return lines


def _indented(text: str, width: int) -> list[str]:
    return [f"{'':<{width}}{line}" for line in text.splitlines()]
