"""Measure a build context: what is sent, what .dockerignore takes out, what is large, and what is junk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from bulkhead.context import junk
from bulkhead.dockerfile.context import IGNORED, SENT, UNUSED, walk
from bulkhead.dockerfile.ignore import TOP

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.context.junk import Kind
    from bulkhead.dockerfile.context import Selection
    from bulkhead.dockerfile.ignore import IgnoreRules

_DEPTH = 3  # directories are counted so many levels deep
_DIRECTORIES, _KINDS = 20_000, 5_000  # counted at most: a context can have millions
_NEARLY_ALL = 0.8  # a directory of which one below has that share is shown as that one


@dataclass(slots=True)
class Tally:
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, files: int, size: int) -> None:
        self.files += files
        self.bytes += size


class NamedTally(NamedTuple):
    """A row of a table."""

    name: str
    files: int
    bytes: int


class IdleLine(NamedTuple):
    """A line of a .dockerignore without which the same would be sent."""

    line: int
    text: str
    why: str


class LineEffect(NamedTuple):
    """What a line of a .dockerignore takes out."""

    line: int
    text: str
    files: int
    bytes: int


Lines: TypeAlias = "tuple[str, ...]"  # of a .dockerignore; that of the outermost directory first


@dataclass
class Survey:
    """What a context has. The numbers of states are those of the rules that it was walked with."""

    by_fate: dict[int, Tally] = field(default_factory=lambda: {fate: Tally() for fate in (SENT, UNUSED, IGNORED)})
    by_state: dict[int, Tally] = field(default_factory=dict)
    entries: set[int] = field(default_factory=lambda: {TOP})  # states that something has, be it only a directory
    directories: dict[str, Tally] = field(default_factory=dict)  # of what is sent
    kinds: dict[str, Tally] = field(default_factory=dict)  # of what is sent, by suffix
    junk: dict[Lines, Tally] = field(default_factory=dict)  # of what is sent, by the lines that would take it out
    junk_kinds: dict[str, Kind] = field(default_factory=dict)  # of the lines that there is a reason for
    refused: set[str] = field(default_factory=set)  # lines that would also take out something else
    deeper: dict[str, int] = field(
        default_factory=dict
    )  # names that a line has → entries below the top that have them too

    @property
    def sent(self) -> Tally:
        return self.by_fate[SENT]

    def count_state(self, state: int, files: int, size: int) -> None:
        self.by_state.setdefault(state, Tally()).add(files, size)

    def count_junk(self, lines: Lines, size: int) -> None:
        tally = self.junk.get(lines)
        if tally is None:
            tally = self.junk[lines] = Tally()
        tally.files += 1
        tally.bytes += size


def survey(context: str, rules: IgnoreRules, selection: Selection, is_named: Callable[[str, bool], bool]) -> Survey:
    """Walk a context once.

    Args:
        context: the directory.
        is_named: returns whether a path may not be taken out; its second argument as with junk.Names.

    Raises:
        OSError: something that Docker would be sent cannot be read.
    """
    result = Survey(deeper={pattern.text: 0 for pattern in rules.patterns if _is_plain_name(pattern.text)})
    kinds, deeper, unused = result.kinds, result.deeper, result.by_fate[UNUSED]
    roots: dict[str, tuple[Lines, bool]] = {}  # directories with a name of junk → lines, and whether it must stay
    nowhere: tuple[Lines, bool] = ((), False)
    directory, (lines, is_kept) = "", nowhere  # the directory that the walk is in; the lines that would take it out
    # A context can have a million files: what is the same for one and the next is counted in these first.
    here_files = here_bytes = state_files = state_bytes = 0
    last_state = TOP
    for prefix, name, size, is_directory, state, fate in walk(context, rules, selection, counts_all=True):
        if prefix != directory:
            _count(result, directory, here_files, here_bytes)
            here_files = here_bytes = 0
            directory = prefix
            lines, is_kept = roots.get(_root_of(directory, roots), nowhere)
        if state != last_state:
            result.count_state(last_state, state_files, state_bytes)
            state_files = state_bytes = 0
            last_state = state
            result.entries.add(state)
        if not is_directory:
            state_files += 1
            state_bytes += size
        if fate == IGNORED:
            continue
        if prefix and name in deeper:
            deeper[name] += 1
        dot = name.rfind(".")
        suffix = name[dot:].lower() if dot > 0 else ""
        within = lines
        if name in junk.NAMES or suffix in junk.NAMES:
            path = prefix + name
            if found := junk.find(context, path, name, is_directory, size, suffix):
                if found.is_reason:
                    result.junk_kinds[found.line] = found.kind
                must_stay = is_kept or is_named(path, found.kind.is_content)
                if must_stay:
                    result.refused.add(found.line)
                else:
                    within = (*lines, found.line)
                if is_directory:
                    roots[path] = (within, must_stay)
            elif line := junk.clash(path, name, is_directory):
                result.refused.add(line)
        if is_directory:
            continue
        if fate == UNUSED:
            unused.add(1, size)
            continue
        here_files += 1
        here_bytes += size
        kind = kinds.get(suffix)
        if kind is None:
            suffix = suffix if len(kinds) < _KINDS and suffix[1:].isalnum() and not suffix[1:].isdigit() else ""
            kind = kinds.setdefault(suffix, Tally())
        kind.files += 1
        kind.bytes += size
        if within:
            result.count_junk(within, size)
    _count(result, directory, here_files, here_bytes)
    result.count_state(last_state, state_files, state_bytes)
    for number, tally in result.by_state.items():
        if rules.states[number].is_ignored:
            result.by_fate[IGNORED].add(tally.files, tally.bytes)
    return result


def _is_plain_name(text: str) -> bool:
    return not set(text) & set("/*?[\\")


def _root_of(directory: str, roots: dict[str, tuple[Lines, bool]]) -> str:
    """Return the directory of these that a directory is in; empty: none."""
    path = directory.rstrip("/")
    while path and path not in roots:
        path = path.rpartition("/")[0]
    return path


def _count(result: Survey, directory: str, files: int, size: int) -> None:
    """Count what is sent of one directory for it, and for those above it."""
    result.sent.add(files, size)
    parts = directory.split("/")[:-1]
    for depth in range(min(len(parts), _DEPTH) + 1):
        key = "/".join(parts[:depth])
        result.directories.setdefault(key, Tally()).add(files, size)
    if len(result.directories) > _DIRECTORIES:
        # The walk finishes one directory before the next: all but those above the present one are complete.
        present = {"/".join(parts[:depth]) for depth in range(_DEPTH + 1)}
        largest = sorted(result.directories, key=lambda key: -result.directories[key].bytes)[: _DIRECTORIES // 2]
        result.directories = {key: result.directories[key] for key in {*largest, *present} if key in result.directories}


def largest_directories(result: Survey, most: int) -> list[NamedTally]:
    """Return the directories that most of what is sent is in, and none that is part of another one."""
    below: dict[str, list[str]] = {}
    for path in result.directories:
        if path:
            below.setdefault(path.rpartition("/")[0], []).append(path)

    def narrowed(path: str) -> str:
        inner = max(below.get(path, ()), key=lambda each: result.directories[each].bytes, default=None)
        tally = result.directories[path]
        if inner and result.directories[inner].bytes >= _NEARLY_ALL * tally.bytes > 0:
            return narrowed(inner)
        return path

    rows = {narrowed(path) for path in below.get("", ())}
    return _ranked({path + "/": result.directories[path] for path in rows}, most)


def largest_kinds(result: Survey, most: int) -> list[NamedTally]:
    """Return the kinds of files that most of what is sent is of."""
    return _ranked({suffix or "others": tally for suffix, tally in result.kinds.items()}, most)


def _ranked(tallies: dict[str, Tally], most: int) -> list[NamedTally]:
    rows = [NamedTally(name, tally.files, tally.bytes) for name, tally in tallies.items() if tally.files]
    return sorted(rows, key=lambda row: (-row.bytes, -row.files, row.name))[:most]


def effects(result: Survey, rules: IgnoreRules) -> list[LineEffect]:
    """Return what each line of a .dockerignore takes out: the last pattern that matches decides. Largest first."""
    by_line: dict[int, Tally] = {}
    for state, tally in result.by_state.items():
        if rules.states[state].is_ignored:
            decisive = rules.states[state].matched.bit_length() - 1
            by_line.setdefault(decisive, Tally()).add(tally.files, tally.bytes)
    rows = [
        LineEffect(rules.patterns[number].line, rules.patterns[number].written, tally.files, tally.bytes)
        for number, tally in by_line.items()
    ]
    return sorted(rows, key=lambda row: (-row.bytes, -row.files, row.line))


def idle_lines(result: Survey, rules: IgnoreRules) -> list[IdleLine]:
    """Return the lines that could all go together, and the same would be sent."""
    wanted = rules.without(())
    left_out: set[int] = set()
    for number in reversed(range(len(rules.patterns))):
        changed = rules.without({*left_out, number})
        if all(changed[state] == wanted[state] for state in result.entries):
            left_out.add(number)
    matched = 0
    for state in result.entries:
        while state:  # what is above was met too
            matched |= rules.states[state].own
            state = rules.states[state].above
    return [
        IdleLine(pattern.line, pattern.written, _why(result, rules, number, bool(matched >> number & 1)))
        for number, pattern in enumerate(rules.patterns)
        if number in left_out
    ]


def _why(result: Survey, rules: IgnoreRules, number: int, is_matched: bool) -> str:
    pattern = rules.patterns[number]
    if is_matched:
        return "other lines decide what it matches"
    if count := result.deeper.get(pattern.text):
        deeper = "1 entry further down has" if count == 1 else f"{count} entries further down have"
        return f"matches only at the top, and {deeper} that name. Write **/{pattern.text}"
    if " #" in pattern.text:
        return "matches nothing: a # begins a comment only at the beginning of a line"
    if pattern.text.startswith(".."):
        return "matches nothing: it leaves the context"
    return "matches nothing"
