"""What a .dockerignore takes out, as a walk from the top decides it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from bulkhead.dockerfile.ignore import TOP, IgnoreRules, decide
from bulkhead.dockerfile.patterns import Pattern, parse


def rules_of(content: str) -> IgnoreRules:
    return IgnoreRules(parse(content.encode(), ".dockerignore"))


def state_of(rules: IgnoreRules, path: str) -> int:
    state, parts = TOP, path.split("/")
    for place, name in enumerate(parts, 1):
        state = rules.state_of(state, "/".join(parts[:place]), name)
    return state


def test_pattern_that_was_not_tried_for_a_directory_does_not_count_beneath() -> None:
    """MatchesUsingParentResults, which walks use: the second `a` is not tried for a, which the first has taken out already."""
    assert not rules_of("a\n!a/x\na").is_ignored("a/x")
    assert rules_of("a\n!a/x\na").is_ignored("a/y")
    assert rules_of("a\n!a/x\na/*").is_ignored("a/x")


@pytest.mark.parametrize(
    ("content", "directory", "may"),
    [
        ("*", "data", False),
        ("*\n!src", "data", False),
        ("*\n!src/main.c", "src", True),
        ("*\n!data", "data/deep", False),
        ("!data/a\n*", "data", False),
        ("*\n!**/*.md", "data", True),
        ("*\n!*/keep", "data", True),
        ("data\n!data/a\ndata/b", "data/b", False),
        ("data\n!da?a/a", "data", True),
    ],
)
def test_ignored_directory_is_entered_only_for_an_exception_that_can_be_in_it(
    content: str, directory: str, may: bool
) -> None:
    rules = rules_of(content)
    state = state_of(rules, directory)
    assert rules.states[state].is_ignored or directory == "data/deep"
    assert rules.may_have_exceptions(state, directory) is may


def test_directory_that_is_not_entered_has_nothing_that_would_be_sent() -> None:
    random_choice = random.Random(7).choice
    parts = ["a", "b", "*", "**", "?", "a*"]
    paths = ["/".join(names) for length in (1, 2, 3) for names in itertools.product("ab", repeat=length)]
    skipped = 0
    for _ in range(400):
        lines = [
            random_choice(["", "", "!"]) + "/".join(random_choice(parts) for _ in range(random_choice([1, 1, 2, 3])))
            for _ in range(random_choice([1, 2, 3, 4]))
        ]
        rules = rules_of("\n".join(lines))
        for path in paths:
            state = state_of(rules, path)
            if rules.states[state].is_ignored and not rules.may_have_exceptions(state, path):
                below = [each for each in paths if each.startswith(path + "/")]
                assert all(rules.is_ignored(each) for each in below), (lines, path)
                skipped += len(below)
    assert skipped > 1000


def test_entries_that_no_pattern_matches_share_the_state_of_their_directory() -> None:
    rules = rules_of("a\n**/*.o")
    assert state_of(rules, "src/lib/x.c") == TOP
    assert state_of(rules, "a/b/c") == state_of(rules, "a")
    assert state_of(rules, "src/x.o") == state_of(rules, "lib/y.o")
    assert len(rules.states) == 3


def test_rules_say_what_would_be_ignored_without_some_of_them() -> None:
    rules = rules_of("a\n!a/b\n*.o")
    states = [state_of(rules, path) for path in ("a", "a/b", "x.o")]
    assert [rules.without({1})[state] for state in states] == [True, True, True]
    assert [rules.without({0, 2})[state] for state in states] == [False, False, False]
    assert [rules.without(())[state] for state in states] == [True, False, True]


def test_entry_costs_only_the_patterns_that_match_it() -> None:
    class Counted(list[Pattern]):
        looked_at = 0

        def __getitem__(self, number: Any) -> Any:
            self.looked_at += 1
            return super().__getitem__(number)

        def __iter__(self) -> Iterator[Pattern]:
            self.looked_at += len(self)
            return super().__iter__()

    patterns = Counted(parse(b"".join(b"**/x%d\n" % number for number in range(1000)), ".dockerignore"))
    assert decide(patterns, 1 << 7, 1 << 900).is_ignored
    assert patterns.looked_at == 2, "a line that does nothing is searched for with every line and every entry"
