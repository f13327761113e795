"""`bulkhead gate`: hold the bill of a build to limits. It needs no deployed host and no Docker."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

from bulkhead.bill import store
from bulkhead.bill.page import title
from bulkhead.errors import Failed, Problem, in_words
from bulkhead.files import write_output
from bulkhead.gate import junit, limits
from bulkhead.gate.verdict import EXCEEDED, OK, UNKNOWN, judge, last_good
from bulkhead.terminal import NARROWEST, Page, wants_colour
from bulkhead.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from bulkhead.bill.bill import Bill
    from bulkhead.gate.limits import Limit
    from bulkhead.gate.verdict import Verdict

_WITHIN, _OVER, _UNMEASURED = 0, 1, 3  # exit codes
_BAR = 20  # characters


def run(options: argparse.Namespace) -> int:
    """Run `bulkhead gate`.

    Returns:
        The exit code: 0 within the limits, 1 over one, 3 if that cannot be told.
    """
    try:
        given = limits.of_values({name: getattr(options, name) for name in limits.NAMES})
    except ValueError as error:
        options.parser.error(str(error))
        raise
    try:
        return _hold(options, given)
    except Problem as problem:
        if options.junit:
            write_output(options.junit, junit.document_of_failure(str(problem)))
        raise


def _hold(options: argparse.Namespace, given: dict[str, Limit]) -> int:
    bills = store.load()
    bill = store.find(options.bill, bills)
    file = options.file or (limits.FILE if os.path.exists(limits.FILE) else "")
    held = {**(limits.read(file, bill.key) if file else {}), **given}
    if not held:
        raise Failed(f"there is no limit. Give one, such as --image 2G, or write the limits into {limits.FILE}")
    if bill.code:
        raise Failed(
            f"{title(bill)}: the build failed with exit code {bill.code}, so there is nothing to hold to limits"
        )
    before = store.find(options.against, bills) if options.against else last_good(bill, bills)
    verdicts = judge(bill, held, before)
    code = _code(verdicts)
    if options.junit:
        write_output(options.junit, junit.document(bill, verdicts))
    if options.json:
        rows = [each._asdict() for each in verdicts]
        print(json.dumps({"bill": bill.number, "name": bill.name, "code": code, "limits": rows}, indent=4))
    else:
        print("\n".join(_page(bill, verdicts, code)))
    if bill in bills:
        try:
            store.mark(bill.number, has_passed=code == _WITHIN)
        except OSError as error:  # the verdict stands
            print(f"bulkhead: the verdict could not be kept for the next build: {in_words(error)}", file=sys.stderr)
    return code


def _code(verdicts: Sequence[Verdict]) -> int:
    levels = {each.level for each in verdicts}
    return _OVER if EXCEEDED in levels else _UNMEASURED if UNKNOWN in levels else _WITHIN


def _page(bill: Bill, verdicts: Sequence[Verdict], code: int) -> Iterator[str]:
    page = Page(wants_colour(), max(shutil.get_terminal_size().columns, NARROWEST))
    yield page.painted(title(bill), "1")
    yield f"  {'':<12}{'MEASURED':>11}{'ALLOWED':>13}"
    has_bars = page.room >= 50 + _BAR
    for each in verdicts:
        measured, allowed = each.in_words
        level = {OK: 0, EXCEEDED: 2, UNKNOWN: 3}[each.level]
        share = min((each.measured or 0) / each.allowed, 1) if each.allowed else float(each.level == EXCEEDED)
        bar = f"  {page.bar(share, _BAR, level)}" if has_bars else ""
        yield f"  {each.name:<12}{measured:>11}{allowed:>13}{bar}  {page.painted(each.level, ('32', '33', '31', '35')[level])}"
        if each.note:
            yield from (f"  {line}" for line in page.paragraph(printable(each.note)))
    if cached := bill.cached_steps:
        yield from page.paragraph(
            f"{cached} of {len(bill.steps)} steps came from the cache: the peak of a build from nothing is higher."
        )
    yield {_WITHIN: "within the limits", _OVER: "over a limit", _UNMEASURED: "not decided: a figure is not known"}[code]
