"""Ask hadolint, where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from bulkhead.docker.redaction import without_secrets
from bulkhead.review.model import ERROR, INFO, WARNING, ImageFinding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bulkhead.dockerfile.syntax import Instruction
    from bulkhead.review.model import Rule

_SECONDS = 60
_LEVELS = {"error": ERROR, "warning": WARNING, "info": INFO, "style": INFO}


def is_installed() -> bool:
    return shutil.which("hadolint") is not None


def findings_of(content: bytes, instructions: Sequence[Instruction]) -> list[ImageFinding]:
    """Return what hadolint finds. Its own configuration counts, as it does where hadolint is called by hand.

    Args:
        content: of the Dockerfile.

    Raises:
        ValueError: it prints something else.
        OSError: it cannot run.
        subprocess.SubprocessError: it does not end in time.
    """
    done = subprocess.run(
        ["hadolint", "--no-fail", "--format", "json", "-"],
        input=content,
        capture_output=True,
        check=False,
        timeout=_SECONDS,
    )
    try:
        rows = json.loads(done.stdout)
        return [_finding(row, instructions) for row in rows]
    except (ValueError, TypeError, KeyError):
        text = " ".join((done.stderr or done.stdout).decode(errors="replace").split())[:300]
        raise ValueError(f"hadolint gives no findings. It says: {text or 'nothing'}") from None


def _finding(row: dict[str, Any], instructions: Sequence[Instruction]) -> ImageFinding:
    line = int(row["line"])
    end = next((each.end for each in instructions if each.line <= line <= each.end), line)
    message = without_secrets(str(row["message"]))
    return ImageFinding(str(row["code"]), _LEVELS.get(row["level"], INFO), line, end, message)


def without_duplicates(
    found: Iterable[ImageFinding], ours: Sequence[ImageFinding], rules: Iterable[Rule]
) -> Iterator[ImageFinding]:
    """Yield findings of hadolint but those that a rule of ours has found at the same instruction."""
    same = {rule.name: rule.same for rule in rules}
    for finding in found:
        if not any(each.line <= finding.line <= each.end and finding.rule in same.get(each.rule, ()) for each in ours):
            yield finding
