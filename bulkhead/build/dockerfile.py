"""Read Dockerfiles, .dockerignore and the build context."""

from __future__ import annotations

import contextlib
import os
import re
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FILES = 200_000  # files of a context that are counted


def text_of(path: str) -> str | None:
    """Return the content of a file; None if there is none. Leave a pipe unread: only docker could read it then."""
    try:
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
    except OSError:
        pass
    return None


# -- the Dockerfile


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments. Lines of a here-document count as instructions too."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\[ \t]*\n", " ", "\n".join(lines))
    words = [line.split(maxsplit=1) for line in whole.splitlines() if line.strip()]
    return [(name.upper(), rest[0] if rest else "") for name, *rest in words]


def base_images(steps: Iterable[tuple[str, str]], build_args: Mapping[str, str]) -> list[str]:
    """Return the base images of a Dockerfile's stages, once each. An unknown variable in a name stays as it is."""
    known: dict[str, str] = {}
    stages = {"scratch"}
    images: dict[str, None] = {}
    for name, rest in steps:
        if name == "ARG":
            variable, equals, default = rest.strip().partition("=")
            if equals or variable in build_args:
                known.setdefault(variable, build_args.get(variable, default.strip("\"'")))
        elif name == "FROM":
            image, *alias = [word for word in rest.split() if not word.startswith("--")] or [""]
            image = string.Template(image).safe_substitute(known)
            if image.lower() not in stages:
                images[image] = None
            if len(alias) == 2:
                stages.add(alias[1].lower())
    return [*images]


# -- the context


def context_size(directory: str, dockerfile: str = "") -> tuple[int, bool]:
    """Return the bytes that Docker would be sent, and whether that is all: of a huge context only a part is counted."""
    rules = _rules(directory, dockerfile)
    has_exceptions = any(is_exception for is_exception, _ in rules)
    total = files = 0
    for place, directories, names in os.walk(directory):
        below = os.path.relpath(place, directory)
        prefix = "" if below == "." else f"{below}/"
        if not has_exceptions:
            directories[:] = [name for name in directories if not is_ignored(prefix + name, rules)]
        for name in names:
            if not is_ignored(prefix + name, rules):
                files += 1
                with contextlib.suppress(OSError):  # it was removed meanwhile
                    total += os.lstat(os.path.join(place, name)).st_size
        if files > _FILES:
            return total, False
    return total, True


Rules = list[tuple[bool, "re.Pattern[str]"]]  # whether a rule is an exception, and what it matches


def _rules(directory: str, dockerfile: str) -> Rules:
    for path in (f"{dockerfile}.dockerignore", os.path.join(directory, ".dockerignore")):
        if (text := text_of(path)) is not None:
            return ignore_rules(text)
    return []


def ignore_rules(text: str) -> Rules:
    """Return the rules of a .dockerignore. Character sets in brackets are not supported: they match nothing."""
    rules = []
    for line in text.splitlines():
        pattern = line.strip()
        if pattern and not line.startswith("#"):
            is_exception, pattern = pattern.startswith("!"), pattern.removeprefix("!").strip()
            parts = re.split(r"(\*\*/?|\*|\?)", os.path.normpath(pattern).lstrip("/"))
            expression = "".join(_WILDCARDS.get(part) or re.escape(part) for part in parts)
            rules.append((is_exception, re.compile(f"{expression}(/.*)?", re.DOTALL)))
    return rules


_WILDCARDS = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def is_ignored(path: str, rules: Rules) -> bool:
    """Return whether a path is ignored: the last rule decides that matches it or one of its directories."""
    return not next((is_exception for is_exception, rule in reversed(rules) if rule.fullmatch(path)), True)
