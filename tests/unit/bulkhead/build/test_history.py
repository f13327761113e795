"""What is remembered of earlier builds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bulkhead import state
from bulkhead.build import history as build_history
from bulkhead.build.history import with_build

from .build_host import G, past_build

DAY = 86400


def test_five_builds_of_an_image_are_remembered() -> None:
    history: build_history.History = {}
    for number in range(1, 8):
        history = with_build(history, "app", past_build(number * G, time=number))
    assert [each["peak"] // G for each in history["app"]] == [3, 4, 5, 6, 7]


def test_builds_from_the_cache_do_not_push_the_whole_one_out_for_a_month() -> None:
    history: build_history.History = {"app": [past_build(20 * G, time=0)]}
    for number in range(1, 10):
        history = with_build(history, "app", past_build(number, time=number * DAY))
    assert [each["peak"] for each in history["app"]] == [20 * G, 6, 7, 8, 9]
    history = with_build(history, "app", past_build(10, time=31 * DAY))
    assert [each["peak"] for each in history["app"]] == [6, 7, 8, 9, 10]


def test_history_has_the_hundred_images_that_were_built_last() -> None:
    history: build_history.History = {str(number): [past_build(G, time=number)] for number in range(100)}
    history = with_build(history, "new", past_build(G, time=1000))
    assert len(history) == 100
    assert "0" not in history
    assert {"1", "99", "new"} <= history.keys()


@pytest.fixture(params=["root", "user"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the history."""
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if request.param == "root" else 1000)
    return tmp_path / ("lib/builds.json" if request.param == "root" else "home/bulkhead/builds.json")


def test_history_is_readable_by_its_owner_alone(kept: Path) -> None:
    build_history.remember("app", 5, 7)
    build_history.remember("app", 6, None)
    found = build_history.load()["app"]
    assert [(each["peak"], each["size"]) for each in found] == [(5, 7), (6, None)]
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"app": 7}', '{"app": [7]}', '{"app": [{"peak": "much", "time": 1}]}', '{"app": []}']
)
def test_damaged_history_counts_as_empty(kept: Path, content: str) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text(content)
    assert build_history.load() == {}
    build_history.remember("app", 5, None)
    assert [each["peak"] for each in json.loads(kept.read_text())["app"]] == [5]
