"""How much room a build needs: what it took before on this host, else what its Dockerfile and its context lead to expect."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.build.dockerfile import base_images, context_size, instructions, text_of
from bulkhead.docker.running_builds import without_user
from bulkhead.sizes import human
from bulkhead.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bulkhead.build.history import History

_GIB = 2**30
_PER_RUN = _GIB
_PER_IMAGE = 2 * _GIB  # to pull: an engine does not tell sizes of what it has not
_UNREAD = 5 * _GIB  # of what cannot be read beforehand
_MARGIN = 10  # percent

# Options of `docker build` that take no value; every other takes one.
_FLAGS = {
    *("check", "compress", "debug", "disable-content-trust", "force-rm", "help", "load", "no-cache", "pull", "push"),
    *("quiet", "rm", "squash", "stream"),
}

_LETTERS = {"t": "tag", "f": "file", "q": "quiet", "D": "debug", "h": "help"}
_REMOTE = re.compile(r"[a-z+-]+://|git@|github\.com/")


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
    text = text_of(arguments.dockerfile)
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


def as_option(size: int) -> str:
    """Bytes as options have them, rounded up.

    >>> as_option(25 * 2**30), as_option(2**30 + 1)
    ('25G', '1025M')
    """
    return f"{size // _GIB}G" if size % _GIB == 0 else f"{-(-size // 2**20)}M"
