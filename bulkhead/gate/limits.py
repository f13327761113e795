"""Limits for builds: from a file in the repository, and from the command line. Pure, but for reading the file.

The file is an INI file: it can have comments, it needs no quotes, and Python 3.10 reads it without a package. JSON has no
comments, and TOML is in the standard library only from 3.11 on.
"""

from __future__ import annotations

import configparser
import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.errors import Problem
from bulkhead.sizes import Size

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = ".bulkhead.ini"
_SECTION = "gate"  # and "gate NAME" for the images of a name
_PERCENT = re.compile(r"(\d{1,15}(?:\.\d+)?) ?%")
_WITH_TAG = re.compile(r"(?!.*://)\S*:[^/\s]*")  # not the address of a context

SIZES = ("peak", "image", "compressed", "context", "wasted", "models", "increase")
NAMES = (*SIZES, "layers")
_RELATIVE = ("wasted", "increase")  # these can be percentages: of the image, of the last good one


class BadLimits(Problem):
    """A file with limits cannot be used. The message names it."""


class Limit(NamedTuple):
    """What is allowed of a figure."""

    name: str
    amount: int = 0  # bytes, or a number of layers
    percent: float | None = None  # in its place, of what the figure is a part of

    @classmethod
    def parse(cls, name: str, text: str) -> Limit:
        """Read a limit.

        Raises:
            ValueError: it is none. The message says what is allowed.
        """
        text = text.strip()
        if name == "layers":
            if not text.isdecimal():
                raise ValueError(f"layers must be a number, not {text!r}")
            return cls(name, int(text))
        if name in _RELATIVE and (match := _PERCENT.fullmatch(text)):
            return cls(name, percent=float(match[1]))
        if text == "0":
            return cls(name)
        try:
            size = Size.parse(text)
        except ValueError:
            size = None
        if size is None or not size.bytes:
            percentage = ", or a percentage such as 10%" if name in _RELATIVE else ""
            raise ValueError(f"{name} must be a size such as 500M or 12G{percentage}, not {text!r}")
        return cls(name, size.bytes)


Limits = dict[str, Limit]


def read(path: str, image: str) -> Limits:
    """Return the limits of a file for an image: those of [gate], and over them those of [gate IMAGE].

    Args:
        image: its name without a tag.

    Raises:
        BadLimits: the file cannot be read, or has something else than limits.
    """
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"), default_section="")
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise BadLimits(f"{path} cannot be read: {error.strerror}") from None
    except (configparser.Error, ValueError) as error:
        raise BadLimits(f"{path} is no INI file: {' '.join(str(error).split())}") from None
    sections = [
        name for name in parser.sections() if name.lower().lstrip().startswith(_SECTION)
    ]  # others are of others
    if not sections:
        raise BadLimits(f"{path} has no section [{_SECTION}]")
    given: dict[str, str] = {}
    for section in sorted(sections, key=len):
        word, _, name = " ".join(section.split()).partition(" ")
        if word != _SECTION or _WITH_TAG.fullmatch(name):  # it would limit nothing
            raise BadLimits(
                f"{path}: [{section}] must be [{_SECTION}] or [{_SECTION} IMAGE], with the image's name without a tag"
            )
        unknown = [each for each in parser[section] if each not in NAMES]
        if unknown:
            raise BadLimits(f"{path}: [{section}] has no limit {unknown[0]}. Choose from {', '.join(NAMES)}")
        if name in ("", image):
            given |= parser[section]
    try:
        return of_values(given)
    except ValueError as error:
        raise BadLimits(f"{path}: {error}") from None


def of_values(given: Mapping[str, str | None]) -> Limits:
    """Read limits by their names; None is no limit.

    Raises:
        ValueError: one is none. The message says what is allowed.
    """
    return {name: Limit.parse(name, text) for name, text in given.items() if text is not None}
