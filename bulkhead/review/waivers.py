"""Comments that allow a finding: `# bulkhead: allow=RULE reason`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.review.model import WARNING, ImageFinding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bulkhead.dockerfile.syntax import Instruction

_COMMENT = re.compile(r"\s*#\s*bulkhead:\s*allow\s*=\s*([\w,-]*)\s*(.*)")
_OF_HADOLINT = re.compile(r"(DL|SC)\d+")


class Waiver(NamedTuple):
    """A rule that may find something at an instruction."""

    rule: str
    line: int  # of the comment
    reason: str
    instruction: Instruction


def waivers_of(content: bytes, instructions: Sequence[Instruction]) -> Iterator[Waiver]:
    """Yield the waivers in the comments directly before an instruction."""
    lines = content.decode(errors="replace").split("\n")
    inside = {number for each in instructions for number in range(each.line, each.end + 1)}
    for instruction in instructions:
        number = instruction.line - 1
        while number > 0 and number not in inside and lines[number - 1].lstrip().startswith("#"):
            if match := _COMMENT.match(lines[number - 1]):
                for rule in match[1].split(","):
                    yield Waiver(rule, number, match[2].strip(), instruction)
            number -= 1


def apply(
    findings: Iterable[ImageFinding], waivers: Sequence[Waiver], rules: Iterable[Rule], has_hadolint: bool
) -> list[ImageFinding]:
    """Return findings, those that are allowed with the reason, and what is wrong with the waivers.

    Args:
        rules: that there are.
        has_hadolint: whether hadolint has run: otherwise a waiver for it may well wait for something.
    """
    result, used = [], set()
    for finding in findings:
        for waiver in waivers:
            if waiver.rule == finding.rule and waiver.instruction.line <= finding.line <= waiver.instruction.end:
                used.add(waiver)
                finding = finding._replace(reason=finding.reason or waiver.reason)  # it is that one, allowed
        result.append(finding)
    by_name = {rule.name: rule for rule in rules}
    for waiver in waivers:
        if not waiver.reason:
            result.append(_finding(RULES[0], waiver, f"allow={waiver.rule} has no reason, so it allows nothing"))
        elif waiver not in used and not _may_wait(waiver, by_name, has_hadolint):
            why = (
                "finds nothing here" if waiver.rule in by_name or _OF_HADOLINT.fullmatch(waiver.rule) else "is no rule"
            )
            result.append(
                _finding(RULES[1], waiver, f"allow={waiver.rule} allows nothing: {waiver.rule or 'that'} {why}")
            )
    return result


def _may_wait(waiver: Waiver, rules: dict[str, Rule], has_hadolint: bool) -> bool:
    """Return whether a waiver can allow something on another machine."""
    if _OF_HADOLINT.fullmatch(waiver.rule):
        return not has_hadolint
    return waiver.rule in rules and rules[waiver.rule].needs_context


def _finding(rule: Rule, waiver: Waiver, message: str) -> ImageFinding:
    instead = f"# bulkhead: allow={waiver.rule} REASON" if rule is RULES[0] else ""
    return ImageFinding(rule.name, rule.level, waiver.line, waiver.line, message, instead=instead)


RULES = (
    Rule("waiver-without-reason", WARNING, "A waiver has no reason"),
    Rule("unused-waiver", WARNING, "A waiver allows nothing"),
)
