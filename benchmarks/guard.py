"""Compare the CPU time and the memory of `bulkhead guard` at rest to a Python loop that only reads the free space as often.

The CPU time includes child processes. It counts once both have settled.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.host import PYTHON, HealthyHost
from benchmarks.results import publish

# The guard's own interval with enough free space (bulkhead.guard.policy).
LOOP = "import os, sys, time\nwhile True:\n    os.statvfs(sys.argv[1])\n    time.sleep(0.5)"
SETTLED = 45  # seconds until the guard has its ballast and has checked everything once


@contextlib.contextmanager
def own_filesystem() -> Iterator[Path]:
    """Return a filesystem in memory that nobody else writes to: a guard whose volume changes is not at rest."""
    with tempfile.TemporaryDirectory() as top:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20G", "tmpfs", top], check=True)
        try:
            yield Path(top)
        finally:
            subprocess.run(["umount", "--lazy", top], check=True)


@contextlib.contextmanager
def running(host: HealthyHost, *command: str | Path) -> Iterator[int]:
    process = subprocess.Popen(command, env=host.environment, stdout=subprocess.DEVNULL)
    try:
        yield process.pid
        if process.poll() is not None:
            sys.exit(f"{command[-1]} ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def cpu(pid: int) -> float:
    """Return the CPU time so far, in milliseconds, of a process and of its ended children."""
    own = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
    children = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]))
    return own + 1000 * children / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Return the peak memory of a process, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark guard", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="how long both are measured, side by side")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: the guard of another user saves nothing, and nobody else can mount the volume")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as top, own_filesystem() as volume:
        host = HealthyHost(Path(top), volume=volume)
        with (
            running(host, *host.command, "guard") as guard,
            running(host, PYTHON, "-c", LOOP, host.top / "volume") as loop,
        ):
            time.sleep(SETTLED)
            before = {pid: cpu(pid) for pid in (guard, loop)}
            time.sleep(options.seconds)
            used = {pid: (cpu(pid) - before[pid]) / options.seconds for pid in before}
            publish(
                "guard",
                ("process", "ms of CPU a second", "ratio", "peak MiB"),
                [
                    (name, used[pid], used[pid] / used[loop], memory(pid) / 1024)
                    for name, pid in (("idle loop", loop), ("bulkhead guard", guard))
                ],
            )


if __name__ == "__main__":
    main()
