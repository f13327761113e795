"""Read the commands of a RUN. What is not understood yields no command, so no rule can judge it."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.dockerfile import words as dockerfile_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bulkhead.dockerfile.syntax import Instruction

_OPERATORS = re.compile(r"&>>?|[<>]+[&|]?|&&|\|\|?|;+|&|\(|\)|\n+")
_PUNCTUATION = ";&|()<>\n"
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_SHELLS = {"sh", "bash", "ash", "dash", "zsh", "ksh"}
_OTHER_SHELLS = re.compile(r"(powershell|pwsh|cmd)(\.exe)?$", re.IGNORECASE)
_OPENING = {"if": "fi", "case": "esac", "while": "done", "until": "done", "for": "done", "select": "done", "{": "}"}
_DOUBTFUL = {"if", "case", "while", "until"}  # blocks whose commands do not run always
_INNER = {"then", "else", "elif", "do", "!"}
_TESTS = {"[", "[[", "test", "command", "which", "grep", "type", "hash"}  # what comes after their && is not certain
_WRAPPERS: dict[str, tuple[str, ...]] = {  # name → its options that have a value
    "sudo": ("-u", "-g"),
    "env": ("-u", "-C", "-S"),
    "exec": ("-a",),
    "time": (),
    "nice": ("-n",),
    "nohup": (),
    "eatmydata": (),
}
_RUNNERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("uv", "run"): ("--with", "--python", "-p", "--extra", "--group", "--project", "--directory"),
    ("poetry", "run"): (),
    ("pipenv", "run"): (),
    ("pdm", "run"): ("-p",),
    ("conda", "run"): ("-n", "--name", "-p", "--prefix"),
    ("mamba", "run"): ("-n", "--name", "-p", "--prefix"),
    ("micromamba", "run"): ("-n", "--name", "-p", "--prefix"),
}
_DEEPEST = 4  # scripts within scripts


class Call(NamedTuple):
    """A command that a RUN runs."""

    name: str  # the last part of its path; `pip` for pip3 and python -m pip
    words: tuple[str, ...]  # its arguments
    settings: Mapping[str, str] = {}  # assignments before it
    directory: str = "/"  # that it runs in
    is_certain: bool = True  # it runs whenever the RUN does
    written: tuple[str, ...] = ()  # files that its output goes to
    path: str = ""  # as it stands there

    def has(self, *options: str) -> bool:
        """Return whether it has one of these arguments, or a long option of that name with a value."""
        return any(word in options or word.partition("=")[0] in options for word in self.words)

    def value(self, *options: str) -> str:
        """Return the value of an option; empty: it has none."""
        for place, word in enumerate(self.words):
            name, equals, value = word.partition("=")
            if name in options and equals:
                return value
            if word in options:
                return next(iter(self.words[place + 1 :]), "")
        return ""

    @property
    def operands(self) -> tuple[str, ...]:
        """Return its arguments that are no options. The value of an option counts as one."""
        return tuple(word for word in self.words if not word.startswith("-"))


def calls_of(
    instruction: Instruction, directory: str, variables: Mapping[str, str], shell: tuple[str, ...] = ()
) -> tuple[Call, ...]:
    """Return the commands of a RUN, in their order.

    Args:
        directory: that it begins in.
        variables: ARG and ENV.
        shell: of the last SHELL; empty: the default one.
    """
    if shell and _OTHER_SHELLS.search(shell[0]):
        return ()
    if instruction.is_json:
        return (
            tuple(_named([*instruction.arguments], {}, directory, True, (), variables, 0))
            if instruction.arguments
            else ()
        )
    if not instruction.arguments:
        return ()
    calls = calls_in(instruction.arguments[0], directory, variables)
    if len(instruction.heredocs) != 1:
        return calls
    content = instruction.heredocs[0].content
    if not calls:
        return _of_script(content, directory, variables)
    fed = calls[0]
    if len(calls) == 1 and fed.name == "python" and not any(word.startswith("-c") for word in fed.words):
        return (fed._replace(words=("-c", content)),)
    if len(calls) == 1 and fed.name in _SHELLS:
        return calls_in(content, directory, variables)
    return calls


def _of_script(content: str, directory: str, variables: Mapping[str, str]) -> tuple[Call, ...]:
    first, _, rest = content.partition("\n")
    if not first.startswith("#!"):
        return calls_in(content, directory, variables)
    program = _plain_name(next(iter(reversed(first[2:].split("#")[0].replace("env -S", "env").split())), ""))
    if program == "python":
        return (Call("python", ("-c", rest), {}, directory),)
    return calls_in(rest, directory, variables) if program in _SHELLS or program.startswith("-") else ()


def calls_in(
    text: str, directory: str = "/", variables: Mapping[str, str] | None = None, depth: int = 0
) -> tuple[Call, ...]:
    """Return the commands of a script, in their order; none if it cannot be read."""
    try:
        return tuple(_Reader(directory, dict(variables or {}), depth).calls(_tokens(text)))
    except (ValueError, RecursionError):
        return ()


def _tokens(text: str) -> Iterator[str]:
    """Yield words, and operators with a zero byte before them.

    Raises:
        ValueError: a quote is not closed.
    """
    text = re.sub(r"(?m)^[ \t]*#.*$", "", text.replace("\\\n", "").replace("\0", ""))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace_split = True
    lexer.whitespace = " \t\r"
    lexer.commenters = ""
    for part in lexer:
        if part and not part.strip(_PUNCTUATION):
            yield from ("\0" + operator for operator in _OPERATORS.findall(part))
        else:
            yield part


class _Reader:
    def __init__(self, directory: str, variables: dict[str, str], depth: int) -> None:
        self._directory = directory
        self._variables = variables
        self._depth = depth
        self._blocks: list[str] = []
        self._is_alternative = False  # it comes after ||, or after the && of a test
        self._has_function = False  # from here on nothing is certain

    def calls(self, tokens: Iterable[str]) -> Iterator[Call]:
        words: list[str] = []
        written: list[str] = []
        redirection = ""
        skipped = 0  # open brackets of a substitution
        for part in [*tokens, "\0\n"]:
            operator = part[1:] if part.startswith("\0") else ""
            if skipped:
                skipped += (operator == "(") - (operator == ")")
            elif not operator:
                if redirection:
                    if ">" in redirection and "&" not in redirection[1:]:
                        written.append(self._expanded(part)[0])
                    redirection = ""
                elif part == "#" or (part.startswith("#") and not words):
                    raise ValueError("a comment among commands")  # where it ends is not known here
                else:
                    words.append(part)
            elif set(operator) & set("<>"):
                redirection = operator
                if words and re.fullmatch("[0-9]", words[-1]):
                    words.pop()
            elif operator == "(" and (redirection or (words and words[-1].endswith(("$", "=")))):
                skipped = 1
                if not redirection:
                    words[-1] += "()"
                redirection = ""
            elif operator == "(" and words:
                self._has_function = True
                words = []
            else:
                found = [*self._finished(words, written)]
                yield from found
                self._continue(operator, found)
                words, written, redirection = [], [], ""

    def _continue(self, operator: str, found: list[Call]) -> None:
        if operator == "||":
            self._is_alternative = True
        elif operator == "&&":
            is_test = bool(found) and found[-1].name in _TESTS
            self._is_alternative = is_test
        elif operator != "|":
            self._is_alternative = False

    def _finished(self, words: list[str], written: list[str]) -> Iterator[Call]:
        """Yield the command that these words are, without the keywords before it."""
        while words:
            word = words[0]
            if word in _OPENING:
                self._blocks.append(word)
                if word in ("for", "case", "select"):
                    return
            elif self._blocks and word == _OPENING[self._blocks[-1]]:
                self._blocks.pop()
            elif word not in _INNER:
                break
            words = words[1:]
        if not words:
            return
        is_certain = not (self._is_alternative or self._has_function or set(self._blocks) & _DOUBTFUL)
        expanded = [each for word in words for each in self._expanded(word)]
        settings: dict[str, str] = {}
        while expanded and (match := _ASSIGNMENT.fullmatch(expanded[0])):
            settings[match[1]] = match[2]
            expanded = expanded[1:]
        if not expanded or expanded[0] in ("export", "declare", "readonly"):
            matches = (_ASSIGNMENT.fullmatch(word) for word in expanded[1:])
            self._variables.update({**settings, **{match[1]: match[2] for match in matches if match}})
            return
        for call in _named(
            expanded, settings, self._directory, is_certain, tuple(written), self._variables, self._depth
        ):
            if call.name == "cd" and is_certain and call.operands:
                self._directory = os.path.normpath(os.path.join(self._directory, call.operands[0]))
            yield call

    def _expanded(self, word: str) -> list[str]:
        if _VARIABLE.fullmatch(word):
            value = _substituted(word, self._variables)
            return value.split() or [value]
        return [_substituted(word, self._variables)]


def _substituted(word: str, variables: Mapping[str, str]) -> str:
    """Return a word with the variables that are known."""
    if "$" not in word:
        return word

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1] or match[2], match[0])

    simple = _VARIABLE.sub(value, word)
    if "${" not in simple:
        return simple
    try:  # ${NAME:-default}
        expanded = dockerfile_words.expand(simple, variables)
    except dockerfile_words.WordError:
        return simple
    return simple if expanded.unset - set(variables) and ":-" not in simple else expanded.text


def _named(
    words: list[str],
    settings: dict[str, str],
    directory: str,
    is_certain: bool,
    written: tuple[str, ...],
    variables: Mapping[str, str],
    depth: int,
) -> Iterator[Call]:
    """Yield the command that these words are, or those of the script that they give to a shell."""
    while words:
        name = _plain_name(words[0])
        valued = _WRAPPERS.get(name)
        taken = 1
        if valued is None and len(words) > 1:
            valued = _RUNNERS.get((name, words[1]))
            taken = 2
        if valued is None:
            break
        words = _without_options(words[taken:], valued)
        while words and (match := _ASSIGNMENT.fullmatch(words[0])):
            settings = {**settings, match[1]: match[2]}
            words = words[1:]
    if not words:
        return
    path, *rest = words
    name = _plain_name(path)
    if name in _SHELLS and depth < _DEEPEST:
        place = next((number for number, word in enumerate(rest) if re.fullmatch(r"-[a-z]*c", word)), None)
        if place is not None:
            for call in calls_in(next(iter(rest[place + 1 :]), ""), directory, variables, depth + 1):
                yield call._replace(is_certain=call.is_certain and is_certain, settings={**settings, **call.settings})
            return
    if name == "python" and rest[:1] == ["-m"] and len(rest) > 1 and rest[1] in ("pip", "uv", "poetry"):
        name, rest = rest[1], rest[2:]
    yield Call(name, tuple(rest), settings, directory, is_certain, written, path)


def _without_options(words: list[str], valued: tuple[str, ...]) -> list[str]:
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] in valued else words[1:]
    return words


def _plain_name(path: str) -> str:
    """
    >>> _plain_name("/opt/venv/bin/pip3.11"), _plain_name("python3"), _plain_name("apt-get")
    ('pip', 'python', 'apt-get')
    """
    name = path.rpartition("/")[2]
    match = re.fullmatch(r"(python|pip)[0-9.]*", name)
    return match[1] if match else name
