"""Read the text of a Dockerfile into instructions: a port of BuildKit's frontend/dockerfile/parser and instructions.

What Docker refuses is refused, in a sentence with the file and the line.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.dockerfile import words
from bulkhead.dockerfile.patterns import SPACES
from bulkhead.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLANKS = re.compile(r"[\t\v\f\r ]+")
_HEREDOC = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)")
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_LONGEST = 64 * 1024  # bytes of a line (bufio.MaxScanTokenSize)

_LIST, _BOOLEAN, _TEXT = "list", "boolean", "text"  # kinds of flags
_FLAGS: dict[str, dict[str, str]] = {
    "ADD": {
        **dict.fromkeys(("chown", "chmod", "checksum"), _TEXT),
        **dict.fromkeys(("link", "keep-git-dir", "unpack"), _BOOLEAN),
        "exclude": _LIST,
    },
    "COPY": {
        **dict.fromkeys(("chown", "from", "chmod"), _TEXT),
        **dict.fromkeys(("link", "parents"), _BOOLEAN),
        "exclude": _LIST,
    },
    "FROM": {"platform": _TEXT},
    "HEALTHCHECK": dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), _TEXT),
    "RUN": {"mount": _LIST, "network": _TEXT, "security": _TEXT, "device": _LIST},
}
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")


class DockerfileError(Problem):
    """A Dockerfile that Docker refuses, or that is not Docker's own. The message has the file and, where there is one, the line."""


class Heredoc(NamedTuple):
    """A file that stands in the Dockerfile itself."""

    name: str
    content: str = ""
    expands: bool = True  # whether variables in it are substituted
    chomps: bool = False  # whether it loses the tabs at the beginning of its lines


class Instruction(NamedTuple):
    """An instruction of a Dockerfile."""

    name: str  # in capitals
    arguments: tuple[str, ...]
    flags: tuple[tuple[str, str], ...]  # name and value; the value of one without is empty
    line: int  # the first one, from 1
    end: int  # the last one
    is_json: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    text: str = ""  # of the instruction, on one line, without its heredocs
    trigger: Instruction | None = None  # of an ONBUILD

    def flag(self, name: str) -> str:
        """Return the value of a flag; empty if it is not there."""
        return next((value for each, value in self.flags if each == name), "")

    @property
    def sources(self) -> tuple[str, ...]:
        """Return what an ADD or a COPY copies, without its heredocs."""
        return tuple(each for each in self.arguments[:-1] if not _is_heredoc(each))


class Dockerfile(NamedTuple):
    """The instructions of a Dockerfile."""

    name: str  # of the file, for messages
    instructions: tuple[Instruction, ...]
    escape: str


def parse(content: bytes, name: str = "Dockerfile") -> Dockerfile:
    """Read a Dockerfile.

    Args:
        name: of the file, for messages.

    Raises:
        DockerfileError: Docker refuses it, or its `# syntax=` names a frontend that is not Docker's own.
    """
    _refuse_other_frontends(content, name)
    reader = _LineReader(content, name)
    instructions = tuple(reader.instructions())
    if not instructions:
        raise DockerfileError(f"{name} has no instructions")
    return Dockerfile(name, instructions, reader.escape)


def heredoc_of(word: str) -> Heredoc | None:
    """Return the heredoc that a word begins; None if it begins none (ParseHeredoc).

    Raises:
        WordError: a quote is not closed.
    """
    match = _HEREDOC.fullmatch(word)
    if not match or not match[3]:
        return None
    parts = words.split(match[3])
    if len(parts) != 1:
        return None
    raw = words.split(match[3], raw_quotes=True)[0]
    is_quoted = sum(raw.count(quote) - parts[0].count(quote) for quote in "'\"") != 0
    return Heredoc(parts[0], expands=not is_quoted, chomps=bool(match[2]))


def _is_heredoc(word: str) -> bool:
    try:
        return heredoc_of(word) is not None
    except words.WordError:
        return False


