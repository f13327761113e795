"""Estimate how much space a build needs: from earlier builds on this host, else from its Dockerfile and its context."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.build.history import typical_peak, undisturbed
from bulkhead.dockerfile import stages, syntax
from bulkhead.dockerfile.context import SENT, Selection, content_of, ignore_file_of, walk
from bulkhead.dockerfile.ignore import IgnoreRules
from bulkhead.errors import PROBLEMS, in_words
from bulkhead.sizes import human
from bulkhead.text import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.build.arguments import Arguments
    from bulkhead.build.history import Build, History

_GIB = 2**30
_PER_RUN = _GIB
_PER_IMAGE = 2 * _GIB  # to pull: the engine does not know the sizes of images that it does not have
_UNREAD = 5 * _GIB  # for a Dockerfile that cannot be read in advance
_MARGIN = 10  # percent
_FILES = 500_000  # of a context that are counted


class Need(NamedTuple):
    bytes: int
    source: str  # for people


def need_of(asked: int | None, arguments: Arguments, history: History, has_image: Callable[[str], bool]) -> Need:
    """Return what a build should need at its peak.

    Args:
        asked: bytes that the user has given.
        has_image: returns whether this host has an image of this name.
    """
    if asked is not None:
        return Need(asked, f"--need {as_option(asked)}")
    if arguments.kind == "build" and not arguments.context:
        return Need(0, "there is no build context")
    if builds := history.get(arguments.key):
        return need_of_earlier(builds)
    if arguments.kind != "build":
        return Need(_UNREAD, f"an estimate: {human(_UNREAD)} for what cannot be read in advance; --need overrides it")
    return _estimate(arguments, has_image)


def need_of_earlier(builds: list[Build]) -> Need:
    """Return what a build should need by what earlier ones took."""
    counted = undisturbed(builds)
    peak, largest = typical_peak(counted), max(int(build["peak"]) for build in counted)
    many = count(len(counted), "earlier build")
    took = f"{many} took up to {human(peak)}" if peak == largest else f"9 in 10 of {many} took up to {human(peak)}"
    return Need(peak * (100 + _MARGIN) // 100, f"{took}, and {_MARGIN} % more")


def _estimate(arguments: Arguments, has_image: Callable[[str], bool]) -> Need:
    parts: list[tuple[int, str]] = []
    inputs, unread = None, ""
    try:
        inputs = _inputs(arguments)
        if arguments.is_local:
            size, is_whole = _context_size(arguments, inputs)
            # Docker stores the context, and a COPY stores it again in a layer.
            parts.append((2 * size, f"twice {'' if is_whole else 'more than '}{human(size)} of context"))
    except PROBLEMS as error:
        unread = f" ({in_words(error)})"
    if inputs is None or unread:
        parts.append((_UNREAD, f"{human(_UNREAD)} for what cannot be read in advance{unread}"))
    else:
        if missing := [name for name in inputs.images if not has_image(name)]:
            parts.append((len(missing) * _PER_IMAGE, f"{count(len(missing), 'image')} to pull of {human(_PER_IMAGE)}"))
        parts.append((inputs.runs * _PER_RUN, f"{count(inputs.runs, 'RUN step')} of {human(_PER_RUN)}"))
    words = " + ".join(text for _, text in parts)
    return Need(sum(size for size, _ in parts), f"an estimate: {words}; --need overrides it")


def _inputs(arguments: Arguments) -> stages.BuildInputs | None:
    """Return what the build uses; None if its Dockerfile cannot be read in advance."""
    content = content_of(arguments.dockerfile)
    if content is None:
        return None
    return stages.read(syntax.parse(content, os.path.basename(arguments.dockerfile)), arguments.options)


def context_size_of(arguments: Arguments) -> tuple[int, bool]:
    """Return the bytes that Docker can be sent of a local context, and whether that is all: of a huge one a part is counted.

    Raises:
        Problem, OSError: the Dockerfile or the .dockerignore cannot be read, or Docker would refuse it.
    """
    return _context_size(arguments, _inputs(arguments))


def _context_size(arguments: Arguments, inputs: stages.BuildInputs | None) -> tuple[int, bool]:
    """Return the bytes that Docker is sent, and whether that is all: of a huge context only a part is counted."""
    contexts = [("", arguments.context, ignore_file_of(arguments.context, arguments.dockerfile))]
    for name, directory in inputs.contexts.items() if inputs else ():
        if os.path.isdir(directory):
            contexts.append((name, directory, ignore_file_of(directory)))
    is_classic = os.environ.get("DOCKER_BUILDKIT") == "0"  # the builder before BuildKit is sent everything
    total = files = 0
    for name, directory, ignore_file in contexts:
        paths = inputs.paths(name) if inputs and not is_classic else (stages.EVERYTHING,)
        for entry in walk(directory, IgnoreRules.of_file(ignore_file), Selection(directory, paths)):
            if entry.fate == SENT and not entry.is_directory:
                files, total = files + 1, total + entry.size
                if files > _FILES:
                    return total, False
    return total, True


def as_option(size: int) -> str:
    """Return bytes in the form that options take, rounded up.

    >>> as_option(25 * 2**30), as_option(2**30 + 1)
    ('25G', '1025M')
    """
    return f"{size // _GIB}G" if size % _GIB == 0 else f"{-(-size // 2**20)}M"
