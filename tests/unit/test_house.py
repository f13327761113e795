"""The rules of the house that no linter knows: one name for one thing, and the field's words."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

# Words of our own that the code had for things that the field has a word for.
FORMER_WORDS = {"said", "told", "look", "looks", "seen", "thing", "things", "aside", "growth", "moving", "played"}


# A comment, a string, or one of these words as a name. To parse every file would take seconds.
_WORDS = re.compile(
    r'''#.*|"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'|'''
    rf"\b_*({'|'.join(FORMER_WORDS)})_*\b",
    re.IGNORECASE,
)


FAULTS = """
class _Seen: # no growth
    things = "no \\"growth\\" %s" % told_ + 'growth'
"""


@cache
def sources() -> dict[str, str]:
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={TOP}", "ls-files", "*.py"], cwd=TOP, capture_output=True, text=True, check=True
    )
    return {name: (TOP / name).read_text() for name in listed.stdout.split()}


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path, text in sources().items():
        for name in re.findall(r"^\s*class (\w+)", text, re.MULTILINE):
            places[name].append(path)
    assert len(places) > 100
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_name_is_one_of_our_former_words() -> None:
    assert [word for word in _WORDS.findall(FAULTS) if word] == ["Seen", "things", "told"]
    found = {f"{path}: {word}" for path, text in sources().items() for word in _WORDS.findall(text) if word}
    found |= {path for path in sources() if Path(path).stem.strip("_").lower() in FORMER_WORDS}
    assert found == set()


def test_every_file_with_tests_is_run(pytestconfig: pytest.Config) -> None:
    """Pytest by itself never enters a directory that is called build."""
    patterns = pytestconfig.getini("norecursedirs")
    tests = [Path(name) for name in sources() if name.startswith("tests/unit/")]
    assert [
        str(path) for path in tests if any(fnmatch(part, each) for part in path.parts[:-1] for each in patterns)
    ] == []
