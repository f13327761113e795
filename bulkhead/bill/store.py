"""Keep bills, and find them again: by number, by the name of the image, or in a file."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from bulkhead import personal_state
from bulkhead.bill.bill import Bill
from bulkhead.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BILLS = "bills"
_MISSING = "bill-missing"  # an empty file, which a full disk has room for
_OF_ONE = 20  # bills of one image that are kept
_IN_ALL = 200
_PATIENCE = 5  # seconds for another one that holds the lock


class NoBill(Problem):
    """There is no such bill, or the file is none. The message says which."""


def load() -> list[Bill]:
    """Return the bills that are kept, the oldest first, without damaged ones."""
    return _read(personal_state.load(_BILLS))


def _read(values: dict[str, Any]) -> list[Bill]:
    found = []
    kept = values.get("bills")
    for each in kept if isinstance(kept, list) else ():
        try:
            found.append(Bill.of_json(each))
        except ValueError:
            continue
    return found


def keep(bill: Bill) -> Bill:
    """Keep a bill, and return it with its number.

    Raises:
        OSError: it cannot be kept.
    """

    def add(bills: list[Bill], last: int) -> list[Bill]:
        nonlocal bill
        bill = bill._replace(number=last + 1)
        same = [each for each in bills if each.key == bill.key]
        surplus = {each.number for each in same[: max(len(same) + 1 - _OF_ONE, 0)]}
        return [*(each for each in bills if each.number not in surplus), bill][-_IN_ALL:]

    _change(add)
    with contextlib.suppress(FileNotFoundError):
        os.remove(personal_state.path(_MISSING))
    return bill


def note_missing() -> None:
    """Note that the latest build has no bill: nobody must take an older bill for its own.

    Raises:
        OSError: that cannot be noted.
    """
    path = personal_state.path(_MISSING)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def _is_missing() -> bool:
    try:
        return os.path.exists(personal_state.path(_MISSING))
    except OSError:  # nothing is kept
        return False


def mark(number: int, *, has_passed: bool) -> None:
    """Note whether a bill has passed its gate: the next one is compared with the last that has.

    Raises:
        OSError: that cannot be kept.
    """
    _change(
        lambda bills, _: [each._replace(has_passed=has_passed) if each.number == number else each for each in bills]
    )


def _change(change: Callable[[list[Bill], int], list[Bill]]) -> None:
    with personal_state.locked(_BILLS, _PATIENCE):
        values = personal_state.load(_BILLS)
        bills = _read(values)
        last = values.get("last")
        last = max([last if isinstance(last, int) else 0, *(each.number for each in bills)])
        bills = change(bills, last)
        last = max([last, *(each.number for each in bills)])
        personal_state.save(_BILLS, {"last": last, "bills": [each.as_json() for each in bills]})


def find(wanted: str, bills: Sequence[Bill] | None = None) -> Bill:
    """Return a bill.

    Args:
        wanted: a number, the name of an image with or without its tag, or the path of a file with a bill in JSON. Empty: the
            latest bill.
        bills: that are kept; None: they are loaded.

    Raises:
        NoBill: there is none, or the latest build has none.
    """
    bills = load() if bills is None else bills
    if _is_missing() and not wanted.isdecimal():
        if os.path.isfile(wanted):
            return of_file(wanted)
        raise NoBill(
            "the latest build has no bill, and an older bill is not its own: build again, or name a bill by its number"
        )
    if not wanted:
        if not bills:
            raise NoBill("there is no bill yet: `bulkhead build --bill` makes one")
        return bills[-1]
    if wanted.isdecimal():
        found = [bill for bill in bills if bill.number == int(wanted)]
    else:
        found = [bill for bill in bills if bill.name == wanted] or [bill for bill in bills if bill.key == wanted]
    if found:
        return found[-1]
    if os.path.isfile(wanted):
        return of_file(wanted)
    what = f"bill {wanted}" if wanted.isdecimal() else f"bill of {wanted}"
    raise NoBill(f"there is no {what}, and no such file; `bulkhead bill --list` shows all bills")


def of_file(path: str) -> Bill:
    """Read a bill that `bulkhead bill --json` has printed.

    Raises:
        NoBill: it cannot be read, or is none.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return Bill.of_json(json.load(file))
    except OSError as error:
        raise NoBill(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise NoBill(f"{path} is not a bill of `bulkhead bill --json`: {error}") from None
