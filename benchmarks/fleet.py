"""Measure the control machine's time, CPU time and memory for fleets of simulated hosts that are as they should be.

The hosts are simulated: pyinfra's @fake connector answers what a host would. Everything else is what scripts/deploy runs, so only
SSH is missing. "pyinfra alone" is a deploy with as many operations that do nothing, run by the same code.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import TOP, publish
from benchmarks.simulated_fleet import ANSWERS
from benchmarks.simulated_host import answers
from settings.check import check, check_fleet, defaults
from settings.model import Settings

_SIZES = (10, 100, 1000)
_FEW = 100  # hosts: fleets of fewer run several times
_RUNS = 3
COLUMNS = ("deploy", "hosts", "seconds", "CPU seconds", "peak MiB", "ms of CPU a further host", "KiB a further host")
_FIGURES = ("seconds", "cpu", "memory")
Row = tuple[str, int, float, float, float, float | None, float | None]
_DEPLOYS = {"deploy.py": "deploy.py", "pyinfra alone": "benchmarks/idle_deploy.py"}


@dataclass(frozen=True)
class FleetRun:
    """What a run costs the control machine."""

    seconds: float
    cpu: float  # seconds
    memory: float  # MiB at most

    def further(self, smaller: FleetRun, hosts: int) -> FleetRun:
        """Return what each of so many further hosts costs, beyond a run on a smaller fleet."""
        return FleetRun(*((getattr(self, name) - getattr(smaller, name)) / hosts for name in _FIGURES))


def median(runs: Sequence[FleetRun]) -> FleetRun:
    """Return the median of each figure."""
    return FleetRun(*(statistics.median(getattr(run, name) for run in runs) for name in _FIGURES))


def rows_of(name: str, runs: Mapping[int, FleetRun]) -> tuple[list[Row], list[str]]:
    """Return the rows of a deploy, and how much more a further host costs in the largest fleet than in the one before.

    That takes three fleets.

    Args:
        runs: number of hosts → run.
    """
    rows: list[Row] = []
    further: list[FleetRun] = []
    before = 0
    for size, run in sorted(runs.items()):
        each = run.further(runs[before], size - before) if before else None
        costs = (1000 * each.cpu, 1024 * each.memory) if each else (None, None)
        rows.append((name, size, run.seconds, run.cpu, run.memory, *costs))
        further += [each] if each else []
        before = size
    return rows, [
        f"{name}: in the largest fleet, a further host costs {largest.cpu / smaller.cpu:.2f} times the CPU time and "
        f"{largest.memory / smaller.memory:.2f} times the memory that it costs in the next smaller one."
        for smaller, largest in itertools.pairwise(further[-2:])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark fleet", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES, metavar="HOSTS", help="10, 100 and 1000")
    sizes: list[int] = sorted(parser.parse_args().sizes)
    rows: list[Row] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as top:
        wanted = check({})
        assert isinstance(wanted, Settings)
        Path(top, "answers.json").write_text(json.dumps([lines for _, lines in answers(wanted)]))
        Path(top, "group_data").symlink_to(TOP / "inventory" / "group_data")
        for name, script in _DEPLOYS.items():
            found, more = rows_of(name, {size: _measured(Path(top), script, size) for size in (1, *sizes)})
            rows += found
            notes += more
    publish("fleet", COLUMNS, rows, [*notes, _settings()])


def _measured(top: Path, script: str, hosts: int) -> FleetRun:
    return median([_run(top, script, hosts) for _ in range(_RUNS if hosts < _FEW else 1)])


def _run(top: Path, script: str, hosts: int) -> FleetRun:
    """Run a deploy on so many hosts, all of which must be unchanged."""
    inventory = top / "inventory.py"
    inventory.write_text(f"docker = [f'@fake/web-{{number:04}}.example.com' for number in range({hosts})]\n")
    command = [sys.executable, "-m", "benchmarks.simulated_fleet", "--json", "-y", str(inventory), script]
    environment = {**os.environ, ANSWERS: str(top / "answers.json"), "PYTHONDONTWRITEBYTECODE": "1"}
    began = time.monotonic()
    with (top / "verdicts.json").open("w") as output, (top / "errors").open("w") as errors:
        process = subprocess.Popen(command, cwd=TOP, env=environment, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{script} ended with {process.returncode}: {(top / 'errors').read_text()}")
    summary = json.loads((top / "verdicts.json").read_text())["summary"]
    if summary["unchanged"] != hosts:
        sys.exit(f"the simulated hosts are not as they should be: {summary}")
    return FleetRun(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _settings() -> str:
    """Return how long the settings of a thousand hosts take to check: all the same, and all distinct."""
    cpu = []
    for step in (0, 1):
        fleet = {f"web-{number}": {**defaults(), "volume_size": f"{100 + step * number}G"} for number in range(1000)}
        began = time.process_time()
        check_fleet(fleet)
        cpu.append(time.process_time() - began)
    return f"The settings of 1000 hosts are checked in {cpu[0]:.2f} s where they are the same, in {cpu[1]:.2f} s where all differ."


if __name__ == "__main__":
    main()
