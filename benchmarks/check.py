"""Compare the CPU time of `bulkhead check` on a healthy host, with its children, to that of `python3 -c pass`."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.host import PYTHON, HealthyHost
from benchmarks.results import publish

RUNS = 31


def main() -> None:
    argparse.ArgumentParser(prog="scripts/benchmark check", description=__doc__).parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: a check of another user does not ask LVM, and saves nothing")
    with tempfile.TemporaryDirectory() as top:
        host = HealthyHost(Path(top))
        commands: dict[str, tuple[str | Path, ...]] = {
            "python3 -c pass": (PYTHON, "-c", "pass"),
            "bulkhead check": (*host.command, "check"),
            "bulkhead --version": (*host.command, "--version"),
        }
        runs = [{name: host.cpu(*command) for name, command in commands.items()} for _ in range(RUNS)]
        size = host.program.stat().st_size
    median = {name: statistics.median(run[name] for run in runs) for name in commands}
    base = median["python3 -c pass"]
    publish(
        "check",
        ("command", "ms of CPU", "ratio"),
        [(name, cpu, cpu / base) for name, cpu in median.items()],
        [f"The program has {size / 1024:.0f} KiB. A check's time includes its child processes."],
    )


if __name__ == "__main__":
    main()
