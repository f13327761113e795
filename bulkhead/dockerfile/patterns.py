r"""Patterns of a .dockerignore, matched as Docker matches them.

The source is github.com/moby/patternmatcher: `ignorefile` reads the lines, `New` checks them, `Pattern.compile` makes each an
exact path, a prefix, a suffix or a regular expression of Go's, and `MatchesUsingParentResults` decides in the order of the lines
while the directories are walked. What is strange there is strange here:

- A class in brackets is one of Go's regular expressions: `[[:digit:]]` and `[[:^digit:]]` work, and `[^a]` matches a slash too.
- `^`, `|`, `{` and `}` outside of brackets are not escaped: `a*|b` matches all that begins with `a` or ends with `b`. (It means to
  escape the last three, but its bitmap has eight bits of the sixteen that it takes.)
- `**` eats everything: `a**b` matches `a/x/b`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# What Go's unicode.IsSpace is true for. Python's str.strip() removes four control characters more.
SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

_ESCAPED = set(".+()$")  # by patternmatcher, before it compiles a regular expression
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_ESCAPES = {"s": r"[\t\n\f\r ]", "S": r"[^\t\n\f\r ]", "z": r"\Z", "A": r"\A"}  # that Python has otherwise
_IN_CLASS = {"s": r"\t\n\f\r ", "d": "0-9", "w": "0-9A-Za-z_"}


class PatternError(Problem):
    """A pattern that Docker refuses, or that it compiles to a regular expression that Python does not have."""


class Pattern(NamedTuple):
    """A line of a .dockerignore."""

    text: str  # cleaned, and without the exclamation mark
    is_exception: bool
    line: int  # the number in the file, from 1
    written: str  # as the file has it
    name: Callable[[str], bool] | None  # decides by the last part of a path alone; None: the whole path is needed
    path: Callable[
        [str], bool
    ]  # decides whether the pattern matches a path; what is beneath a match is not its business

    def may_match_below(self, directory: str) -> bool:
        """Return whether the pattern can match something in a directory. It may be wrong only in saying yes."""
        if set(self.text) & set("|{"):
            return True
        parts = directory.split("/")
        for place, part in enumerate(self.text.split("/")):
            if place == len(parts) or "**" in part or set(part) & set("[]\\^"):
                return True
            if not re.fullmatch(_glob(part), parts[place]):
                return False
        return False


def read_lines(content: bytes) -> list[tuple[int, str, str]]:
    """Return the patterns of a .dockerignore: the number of the line, the line, and the pattern as ignorefile.ReadAll has it."""
    found = []
    lines = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")
    for number, line in enumerate(lines, 1):
        pattern = line.strip(SPACES)
        if line.startswith("#") or not pattern:
            continue
        mark = "!" if pattern.startswith("!") else ""
        pattern = pattern.removeprefix("!").strip(SPACES)
        if pattern:
            pattern = clean(pattern)
            if pattern.startswith("/") and len(pattern) > 1:
                pattern = pattern[1:]
        found.append((number, line.rstrip("\r"), mark + pattern))
    return found


def parse(content: bytes, name: str) -> tuple[Pattern, ...]:
    """Return the patterns of a .dockerignore in their order.

    Args:
        name: of the file, for messages.

    Raises:
        PatternError: Docker refuses a line, and so the build. The message has the file and the line.
    """
    patterns = []
    for number, line, text in read_lines(content):
        try:
            patterns.append(pattern_of(text, number, line.strip(SPACES)))
        except PatternError as error:
            raise PatternError(f"{name}:{number}: {error}") from None
    return tuple(patterns)


def pattern_of(text: str, line: int = 0, written: str = "") -> Pattern:
    """Return a pattern.

    Args:
        text: with its exclamation mark.

    Raises:
        PatternError: Docker refuses it.
    """
    text = clean(text.strip(SPACES))
    if text == "!":
        raise PatternError("an exclamation mark alone is no pattern. Remove the line")
    is_exception = text.startswith("!")
    text = text.removeprefix("!")
    if not _is_well_formed(text):
        raise PatternError(f"`{text}` is no valid pattern: Docker refuses the build. Write \\[ for a bracket")
    return Pattern(text, is_exception, line, written or text, _name_matcher(text), _path_matcher(text))


def clean(path: str) -> str:
    """Return the shortest form of a path, as Go's path.Clean does.

    >>> clean("./a//b/../c/"), clean("//a"), clean("/.."), clean("")
    ('a/c', '/a', '/', '.')
    """
    is_absolute = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and not (part == ".." and is_absolute):
            parts.append(part)
    return "/" * is_absolute + "/".join(parts) or "."


# -- one pattern


def _path_matcher(text: str) -> Callable[[str], bool]:
    """Return what Pattern.compile and Pattern.match of patternmatcher do."""
    expression, kind, place, first = "", "exact", 0, True
    while place < len(text):
        letter = text[place]
        place += 1
        if letter == "*" and text[place : place + 1] == "*":
            place += 1
            if text[place : place + 1] == "/":
                place += 1
            if place == len(text):
                if kind == "exact":
                    kind = "prefix"
                else:
                    expression, kind = expression + ".*", "expression"
            else:
                expression, kind = expression + "(.*/)?", "expression"
            if first:
                kind = "suffix"
        elif letter in "*?":
            expression, kind = expression + ("[^/]*" if letter == "*" else "[^/]"), "expression"
        elif letter in _ESCAPED:
            expression += "\\" + letter
        elif letter == "\\":
            expression += letter + text[place : place + 1]
            if place < len(text):
                kind = "expression"
            place += 1
        else:
            if letter in "[]":
                kind = "expression"
            expression += letter
        first = False
    if kind == "exact":
        return text.__eq__
    if kind == "prefix":
        return lambda path, prefix=text[:-2]: path.startswith(prefix)  # type: ignore[misc]
    if kind == "suffix":
        return lambda path, suffix=text[2:]: path.endswith(suffix) or "/" + path == suffix  # type: ignore[misc]
    # The anchors belong to the first and the last alternative alone. Without any, fullmatch is the same, and faster.
    matches = _compiled(f"^{expression}$").search if "|" in text else _compiled(expression).fullmatch
    return lambda path: matches(path) is not None


def _name_matcher(text: str) -> Callable[[str], bool] | None:
    """Return what decides by the last part of a path alone: for `**/NAME`, where NAME may have * and ?."""
    name = text[3:]
    if not text.startswith("**/") or not name or set(name) & set("/[]\\^") or "**" in name:
        return None
    if not set(name) & set("*?"):
        return name.__eq__
    if set(name) & set("|{"):
        return None
    matches = re.compile(_glob(name), re.DOTALL).fullmatch
    return lambda part: matches(part) is not None


def _glob(part: str) -> str:
    """Return the regular expression of a part of a pattern that has no wildcards but * and ?."""
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(letter) or re.escape(letter) for letter in part)


def _is_well_formed(text: str) -> bool:
    """Return whether Go's filepath.Match accepts a pattern."""
    place = 0
    while place < len(text):
        letter = text[place]
        place += 1
        if letter == "\\":
            if place == len(text):
                return False
            place += 1
        elif letter == "[":
            if text[place : place + 1] == "^":
                place += 1
            ranges = 0
            while not (text[place : place + 1] == "]" and ranges):
                place = _end_of_class_letter(text, place)
                if text[place : place + 1] == "-":
                    place = _end_of_class_letter(text, place + 1)
                if place >= len(text):
                    return False
                ranges += 1
            place += 1
    return True


