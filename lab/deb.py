"""Build Debian packages from directories, and read and write their control files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def fields(control: str) -> dict[str, str]:
    """Return the fields of a control file; a value keeps its continuation lines (deb-control(5))."""
    return {name: value.strip() for name, value in re.findall(r"^(\S+):(.*(?:\n[ \t].*)*)", control, re.MULTILINE)}


def control(fields: dict[str, str]) -> str:
    """Return the control file of these fields, without those that have no value."""
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def build(tree: Path, directory: Path) -> None:
    """Build the package of a tree that has a ``DEBIAN`` folder, into a directory."""
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", tree, directory],
        check=True,
        stdout=subprocess.DEVNULL,
    )
