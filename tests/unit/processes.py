"""Processes for tests to look at."""

from __future__ import annotations

import subprocess
import sys


def orphan(*command: str) -> int:
    """A process that descends from nobody of ours."""
    line = [sys.executable, "-c", _DETACH, *command]
    return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


_DETACH = """
import subprocess, sys
print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdin=-3, stdout=-3, stderr=-3).pid)
"""
