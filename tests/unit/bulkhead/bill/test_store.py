"""Bills are kept, and found again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bulkhead.bill import store
from bulkhead.bill.bill import Bill

from .bills import bill

pytestmark = pytest.mark.usefixtures("home")


def test_bill_is_the_same_after_it_was_kept() -> None:
    kept = store.keep(bill())
    assert store.load() == [kept]
    assert Bill.of_json(json.loads(json.dumps(kept.as_json()))) == kept


def test_twenty_bills_of_an_image_are_kept_and_numbers_go_on() -> None:
    store.keep(bill(key="web"))
    for _ in range(22):
        store.keep(bill())
    numbers = [each.number for each in store.load()]
    assert numbers == [1, *range(4, 24)]


def test_verdict_of_the_gate_is_kept() -> None:
    for _ in range(2):
        store.keep(bill())
    store.mark(1, has_passed=True)
    assert [each.has_passed for each in store.load()] == [True, None]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"bills": 7}', '{"bills": [7, {"key": 1}]}', '{"last": "x", "bills": []}']
)
def test_damaged_bills_count_as_none(home: Path, content: str) -> None:
    path = home / "state/bulkhead/bills.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert store.load() == []
    assert store.keep(bill()).number == 1


def test_root_keeps_them_with_the_state_of_the_host_where_the_deploy_has_been(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    store.keep(bill())
    assert (home / "state/bulkhead/bills.json").exists(), "as in the container of a CI"
    (home / "etc").mkdir()
    (home / "etc/bulkhead.json").touch()
    store.keep(bill())
    assert (home / "lib/bills.json").exists()
    assert len(store.load()) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"unknown": {"peak": 7}},
        {"time": float("inf")},
        {"seconds": float("nan")},
        {"size": 10**400},
        {"steps": [{"text": 7, "seconds": 1.0, "is_cached": False, "wrote": 0, "image": 0, "cache": 0}]},
        {"steps": [{"text": "RUN a", "seconds": "1", "is_cached": False, "wrote": 0, "image": 0, "cache": 0}]},
        {"steps": [{"text": "RUN a", "seconds": 1.0, "is_cached": False, "wrote": "9", "image": 0, "cache": 0}]},
        {"places": [{"path": None, "bytes": 1, "written": 0, "removed": 1}]},
        {"places": [{"path": "a", "bytes": 1, "written": "0", "removed": 1}]},
    ],
)
def test_file_whose_values_cannot_be_shown_is_no_bill(home: Path, changed: dict[str, Any]) -> None:
    (home / "bill.json").write_text(json.dumps({**bill().as_json(), **changed}))
    with pytest.raises(store.NoBill, match=r"bill.json is not a bill of `bulkhead bill --json`: a figure in it"):
        store.find("bill.json")
