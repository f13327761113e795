"""The rules of the house that no linter knows: one name for one thing, and the field's words."""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).parents[2]

# Words of our own that the code had for things that the field has a word for.
FORMER_WORDS = {"said", "told", "look", "looks", "seen", "thing", "things", "aside", "growth", "moving", "played"}


class ModuleNames(NamedTuple):
    """The names that a module defines."""

    classes: list[str]
    others: set[str]  # of functions, arguments, variables and attributes


@cache
def sources() -> dict[str, ModuleNames]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=TOP, capture_output=True, text=True, check=True)
    return {name: names_in(ast.parse((TOP / name).read_text())) for name in listed.stdout.split()}


def names_in(tree: ast.Module) -> ModuleNames:
    found = ModuleNames([], set())
    for node in ast.walk(tree):
        kind = type(node)  # of hundreds of thousands
        if kind is ast.Name or kind is ast.Attribute:
            if type(node.ctx) is ast.Store:
                found.others.add(node.id if kind is ast.Name else node.attr)
        elif kind is ast.arg:
            found.others.add(node.arg)
        elif kind is ast.FunctionDef:
            found.others.add(node.name)
        elif kind is ast.ClassDef:
            found.classes.append(node.name)
    return found


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path, names in sources().items():
        for name in names.classes:
            places[name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_name_is_one_of_our_former_words() -> None:
    found = {
        f"{path}: {name}"
        for path, names in sources().items()
        for name in {*names.classes, *names.others, Path(path).stem}
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
