"""The records of BuildKit's cache."""

from __future__ import annotations

import pytest

from bulkhead.bill.cache import CacheRecord, change, of_engine, of_text

from .recordings import DU_NEW, DU_OLD, RECORDS_20


@pytest.mark.parametrize("text", [DU_OLD, DU_NEW], ids=["before_0_28", "from_0_28"])
def test_text_of_buildx_is_read(text: str) -> None:
    assert [*of_text(text).values()] == [
        CacheRecord("05d0elirb4mmvpmnzbrp3ssrg", 1_653_000_000, False, "regular", "[gobase 3/3] WORKDIR /src", 3),
        CacheRecord("e8sfdn4mygrg7msi9ak1dy6op", 0, True, "source.local", "", 1),
    ]
    assert of_text("Reclaimable:\t0B\nTotal:\t\t0B\n") == {}


def test_size_that_is_not_known_is_not_taken_for_nothing() -> None:
    with pytest.raises(ValueError, match="'much'"):
        of_text(DU_NEW.replace("1.653GB", "much"))


def test_records_of_the_engine_have_their_bytes() -> None:
    found = of_engine(RECORDS_20)
    assert [record.size for record in found.values()] == [94371840, 22953776, 20971522]


def record(name: str, size: int, uses: int = 1, **changed: object) -> CacheRecord:
    return CacheRecord(name, size, False, "regular", "", uses)._replace(**changed)  # type: ignore[arg-type]


def test_build_has_added_what_is_new_and_what_has_become_larger() -> None:
    context = record("context", 50, kind="source.local", description="local source for context")
    before = {each.id: each for each in (record("old", 10), context, record("gone", 9), record("other", 3))}
    after = {
        each.id: each
        for each in (
            record("old", 10, uses=2),
            context._replace(size=80, uses=2),
            record("other", 3),
            record("new", 7),
            record("shared", 4, is_shared=True),
        )
    }
    found = change(before, after)
    assert {each.id: each.size for each in found.added} == {"old": 0, "context": 30, "new": 7, "shared": 4}
    assert (found.written, found.context, found.total) == (41, 80, 100)
    assert change(before, before).context is None, "no context was used"


def test_record_without_an_identifier_is_of_another_form() -> None:
    with pytest.raises(ValueError, match="record of another form: None of the size '3kB'"):
        of_text("ID:\nSize: 3kB\n")
