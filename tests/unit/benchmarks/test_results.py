"""The table of a benchmark: on the terminal, as JSON, and in docs/benchmarks.md."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.results import PAGE, Result, machine, page, publish, stored, text_table

COLUMNS = ("race", "seconds", "ratio")
ROWS = [("a run", 1.234, 2), ("another run", 123.4, None)]
TEXT = "# Benchmarks\n\n<!-- fleet -->\nold\n<!-- end of fleet -->\n\nrest\n"


def test_table_has_text_to_the_left_and_numbers_to_the_right() -> None:
    assert text_table(COLUMNS, ROWS) == [
        "race         seconds  ratio",
        "a run           1.23      2",
        "another run      123",
    ]


def test_page_has_the_last_result_with_its_machine_between_its_marks() -> None:
    result = Result("fleet", COLUMNS, ROWS, ["A note."], "2 processors", "2026-11-29", "1.0")
    text = page(TEXT, [result])
    assert text == (
        "# Benchmarks\n\n<!-- fleet -->\n\n"
        "| race | seconds | ratio |\n|---|---:|---:|\n| a run | 1.23 | 2 |\n| another run | 123 |  |\n\n"
        "A note.\n\n2026-11-29, version 1.0, on 2 processors.\n\n"
        "<!-- end of fleet -->\n\nrest\n"
    )
    assert page(text, [result]) == text


def test_result_is_printed_kept_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "TOP", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "benchmarks")
    monkeypatch.setattr(results, "PAGE", tmp_path / "benchmarks.md")
    (tmp_path / "benchmarks.md").write_text(TEXT)
    publish("fleet", COLUMNS, ROWS, ["A note."])
    assert capsys.readouterr().out.splitlines() == [*text_table(COLUMNS, ROWS), "A note."]
    found = json.loads((tmp_path / "benchmarks/fleet.json").read_text())
    assert (found["columns"], found["rows"][0]) == (["race", "seconds", "ratio"], ["a run", 1.234, 2])
    assert "processor" in found["machine"]
    assert "| a run | 1.23 | 2 |" in (tmp_path / "benchmarks.md").read_text()


def test_machine_is_described_without_its_name() -> None:
    assert platform.node() not in machine().split()


def test_page_shows_the_results_that_are_kept() -> None:
    assert page(PAGE.read_text(), stored()) == PAGE.read_text()
