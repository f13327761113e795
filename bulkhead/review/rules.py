"""All rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead.review import bases, caches, contents, downloads, layers, leaks, toolchains, waivers
from bulkhead.review.model import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bulkhead.review.model import Image, ImageFinding, Rule

RULES: tuple[Rule, ...] = (
    *toolchains.RULES,
    *downloads.RULES,
    *caches.RULES,
    *layers.RULES,
    *contents.RULES,
    *leaks.RULES,
    *bases.RULES,
    *waivers.RULES,
)


def findings_of(image: Image) -> list[ImageFinding]:
    """Return what the rules find, with what has been measured of the instructions."""
    return [_measured(found, rule, image) for rule in RULES if rule.check for found in rule.check(image)]


def _measured(finding: ImageFinding, rule: Rule, image: Image) -> ImageFinding:
    """Return a finding with what its instruction was measured to write."""
    instruction = next((each.instruction for each in image.layers if each.instruction.line == finding.line), None)
    size = image.measured(instruction) if instruction else None
    if size is None:
        return finding
    if rule.is_whole:
        return finding._replace(bytes=size, is_measured=True)
    return finding if finding.bytes is None else finding._replace(bytes=min(finding.bytes, size))


def in_order(findings: Iterable[ImageFinding]) -> list[ImageFinding]:
    """Return findings by their lines, the worst of a line first."""
    return sorted(findings, key=lambda each: (each.line, LEVELS.index(each.level), each.rule))
