"""Decide what a .dockerignore takes out of a build context, entry by entry, as a walk from the top meets them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from bulkhead.dockerfile.patterns import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from bulkhead.dockerfile.patterns import Pattern

TOP = 0  # the state of a context's top

# The bit of a pattern, and what decides whether it matches.
Tests: TypeAlias = "list[tuple[int, Callable[[str], bool]]]"


class State(NamedTuple):
    """What the patterns make of an entry. Entries that the same patterns match in the same directories share one."""

    above: int  # the state of the directory
    own: int  # the patterns that match this entry itself: a bit for each, the first one the lowest
    matched: int  # the patterns that count as matching: its own, and those of the directories above
    is_ignored: bool


class IgnoreRules:
    """The patterns of one .dockerignore.

    A state is a number, the index in `states`: that of a context's top is TOP, and `state_of` has the others.
    """

    def __init__(self, patterns: Sequence[Pattern] = (), path: str = "") -> None:
        self.patterns = tuple(patterns)
        self.path = path  # of the file; empty: there is none
        self.states = [State(TOP, 0, 0, is_ignored=False)]
        self._known: dict[tuple[int, int], int] = {}
        # Returns the patterns that match a path itself, by the path and its last part.
        self.own = _matcher(self.patterns)
        self._exceptions = [number for number, each in enumerate(self.patterns) if each.is_exception]

    @classmethod
    def of_file(cls, path: str) -> IgnoreRules:
        """Read a .dockerignore.

        Args:
            path: of the file; empty: there is none.

        Raises:
            PatternError: Docker refuses a line.
            OSError: it cannot be read.
        """
        if not path:
            return cls()
        with open(path, "rb") as file:
            return cls(parse(file.read(), os.path.basename(path)), path)

    def state_of(self, directory: int, path: str, name: str) -> int:
        """Return the state of an entry.

        Args:
            directory: the state of its directory.
            path: from the top of the context.
            name: the last part of the path.
        """
        own = self.own(path, name)
        return self.enter(directory, own) if own else directory

    def is_ignored(self, path: str) -> bool:
        """Return whether an entry is ignored, by its path alone."""
        state = TOP
        parts = path.split("/")
        for place, name in enumerate(parts, 1):
            state = self.state_of(state, "/".join(parts[:place]), name)
        return self.states[state].is_ignored

    def may_have_exceptions(self, state: int, directory: str) -> bool:
        """Return whether something in an ignored directory may be sent after all. It may be wrong only in saying yes."""
        decisive = self.states[
            state
        ].matched.bit_length()  # what comes before the pattern that decides cannot overrule it
        return any(
            number >= decisive and self.patterns[number].may_match_below(directory) for number in self._exceptions
        )

    def without(self, left_out: Collection[int]) -> list[bool]:
        """Return for each state whether it would be ignored without some of the patterns."""
        found = [self.states[TOP]]
        for above, own, _, _ in self.states[1:]:
            found.append(decide(self.patterns, found[above].matched, own, left_out)._replace(above=above))
        return [state.is_ignored for state in found]

    def enter(self, above: int, own: int) -> int:
        """Return the state of an entry that these patterns match itself, below this state."""
        state = self._known.get((above, own))
        if state is None:
            decided = decide(self.patterns, self.states[above].matched, own)._replace(above=above)
            state = self._known[above, own] = len(self.states)
            self.states.append(decided)
        return state


def decide(patterns: Sequence[Pattern], above: int, own: int, left_out: Collection[int] = ()) -> State:
    """Return what the patterns make of an entry: MatchesUsingParentResults of patternmatcher.

    Args:
        above: the patterns that count as matching its directory.
        own: the patterns that match the entry itself.
    """
    matched, is_ignored = 0, False
    waiting = above | own
    while waiting:  # a file can have a thousand patterns, of which few match the same entry
        bit = waiting & -waiting
        waiting ^= bit
        number = bit.bit_length() - 1
        if number in left_out:
            continue
        pattern = patterns[number]
        # A pattern that could not change the decision is not tried, and then does not count for what is beneath either.
        if above & bit or (own & bit and pattern.is_exception == is_ignored):
            matched |= bit
            is_ignored = not pattern.is_exception
    return State(TOP, own, matched, is_ignored)


def _matcher(patterns: Iterable[Pattern]) -> Callable[[str, str], int]:
    """Return what returns the patterns that match a path, a bit for each. A context can have a million paths."""
    names: dict[str, int] = {}
    endings: dict[str, int] = {}  # **/*.log
    by_name: Tests = []
    paths: dict[str, int] = {}
    by_depth: dict[int, Tests] = {}  # that only paths with so many slashes can match
    by_path: Tests = []
    for number, pattern in enumerate(patterns):
        bit, text = 1 << number, pattern.text
        if pattern.name is not None:
            known = endings if re.fullmatch(r"\*[^*?]+", text[3:]) else None if set(text[3:]) & set("*?") else names
            if known is None:
                by_name.append((bit, pattern.name))
            else:
                name = text[3:].removeprefix("*")
                known[name] = known.get(name, 0) | bit
        elif not re.search(r"[*?\[\]\\]", text):
            paths[text] = paths.get(text, 0) | bit
        elif "**" in text or set(text) & set("[\\|{"):
            by_path.append((bit, pattern.path))
        else:
            by_depth.setdefault(text.count("/"), []).append((bit, pattern.path))
    every_ending = tuple(endings)

    def own(path: str, name: str) -> int:
        bits = names.get(name, 0) | paths.get(path, 0)
        if every_ending and name.endswith(every_ending):
            for ending, bit in endings.items():
                if name.endswith(ending):
                    bits |= bit
        for bit, matches in by_name:
            if matches(name):
                bits |= bit
        for bit, matches in by_path:
            if matches(path):
                bits |= bit
        if by_depth:
            for bit, matches in by_depth.get(path.count("/"), ()):
                if matches(path):
                    bits |= bit
        return bits

    return own
