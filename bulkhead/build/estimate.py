"""Estimate how much space a build needs: from earlier builds on this host, else from its Dockerfile and its context."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bulkhead.build.dockerfile import base_images, context_size, instructions, text_of
from bulkhead.build.history import typical_peak, undisturbed
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
    if arguments.is_local:
        size, is_whole = context_size(arguments.context, arguments.dockerfile)
        # Docker stores the context, and a COPY stores it again in a layer.
        parts.append((2 * size, f"twice {'' if is_whole else 'more than '}{human(size)} of context"))
    text = text_of(arguments.dockerfile)
    if text is None:
        parts.append((_UNREAD, f"{human(_UNREAD)} for what cannot be read in advance"))
    else:
        steps = instructions(text)
        if missing := [name for name in base_images(steps, arguments.build_args) if not has_image(name)]:
            parts.append((len(missing) * _PER_IMAGE, f"{count(len(missing), 'image')} to pull of {human(_PER_IMAGE)}"))
        runs = sum(name == "RUN" for name, _ in steps)
        parts.append((runs * _PER_RUN, f"{count(runs, 'RUN step')} of {human(_PER_RUN)}"))
    words = " + ".join(text for _, text in parts)
    return Need(sum(size for size, _ in parts), f"an estimate: {words}; --need overrides it")


def as_option(size: int) -> str:
    """Return bytes in the form that options take, rounded up.

    >>> as_option(25 * 2**30), as_option(2**30 + 1)
    ('25G', '1025M')
    """
    return f"{size // _GIB}G" if size % _GIB == 0 else f"{-(-size // 2**20)}M"
