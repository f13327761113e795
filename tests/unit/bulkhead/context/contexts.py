"""Build contexts in a directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bulkhead.context.commands import collect
from bulkhead.context.page import Report
from bulkhead.dockerfile.context import content_of, dockerfile_of

M = 2**20


def make(top: Path, *paths: str, size: int = 100) -> None:
    """Make files, and directories: those whose path ends with a slash."""
    for path in paths:
        place = top / path
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            with place.open("wb") as file:
                file.truncate(size)


def options(top: Path, **changed: Any) -> argparse.Namespace:
    """Return the options of `bulkhead context`."""
    given = {
        "path": str(top),
        "file": "",
        "target": "",
        "build_arg": [],
        "build_context": [],
        "platform": "",
        **dict.fromkeys(("all", "prove", "json", "write", "yes"), False),
    }
    return argparse.Namespace(**{**given, **changed})


def report_of(
    top: Path, dockerfile: str = "FROM a\nCOPY . /app\n", ignore: str | None = None, **changed: Any
) -> Report:
    """Return the report of a context with this Dockerfile and this .dockerignore."""
    (top / "Dockerfile").write_text(dockerfile)
    if ignore is not None:
        (top / ".dockerignore").write_text(ignore)
    given = options(top, **changed)
    path = dockerfile_of(given.path, given.file)
    return collect(given, content_of(path), path)


def proposed(report: Report) -> dict[str, bool]:
    """Return the proposed lines, each with whether the image may need what it takes out."""
    return {line.text: bool(line.doubt) for line in report.proposal.lines}
