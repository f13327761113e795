"""Pages for a terminal."""

from __future__ import annotations

import os
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COLOURS = ("32", "33", "31", "35")  # of the levels OK, WARNING, CRITICAL and UNKNOWN
NARROWEST = 40  # characters
INDENT = 14


def wants_colour() -> bool:
    """Return whether standard output is a terminal that shows colours to somebody who wants them."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True)
class Page:
    """The look of a page."""

    colour: bool
    room: int  # characters in a line

    def painted(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour and text else text

    def heading(self, text: str) -> str:
        return "\n" + self.painted(text, "1")

    def bar(self, share: float, length: int, level: int = 0) -> str:
        """
        >>> Page(colour=False, room=80).bar(0.26, 8)
        '[##......]'
        """
        filled = min(int(share * length), length)  # rounded down: only a full one looks full
        return f"[{self.painted('#' * filled, COLOURS[level])}{'.' * (length - filled)}]"

    def line(self, name: str, text: str, level: int | None = None) -> str:
        """Return a name with a text beside it, wrapped."""
        lines = textwrap.wrap(text, self.room - INDENT, break_on_hyphens=False) or [""]
        head = f"  {name:<{INDENT - 2}}"
        if level is not None:
            head = self.painted(head, COLOURS[level])
        if len(name) >= INDENT - 2:
            lines.insert(0, "")
        return head + ("\n" + " " * INDENT).join(lines)

    def paragraph(self, text: str) -> Iterator[str]:
        yield from textwrap.wrap(text, self.room, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
