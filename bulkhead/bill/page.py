"""Render bills as pages for a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.context.page import size
from bulkhead.terminal import NARROWEST, Page
from bulkhead.text import count, in_time, printable, short, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bulkhead.bill.bill import Bill, BillStep

UNKNOWN = "unknown"
_FIGURES = 34  # characters of the figures of an instruction
_BAR = 16  # characters
# The figures that can be unknown, in the words of the page.
_WORDS = {
    "size": "image",
    "sent": "context that was sent",
    "stored": "context in the build cache",
    "peak": "peak on disk",
    "cache_added": "build cache",
    "cache_total": "build cache in all",
    "cache_written": "written to the build cache",
    "steps_written": "written by RUN",
}
_SHORTEST_TEXT, _TEXT = 24, 40  # characters of an instruction beside its figures, beside a bar too


def render(bill: Bill, colour: bool, width: int) -> str:
    """Return the page of a bill.

    Args:
        width: of the terminal, in characters. The page takes at least 40.
    """
    page = Page(colour, max(width, NARROWEST))
    return "\n".join(
        [*_head(bill, page), *_figures(bill, page), *_steps(bill, page), *_places(bill, page), *_unknown(bill, page)]
    )


def figure(value: int | None) -> str:
    """
    >>> figure(None), figure(0), figure(2048)
    ('unknown', '0 bytes', '2.0 KiB')
    """
    return UNKNOWN if value is None else size(value)


def title(bill: Bill) -> str:
    number = f"Bill {bill.number}: " if bill.number else ""
    return f"{number}{printable(bill.name) or 'an image without a name'}"


def _head(bill: Bill, page: Page) -> Iterator[str]:
    yield page.painted(title(bill), "1")
    how = "built" if bill.code == 0 else f"failed with exit code {bill.code}"
    ago = span(time.time() - bill.time)
    known = ", ".join(printable(each) for each in (bill.builder, bill.engine) if each not in ("", UNKNOWN))
    yield from page.paragraph(f"{how} in {in_time(bill.seconds)}, {ago} ago{f' ({known})' if known else ''}")
    if bill.is_disturbed:
        yield from page.paragraph("Other builds ran at the same time. The peak has what they wrote, too.")


def _figures(bill: Bill, page: Page) -> Iterator[str]:
    yield page.heading("What it took")
    layers = count(bill.layers, "layer") if bill.layers is not None else ""
    compressed = f"{size(bill.compressed)} compressed" if bill.compressed is not None else ""
    image = ", ".join(part for part in (layers, compressed) if part)
    share = f"{100 * bill.wasted // bill.size} % of the image" if bill.wasted and bill.size else ""
    sent = f"{figure(bill.sent)} sent" + (
        f", {size(bill.stored)} in the build cache" if bill.stored is not None else ""
    )
    total = f"more than before; {size(bill.cache_total)} in all" if bill.cache_total is not None else ""
    steps = [step for step in bill.steps if step.seconds is not None or step.is_cached]
    rows = [
        ("peak on disk", bill.peak, f"during {printable(bill.peak_step)}" if bill.peak_step else ""),
        ("written by RUN", bill.steps_written, "also what was deleted again"),
        ("image", bill.size, image),
        ("wasted", bill.wasted, f"{share}, removed or overwritten in a later layer" if share else ""),
        ("models", bill.models, "in the image" if bill.models else ""),
        ("build cache", bill.cache_added, total),
        ("context", bill.context, sent),
    ]
    for name, value, note in rows:
        if name != "written by RUN" or value is not None:
            yield _row(page, name, figure(value), note)
    if steps:
        yield _row(page, "from the cache", str(bill.cached_steps), f"of {count(len(steps), 'step')}")


def _row(page: Page, name: str, value: str, note: str) -> str:
    head = f"  {name:<15}{value:>11}"
    room = page.room - len(head) - 2
    return f"{head}  {_cut(note, room)}".rstrip() if room > 0 else head


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(room - 1, 0)]}…"


def _steps(bill: Bill, page: Page) -> Iterator[str]:
    if not bill.steps:
        return
    yield page.heading("Instructions")
    yield f"  {'TIME':>8}{'WROTE':>8}{'IMAGE':>8}{'CACHE':>8}"
    room = page.room - _FIGURES - 2
    bar = _BAR if room >= _TEXT + _BAR + 4 else 0
    most = max((_weight(step) for step in bill.steps), default=0) or 1
    for step in bill.steps:
        wrote = "cached" if step.is_cached else _cell(step.wrote)
        line = f"  {_duration(step):>8}{wrote:>8}{_cell(step.image):>8}{_cell(step.cache):>8}"
        drawn = f"{page.bar(_weight(step) / most, bar)}  " if bar else ""
        text = printable(step.text)
        if room >= _SHORTEST_TEXT:
            yield f"{line}  {drawn}{_cut(text, room - (bar + 4 if bar else 0))}"
        else:
            yield line
            yield f"    {_cut(text, page.room - 4)}"


def _weight(step: BillStep) -> int:
    return max(step.wrote or 0, step.image or 0)


def _cell(value: int | None) -> str:
    return "?" if value is None else "-" if value == 0 else short(value)


def _duration(step: BillStep) -> str:
    if step.seconds is None:
        return "-" if step.is_cached else "?"
    return (
        f"{step.seconds:.1f} s" if step.seconds < 60 else in_time(step.seconds).replace(" min ", ":").removesuffix(" s")
    )


def _places(bill: Bill, page: Page) -> Iterator[str]:
    if not bill.places:
        return
    yield page.heading("What is wasted most")
    for place in bill.places:
        where = f"layer {place.written + 1}, gone in layer {place.removed + 1}"
        yield f"  {size(place.bytes):>11}  {_cut(f'/{printable(place.path)}', page.room - 15)}"
        yield f"  {'':>11}  {where}"


def _unknown(bill: Bill, page: Page) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in bill.unknown.items():
        reasons.setdefault(reason, []).append(_WORDS.get(name, name))
    if reasons:
        yield page.heading("Not known")
    for reason, names in reasons.items():
        yield from page.paragraph(f"{', '.join(names)}: {printable(reason)}")


# -- lists and comparisons


def render_list(bills: Sequence[Bill]) -> str:
    lines = [f"{'BILL':>5}{'AGE':>8}{'TIME':>13}{'PEAK':>12}{'IMAGE':>12}{'WASTED':>12}{'LAYERS':>8}  NAME"]
    for bill in bills:
        layers = "unknown" if bill.layers is None else str(bill.layers)
        name = printable(bill.name) + ("" if bill.code == 0 else f" (failed: {bill.code})")
        lines.append(
            f"{bill.number:>5}{span(time.time() - bill.time):>8}{in_time(bill.seconds):>13}{figure(bill.peak):>12}"
            f"{figure(bill.size):>12}{figure(bill.wasted):>12}{layers:>8}  {name}"
        )
    return "\n".join(lines)


class ComparedRow(NamedTuple):
    """A figure of two bills."""

    name: str
    key: str  # of Bill
    shown: Callable[[int | float | None], str]


def _amount(value: float | None) -> str:
    return figure(None if value is None else int(value))


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else str(int(value))


def _time(value: float | None) -> str:
    return UNKNOWN if value is None else in_time(value)


ROWS = (
    ComparedRow("peak on disk", "peak", _amount),
    ComparedRow("image", "size", _amount),
    ComparedRow("compressed", "compressed", _amount),
    ComparedRow("layers", "layers", _number),
    ComparedRow("wasted", "wasted", _amount),
    ComparedRow("context", "context", _amount),
    ComparedRow("models at build time", "models", _amount),
    ComparedRow("build cache", "cache_added", _amount),
    ComparedRow("steps from the cache", "cached_steps", _number),
    ComparedRow("time", "seconds", _time),
)


def change_of(before: float | None, after: float | None) -> str:
    """
    >>> change_of(200, 150), change_of(200, 300), change_of(0, 5), change_of(None, 1), change_of(2, 2)
    ('-25 %', '+50 %', 'new', '', 'same')
    """
    if before is None or after is None:
        return ""
    if before == after:
        return "same"
    if not before:
        return "new"
    percent = round(100 * (after - before) / before)
    return f"{percent:+d} %" if percent else "same"


def render_comparison(first: Bill, second: Bill, colour: bool, width: int) -> str:
    """Return the page that compares two bills."""
    page = Page(colour, max(width, NARROWEST))
    names = [_cut(title(bill), max((page.room - 32) // 2, 10)) for bill in (first, second)]
    columns = [max(len(name), 11) for name in names]
    lines = [page.painted(f"  {'':<21}{names[0]:>{columns[0]}}  {names[1]:>{columns[1]}}  CHANGE", "1")]
    for row in ROWS:
        values = [getattr(bill, row.key) for bill in (first, second)]
        cells = [row.shown(value) for value in values]
        change = change_of(*values)
        level = 2 if change.startswith("+") or change == "new" else 0
        painted = page.painted(change, "31" if level else "32") if change not in ("", "same") else change
        lines.append(f"  {row.name:<21}{cells[0]:>{columns[0]}}  {cells[1]:>{columns[1]}}  {painted}".rstrip())
    lines.append("")
    for row in ROWS[:2]:
        lines += _bars(page, row, first, second)
    return "\n".join(lines)


def _bars(page: Page, row: ComparedRow, first: Bill, second: Bill) -> Iterator[str]:
    values = [getattr(bill, row.key) for bill in (first, second)]
    if None in values:
        return
    length = max(min(page.room - 40, 40), 8)
    for place, value in enumerate(values):
        name = row.name if place == 0 else ""
        yield f"  {name:<14}{page.bar(value / (max(values) or 1), length)}  {row.shown(value)}"
