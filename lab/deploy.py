"""Run pyinfra on machines of the lab: the same way for the lab's own commands, its tests and the benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TOP = Path(__file__).parent.parent
INVENTORY = "inventory/lab.py"


def command(*names: str, options: tuple[str, ...] = ("-y",), script: str = "deploy.py", **settings: Any) -> list[str]:
    """Return pyinfra's command line for machines of the lab. It runs in ``TOP``.

    Args:
        names: of the machines; without one, all.
        settings: beside those that each machine was made with.
    """
    line = [sys.executable, "-m", "pyinfra", *options, INVENTORY]
    for name in names:
        line += ["--limit", name]
    for name, value in settings.items():
        line += ["--data", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return [*line, script]


def deploy(name: str, **settings: Any) -> None:
    """Deploy to a machine, with pyinfra's output on standard error.

    Raises:
        subprocess.CalledProcessError: the deploy failed.
    """
    line = command(name, **settings)
    subprocess.run(line, cwd=TOP, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