def _end_of_class_letter(text: str, place: int) -> int:
    """Return the place after a letter of a class; the length of the text, if there is none (filepath.Match's getEsc)."""
    if text[place : place + 1] in ("", "-", "]"):
        return len(text)
    return place + (2 if text[place] == "\\" else 1)


# -- Go's regular expressions


def _compiled(expression: str) -> re.Pattern[str]:
    """Compile a regular expression of Go's.

    Raises:
        PatternError: Go refuses it, or it has something that Python has not.
    """
    try:
        return re.compile("".join(_translated(expression)))
    except (re.error, IndexError, ValueError, OverflowError):
        raise PatternError("it is no valid pattern: Docker refuses the build. Write \\[ for a bracket") from None


def _translated(expression: str) -> Sequence[str]:
    parts, place = [], 0
    while place < len(expression):
        letter = expression[place]
        place += 1
        if letter == "[":
            text, place = _class(expression, place)
            parts.append(text)
        elif letter == "\\":
            parts.append(_escape(expression[place]))
            place += 1
        elif letter == "$":  # only at the end: patternmatcher escapes all others
            parts.append(r"\Z")
        elif letter == "{" and not re.compile(r"\d+(,\d*)?\}").match(expression, place):
            parts.append(r"\{")
        else:
            parts.append(letter)
    return parts


def _escape(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter in "dDwWbB":
        return f"(?a:\\{letter})"
    if letter in "afnrtv":
        return f"\\{letter}"
    return re.escape(_punctuation(letter))


def _class(expression: str, place: int) -> tuple[str, int]:
    """Return a class as Python writes it, and the place after it.

    Args:
        place: after the opening bracket.
    """
    text = "["
    if expression[place] == "^":
        text, place = "[^", place + 1
    start = place
    while expression[place] != "]" or place == start:
        if match := re.compile(r"\[:(\^?)(\w+):\]").match(expression, place):
            if match[2] not in _CLASSES:
                raise ValueError(match[2])
            text, place = text + (_all_but if match[1] else str)(_CLASSES[match[2]]), match.end()
            continue
        low, place = _class_letter(expression, place)
        if expression[place] == "-" and expression[place + 1] != "]" and len(low) < 3:
            high, place = _class_letter(expression, place + 1)
            low += "-" + high
        text += low
    return text + "]", place + 1


def _all_but(letters: str) -> str:
    """Return what a class of ASCII letters does not have, as Python writes it within a class."""
    return (
        "".join(f"\\x{each:02x}" for each in range(128) if not re.match(f"[{letters}]", chr(each))) + "\x80-\U0010ffff"
    )


def _class_letter(expression: str, place: int) -> tuple[str, int]:
    letter = expression[place]
    if letter != "\\":
        return ("\\" if letter in "[]\\^-&~|" else "") + letter, place + 1
    letter = expression[place + 1]
    if letter in _IN_CLASS:
        return _IN_CLASS[letter], place + 2
    if letter.lower() in _IN_CLASS:
        return _all_but(_IN_CLASS[letter.lower()]), place + 2
    if letter in "afnrtv":
        return f"\\{letter}", place + 2
    return "\\" + _punctuation(letter), place + 2


def _punctuation(letter: str) -> str:
    """Return a letter that Go lets a backslash stand before, without a meaning.

    Raises:
        ValueError: it is another one.
    """
    if not letter.isascii() or letter.isalnum():
        raise ValueError(letter)
    return letter
