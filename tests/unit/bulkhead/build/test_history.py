"""What is remembered of earlier builds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bulkhead import personal_state, state
from bulkhead.build import history as build_history
from bulkhead.build.estimate import Need, need_of_earlier
from bulkhead.build.history import with_build

from .build_host import G, past_build


def test_twenty_builds_of_an_image_are_remembered() -> None:
    history: build_history.History = {}
    for number in range(1, 23):
        history = with_build(history, "app", past_build(number * G, time=number))
    assert [each["peak"] // G for each in history["app"]] == [*range(3, 23)]


def test_build_that_other_builds_disturbed_does_not_raise_the_estimate() -> None:
    builds = [past_build(3 * G), past_build(40 * G, disturbed=True), past_build(4 * G)]
    assert need_of_earlier(builds) == Need(4 * G * 110 // 100, "2 earlier builds took up to 4.0 GiB, and 10 % more")
    assert need_of_earlier(builds[1:2]).bytes == 44 * G, "it is all that is known"


def test_one_large_build_of_ten_does_not_raise_the_estimate() -> None:
    builds = [*(past_build(3 * G) for _ in range(9)), past_build(40 * G)]
    assert need_of_earlier(builds[1:]).bytes == 44 * G
    need = need_of_earlier(builds)
    assert need == Need(3 * G * 110 // 100, "9 in 10 of 10 earlier builds took up to 3.0 GiB, and 10 % more")


def test_build_that_was_remembered_before_there_were_marks_counts() -> None:
    old = {"time": 0, "peak": 3 * G, "size": None}
    assert need_of_earlier([old]).bytes == 3 * G * 110 // 100


def test_history_has_the_hundred_images_that_were_built_last() -> None:
    history: build_history.History = {str(number): [past_build(G, time=number)] for number in range(100)}
    history = with_build(history, "new", past_build(G, time=1000))
    assert len(history) == 100
    assert "0" not in history
    assert {"1", "99", "new"} <= history.keys()


@pytest.fixture(params=["root", "user"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the history."""
    monkeypatch.setattr(personal_state, "DEPLOYED", str(tmp_path))
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if request.param == "root" else 1000)
    return tmp_path / ("lib/builds.json" if request.param == "root" else "home/bulkhead/builds.json")


def test_history_is_readable_by_its_owner_alone(kept: Path) -> None:
    build_history.remember("app", 5, 7, disturbed=False)
    build_history.remember("app", 6, None, disturbed=True)
    found = build_history.load()["app"]
    assert [(each["peak"], each["size"], each["disturbed"]) for each in found] == [(5, 7, False), (6, None, True)]
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"app": 7}', '{"app": [7]}', '{"app": [{"peak": "much", "time": 1}]}', '{"app": []}'),
        '{"app": [{"peak": Infinity, "time": 1, "size": null}]}',
    ],
)
def test_damaged_history_counts_as_empty(kept: Path, content: str) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text(content)
    assert build_history.load() == {}
    build_history.remember("app", 5, None, disturbed=False)
    assert [each["peak"] for each in json.loads(kept.read_text())["app"]] == [5]


def test_builds_are_forgotten_one_image_or_all(kept: Path) -> None:
    for name in ("app", "web", "db"):
        build_history.remember(name, 5, None, disturbed=False)
    assert build_history.forget("web") == ["web"]
    assert build_history.forget("web") == []
    assert [*json.loads(kept.read_text())] == ["app", "db"]
    assert build_history.forget("") == ["app", "db"]
    assert build_history.load() == {}
