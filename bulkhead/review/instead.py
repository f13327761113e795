"""Write the instruction that should be there instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bulkhead.dockerfile.syntax import Instruction


def broken(text: str) -> str:
    r"""Return an instruction as people write it: a command of a chain on each line.

    >>> broken("RUN a   b &&    c")
    'RUN a b \\\n    && c'
    """
    if not set(text) & set("'\""):
        text = re.sub(r"\s+", " ", text)
    return re.sub(r"\s+&&\s+", " \\\\\n    && ", text)


def with_base(origin: Instruction, base: str) -> str:
    """Return a FROM with another image."""
    platform = f"--platform={origin.flag('platform')} " if origin.flag("platform") else ""
    name = f" AS {origin.arguments[2]}" if len(origin.arguments) == 3 else ""
    return f"FROM {platform}{base}{name}"


def with_mount(instruction: Instruction, targets: str) -> str:
    """Return a RUN with cache mounts.

    Args:
        targets: separated by a space.
    """
    mounts = "".join(f"--mount=type=cache,target={each} " for each in targets.split())
    return broken(re.sub(r"^\s*(\w+)\s+", rf"\1 {mounts}", instruction.text, count=1)) + _body(instruction)


def with_end(instruction: Instruction, command: str) -> str:
    """Return a RUN that ends with one more command."""
    if instruction.heredocs:
        body = instruction.heredocs[0].content.rstrip("\n")
        return f"{broken(instruction.text)}\n{body}\n{command}\n{instruction.heredocs[0].name}"
    return broken(f"{instruction.text} && {command}")


def replaced(instruction: Instruction, pattern: str, text: str) -> str:
    """Return an instruction with something else in the place of a pattern."""
    return broken(re.sub(pattern, text, instruction.text)) + re.sub(pattern, text, _body(instruction))


def _body(instruction: Instruction) -> str:
    return "".join(f"\n{each.content}{each.name}" for each in instruction.heredocs)
