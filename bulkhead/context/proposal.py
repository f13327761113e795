"""Propose lines for a .dockerignore. None takes out what the Dockerfile copies by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bulkhead.context import junk
from bulkhead.context.survey import Tally
from bulkhead.dockerfile.context import followed

if TYPE_CHECKING:
    from bulkhead.context.survey import Survey
    from bulkhead.dockerfile.ignore import IgnoreRules
    from bulkhead.dockerfile.stages import BuildInputs

_CERTAIN = "# Proposed by `bulkhead context`: no image needs what these lines name."
_DOUBTFUL = "# The image may need what these lines name. If it does not, remove the # in front of them."
_ALL = "# The Dockerfile copies what these lines name, but not by name. Remove a line if the image needs it."


class ProposedLine(NamedTuple):
    """A line for a .dockerignore, and what it takes out of what is sent."""

    text: str
    kind: str
    files: int
    bytes: int
    doubt: str  # why the image may need it; empty: it does not


class Proposal(NamedTuple):
    """Lines for a .dockerignore."""

    lines: tuple[ProposedLine, ...] = ()  # largest first
    obstacle: str = ""  # why none can be proposed

    @property
    def certain(self) -> list[ProposedLine]:
        return [line for line in self.lines if not line.doubt]

    @property
    def doubtful(self) -> list[ProposedLine]:
        return [line for line in self.lines if line.doubt]

    def chosen(self, takes_all: bool) -> list[ProposedLine]:
        """Return the lines that take effect.

        Args:
            takes_all: whether also those that an image may need.
        """
        return list(self.lines) if takes_all else self.certain


def names_of(context: str, inputs: BuildInputs | None, rules: IgnoreRules) -> junk.Names:
    """Return what must not be taken out: the sources in every stage, where links in them lead, and the user's exceptions."""
    sources = [path for each in inputs.all_copies if not each.context for path in each.paths] if inputs else []
    return junk.Names(
        context,
        [*sources, *followed(context, sources), *(pattern.text for pattern in rules.patterns if pattern.is_exception)],
    )


def propose(survey: Survey, context: str, inputs: BuildInputs | None) -> Proposal:
    """Return the lines that would take junk out of what is sent."""
    unknown = [each for each in inputs.all_copies if each.unknown and not each.context] if inputs else []
    if unknown:
        names, line = ", ".join(sorted(unknown[0].unknown)), unknown[0].instruction.line
        return Proposal(
            obstacle=f"line {line} of the Dockerfile copies a path with {names}, which only the base image can have set"
        )
    doubts = {
        text: kind.doubt if junk.is_doubtful(kind, context, inputs) else ""
        for text, kind in survey.junk_kinds.items()
        if text not in survey.refused
    }
    tallies: dict[str, Tally] = {}
    for within, tally in survey.junk.items():
        # What a certain line takes out, no doubtful one need take out.
        known = sorted((text for text in within if text in doubts), key=lambda text: bool(doubts[text]))
        if known:
            tallies.setdefault(known[0], Tally()).add(tally.files, tally.bytes)
    lines = [
        ProposedLine(text, survey.junk_kinds[text].name, tally.files, tally.bytes, doubts[text])
        for text, tally in tallies.items()
    ]
    return Proposal(tuple(sorted(lines, key=lambda line: (-line.bytes, -line.files, line.text))))


def text_of(content: bytes, proposal: Proposal, takes_all: bool) -> bytes:
    """Return the content of a .dockerignore with the proposed lines at its end.

    Args:
        content: that it has now.
        takes_all: whether the lines that an image may need take effect too.
    """
    known = set(content.decode(errors="surrogateescape").splitlines())
    certain = [line.text for line in proposal.certain]
    doubtful = [line.text if takes_all else f"# {line.text}" for line in proposal.doubtful]
    block: list[str] = []
    for heading, lines in ((_CERTAIN, certain), (_ALL if takes_all else _DOUBTFUL, doubtful)):
        if new := [line for line in lines if line not in known]:
            block += [heading, *new]
    if not block:
        return content
    end = "\r\n" if b"\r\n" in content else "\n"
    gap = "" if not content else end if content.endswith(b"\n") else end * 2
    return content + "".join([gap, *(line + end for line in block)]).encode(errors="surrogateescape")
