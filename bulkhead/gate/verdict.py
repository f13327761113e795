"""Hold a bill to limits. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bulkhead.bill.page import figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bulkhead.bill.bill import Bill
    from bulkhead.gate.limits import Limit, Limits

OK, EXCEEDED, UNKNOWN = "ok", "exceeded", "unknown"
_FIGURES = {"image": "size"}  # limits whose figure has another name in a bill


class Verdict(NamedTuple):
    """A figure, measured against what is allowed."""

    name: str
    measured: int | None  # bytes, or a number of layers
    allowed: int | None
    level: str
    note: str = ""

    @property
    def in_words(self) -> tuple[str, str]:
        """Return the figure and the limit as people read them."""
        show: Callable[[int | None], str] = _number if self.name == "layers" else figure
        has_none = self.measured is None and self.level == OK
        return "-" if has_none else show(self.measured), "-" if self.allowed is None else show(self.allowed)


def _number(value: int | None) -> str:
    return figure(None) if value is None else str(value)


def judge(bill: Bill, limits: Limits, before: Bill | None) -> list[Verdict]:
    """Return a verdict for each limit.

    Args:
        before: the last good build of the same image.
    """
    return [_judge(bill, limit, before) for limit in limits.values()]


def _judge(bill: Bill, limit: Limit, before: Bill | None) -> Verdict:
    if limit.name == "increase":
        return _increase(bill, limit, before)
    key = _FIGURES.get(limit.name, limit.name)
    measured: int | None = getattr(bill, key)
    allowed: int | None = limit.amount
    if limit.percent is not None:
        allowed = None if bill.size is None else int(bill.size * limit.percent / 100)
    if measured is not None and allowed is not None:
        return _compared(limit.name, measured, allowed)
    why = bill.unknown.get(key, "") or bill.unknown.get("size", "")
    if limit.name == "peak" and bill.cache_written is not None:
        # A build takes at least what it leaves in the cache. That can exceed a limit, and cannot show that one is kept.
        why = f"{why}; it was at least {figure(bill.cache_written)}: so much was written to the build cache"
        if allowed is not None and bill.cache_written > allowed:
            return Verdict(limit.name, bill.cache_written, allowed, EXCEEDED, why)
    return Verdict(limit.name, None, allowed, UNKNOWN, why)


def _increase(bill: Bill, limit: Limit, before: Bill | None) -> Verdict:
    if bill.size is None:
        return Verdict(limit.name, None, None, UNKNOWN, bill.unknown.get("size", ""))
    if before is None:
        return Verdict(limit.name, None, None, OK, "no earlier build of this image has passed")
    if before.size is None:
        return Verdict(limit.name, None, None, UNKNOWN, "the size of the image that it is compared with is not known")
    allowed = limit.amount if limit.percent is None else int(before.size * limit.percent / 100)
    against = f"bill {before.number}" if before.number else "the bill given"
    return _compared(
        limit.name, max(bill.size - before.size, 0), allowed, f"against {figure(before.size)} of {against}"
    )


def _compared(name: str, measured: int, allowed: int, note: str = "") -> Verdict:
    return Verdict(name, measured, allowed, EXCEEDED if measured > allowed else OK, note)


def last_good(bill: Bill, bills: Sequence[Bill]) -> Bill | None:
    """Return the last bill before this one of the same image that has passed its gate, and has a size."""
    same = [each for each in bills if bill.key and each.key == bill.key and each.has_passed and each.size is not None]
    if bill in bills:
        earlier = [each for each in same if each.number < bill.number]
    else:  # it comes from another machine, which has numbers of its own
        earlier = [each for each in same if each.time < bill.time]
    return earlier[-1] if earlier else None
