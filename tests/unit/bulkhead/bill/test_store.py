"""Bills are kept, and found again."""

from __future__ import annotations

import json
import os
from pathlib import Path

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
