"""Measure `bulkhead context` on a directory of empty files: seconds, CPU seconds and memory, beside those of a bare walk."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import publish
from tasks.support.archive import write

_PER_DIRECTORY = 100  # files
_PYTHON = "/usr/bin/python3"

_IGNORE = "**/__pycache__\n*.md\n.git\ndocs\n!docs/keep\n**/*.log\n**/.cache\ndata/*.csv\ntmp\n"

# What any program that knows the size of every file has to do.
_WALK = """
import os, sys
waiting, total = [sys.argv[1]], 0
while waiting:
    with os.scandir(waiting.pop()) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                total += entry.stat(follow_symlinks=False).st_size
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark context", description=__doc__)
    parser.add_argument(
        "--files", type=int, default=500_000, help="how many (500000), in memory where there is /dev/shm"
    )
    files = parser.parse_args().files
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    top = Path(tempfile.mkdtemp(prefix="bulkhead-context-", dir=memory))
    try:
        _make(top / "context", files)
        write(top / "bulkhead")
        commands = {
            "a bare walk": (_PYTHON, "-c", _WALK, str(top / "context")),
            "bulkhead context": (_PYTHON, str(top / "bulkhead"), "context", str(top / "context")),
        }
        rows = [(name, *_measured(command)) for name, command in commands.items()]
        publish("context", ("program", "seconds", "CPU seconds", "peak MiB"), rows, [f"{files} empty files."])
    finally:
        shutil.rmtree(top)


def _make(context: Path, files: int) -> None:
    """Make a context: a tenth of its files is ignored, a fifth is junk, the others are in directories of a hundred."""
    context.mkdir()
    (context / "Dockerfile").write_text("FROM a\nCOPY . .\nRUN npm ci\n")
    (context / ".dockerignore").write_text(_IGNORE)
    for number in range(files // _PER_DIRECTORY):
        share = number % 10
        place = "docs" if share == 0 else "web/node_modules" if share < 3 else f"src/part{number % 97}"
        directory = context / place / f"d{number}"
        directory.mkdir(parents=True)
        for file in range(_PER_DIRECTORY):
            os.close(os.open(directory / f"file{file}.{'py' if file % 3 else 'txt'}", os.O_CREAT | os.O_WRONLY))


def _measured(command: tuple[str, ...]) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and MiB of memory at most."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[1]} ended with the exit code {process.returncode}")
    # Kibibytes on Linux, bytes on macOS (getrusage(2)).
    peak = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return seconds, usage.ru_utime + usage.ru_stime, peak


if __name__ == "__main__":
    main()
