"""The command `bulkhead review`. It needs no deployed host and no Docker."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from bulkhead.context.commands import collect, given_dockerfile
from bulkhead.dockerfile import syntax
from bulkhead.errors import PROBLEMS, Failed, in_words
from bulkhead.files import write_output
from bulkhead.review import hadolint, page
from bulkhead.review.model import LEVELS, Image, Measure, nothing_measured
from bulkhead.review.page import Review
from bulkhead.review.rules import RULES, findings_of, in_order
from bulkhead.review.sarif import as_sarif
from bulkhead.review.waivers import apply, waivers_of
from bulkhead.terminal import wants_colour
from bulkhead.text import printable

if TYPE_CHECKING:
    import argparse

_FOUND = 1  # exit code


def run(options: argparse.Namespace) -> int:
    """Run `bulkhead review`.

    Returns:
        The exit code: 1 if there is a finding of the level of --fail-on or above.
    """
    if not os.path.isdir(options.path):
        raise Failed(f"{options.path} is not a directory")
    content, dockerfile = given_dockerfile(options)
    if content is None:
        raise Failed(f"there is no {os.path.join(options.path, 'Dockerfile')}. Name the Dockerfile with --file")
    result = review(options, content, dockerfile)
    if options.sarif:
        _write_sarif(options.sarif, json.dumps(as_sarif(result, content), indent=2))
    if options.json:
        print(json.dumps(as_json(result), indent=4))
    elif options.sarif != "-":
        print(page.render(result, wants_colour(), shutil.get_terminal_size().columns))
    counted = LEVELS[: LEVELS.index(options.fail_on) + 1] if options.fail_on in LEVELS else ()
    return _FOUND if any(each.level in counted for each in result.open) else 0


def review(
    options: argparse.Namespace, content: bytes, dockerfile: str, measured: Measure = nothing_measured
) -> Review:
    """Return what is found.

    Args:
        dockerfile: its path; empty: it came from standard input.
        measured: returns the bytes of an instruction, where a bill or an image is known.

    Raises:
        Problem: Docker refuses the Dockerfile or the .dockerignore, or could not read what it would be sent.
    """
    report = collect(options, content, dockerfile)
    assert report.inputs is not None, "there is a Dockerfile"
    image = Image.of(options.path, dockerfile, report.inputs, report.rules, report.survey, report.proposal, measured)
    found = findings_of(image)
    name = os.path.basename(dockerfile) or "Dockerfile"
    instructions = syntax.parse(content, name).instructions
    has_hadolint = options.hadolint and hadolint.is_installed()
    if has_hadolint:
        try:
            others = hadolint.findings_of(content, instructions)
            found += hadolint.without_duplicates(others, found, RULES)
        except PROBLEMS as error:
            has_hadolint = False
            print(f"bulkhead: without hadolint: {printable(in_words(error))}", file=sys.stderr)
    waivers = [*waivers_of(content, instructions)]
    findings = apply(found, waivers, RULES, has_hadolint)
    path = dockerfile or os.path.join(options.path, "Dockerfile")
    return Review(os.path.normpath(path), report.context, options.target, tuple(in_order(findings)), has_hadolint)


def _write_sarif(path: str, text: str) -> None:
    if path == "-":
        print(text)
    else:
        write_output(path, text + "\n")


def as_json(result: Review) -> dict[str, Any]:
    """Return a review in the form that --json prints."""
    return {
        "file": result.file,
        "context": result.context,
        "target": result.target,
        "hadolint": result.has_hadolint,
        "counts": {level: sum(each.level == level for each in result.open) for level in LEVELS},
        "findings": [{**each._asdict(), "allowed": bool(each.reason)} for each in result.findings],
    }
