"""How much room a build needs: what it took before on this host, else what its Dockerfile and its context lead to expect."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import string
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bulkhead import journal, state
from bulkhead.builds import without_user
from bulkhead.system import count
from sizes import human

HISTORY = "builds"

_GIB = 2**30
_PER_RUN = _GIB
_PER_IMAGE = 2 * _GIB  # to pull: an engine does not tell sizes of what it has not
_UNREAD = 5 * _GIB  # of what cannot be read beforehand
_FILES = 200_000  # of a context that are counted
_MARGIN = 10  # percent
_BUILDS = 5  # of one image that are remembered
_LONG = 30 * 86400  # seconds
_IMAGES = 100  # whose builds are remembered

# Options of `docker build` that take no value; every other takes one.
_FLAGS = {
    *("check", "compress", "debug", "disable-content-trust", "force-rm", "help", "load", "no-cache", "pull", "push"),
    *("quiet", "rm", "squash", "stream"),
}
_LETTERS = {"t": "tag", "f": "file", "q": "quiet", "D": "debug", "h": "help"}
_REMOTE = re.compile(r"[a-z+-]+://|git@|github\.com/")

Build = dict[str, Any]  # "time", "peak": bytes above the start, "size": of the image, or None
History = dict[str, list[Build]]  # by the key of what was built, the latest build last


# -- what is asked for


class Arguments(NamedTuple):
    """What the arguments of `docker build` say of the room that it takes."""

    tag: str = ""  # the first
    file: str = ""  # as --file has it
    context: str = ""
    progress: str = ""
    build_args: Mapping[str, str] = {}

    @classmethod
    def of(cls, words: Sequence[str]) -> Arguments:
        options: dict[str, list[str]] = {}
        places: list[str] = []
        following = iter(words)
        for word in following:
            if word == "--":
                places += following
            elif word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                if not equals and name not in _FLAGS:
                    value = next(following, "")
                options.setdefault(name, []).append(value)
            elif word.startswith("-") and word != "-":
                letters = word[1:]
                while letters:
                    name, letters = _LETTERS.get(letters[0], letters[0]), letters[1:]
                    if name not in _FLAGS:
                        options.setdefault(name, []).append(letters.removeprefix("=") or next(following, ""))
                        break
                    options.setdefault(name, []).append("")
            else:
                places.append(word)
        assigned = (text.partition("=") for text in options.get("build-arg", []))
        return cls(
            tag=options.get("tag", [""])[0],
            file=options.get("file", [""])[-1],
            context=without_user(places[-1]) if places else "",
            progress="quiet" if "quiet" in options else options.get("progress", [""])[-1],
            build_args={name: value if equals else os.environ.get(name, "") for name, equals, value in assigned},
        )

    @property
    def is_local(self) -> bool:
        """Whether the context is a directory of this host."""
        return self.context not in ("", "-") and (os.path.isdir(self.context) or not _REMOTE.match(self.context))

    @property
    def dockerfile(self) -> str:
        """Its path; empty where it is not a file of this host."""
        if self.file == "-" or not self.is_local:
            return ""
        return self.file or os.path.join(self.context, "Dockerfile")

    @property
    def key(self) -> str:
        """Under which its builds are remembered; empty where there is nothing to know it by.

        >>> Arguments.of(["-t", "registry:5000/app:1.2", "."]).key
        'registry:5000/app'
        """
        if self.tag:
            path, slash, name = self.tag.rpartition("/")
            return path + slash + name.partition(":")[0]
        if self.is_local:
            return f"{os.path.abspath(self.context)} {os.path.abspath(self.dockerfile or self.file)}"
        return self.context if self.context != "-" else ""


# -- the need


class Need(NamedTuple):
    bytes: int
    source: str  # in words


def need_of(asked: int | None, arguments: Arguments, history: History, has_image: Callable[[str], bool]) -> Need:
    """What a build is expected to take at its peak.

    Args:
        asked: bytes that the user gives.
        has_image: whether an image of this name is on the host.
    """
    if asked is not None:
        return Need(asked, f"--need {as_option(asked)}")
    if not arguments.context:
        return Need(0, "nothing says what is to be built")
    if builds := history.get(arguments.key):
        peak = max(int(build["peak"]) for build in builds)
        source = f"{count(len(builds), 'earlier build')} took up to {human(peak)}, and {_MARGIN} % more"
        return Need(peak * (100 + _MARGIN) // 100, source)
    return _estimate(arguments, has_image)


def _estimate(arguments: Arguments, has_image: Callable[[str], bool]) -> Need:
    parts: list[tuple[int, str]] = []
    if arguments.is_local:
        size, is_whole = context_size(arguments.context, arguments.dockerfile)
        # Docker takes it over, and a COPY puts it into a layer.
        parts.append((2 * size, f"twice {'' if is_whole else 'more than '}{human(size)} of context"))
    text = _text_of(arguments.dockerfile)
    if text is None:
        parts.append((_UNREAD, f"{human(_UNREAD)} for what cannot be read before"))
    else:
        steps = instructions(text)
        if missing := [name for name in base_images(steps, arguments.build_args) if not has_image(name)]:
            parts.append((len(missing) * _PER_IMAGE, f"{count(len(missing), 'image')} to pull of {human(_PER_IMAGE)}"))
        runs = sum(name == "RUN" for name, _ in steps)
        parts.append((runs * _PER_RUN, f"{count(runs, 'RUN step')} of {human(_PER_RUN)}"))
    words = " + ".join(text for _, text in parts)
    return Need(sum(size for size, _ in parts), f"a guess: {words}; --need says it better")


def _text_of(path: str) -> str | None:
    """The content of a file; None where there is none, or it is a pipe, which only docker can read then."""
    try:
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
    except OSError:
        pass
    return None


def as_option(size: int) -> str:
    """Bytes as options have them, rounded up.

    >>> as_option(25 * 2**30), as_option(2**30 + 1)
    ('25G', '1025M')
    """
    return f"{size // _GIB}G" if size % _GIB == 0 else f"{-(-size // 2**20)}M"


# -- the Dockerfile


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with what follows it. Lines of a here-document count as some, too."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\[ \t]*\n", " ", "\n".join(lines))
    words = [line.split(maxsplit=1) for line in whole.splitlines() if line.strip()]
    return [(name.upper(), rest[0] if rest else "") for name, *rest in words]


def base_images(steps: Iterable[tuple[str, str]], build_args: Mapping[str, str]) -> list[str]:
    """The images that a Dockerfile begins its stages from, once each. What is unknown in a name stays a variable."""
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
    """Bytes of what Docker would be sent, and whether that is all: the rest of a huge one is not counted."""
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
                with contextlib.suppress(OSError):  # it has gone meanwhile
                    total += os.lstat(os.path.join(place, name)).st_size
        if files > _FILES:
            return total, False
    return total, True


Rules = list[tuple[bool, "re.Pattern[str]"]]  # whether it is an exception, and what it matches


def _rules(directory: str, dockerfile: str) -> Rules:
    for path in (f"{dockerfile}.dockerignore", os.path.join(directory, ".dockerignore")):
        if (text := _text_of(path)) is not None:
            return ignore_rules(text)
    return []


def ignore_rules(text: str) -> Rules:
    """The lines of a .dockerignore. A set of characters in brackets is not understood, and matches nothing."""
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
    """By the last line that matches it, or a directory that it is in."""
    return not next((is_exception for is_exception, rule in reversed(rules) if rule.fullmatch(path)), True)


# -- what is remembered


def with_build(history: History, key: str, build: Build) -> History:
    """The history with one more build.

    One whose steps come from the cache takes next to nothing, and tells nothing of the next: beside the latest, the largest
    of a month stays.
    """
    builds = [*history.get(key, []), build]
    latest = builds[-_BUILDS:]
    month = [each for each in builds if each["time"] > build["time"] - _LONG]
    largest = max(month, key=lambda each: int(each["peak"]))
    kept = latest if largest in latest else [largest, *latest[1:]]
    others = sorted((pair for pair in history.items() if pair[0] != key), key=lambda pair: float(pair[1][-1]["time"]))
    return {**dict(others[1 - _IMAGES :]), key: kept}


def load() -> History:
    """What is remembered; nothing of what is damaged."""
    if os.geteuid() == 0:
        values = state.load(HISTORY)
    else:
        try:
            with open(_path(), encoding="utf-8") as file:
                values = json.load(file)
        except (OSError, ValueError):
            values = {}
    return {key: builds for key, builds in values.items() if _is_sound(builds)} if isinstance(values, dict) else {}


def _is_sound(builds: object) -> bool:
    return (
        isinstance(builds, list)
        and bool(builds)
        and all(isinstance(build, dict) and {"time", "peak", "size"} <= build.keys() for build in builds)
        and all(isinstance(build[name], (int, float)) for build in builds for name in ("time", "peak"))
    )


def remember(key: str, peak: int, size: int | None) -> None:
    """
    Args:
        peak: bytes that a build has taken.
        size: of its image.

    Raises:
        OSError: it can be kept nowhere.
    """
    with _alone():
        history = with_build(load(), key, {"time": time.time(), "peak": peak, "size": size})
        if os.geteuid() == 0:
            state.save(HISTORY, history)
        else:
            journal.replace_file(_path(), json.dumps(history), 0o600)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    if os.geteuid() == 0:
        with state.locked(HISTORY, 5):
            yield
        return
    os.makedirs(os.path.dirname(_path()), mode=0o700, exist_ok=True)
    with open(f"{_path()}.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _path() -> str:
    """The file of a user who is not root."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{base}/bulkhead/{HISTORY}.json"
