"""Render findings as a page for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bulkhead.context.page import size
from bulkhead.review.model import ERROR, LEVELS, WARNING
from bulkhead.terminal import COLOURS, NARROWEST, Page
from bulkhead.text import count, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.review.model import ImageFinding

_COLOURS = {ERROR: COLOURS[2], WARNING: COLOURS[1]}


class Review(NamedTuple):
    """What `bulkhead review` shows."""

    file: str  # path of the Dockerfile
    context: str
    target: str
    findings: tuple[ImageFinding, ...]  # in their order
    has_hadolint: bool

    @property
    def open(self) -> list[ImageFinding]:
        """Return the findings that no waiver allows."""
        return [each for each in self.findings if not each.reason]

    @property
    def allowed(self) -> list[ImageFinding]:
        return [each for each in self.findings if each.reason]


def render(review: Review, colour: bool, width: int) -> str:
    """Return the page.

    Args:
        width: of the terminal, in characters. The page takes at least 40.
    """
    page = Page(colour, max(width, NARROWEST))
    lines = [page.painted(printable(review.file), "1"), ""]
    lines += page.paragraph(summary(review))
    for finding in review.open:
        lines += _finding(finding, page)
    if review.allowed:
        lines.append(page.heading("Allowed by a waiver"))
        lines += (
            page.line(f"line {each.line}", f"{printable(each.rule)}: {printable(each.reason)}")
            for each in review.allowed
        )
    return "\n".join(lines)


def summary(review: Review) -> str:
    """Return how much is found, in a sentence."""
    if not review.open:
        return "Nothing to report."
    numbers = {level: sum(each.level == level for each in review.open) for level in LEVELS}
    parts = [
        f"{number} {level}{'s' if number > 1 and level != 'info' else ''}"
        for level, number in numbers.items()
        if number
    ]
    whole = sum(each.bytes or 0 for each in review.open)
    saved = f". Together {size(whole)}, as far as sizes are known" if whole else ""
    return f"{count(len(review.open), 'finding')}: {', '.join(parts)}{saved}."


def figure(finding: ImageFinding) -> str:
    """Return the size of a finding and where it is from; empty: it has none."""
    if finding.bytes is None:
        return ""
    return f"{size(finding.bytes)} ({'measured' if finding.is_measured else 'estimated'})"


def _finding(finding: ImageFinding, page: Page) -> Iterator[str]:
    yield ""
    head = page.painted(f"{finding.level:<7}", _COLOURS.get(finding.level, ""))
    yield f"{head}  line {finding.line:<4}  {printable(finding.rule)}  {figure(finding)}".rstrip()
    yield from page.paragraph(printable(finding.message))
    if finding.instead:
        yield "  Instead:"
        yield from (f"      {printable(line)}" for line in finding.instead.split("\n"))
