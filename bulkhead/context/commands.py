"""The command `bulkhead context`. It needs no deployed host, and Docker only for --prove."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from bulkhead.context import page
from bulkhead.context.page import Report, files, size
from bulkhead.context.proposal import names_of, propose, text_of
from bulkhead.context.survey import effects, idle_lines, largest_directories, largest_kinds, survey
from bulkhead.dockerfile import stages, syntax
from bulkhead.dockerfile.context import IGNORED, UNUSED, Selection, content_of, dockerfile_of, ignore_file_of
from bulkhead.dockerfile.ignore import IgnoreRules
from bulkhead.errors import Failed
from bulkhead.files import write_output
from bulkhead.outage.prompt import consents
from bulkhead.terminal import wants_colour
from bulkhead.text import printable

if TYPE_CHECKING:
    import argparse

    from bulkhead.context.proof import Proof

_DISPROVED = 3  # exit code
_ROWS = 20  # of the tables in JSON
_DIFFERENCES = 20  # that are shown


def run(options: argparse.Namespace) -> int:
    """Run `bulkhead context`.

    Returns:
        The exit code: 3 if the images differ in more than what the proposed lines name.
    """
    if not os.path.isdir(options.path):
        raise Failed(f"{options.path} is not a directory")
    content, dockerfile = given_dockerfile(options)
    report = collect(options, content, dockerfile)
    if not options.json:
        print(page.render(report, wants_colour(), shutil.get_terminal_size().columns, options.all))
    proof = _proof(options, report, content) if options.prove else None
    if options.json:
        print(json.dumps(as_json(report, options.all, proof), indent=4))
    elif proof:
        _show(proof)
    if proof and not proof.holds:
        return _DISPROVED
    return _write(options, report) if options.write else 0


def given_dockerfile(options: argparse.Namespace) -> tuple[bytes | None, str]:
    """Return the content and the path of the Dockerfile; an empty path for standard input."""
    if options.file == "-":
        return sys.stdin.buffer.read(), ""
    path = dockerfile_of(options.path, options.file)
    content = content_of(path)
    if content is None and options.file:
        raise Failed(f"{path} cannot be read")
    return content, path if content is not None else ""


def collect(options: argparse.Namespace, content: bytes | None, dockerfile: str) -> Report:
    """Return what there is to show.

    Args:
        content: of the Dockerfile; None: there is none.
        dockerfile: its path; empty: it has none.

    Raises:
        Problem: Docker refuses the Dockerfile or the .dockerignore, or could not read what it would be sent.
    """
    inputs = None
    if content is not None:
        given = stages.Options(
            build_args=stages.assigned(options.build_arg),
            target=options.target,
            contexts=stages.assigned(options.build_context),
            platform=options.platform,
        )
        inputs = stages.read(syntax.parse(content, os.path.basename(dockerfile) or "Dockerfile"), given)
    rules = IgnoreRules.of_file(ignore_file_of(options.path, dockerfile))
    names = names_of(options.path, inputs, rules)
    selection = Selection(options.path, inputs.paths() if inputs else (stages.EVERYTHING,))
    try:
        result = survey(options.path, rules, selection, names.protects)
    except PermissionError as error:
        raise Failed(
            f"{error.filename} cannot be read, so Docker could not send it. Take it out with a line in .dockerignore, or make "
            "it readable"
        ) from None
    return Report(
        context=os.path.abspath(options.path),
        dockerfile=dockerfile,
        ignore_file=os.path.normpath(rules.path or os.path.join(options.path, ".dockerignore")),
        inputs=inputs,
        rules=rules,
        survey=result,
        proposal=propose(result, options.path, inputs),
    )


def _proof(options: argparse.Namespace, report: Report, content: bytes | None) -> Proof | None:
    if content is None:
        raise Failed("there is no Dockerfile to build")
    if not report.proposal.chosen(options.all):
        return None
    if not shutil.which("docker"):
        raise Failed("--prove needs docker, which is not installed")
    from bulkhead.context import proof

    before = content_of(report.ignore_file) or b""
    sources = [path for each in (report.inputs.all_copies if report.inputs else ()) for path in each.paths]
    arguments = [
        *(word for text in options.build_arg for word in ("--build-arg", text)),
        *(word for text in options.build_context for word in ("--build-context", text)),
        *(("--target", options.target) if options.target else ()),
        *(("--platform", options.platform) if options.platform else ()),
    ]
    return proof.prove(options.path, content, before, text_of(before, report.proposal, options.all), sources, arguments)


def _show(proof: Proof) -> None:
    print()
    if proof.failure:
        print(f"disproved: {proof.failure}")
        return
    if proof.holds:
        print(
            f"proved: the image loses {files(len(proof.named))} with {size(proof.saved)}, all of them named by the lines. "
            f"{proof.files - len(proof.named):,} others are the same"
            + (f", but {proof.anew} that each build writes anew (logs, caches, bytecode)" if proof.anew else "")
        )
        return
    print(f"disproved: the images differ in {files(len(proof.differences))} that the lines do not name:")
    for difference in proof.differences[:_DIFFERENCES]:
        print(f"  {printable(difference)}")
    if more := len(proof.differences) - _DIFFERENCES:
        print(f"  and {more} more" if more > 0 else "", end="\n" if more > 0 else "")
    print("A step may write something else in each build: build twice without the lines, and compare.")


def _write(options: argparse.Namespace, report: Report) -> int:
    path = os.path.realpath(report.ignore_file)
    before = content_of(path)
    after = text_of(before or b"", report.proposal, options.all)
    if after == (before or b""):
        print("nothing is written: there is no line to add")
        return 0
    if os.path.lexists(path):
        if before is None:
            raise Failed(f"{path} cannot be read; nothing was written")
        added = after.count(b"\n") - before.count(b"\n")
        if not consents(options, f"{added} lines are added at the end of {report.ignore_file}."):
            print("nothing was written")
            return 1
        if content_of(path) != before:
            raise Failed(f"{report.ignore_file} has changed meanwhile; nothing was written. Run this again")
    write_output(path, after.decode(errors="surrogateescape"))
    print(f"{report.ignore_file} is written")
    return 0


def as_json(report: Report, takes_all: bool, proof: Proof | None = None) -> dict[str, Any]:
    """Return a report in the form that --json prints."""
    fates, proposal = report.survey.by_fate, report.proposal
    tallies = {"sent": report.survey.sent, "ignored": fates[IGNORED], "unused": fates[UNUSED]}
    chosen = proposal.chosen(takes_all)
    before = content_of(report.ignore_file) or b""
    return {
        "context": report.context,
        "dockerfile": report.dockerfile,
        "ignore_file": report.rules.path,
        **{name: {"files": tally.files, "bytes": tally.bytes} for name, tally in tallies.items()},
        "directories": [row._asdict() for row in largest_directories(report.survey, _ROWS)],
        "kinds": [row._asdict() for row in largest_kinds(report.survey, _ROWS)],
        "lines": [row._asdict() for row in effects(report.survey, report.rules)],
        "idle_lines": [row._asdict() for row in idle_lines(report.survey, report.rules)],
        "proposal": {
            "file": report.ignore_file,
            "saved": sum(line.bytes for line in chosen),
            "obstacle": proposal.obstacle,
            "lines": [{**line._asdict(), "chosen": line in chosen} for line in proposal.lines],
            "text": text_of(before, proposal, takes_all).decode(errors="replace"),
        },
        "proof": {**proof._asdict(), "holds": proof.holds} if proof else None,
    }
