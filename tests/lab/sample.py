"""Choose the lab tests that run by default: those that always run, and a sample of the others, within a time budget.

More tests make the sample smaller, not the run longer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

DURATIONS = Path(__file__).parent / "durations.json"
BUDGET = 32.0  # minutes; lint, unit tests and making the images take the rest of the 45
ALWAYS = 2 / 3  # the part of the budget for tests that always run; the rest is for the sample
WORKERS = 2
# Seconds for a file and for a test that the table does not have.
SETUP = 240
TEST = 90


class FileDurations(TypedDict):
    setup: int  # seconds
    tests: dict[str, int]  # name without parameters → seconds


Durations = dict[str, FileDurations]


def durations() -> Durations:
    """Return the table of how long files and tests take on two processors without KVM."""
    table: Durations = json.loads(DURATIONS.read_text())
    return table


@dataclass(frozen=True)
class Case:
    """A test with its marks, which say when it runs."""

    test: str  # its node ID
    full: bool = False  # runs with --full only
    turn: bool = False  # runs only when it is the turn of its file
    count: int = 0  # how many tests of its group run; 0: all
    group: str = ""

    @property
    def file(self) -> str:
        return self.test.split("::")[0]

    @property
    def always(self) -> bool:
        return not (self.full or self.turn or self.count)


def on_one_host(tests: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Return for each test whether it runs, where the cases of a function take turns on its hosts.

    Args:
        tests: the function, the host, and the case, for every case on every host.
    """
    hosts: dict[str, list[str]] = {}
    cases: dict[str, list[str]] = {}
    for function, host, case in tests:
        for table, value in ((hosts, host), (cases, case)):
            if value not in table.setdefault(function, []):
                table[function].append(value)
    return [
        cases[function].index(case) % len(hosts[function]) == hosts[function].index(host)
        for function, host, case in tests
    ]


def chosen(cases: Sequence[Case], seed: str, table: Durations, budget: float = BUDGET) -> set[str]:
    """Return the tests that run: those that always do, and those that the seed draws, within the budget.

    Args:
        seed: the same one draws the same tests.
        budget: minutes.
    """

    def draw(count: int, name: str, of: list[str]) -> list[str]:
        return random.Random(seed + name).sample(of, min(count, len(of)))

    on_turn = draw(1, "turn", sorted({case.file for case in cases if case.turn}))
    groups: dict[str, list[Case]] = {}
    always, drawn = [], []
    for case in cases:
        if case.full or (case.turn and case.file not in on_turn):
            continue
        if case.count:
            groups.setdefault(case.group, []).append(case)
        elif case.turn:
            drawn.append(case.test)
        else:
            always.append(case.test)
    for name, group in groups.items():
        drawn += draw(group[0].count, name, [case.test for case in group])

    kept: list[str] = []
    # Another seed has another order: a test that does not fit now fits then.
    for tests, minutes in ((always, ALWAYS * budget), (drawn, budget), (always, budget)):
        for test in draw(len(tests), "order", tests):
            if test not in kept and seconds([*kept, test], table) <= 60 * minutes:
                kept.append(test)
    return set(kept)


def seconds(tests: Iterable[str], table: Durations) -> float:
    """Return how many seconds tests take on two workers.

    A worker takes one file at a time, the one with the most tests first.
    """
    files: dict[str, list[str]] = {}
    for test in tests:
        file, _, name = test.partition("::")
        files.setdefault(file, []).append(name.split("[")[0])
    busy = [0.0] * WORKERS
    for file, names in sorted(files.items(), key=lambda item: (-len(item[1]), item[0])):
        known = table.get(file, {"setup": SETUP, "tests": {}})
        busy[busy.index(min(busy))] += known["setup"] + sum(known["tests"].get(name, TEST) for name in names)
    return max(busy)
