"""Shell scripts that run on a host, in files that shellcheck reads."""

from __future__ import annotations

import re
from pathlib import Path


def script(path: Path) -> str:
    """Return a shell script without the lines that are comments."""
    return re.sub(r"^ *#.*\n", "", path.read_text(), flags=re.MULTILINE)
