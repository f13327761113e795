"""Processes that tests inspect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def orphan(*command: str) -> int:
    """Start a process that is no descendant of the test, and return its number."""
    line = [sys.executable, "-c", _DETACH, *command]
    return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


_DETACH = """
import subprocess, sys
print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdin=-3, stdout=-3, stderr=-3).pid)
"""


def without_git() -> dict[str, str]:
    """Return an environment in which git works on the repository at hand alone: without hooks or signatures of its user."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return others | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def may_mount() -> bool:
    """Return whether this process may mount: root in a container may often not (capabilities(7), CAP_SYS_ADMIN)."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 21 & 1)
