"""The rules of the house that no linter knows: one name for one thing, and the field's words."""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

# Words of our own that the code had for things that the field has a word for.
FORMER_WORDS = {"said", "told", "look", "looks", "seen", "thing", "things", "aside", "growth", "moving", "played"}


@cache
def sources() -> dict[str, ast.Module]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=TOP, capture_output=True, text=True, check=True)
    return {name: ast.parse((TOP / name).read_text()) for name in listed.stdout.split()}


def names_in(tree: ast.Module) -> set[str]:
    """Return the names that a module defines: of classes, functions, arguments, variables and attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_name_is_one_of_our_former_words() -> None:
    found = {
        f"{path}: {name}"
        for path, tree in sources().items()
        for name in {*names_in(tree), Path(path).stem}
        if name.strip("_").lower() in FORMER_WORDS
    }
    assert found == set()


def test_every_file_with_tests_is_run(pytestconfig: pytest.Config) -> None:
    """Pytest by itself never enters a directory that is called build."""
    patterns = pytestconfig.getini("norecursedirs")
    tests = [Path(name) for name in sources() if name.startswith("tests/unit/")]
    assert [
        str(path) for path in tests if any(fnmatch(part, each) for part in path.parts[:-1] for each in patterns)
    ] == []
