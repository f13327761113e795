"""Rules about what a COPY of the whole context brings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bulkhead.context.page import size
from bulkhead.dockerfile.stages import EVERYTHING
from bulkhead.review.model import INFO, WARNING, Rule
from bulkhead.text import abbreviated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.context.proposal import ProposedLine
    from bulkhead.dockerfile.stages import Copied
    from bulkhead.review.model import Image, ImageFinding

_SMALL = 2**20  # bytes of junk that are not worth a finding
_USUAL = (".git", "**/.env", "**/node_modules", "**/__pycache__")


def no_dockerignore(image: Image) -> Iterator[ImageFinding]:
    """Find a COPY of everything without a .dockerignore."""
    copied = _everything(image)
    if copied and not image.rules.path:
        lines = image.proposal.certain
        has_junk = bool(image.proposal.lines) or os.path.exists(os.path.join(image.context, ".git"))
        yield RULES[0].finding(
            copied.instruction,
            f"{copied.instruction.name} takes the whole directory, and there is no .dockerignore: {size(image.survey.sent.bytes)} are "
            f"sent{_among(lines)}. `bulkhead context --write` writes one",
            bytes=_saved(image, copied, lines),
            is_measured=True,
            level="" if has_junk else INFO,
            instead="\n".join(["# .dockerignore", *([line.text for line in lines] or _USUAL)]),
        )


def incomplete_dockerignore(image: Image) -> Iterator[ImageFinding]:
    """Find a COPY of everything that brings what no image needs."""
    copied = _everything(image)
    lines = image.proposal.certain
    if not copied or not image.rules.path or not lines:
        return
    if sum(line.bytes for line in lines) < _SMALL and not any(line.kind == "version control" for line in lines):
        return
    yield RULES[1].finding(
        copied.instruction,
        f"{copied.instruction.name} copies the whole directory, and {os.path.basename(image.rules.path)} does not exclude what no image "
        f"needs{_among(lines)}",
        bytes=_saved(image, copied, lines),
        is_measured=True,
        instead="\n".join([f"# {os.path.basename(image.rules.path)}", *(line.text for line in lines)]),
    )


def _everything(image: Image) -> Copied | None:
    """Return what copies or mounts the whole context: preferably an instruction of the result."""
    found = [each for each in image.inputs.copies if EVERYTHING in each.paths and not each.context and not each.unknown]
    return next((each for each in found if _is_in_result(image, each)), next(iter(found), None))


def _is_in_result(image: Image, copied: Copied) -> bool:
    return any(layer.instruction == copied.instruction and layer.sources for layer in image.layers)


def _among(lines: list[ProposedLine]) -> str:
    rows = [f"{line.text} {size(line.bytes)}" for line in lines]
    return f": {abbreviated(rows)}" if rows else ""


def _saved(image: Image, copied: Copied, lines: list[ProposedLine]) -> int | None:
    """Return what the image loses: of a builder's context, nothing."""
    return sum(line.bytes for line in lines) or None if _is_in_result(image, copied) else None


RULES = (
    Rule(
        "no-dockerignore",
        WARNING,
        "Everything is copied, and there is no .dockerignore",
        no_dockerignore,
        needs_context=True,
    ),
    Rule(
        "incomplete-dockerignore",
        WARNING,
        ".dockerignore leaves in the context what no image needs",
        incomplete_dockerignore,
        needs_context=True,
    ),
)