def _refuse_other_frontends(content: bytes, name: str) -> None:
    """Refuse what another frontend reads (DetectSyntax)."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    if text.startswith("#!"):
        text = text.partition("\n")[2]
    syntax = ""
    for sign in ("#", "//"):
        for line in text.split("\n"):
            match = _DIRECTIVE.fullmatch(line.removeprefix(sign).strip(SPACES)) if line.startswith(sign) else None
            if not match or match[1].lower() not in ("syntax", "escape", "check"):
                break
            if match[1].lower() == "syntax":
                syntax = syntax or match[2].split()[0]
    frontend = syntax.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if frontend not in ("", "dockerfile", "dockerfile-upstream"):
        raise DockerfileError(f"{name} is not read by Docker's own frontend but by {syntax}, as its first lines say")


class _LineReader:
    def __init__(self, content: bytes, name: str) -> None:
        text = content.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
        self._lines = re.findall(r"[^\n]*\n|[^\n]+", text)
        self._name = name
        self._place = 0  # lines that are read
        self._directives: set[str] | None = set()  # None: there can be no more of them
        self.escape = "\\"

    def instructions(self) -> Iterator[Instruction]:
        while self._place < len(self._lines):
            line = self._line(strips=True)
            start = self._place
            line, goes_on = self._continued(line)
            if not goes_on and not line:
                continue
            while goes_on and self._place < len(self._lines):
                following = self._line(strips=False)
                if following.strip(SPACES):
                    following, goes_on = self._continued(following)
                    line += following
            yield self._with_heredocs(self._instruction(line, start), line)

    def _line(self, strips: bool) -> str:
        """Return the next line; an empty one for a comment."""
        line = self._lines[self._place]
        self._place += 1
        if len(line.encode(errors="surrogateescape")) > _LONGEST:
            raise self._error(self._place, "the line is longer than 65,535 bytes")
        line = line.rstrip("\r\n")
        if strips:
            line = line.lstrip(SPACES)
        self._read_directive(line)
        return "" if line.lstrip(SPACES).startswith("#") else line

    def _read_directive(self, line: str) -> None:
        """Read a parser directive. Only the first lines of the file can be some, and none of these a comment."""
        if self._directives is None:
            return
        match = _DIRECTIVE.fullmatch(line[1:].lstrip(SPACES)) if line.startswith("#") else None
        name = match[1].lower() if match else ""
        if not match or name not in ("syntax", "escape", "check"):
            self._directives = None
            return
        if name in self._directives:
            raise self._error(self._place, f"only one {name} directive can be used")
        self._directives.add(name)
        if name == "escape":
            if match[2] not in ("\\", "`"):
                raise self._error(self._place, f"the escape character must be \\ or `, not {match[2]}")
            self.escape = match[2]

    def _continued(self, line: str) -> tuple[str, bool]:
        """Return a line without the escape character at its end, and whether it goes on in the next one."""
        stripped = line.rstrip(" \t")
        if stripped.endswith(self.escape) and not stripped.endswith(2 * self.escape):
            return stripped[:-1], True
        return line, False

    def _error(self, line: int, text: str) -> DockerfileError:
        return DockerfileError(f"{self._name}:{line}: {text}")

    def _instruction(self, line: str, start: int) -> Instruction:
        try:
            return _instruction(line, start, self._place, self.escape)
        except ValueError as error:
            raise self._error(start, str(error)) from None

    def _with_heredocs(self, instruction: Instruction, line: str) -> Instruction:
        """Return an instruction with the heredocs that follow it."""
        inner = instruction.trigger or instruction
        if inner.name not in _WITH_HEREDOCS or "<<" not in line:
            return instruction
        found = []
        for heredoc in self._heredocs(line, instruction.line):
            content: list[str] = []
            while True:
                if self._place == len(self._lines):
                    raise self._error(instruction.line, f"the heredoc {heredoc.name} does not end")
                following = self._lines[self._place]
                self._place += 1
                end = following.rstrip("\r\n")
                if (end.lstrip("\t") if heredoc.chomps else end) == heredoc.name:
                    break
                content.append(following)
            found.append(heredoc._replace(content="".join(content)))
        instruction = instruction._replace(heredocs=tuple(found), end=self._place)
        if instruction.trigger:
            trigger = instruction.trigger._replace(heredocs=tuple(found), end=self._place)
            return instruction._replace(trigger=trigger)
        return instruction

    def _heredocs(self, line: str, start: int) -> list[Heredoc]:
        try:
            found = words.split(line, raw_quotes=True, raw_escapes=True)
        except words.WordError:  # not Docker's business here either: a shell may know what it means
            return []
        try:
            return [heredoc for heredoc in map(heredoc_of, found) if heredoc]
        except words.WordError as error:
            raise self._error(start, str(error)) from None


# -- one instruction


def _instruction(line: str, start: int, end: int, escape: str) -> Instruction:
    """Read an instruction.

    Raises:
        ValueError: Docker refuses it. The message is a sentence.
    """
    name, *rest = _BLANKS.split(line.strip(SPACES), maxsplit=1)
    name = name.upper()
    if name not in _READERS:
        raise ValueError(_unknown(name))
    flags, text = _flags(rest[0] if rest else "", escape)
    text = text.strip(SPACES)
    if name == "ONBUILD":
        return _trigger(text, start, end, escape, flags, line)
    arguments, is_json = _READERS[name](text, escape)
    instruction = Instruction(
        name, tuple(arguments), _checked_flags(name, flags), start, end, is_json, text=line.strip(SPACES)
    )
    _check(instruction)
    return instruction


def _unknown(name: str) -> str:
    import difflib

    similar = difflib.get_close_matches(name, _READERS, n=1)
    return f"there is no instruction {name}" + (f". Did you mean {similar[0]}?" if similar else "")


def _trigger(text: str, start: int, end: int, escape: str, flags: list[str], line: str) -> Instruction:
    _checked_flags("ONBUILD", flags)
    name = text.split(maxsplit=1)[0].upper() if text else ""
    if not name:
        raise ValueError("ONBUILD needs an instruction")
    if name in ("ONBUILD", "MAINTAINER", "FROM"):
        raise ValueError(f"ONBUILD cannot have {name}")
    trigger = _instruction(text, start, end, escape)
    return Instruction("ONBUILD", (), (), start, end, text=line.strip(SPACES), trigger=trigger)


def _flags(text: str, escape: str) -> tuple[list[str], str]:
    """Split the flags before the arguments from these (extractBuilderFlags)."""
    flags: list[str] = []
    place = 0
    while True:
        while place < len(text) and text[place] in SPACES:
            place += 1
        if not text.startswith("--", place):
            return flags, text[place:]
        word, quote = "", ""
        while place < len(text) and (quote or text[place] not in SPACES):
            letter = text[place]
            place += 1
            if quote and letter == quote:
                quote = ""
            elif not quote and letter in "'\"":
                quote = letter
            elif letter == escape:
                word += text[place : place + 1]
                place += 1
            else:
                word += letter
        if word == "--":
            return flags, text[place:]
        flags.append(word)


def _checked_flags(name: str, flags: list[str]) -> tuple[tuple[str, str], ...]:
    """Return flags as pairs (BFlags.Parse)."""
    if name == "STOPSIGNAL":  # Docker does not look at its flags
        return ()
    known = _FLAGS.get(name, {})
    found: list[tuple[str, str]] = []
    for flag in flags:
        key, equals, value = flag[2:].partition("=")
        kind = known.get(key)
        if kind is None:
            has = f"it has {', '.join(f'--{each}' for each in known)}" if known else "it has none"
            raise ValueError(f"{name} has no flag --{key}; {has}")
        if kind != _LIST and any(key == each for each, _ in found):
            raise ValueError(f"the flag --{key} is there twice")
        if kind == _BOOLEAN:
            if (equals and not value) or value.lower() not in ("", "true", "false"):
                raise ValueError(f"the flag --{key} must be true or false, not {value or 'empty'}")
            value = value.lower() or "true"
        elif not equals:
            raise ValueError(f"the flag --{key} needs a value")
        found.append((key, value))
    return tuple(found)


Arguments = tuple[list[str], bool]  # and whether they were written as JSON


def _json(text: str) -> list[str] | None:
    """Return the texts of a JSON array; None if it is none (parseJSON).

    Raises:
        ValueError: it is an array of something else.
    """
    if not text.startswith("["):
        return None

    def refuse(_: str) -> None:
        raise json.JSONDecodeError("", "", 0)

    try:
        values = json.loads(text, parse_constant=refuse)
    except (json.JSONDecodeError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        raise ValueError("a JSON array must have strings only")
    return [str(value) for value in values]


def _blank_separated(text: str, _: str) -> Arguments:
    return _BLANKS.split(text) if text else [], False


def _one_text(text: str, _: str) -> Arguments:
    return [text] if text else [], False


def _json_or_text(text: str, _: str) -> Arguments:
    values = _json(text)
    return _one_text(text, "") if values is None else (values, True)


def _json_or_blank_separated(text: str, _: str) -> Arguments:
    values = _json(text)
    return _blank_separated(text, "") if values is None else (values, True)


def _health(text: str, escape: str) -> Arguments:
    kind, *rest = text.split(maxsplit=1) if text else [""]
    arguments, is_json = _json_or_text(rest[0] if rest else "", escape)
    return [kind, *arguments] if kind else [], is_json


def _assignments(text: str, escape: str) -> Arguments:
    """Return assignments (parseNameOrNameVal), quotes included."""
    return quoted_words(text, escape), False


def _pairs(name: str) -> Callable[[str, str], Arguments]:
    def read(text: str, escape: str) -> Arguments:
        """Return name=value pairs (parseNameVal). The old form has one pair without an equals sign."""
        found = quoted_words(text, escape)
        if found and "=" not in found[0]:
            parts = _BLANKS.split(text, maxsplit=1)
            if len(parts) < 2:
                raise ValueError(f"{name} needs a name and a value")
            return ["=".join(parts)], False
        for word in found:
            if "=" not in word:
                raise ValueError(f"`{word}` has no =: {name} needs name=value")
        return found, False

    return read


def quoted_words(text: str, escape: str) -> list[str]:
    """Split a text at its spaces, but not within quotes, which stay (parseWords)."""
    found: list[str] = []
    word, quote, place, is_there = "", "", 0, False
    while place < len(text):
        letter = text[place]
        place += 1
        if not quote and letter in SPACES:
            if word or is_there:
                found.append(word)
            word, is_there = "", False
            continue
        if not quote and letter in "'\"":
            quote, is_there = letter, True
        elif quote and letter == quote:
            quote = ""
        if letter == escape and quote != "'":
            if place == len(text):
                break  # an escape character at the end means nothing
            word += letter
            letter = text[place]
            place += 1
        word += letter
    return [*found, word] if word or is_there else found


_READERS: dict[str, Callable[[str, str], Arguments]] = {
    "ADD": _json_or_blank_separated,
    "ARG": _assignments,
    "CMD": _json_or_text,
    "COPY": _json_or_blank_separated,
    "ENTRYPOINT": _json_or_text,
    "ENV": _pairs("ENV"),
    "EXPOSE": _blank_separated,
    "FROM": _blank_separated,
    "HEALTHCHECK": _health,
    "LABEL": _pairs("LABEL"),
    "MAINTAINER": _one_text,
    "ONBUILD": _one_text,
    "RUN": _json_or_text,
    "SHELL": _json_or_text,
    "STOPSIGNAL": _one_text,
    "USER": _one_text,
    "VOLUME": _json_or_blank_separated,
    "WORKDIR": _one_text,
}


def _check(instruction: Instruction) -> None:
    """Refuse what instructions.Parse refuses.

    Raises:
        ValueError: the message is a sentence.
    """
    name, arguments, _, _, _, is_json, *_ = instruction
    if name in ("ADD", "COPY"):
        if len(arguments) < 2:
            raise ValueError(f"{name} needs a source and a destination")
        if _is_heredoc(arguments[-1]):
            raise ValueError(f"a heredoc cannot be the destination of {name}")
    elif name == "FROM":
        _check_from(arguments)
    elif name in ("ENV", "LABEL", "ARG"):
        if not arguments:
            raise ValueError(f"{name} needs an argument")
        if any(each.startswith("=") for each in arguments):
            raise ValueError(f"a name before = is missing in {name}")
    elif name in ("EXPOSE", "VOLUME", "HEALTHCHECK", "SHELL") and not arguments:
        raise ValueError(f"{name} needs an argument")
    elif name in ("MAINTAINER", "STOPSIGNAL", "USER", "WORKDIR") and not arguments:
        raise ValueError(f"{name} needs exactly one argument")
    elif name == "SHELL" and not is_json:
        raise ValueError('SHELL needs its arguments as JSON, such as ["/bin/bash", "-c"]')
    if name == "VOLUME" and not all(each.strip(SPACES) for each in arguments):
        raise ValueError("VOLUME cannot be empty")
    if name == "HEALTHCHECK":
        _check_health(arguments)


def _check_from(arguments: tuple[str, ...]) -> None:
    if len(arguments) == 3 and arguments[1].lower() == "as":
        if not _STAGE_NAME.fullmatch(arguments[2].lower()):
            raise ValueError(f"`{arguments[2]}` cannot be the name of a stage: it must begin with a letter")
    elif len(arguments) != 1:
        raise ValueError("FROM needs an image, or an image, AS and a name")


def _check_health(arguments: tuple[str, ...]) -> None:
    kind, count = arguments[0].upper(), len(arguments)
    if kind not in ("NONE", "CMD"):
        raise ValueError(f"HEALTHCHECK needs CMD or NONE, not {arguments[0]}")
    if kind == "NONE" and count > 1:
        raise ValueError("HEALTHCHECK NONE takes no arguments")
    if kind == "CMD" and count == 1:
        raise ValueError("HEALTHCHECK CMD needs a command")
