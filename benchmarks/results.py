"""The result of a benchmark: one table, printed, kept as JSON, and shown with the machine it is from in docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bulkhead import __version__

TOP = Path(__file__).parent.parent
RESULTS = TOP / "docs" / "benchmarks"
PAGE = TOP / "docs" / "benchmarks.md"

NAMES = ("deploy", "fleet", "check", "guard", "context", "relocation", "volume")  # in the order of the page


@dataclass(frozen=True)
class Result:
    """The last run of a benchmark.

    Args:
        name: of the benchmark.
        columns: their titles, with the unit.
        rows: a cell is text, a number, or None where there is none.
        notes: sentences beneath the table.
        machine: that it ran on, in words.
        day: of the run, in UTC.
        version: of docker-bulkhead.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    notes: Sequence[str] = ()
    machine: str = ""
    day: str = ""
    version: str = __version__


def publish(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], notes: Sequence[str] = ()) -> None:
    """Print the table of a benchmark, keep it as JSON, and write the page anew."""
    result = Result(name, columns, rows, notes, machine(), f"{datetime.now(timezone.utc):%Y-%m-%d}")
    print("\n".join(text_table(columns, rows)))
    for note in notes:
        print(note)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(PAGE.read_text(), stored()))
    print(f"Written: {RESULTS.relative_to(TOP)}/{name}.json and {PAGE.relative_to(TOP)}", file=sys.stderr)


def stored() -> list[Result]:
    """Return the last run of each benchmark that has one."""
    paths = (RESULTS / f"{name}.json" for name in NAMES)
    return [Result(**json.loads(path.read_text())) for path in paths if path.exists()]


def machine() -> str:
    """Return the processor, the memory and the system of this machine, in words."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    count = len(os.sched_getaffinity(0))
    processors = f"{count} processor{'' if count == 1 else 's'} ({cpu[1] if cpu else platform.machine()})"
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{processors}, {memory:.0f} GiB, {system}, Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}"


def cell(value: str | float | None) -> str:
    """Return a cell as text: three figures are enough of a number.

    >>> [cell(value) for value in ("a", 1000, 0.1234, 12.34, 1234.5, None)]
    ['a', '1000', '0.12', '12.3', '1234', '']
    """
    if value is None:
        return ""
    if isinstance(value, str | int):
        return str(value)
    return f"{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def text_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return the lines of a table for a terminal: text to the left, numbers to the right."""
    lines = [list(columns), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    left = [all(isinstance(row[at], str | None) for row in rows) for at in range(len(columns))]
    return [
        "  ".join(f"{text:{'<' if left[at] else '>'}{widths[at]}}" for at, text in enumerate(line)).rstrip()
        for line in lines
    ]


def page(text: str, results: Sequence[Result]) -> str:
    """Return the page with the last results: each stands between two marks."""
    for result in results:
        begin, end = f"<!-- {result.name} -->\n", f"<!-- end of {result.name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}{_section(result)}{end}{after}"
    return text


def _section(result: Result) -> str:
    numbers = [not all(isinstance(row[at], str | None) for row in result.rows) for at in range(len(result.columns))]
    rule = "|".join("---:" if is_number else "---" for is_number in numbers)
    rows = [" | ".join(cell(value) for value in row) for row in result.rows]
    table = "\n".join(f"| {line} |" for line in (" | ".join(result.columns),)) + f"\n|{rule}|\n"
    notes = "".join(f"\n{note}\n" for note in result.notes)
    return (
        f"\n{table}"
        + "".join(f"| {row} |\n" for row in rows)
        + f"{notes}\n{result.day}, version {result.version}, on {result.machine}.\n\n"
    )
