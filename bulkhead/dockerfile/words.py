"""Substitute variables and split words as a Dockerfile does: a port of BuildKit's frontend/dockerfile/shell/lex.go."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.dockerfile.patterns import SPACES

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPECIAL = set("@*#?-$!0")  # special parameters of a shell: never set here
_LITERAL = set("[]{}.+()|^$")  # escaped where a shell's pattern becomes a regular expression


class WordError(ValueError):
    """A text that Docker refuses. The message is a part of a sentence."""


class Words(NamedTuple):
    """A text after substitution."""

    text: str
    words: tuple[str, ...]
    unset: frozenset[str]  # variables in it that have no value


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> Words:
    """Substitute the variables of a text, and remove its quotes and escapes.

    Args:
        escape: the Dockerfile's escape character.

    Raises:
        WordError: Docker refuses the text.
    """
    try:
        return _Lexer(text, variables, escape).result()
    except RecursionError:
        raise WordError("its substitutions are nested too deeply") from None


def split(text: str, *, raw_quotes: bool = False, raw_escapes: bool = False) -> list[str]:
    """Split a text into words, and leave its variables alone.

    Raises:
        WordError: a quote or a brace is not closed.
    """
    lexer = _Lexer(text, {}, "\\", raw_quotes=raw_quotes, raw_escapes=raw_escapes, keeps_unset=True)
    return list(lexer.result().words)


class _Lexer:
    def __init__(
        self,
        text: str,
        variables: Mapping[str, str],
        escape: str,
        *,
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        keeps_unset: bool = False,
    ) -> None:
        self._text = text
        self._place = 0
        self._variables = variables
        self._escape = escape
        self._raw_quotes = raw_quotes
        self._raw_escapes = raw_escapes
        self._keeps_unset = keeps_unset
        self._unset: set[str] = set()

    def result(self) -> Words:
        text, words = self._until("")
        return Words(text, tuple(words), frozenset(self._unset))

    def _peek(self) -> str:
        return self._text[self._place : self._place + 1]

    def _next(self) -> str:
        letter = self._peek()
        self._place += 1
        return letter

    def _until(self, stop: str, raw_escapes: bool | None = None) -> tuple[str, list[str]]:
        """Read up to a letter, or to the end (processStopOn)."""
        former = self._raw_escapes
        self._raw_escapes = former if raw_escapes is None else raw_escapes
        try:
            return self._read_until(stop)
        finally:
            self._raw_escapes = former

    def _read_until(self, stop: str) -> tuple[str, list[str]]:
        text, words = "", _Splitter()
        while letter := self._peek():
            if stop and letter == stop:
                self._next()
                return text, words.finished()
            if letter == "$":
                part = self._dollar()
                words.add(part)
            elif letter in "'\"<":
                part = {"'": self._single, '"': self._double, "<": self._heredoc}[letter]()
                words.add_raw(part)
            else:
                part = self._next()
                if part == self._escape:
                    kept, part = part if self._raw_escapes else "", self._next()
                    words.add_raw(kept)
                    text += kept
                    words.add_raw(part)
                else:
                    words.add(part)
            text += part
        if stop:
            raise self._missing(stop)
        return text, words.finished()

    def _single(self) -> str:
        start = self._place
        end = self._text.find("'", start + 1)
        if end < 0:
            raise WordError(f"a single quote is not closed in `{self._text}`")
        self._place = end + 1
        return self._text[start : end + 1] if self._raw_quotes else self._text[start + 1 : end]

    def _double(self) -> str:
        text = self._quote()
        while letter := self._peek():
            if letter == '"':
                return text + self._quote()
            if letter == "$":
                text += self._dollar()
                continue
            self._next()
            if letter == self._escape:
                if self._raw_escapes:
                    text += letter
                following = self._peek()
                if not following:
                    continue
                if following in ('"', "$", self._escape):
                    letter = self._next()
            text += letter
        raise WordError(f"a double quote is not closed in `{self._text}`")

    def _quote(self) -> str:
        letter = self._next()
        return letter if self._raw_quotes else ""

    def _heredoc(self) -> str:
        text = self._next()
        if self._peek() != "<":
            return text
        text += self._next()
        while self._peek() and self._peek() in "\t\r ":
            text += self._next()
        return text

    # -- variables

    def _dollar(self) -> str:
        self._next()
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            return f"${name}" * self._keeps_unset if value is None else value
        self._next()
        if self._peek() == "":
            raise self._missing("}")
        if self._peek() in "{}:":
            raise WordError(f"bad substitution in `{self._text}`")
        return self._braces(self._name())

    def _braces(self, name: str) -> str:
        sign = self._next()
        if sign == "}":
            value = self._value(name)
            return f"${{{name}}}" * self._keeps_unset if value is None else value
        if sign == "/":
            return self._replaced(name)
        colon = ":" if sign == ":" else ""
        sign = self._next() if colon else sign
        if not sign or sign not in "+-?#%" or (colon and sign in "#%"):
            raise WordError(f"unsupported modifier ({colon}{sign}) in `{self._text}`")
        word = self._within("}", raw=sign in "#%")
        value = self._value(name)
        if value is None and self._keeps_unset:
            return f"${{{name}{colon}{sign}{word}}}"
        is_unset = value is None or (colon and not value)
        if sign == "-":
            return word if is_unset else value or ""
        if sign == "+":
            return "" if is_unset else word
        if sign == "?":
            if is_unset:
                raise WordError(f"{name}: {word or 'is not allowed to be ' + ('unset' if value is None else 'empty')}")
            return value or ""
        is_greedy = word.startswith(sign)
        return _trimmed(value or "", word[is_greedy:], is_greedy, at_the_end=sign == "%")

    def _replaced(self, name: str) -> str:
        is_all = self._peek() == "/"
        if is_all:
            self._next()
        pattern, replacement = self._within("/", raw=True), self._within("}", raw=True)
        value = self._value(name)
        if value is None and self._keeps_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        expression = _expression(pattern, is_greedy=True)
        # Only where all are replaced, a $ in the replacement names a group: Go's ReplaceAllString. There is none but 0.
        template = re.compile(r"\$(\$|\w+|\{\w+\})") if is_all else re.compile(r"(?!)")

        def replace(found: re.Match[str]) -> str:
            return template.sub(
                lambda each: {"$": "$"}.get(each[1], found[0] * (each[1].strip("{}") == "0")), replacement
            )

        return re.sub(expression, replace, value or "", count=0 if is_all else 1)

    def _within(self, stop: str, raw: bool) -> str:
        try:
            return self._until(stop, raw)[0]
        except WordError:
            if self._peek() == "":
                raise self._missing(stop) from None
            raise

    def _missing(self, letter: str) -> WordError:
        return WordError(f"a {letter} is missing in `{self._text}`")

    def _name(self) -> str:
        start = self._place
        first = self._peek()
        if first.isdecimal():
            while self._peek().isdecimal():
                self._next()
        elif first and first in _SPECIAL:
            self._next()
        else:
            while self._peek() == "_" or self._peek().isalpha() or self._peek().isdecimal():
                self._next()
        return self._text[start : self._place]

    def _value(self, name: str) -> str | None:
        value = self._variables.get(name)
        if value is None:
            self._unset.add(name)
        return value


class _Splitter:
    """Collect letters into words (wordsStruct)."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._word = ""

    def add(self, text: str) -> None:
        for letter in text:
            if letter not in SPACES:
                self._word += letter
            else:
                self.finished()

    def add_raw(self, text: str) -> None:
        self._word += text

    def finished(self) -> list[str]:
        if self._word:
            self._words.append(self._word)
            self._word = ""
        return self._words


def _trimmed(value: str, pattern: str, is_greedy: bool, at_the_end: bool) -> str:
    if at_the_end:
        value, pattern = value[::-1], "".join(reversed(re.findall(r"\\.|.", pattern, re.DOTALL)))
    match = re.match(_expression(pattern, is_greedy), value)
    value = value[match.end() :] if match else value
    return value[::-1] if at_the_end else value


def _expression(pattern: str, is_greedy: bool) -> str:
    """Return the regular expression of a shell's pattern (convertShellPatternToRegex).

    Raises:
        WordError: a backslash in it escapes what needs no escape.
    """
    found, place = "", 0
    while place < len(pattern):
        letter = pattern[place]
        place += 1
        if letter == "*":
            found += ".*" if is_greedy else ".*?"
        elif letter == "?":
            found += "."
        elif letter == "\\":
            following = pattern[place : place + 1]
            if following and following in "}/":
                continue
            if not following or following not in "*?\\":
                raise WordError(f"invalid pattern ({pattern}) in a substitution")
            found += "\\" + following
            place += 1
        else:
            found += "\\" + letter if letter in _LITERAL else letter
    return found
