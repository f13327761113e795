"""The record of the lab tests that a run leaves for the next run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.ledger import FAILED, FORGOTTEN, PASSED, LabResult, Ledger, Tree, durations, status, tree

from .processes import without_git


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_CACHE", str(tmp_path / "cache"))


def keep(commit: str, **outcomes: str) -> Ledger:
    ledger = Ledger(commit)
    for test, outcome in outcomes.items():
        ledger.add(LabResult(f"tests/lab/test_x.py::{test}", outcome))
    return ledger


def test_last_outcome_of_a_test_counts() -> None:
    ledger = keep("a" * 40, one=PASSED, two=FAILED)
    keep("a" * 40, two=PASSED, one=FAILED)
    assert ledger.passed() == {"tests/lab/test_x.py::two"}
    keep("a" * 40, two=FORGOTTEN)
    assert ledger.outcomes() == {"tests/lab/test_x.py::one": FAILED}


def test_unfinished_line_spoils_no_other() -> None:
    ledger = keep("a" * 40, one=PASSED)
    with ledger.path.open("a") as file:
        file.write('{"test": "tests/lab/test_x.py::two", "outc')
    keep("a" * 40, three=PASSED)
    assert ledger.passed() == {"tests/lab/test_x.py::one", "tests/lab/test_x.py::three"}


def test_status_says_what_has_passed_on_which_commit() -> None:
    keep("b" * 40, one=PASSED, three=PASSED)
    keep("a" * 40, one=PASSED, two=FAILED)
    tests = [f"tests/lab/test_x.py::{name}" for name in ("one", "two", "three", "four")]
    assert status([*tests, "tests/lab/test_y.py::one"], "a" * 40) == [
        "lab tests on commit aaaaaaa: 1 passed, 1 failed, 3 not run",
        "  test_x.py                  1 passed, 1 failed, 2 not run; 1 of the others passed on bbbbbbb",
        "      failed: two",
        "  test_y.py                  1 not run",
    ]


def test_setup_of_a_file_counts_for_the_file() -> None:
    def result(name: str, run: str, setup: float, seconds: float) -> LabResult:
        return LabResult(f"tests/lab/test_x.py::{name}", PASSED, run, setup, seconds)

    results = [
        result("test_a", "1", 300, 10),
        result("test_b[1]", "1", 5, 20),
        result("test_b[2]", "2", 205, 40),  # a later run, which had to make the machine once more
        result("test_c", "2", 5, 30),
        result("test_c", "2", 5, 30),
        LabResult("tests/lab/test_x.py::test_d", FAILED, "2", 5, 1000),
    ]
    assert durations(results) == {
        "tests/lab/test_x.py": {"setup": 295, "tests": {"test_a": 15, "test_b": 35, "test_c": 35}}
    }


def test_tree_is_clean_only_with_everything_committed(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@localhost")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, env=without_git(), check=True, capture_output=True)

    assert tree(tmp_path) == Tree("", clean=False)
    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "x")
    committed = tree(tmp_path)
    assert committed.clean
    assert len(committed.commit) == 40
    (tmp_path / "further").touch()
    assert tree(tmp_path) == Tree(committed.commit, clean=False)
