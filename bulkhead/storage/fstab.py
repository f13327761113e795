"""Read and replace /etc/fstab."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead import files
from bulkhead.errors import Failed
from pyinfra_lvm.fstab import fstab_with, fstab_without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def with_entries(text: str, entries: Iterable[object]) -> str:
    for entry in entries:
        text = fstab_with(text, entry)  # type: ignore[arg-type]
    return text


def without_entries(text: str, entries: Iterable[object]) -> str:
    for entry in entries:
        text = fstab_without(text, entry.target)  # type: ignore[attr-defined]
    return text


FSTAB = "/etc/fstab"


def read_fstab() -> str:
    return Path(FSTAB).read_text(encoding="utf-8", errors="surrogateescape")


def replace_fstab(change: Callable[[str], str]) -> None:
    """Replace fstab as a whole, checked and on disk.

    Args:
        change: makes the new text of the old.

    Raises:
        Failed: the new one would have errors that the old one has not.
    """
    old = read_fstab()
    new = change(old)
    if new == old:
        return
    aside = f"{FSTAB}.checked"
    files.replace_file(aside, new)
    try:
        if _fstab_errors(aside) > _fstab_errors(FSTAB):
            raise Failed("the new fstab has errors (findmnt --verify); the old one was not touched")
    finally:
        Path(aside).unlink()
    files.replace_file(FSTAB, new, mode=os.stat(FSTAB).st_mode & 0o7777)


def _fstab_errors(path: str) -> int:
    done = subprocess.run(["findmnt", "--verify", "--tab-file", path], capture_output=True, text=True, check=False)
    return sum("[E]" in line or "parse error at" in line for line in (done.stdout + done.stderr).splitlines())
