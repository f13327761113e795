"""Write findings as SARIF 2.1.0, which code hosts read."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bulkhead import __version__
from bulkhead.review.model import INFO
from bulkhead.review.page import figure
from bulkhead.review.rules import RULES

if TYPE_CHECKING:
    from bulkhead.review.model import ImageFinding
    from bulkhead.review.page import Review

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_ROOT = "%SRCROOT%"  # what paths begin at: code hosts know it as the top of the repository


def as_sarif(review: Review, content: bytes) -> dict[str, Any]:
    """Return a log with one run.

    Args:
        content: of the Dockerfile.
    """
    titles = {rule.name: rule.title for rule in RULES}
    levels = {rule.name: rule.level for rule in RULES}
    for finding in review.findings:  # those of hadolint
        titles.setdefault(finding.rule, f"hadolint's {finding.rule}")
        levels.setdefault(finding.rule, finding.level)
    names = [*titles]
    rules = [
        {
            "id": name,
            "shortDescription": {"text": titles[name]},
            "defaultConfiguration": {"level": _level(levels[name])},
        }
        for name in names
    ]
    path = relative(review.file)
    lines = content.decode(errors="replace").split("\n")
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "bulkhead", "version": __version__, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(each, names.index(each.rule), path, lines) for each in review.findings],
            }
        ],
    }


def relative(path: str) -> str:
    """Return a path from this directory, as an address has it; one that is not below it begins at its last part."""
    found = os.path.relpath(path)
    return quote((os.path.basename(path) if found.startswith("..") else found).replace(os.sep, "/"))


def _level(level: str) -> str:
    return "note" if level == INFO else level


def _result(finding: ImageFinding, index: int, path: str, lines: list[str]) -> dict[str, Any]:
    text = "\n".join(lines[finding.line - 1 : finding.end])
    saved = f" Saves {figure(finding)}." if figure(finding) else ""
    instead = f"\n\nInstead:\n\n{finding.instead}" if finding.instead else ""
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _level(finding.level),
        "message": {"text": f"{finding.message}.{saved}{instead}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": path, "uriBaseId": _ROOT},
                    "region": {"startLine": finding.line, "endLine": finding.end},
                }
            }
        ],
        # The same finding on another line stays the same one.
        "partialFingerprints": {
            "instruction/v1": hashlib.sha256(f"{finding.rule}\n{text}".encode(errors="replace")).hexdigest()
        },
    }
    if finding.reason:
        result["suppressions"] = [{"kind": "inSource", "justification": finding.reason}]
    return result
