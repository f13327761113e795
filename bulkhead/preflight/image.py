"""The checks of what is built: its Dockerfile, its context, and the limits of its gate."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from bulkhead.bill import store
from bulkhead.bill.page import title
from bulkhead.build.checklist import FAILED, OK, WARNING, Item
from bulkhead.build.estimate import context_size_of
from bulkhead.dockerfile.context import content_of
from bulkhead.errors import PROBLEMS, in_words
from bulkhead.gate import limits
from bulkhead.gate.verdict import EXCEEDED, judge, last_good
from bulkhead.review.commands import review
from bulkhead.review.model import ERROR, INFO
from bulkhead.sizes import human
from bulkhead.text import abbreviated, count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bulkhead.build.arguments import Arguments


def items(arguments: Arguments) -> Iterator[Item]:
    """Yield the checks of a `docker build` with a local context; of anything else, only those of its gate."""
    context: int | None = None
    if arguments.kind == "build" and arguments.is_local:
        yield _review(arguments)
        try:
            context, is_whole = context_size_of(arguments)
            yield Item("context", OK, f"{'' if is_whole else 'more than '}{human(context)} can be sent")
        except PROBLEMS as error:
            yield Item("context", FAILED, in_words(error))
    if os.path.exists(limits.FILE):
        yield _gate(arguments, context)


def _review(arguments: Arguments) -> Item:
    content, given = content_of(arguments.dockerfile), arguments.options
    if content is None:
        return Item("review", WARNING, "the Dockerfile is not a file that can be read beforehand")
    options = argparse.Namespace(
        path=arguments.context,
        target=given.target,
        build_arg=_assignments(given.build_args),
        build_context=_assignments(given.contexts),
        platform=given.platform,
        hadolint=True,
    )
    try:
        found = [each for each in review(options, content, arguments.dockerfile).open if each.level != INFO]
    except PROBLEMS as error:
        return Item("review", FAILED, in_words(error))
    if not found:
        return Item("review", OK, f"nothing to report of {arguments.dockerfile}")
    rows = [f"{each.rule} in line {each.line}" for each in found]
    level = FAILED if any(each.level == ERROR for each in found) else WARNING
    return Item(
        "review", level, f"{count(len(found), 'finding')}: {abbreviated(rows)}. `bulkhead review` explains them"
    )


def _assignments(values: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def _gate(arguments: Arguments, context: int | None) -> Item:
    """Judge the context as it is now, and the rest by the last build of the same image."""
    try:
        held = limits.read(limits.FILE, arguments.key)
    except limits.BadLimits as error:
        return Item("gate", FAILED, in_words(error))
    if (limit := held.get("context")) and context is not None and context > limit.amount:
        return Item("gate", FAILED, f"context: {human(context)} of at most {human(limit.amount)} ({limits.FILE})")
    bills = store.load()
    own = [bill for bill in bills if bill.key == arguments.key and not bill.code]
    if not own:
        return Item("gate", OK, f"{limits.FILE} has limits. There is no bill of this image yet to hold to them")
    bill = own[-1] if context is None else own[-1]._replace(context=context)
    over = [each for each in judge(bill, held, last_good(bill, bills)) if each.level == EXCEEDED]
    if over:
        rows = [f"{each.name} {each.in_words[0]} of at most {each.in_words[1]}" for each in over]
        return Item("gate", WARNING, f"the last build was over a limit: {abbreviated(rows)} ({title(bill)})")
    return Item("gate", OK, f"the last build was within the limits ({title(bill)})")
