"""What a context has: what is sent, what is large, and what each line of a .dockerignore does."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.context import survey
from bulkhead.context.survey import effects, idle_lines, largest_directories, largest_kinds
from bulkhead.dockerfile.context import IGNORED, SENT, UNUSED, Selection, walk
from bulkhead.dockerfile.ignore import IgnoreRules
from bulkhead.dockerfile.patterns import parse

from .contexts import make, report_of


def test_every_file_is_counted_once(tmp_path: Path) -> None:
    make(tmp_path, "src/a.py", "src/deep/b.py", "lib/c.so", "docs/d.md", size=1000)
    report = report_of(tmp_path, "FROM a\nCOPY src /src\n", "docs\n")
    counted = {fate: (tally.files, tally.bytes) for fate, tally in report.survey.by_fate.items()}
    assert counted[SENT] == (2, 2000)
    assert counted[IGNORED] == (1, 1000)
    assert counted[UNUSED][0] == 3, "lib/c.so, the Dockerfile and the .dockerignore"


def test_largest_directories_are_those_that_most_of_it_is_in(tmp_path: Path) -> None:
    make(tmp_path, "a/b/c/d/e", size=5000)
    make(tmp_path, "x/one/f", "x/two/f", "x/three/f", size=1000)
    make(tmp_path, "small/f", size=10)
    rows = largest_directories(report_of(tmp_path).survey, 2)
    assert [(row.name, row.files, row.bytes) for row in rows] == [("a/b/c/", 1, 5000), ("x/", 3, 3000)]


def test_kinds_of_files_are_their_suffixes(tmp_path: Path) -> None:
    make(tmp_path, "a.PT", "b.pt", size=1000)
    make(tmp_path, "noname", "x.1234", ".hidden", "odd.a b", size=10)
    kinds = {
        row.name: (row.files, row.bytes) for row in largest_kinds(report_of(tmp_path, ignore="Dockerfile\n").survey, 9)
    }
    assert kinds[".pt"] == (2, 2000)
    assert kinds["others"][0] == 5, "four, and the .dockerignore"


def test_context_of_any_size_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "_DIRECTORIES", 10)
    monkeypatch.setattr(survey, "_KINDS", 5)
    for number in range(60):
        make(tmp_path, f"d{number}/sub/file.x{number}x", size=number)
    make(tmp_path, "big/sub/file", size=10_000)
    report = report_of(tmp_path)
    assert len(report.survey.directories) < 20
    assert len(report.survey.kinds) <= 6
    assert largest_directories(report.survey, 1)[0].name == "big/sub/"
    assert report.survey.sent.files == 62


def test_last_line_that_matches_takes_the_credit(tmp_path: Path) -> None:
    make(tmp_path, "data/a", "data/b.log", "c.log", size=1000)
    report = report_of(tmp_path, ignore="# logs\n**/*.log\n\ndata\n")
    assert [(each.line, each.text, each.files) for each in effects(report.survey, report.rules)] == [
        (4, "data", 2),
        (2, "**/*.log", 1),
    ]


@pytest.mark.parametrize(
    ("ignore", "idle"),
    [
        ("*.md\n*.tmp\n", {2: "matches nothing"}),
        ("data\ndata/*\n", {2: "matches nothing"}),
        ("*.md\nREADME.md\n", {2: "other lines decide what it matches"}),
        ("*.md\n!README.md\n", {}),
        ("!README.md\n*.md\n", {1: "other lines decide what it matches"}),
        ("!README.md\n", {1: "other lines decide what it matches"}),
        ("*.md\n!nothing.md\n", {2: "matches nothing"}),
        (
            "node_modules\n",
            {1: "matches only at the top, and 2 entries further down have that name. Write **/node_modules"},
        ),
        ("data # large\n", {1: "matches nothing: a # begins a comment only at the beginning of a line"}),
        ("../data\n", {1: "matches nothing: it leaves the context"}),
        ("empty\n", {}),
        # Of two that do the same, one stays.
        ("data\n/data/\n", {2: "other lines decide what it matches"}),
    ],
)
def test_lines_that_do_nothing_are_found(tmp_path: Path, ignore: str, idle: dict[int, str]) -> None:
    make(tmp_path, "README.md", "b.md", "data/x", "web/node_modules/y", "lib/node_modules/z", "empty/")
    report = report_of(tmp_path, ignore=ignore)
    assert {line.line: line.why for line in idle_lines(report.survey, report.rules)} == idle


def test_without_the_lines_that_do_nothing_the_same_is_sent(tmp_path: Path) -> None:
    make(tmp_path, "a/x.o", "a/x.c", "b/y.o", "b/keep/z.o", "top.o", "build/out", "build/deep/out")
    lines = [
        "**/*.o",
        "*.o",
        "build",
        "!b/keep",
        "build/*",
        "!build/deep",
        "nothing",
        "a/*.o",
        "!a/x.c",
        "build/deep/out",
    ]
    report = report_of(tmp_path, ignore="\n".join(lines))

    def sent(numbers: set[int]) -> set[str]:
        content = "\n".join(line for number, line in enumerate(lines, 1) if number in numbers)
        rules = IgnoreRules(parse(content.encode(), "x"))
        entries = walk(str(tmp_path), rules, Selection(str(tmp_path)))
        return {entry.path for entry in entries if entry.fate == SENT}

    every = set(range(1, len(lines) + 1))
    kept = every - {line.line for line in idle_lines(report.survey, report.rules)}
    assert every > kept
    assert sent(kept) == sent(every)
    for number in kept:
        assert sent(kept - {number}) != sent(every), lines[number - 1]
