"""Stand-ins for programs that the host program runs."""

from __future__ import annotations

from pathlib import Path


def program(path: Path, script: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
