"""The CPU and the memory of `bulkhead guard` at rest, against a loop in Python that only asks for the free space as often.

Of each the CPU time of the process itself and of what it starts, from when it has settled on.
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

from benchmarks.host import PYTHON, Host

# The guard's own pause where there is room (bulkhead.growth.REST).
LOOP = "import os, sys, time\nwhile True:\n    os.statvfs(sys.argv[1])\n    time.sleep(0.5)"
SETTLED = 45  # seconds until it has taken its ballast, and looked at everything once


@contextlib.contextmanager
def running(host: Host, *command: str | Path) -> Iterator[int]:
    process = subprocess.Popen(command, env=host.environment, stdout=subprocess.DEVNULL)
    try:
        yield process.pid
        if process.poll() is not None:
            sys.exit(f"{command[-1]} ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def cpu(pid: int) -> float:
    """Milliseconds of a process and its ended children so far."""
    own = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
    children = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]))
    return own + 1000 * children / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """The most that a process had at once, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark guard", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="how long both are watched, side by side")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: the guard of others keeps nothing")
    # As on a host, what the guard writes down is in memory, and the volume on a disk.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as top, tempfile.TemporaryDirectory() as volume:
        host = Host(Path(top), volume=Path(volume))
        with (
            running(host, PYTHON, host.program, "guard") as guard,
            running(host, PYTHON, "-c", LOOP, host.top / "volume") as loop,
        ):
            time.sleep(SETTLED)
            before = {pid: cpu(pid) for pid in (guard, loop)}
            time.sleep(options.seconds)
            used = {pid: (cpu(pid) - before[pid]) / options.seconds for pid in before}
            for name, pid in (("idle loop", loop), ("bulkhead guard", guard)):
                print(
                    f"{name:<16} {used[pid]:>7.2f} ms of CPU a second {used[pid] / used[loop]:>6.2f} "
                    f"{memory(pid) / 1024:>6.1f} MiB"
                )


if __name__ == "__main__":
    main()
