"""Render what a context has as a page for a terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.context.survey import NamedTally, effects, idle_lines, largest_directories, largest_kinds
from bulkhead.dockerfile.context import IGNORED, UNUSED
from bulkhead.sizes import human
from bulkhead.terminal import NARROWEST, Page
from bulkhead.text import count, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bulkhead.context.proposal import Proposal, ProposedLine
    from bulkhead.context.survey import Survey
    from bulkhead.dockerfile.ignore import IgnoreRules
    from bulkhead.dockerfile.stages import BuildInputs

_ROWS = 8  # of a table
_LONGEST_BAR, _SHORTEST_BAR = 20, 8  # characters
_FIGURES = 25  # characters of a size and of a number of files


class Report(NamedTuple):
    """What `bulkhead context` shows."""

    context: str  # as it was given
    dockerfile: str  # path; empty: there is none, or it came from standard input
    ignore_file: str  # path that counts, or that the proposal would make
    inputs: BuildInputs | None
    rules: IgnoreRules
    survey: Survey
    proposal: Proposal


def render(report: Report, colour: bool, width: int, takes_all: bool) -> str:
    """Return the page.

    Args:
        width: of the terminal, in characters. The page takes at least 40.
        takes_all: whether the lines that an image may need are proposed too.
    """
    page = Page(colour, max(width, NARROWEST))
    lines = [page.painted(printable(report.context), "1"), *_sent(report, page)]
    if report.survey.sent.files:
        lines += _table(page, "Largest directories", largest_directories(report.survey, _ROWS), report.survey)
        lines += _table(page, "Largest kinds of files", largest_kinds(report.survey, _ROWS), report.survey)
    lines += [*_ignore_file(report, page), *_proposal(report, page, takes_all)]
    return "\n".join(lines)


def files(number: int) -> str:
    """
    >>> files(1), files(2000)
    ('1 file', '2,000 files')
    """
    return f"{number:,} file{'' if number == 1 else 's'}"


def _sent(report: Report, page: Page) -> Iterator[str]:
    yield page.heading("What is sent to Docker")
    fates, sent = report.survey.by_fate, report.survey.sent
    whole = NamedTally(
        "in the directory", *(sum(getattr(each, name) for each in fates.values()) for name in ("files", "bytes"))
    )
    ignored, unused = fates[IGNORED], fates[UNUSED]
    rows = [(whole, "")]
    if report.rules.path:
        rows.append(
            (NamedTally("taken out", ignored.files, ignored.bytes), f"by {os.path.basename(report.rules.path)}")
        )
    if unused.files:
        rows.append((NamedTally("not asked for", unused.files, unused.bytes), "no instruction copies it"))
    rows.append((NamedTally("sent", sent.files, sent.bytes), ""))
    for row, note in rows:
        yield f"  {row.name:<17}{_figures(row)}  {note}".rstrip()
    if report.inputs is None:
        yield from page.paragraph("No Dockerfile here: the figures are for one that copies everything.")
    elif not sent.files:
        yield from page.paragraph("The Dockerfile copies nothing of this directory.")


def size(number: int) -> str:
    """
    >>> size(100), size(2048), size(2**20)
    ('100 bytes', '2.0 KiB', '1.0 MiB')
    """
    return f"{number * 10 // 2**10 / 10} KiB" if 2**10 <= number < 2**20 else human(number)


def _figures(row: NamedTally | ProposedLine) -> str:
    return f"{size(row.bytes):>11} {files(row.files):>13}"


def _table(page: Page, title: str, rows: Iterable[NamedTally], survey: Survey) -> Iterator[str]:
    rows = [*rows]
    if not rows:
        return
    yield page.heading(title)
    room = page.room - _FIGURES - 4
    bar = min(room // 3, _LONGEST_BAR)
    width = min(max(len(printable(row.name)) for row in rows), room - bar - 4 if bar >= _SHORTEST_BAR else room)
    for row in rows:
        drawn = f"  {page.bar(row.bytes / max(survey.sent.bytes, 1), bar)}" if bar >= _SHORTEST_BAR else ""
        yield f"  {_fitting(row.name, width):<{width}}{drawn}{_figures(row)}"


def _ignore_file(report: Report, page: Page) -> Iterator[str]:
    if not report.rules.path:
        return
    yield page.heading(os.path.basename(report.rules.path))
    taking = [effect for effect in effects(report.survey, report.rules) if effect.files]
    for effect in taking[:_ROWS]:
        row = NamedTally(effect.text, effect.files, effect.bytes)
        yield f"  {f'line {effect.line}':<10}{_figures(row)}  {printable(effect.text)}"
    if more := taking[_ROWS:]:
        yield from page.paragraph(f"{count(len(more), 'more line')}: {size(sum(effect.bytes for effect in more))}")
    idle = idle_lines(report.survey, report.rules)
    if idle:
        yield from page.paragraph("These lines do nothing here:")
    for line in idle:
        yield page.line(f"line {line.line}", f"{printable(line.text)}: {line.why}")


def _proposal(report: Report, page: Page, takes_all: bool) -> Iterator[str]:
    proposal, sent = report.proposal, report.survey.sent
    if proposal.obstacle:
        yield page.heading("Nothing is proposed")
        yield from page.paragraph(f"{proposal.obstacle[:1].upper()}{proposal.obstacle[1:]}.")
        return
    name = os.path.basename(report.ignore_file)
    chosen = proposal.chosen(takes_all)
    if chosen:
        yield page.heading(f"Proposed for {name}: {_less(chosen, sent.bytes)}")
        yield from _lines(chosen, page)
    rest = [] if takes_all else proposal.doubtful
    if rest:
        yield page.heading(f"Only if the image does not need it: {_less(rest, sent.bytes)}")
        yield from _lines(rest, page)
    if not proposal.lines:
        yield page.heading("Nothing to propose")
        yield from page.paragraph("Nothing that bulkhead knows as junk is sent.")
    elif chosen:
        yield ""
        yield from page.paragraph(
            "--prove builds the image with and without these lines, and compares the two. --write adds the lines."
        )


def _lines(lines: Iterable[ProposedLine], page: Page) -> Iterator[str]:
    rows = [*lines]
    width = min(max(len(row.text) for row in rows), max(page.room - _FIGURES - 26, 12))
    last = ""
    for row in rows:
        if len(row.text) > width:
            yield f"  {row.text}"
        name = row.text if len(row.text) <= width else ""
        yield f"  {name:<{width}}{_figures(row)}  {row.kind}"
        if row.doubt and row.doubt != last:
            yield from (f"  {line}" for line in page.paragraph(row.doubt))
        last = row.doubt


def _less(lines: Iterable[ProposedLine], whole: int) -> str:
    saved = sum(line.bytes for line in lines)
    return f"{size(saved)} less ({-round(saved * 100 / max(whole, 1))} %)" if saved else "hardly less"


def _fitting(text: str, width: int) -> str:
    """Return a text that is not too long: its end says most."""
    text = printable(text)
    return text if len(text) <= width else "…" + text[1 - width :]
