"""Record which lab tests have passed on which commit, so that a full run can continue one that was stopped.

The cache has one file for each commit, with one line for each test that has ended. A line is appended and synced when
its test ends: a killed run loses only the test that was running.

As a program, ``python -m tests.lab.ledger status`` shows what has passed; ``durations`` writes ``durations.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import cache
from tests.lab.sample import DURATIONS, Durations

TOP = Path(__file__).parent.parent.parent
PASSED, FAILED, SKIPPED, FORGOTTEN = "passed", "failed", "skipped", "forgotten"


@dataclass(frozen=True)
class Tree:
    """The state of the checkout."""

    commit: str  # empty outside of git
    clean: bool  # nothing differs from the commit, and no file is untracked

    @property
    def name(self) -> str:
        return self.commit[:7]


def tree(top: Path = TOP) -> Tree:
    """Return the state of a checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", top, *arguments], check=True, capture_output=True, text=True, timeout=300)
        return done.stdout.strip()

    try:
        return Tree(git("rev-parse", "HEAD"), not git("status", "--porcelain"))
    except (FileNotFoundError, subprocess.CalledProcessError):
        return Tree("", clean=False)


@dataclass(frozen=True)
class LabResult:
    """How a test ended."""

    test: str  # its node ID
    outcome: str
    run: str = ""  # names the run of pytest: its tests share what it has set up
    setup: float = 0  # seconds
    seconds: float = 0  # of the test itself, with its teardown

    @property
    def file(self) -> str:
        return self.test.split("::")[0]


class Ledger:
    """The results of one commit."""

    def __init__(self, commit: str) -> None:
        self.commit = commit
        self.path = _directory() / f"{commit}.jsonl"

    def add(self, result: LabResult) -> None:
        """Append a result, and sync it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The line break comes first: a line that a power cut has left unfinished must not spoil this one.
        line = f"\n{json.dumps(asdict(result))}\n".encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)

    def results(self) -> Iterator[LabResult]:
        """Yield every result, the oldest first. Skip unfinished lines."""
        with contextlib.suppress(FileNotFoundError):
            for line in self.path.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError, TypeError):
                    yield LabResult(**json.loads(line))

    def outcomes(self) -> dict[str, str]:
        """Return the last outcome of each test."""
        last = {result.test: result.outcome for result in self.results()}
        return {test: outcome for test, outcome in last.items() if outcome != FORGOTTEN}

    def passed(self) -> set[str]:
        """Return the tests whose last outcome is that they passed."""
        return {test for test, outcome in self.outcomes().items() if outcome == PASSED}


def _directory() -> Path:
    return cache.root() / "tests"


def others(commit: str) -> list[Ledger]:
    """Return the ledgers of all commits but one, the most recently written first."""
    paths = sorted(_directory().glob("*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [Ledger(path.stem) for path in paths if path.stem != commit]


def status(tests: Iterable[str], commit: str) -> list[str]:
    """Describe file by file what has passed on a commit, and where the other tests passed last."""
    outcomes = Ledger(commit).outcomes()
    elsewhere = [(ledger.commit[:7], ledger.passed()) for ledger in others(commit)]
    files: dict[str, list[str]] = {}
    for test in tests:
        files.setdefault(test.split("::")[0], []).append(test)
    counts = Counter(outcomes.get(test, "not run") for test in tests)
    lines = [f"lab tests on commit {commit[:7]}: {_listed(counts)}"]
    for file, own in sorted(files.items()):
        counts = Counter(outcomes.get(test, "not run") for test in own)
        earlier = Counter(
            next((name for name, passed in elsewhere if test in passed), "")
            for test in own
            if outcomes.get(test) != PASSED
        )
        del earlier[""]
        notes = "".join(f"; {count} of the others passed on {name}" for name, count in earlier.most_common())
        lines.append(f"  {Path(file).name:<26} {_listed(counts)}{notes}")
        lines += [f"      failed: {test.split('::', 1)[1]}" for test in own if outcomes.get(test) == FAILED]
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in (PASSED, FAILED, SKIPPED, "not run") if counts.get(name))


def durations(results: Iterable[LabResult]) -> Durations:
    """Return how long files and tests take.

    The first test that needs a fixture of its file waits for it. So setup time beyond the usual setup time of the file
    counts for the file: every run that has any test of the file needs it, in addition to the tests.
    """
    files: dict[str, list[LabResult]] = {}
    for result in results:
        if result.outcome == PASSED:
            files.setdefault(result.file, []).append(result)
    table: Durations = {}
    for file, own in sorted(files.items()):
        usual = statistics.median_low(result.setup for result in own)
        beyond: Counter[str] = Counter()
        tests: dict[str, list[float]] = {}
        for result in own:
            beyond[result.run] += round(max(0, result.setup - usual))
            tests.setdefault(result.test.split("[")[0], []).append(usual + result.seconds)
        table[file] = {
            "setup": max(beyond.values()),
            "tests": {name.split("::", 1)[1]: round(statistics.median(own)) for name, own in sorted(tests.items())},
        }
    return table


def _collect() -> list[str]:
    line = [sys.executable, "-m", "pytest", "--full", "--again", "--collect-only", "-q", "tests/lab"]
    done = subprocess.run(line, cwd=TOP, capture_output=True, text=True, timeout=900)
    if done.returncode:
        sys.exit(f"pytest cannot collect the lab tests:\n{done.stdout}{done.stderr}")
    return [name for name in done.stdout.splitlines() if name.startswith("tests/lab/") and "::" in name]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.ledger", description=__doc__.split("\n\n")[0])
    parser.add_argument("command", choices=("status", "durations"))
    command = parser.parse_args().command
    now = tree()
    if not now.commit:
        sys.exit("this is not a git checkout: results of lab tests are kept for commits only")
    if command == "status":
        if not now.clean:
            print(
                f"This checkout has changes that are not committed. The results below are those of commit {now.name} without them."
            )
        print("\n".join(status(_collect(), now.commit)))
    else:
        # Of every commit: hardly one has a run of all tests.
        ledgers = [Ledger(now.commit), *others(now.commit)]
        table = durations(result for ledger in ledgers for result in ledger.results())
        if not table:
            sys.exit("no lab test has passed on this machine")
        DURATIONS.write_text(json.dumps(table, indent=4) + "\n")
        print(f"{DURATIONS.relative_to(TOP)}: {len(table)} files, as they took on {len(ledgers)} commits")


if __name__ == "__main__":
    main()
