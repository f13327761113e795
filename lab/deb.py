"""Debian packages out of directories, and their control files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def fields(control: str) -> dict[str, str]:
    """A control file's fields; a value keeps its further lines (deb-control(5))."""
    return {name: value.strip() for name, value in re.findall(r"^(\S+):(.*(?:\n[ \t].*)*)", control, re.MULTILINE)}


def control(fields: dict[str, str]) -> str:
    """The control file of fields; those without a value are left out."""
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def build(tree: Path, directory: Path) -> None:
    """Make the package of a tree with its ``DEBIAN``, into a directory."""
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", tree, directory],
        check=True,
        stdout=subprocess.DEVNULL,
    )
