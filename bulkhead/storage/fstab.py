"""The one reader of /etc/fstab, and what replaces it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bulkhead import files
from bulkhead.errors import Failed
from pyinfra_lvm.fstab import fstab_with, fstab_without, parse_fstab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyinfra_lvm.fstab import FstabEntry

FSTAB = "/etc/fstab"


def read_fstab() -> str:
    """Return the text of fstab.

    Raises:
        OSError: it cannot be read.
    """
    with open(FSTAB, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def read_entries() -> tuple[FstabEntry, ...]:
    """Return the entries of fstab.

    Raises:
        OSError: it cannot be read.
    """
    return parse_fstab(read_fstab())


def with_entries(text: str, entries: Iterable[FstabEntry]) -> str:
    """Return a text of fstab with these entries, each in place of the lines for its mount point."""
    for entry in entries:
        text = fstab_with(text, entry)
    return text


def without_entries(text: str, entries: Iterable[FstabEntry]) -> str:
    """Return a text of fstab without the lines for these entries' mount points."""
    for entry in entries:
        text = fstab_without(text, entry.target)
    return text


def replace_fstab(change: Callable[[str], str]) -> None:
    """Replace fstab as a whole. The new text is checked first, and on disk when this returns.

    Args:
        change: makes the new text from the old.

    Raises:
        Failed: the new text would have errors that the old one does not have.
        OSError: the new file cannot be written; the old one is unchanged.
    """
    old = read_fstab()
    new = change(old)
    if new == old:
        return
    new_file = f"{FSTAB}.checked"
    files.replace_file(new_file, new)
    try:
        if _count_errors(new_file) > _count_errors(FSTAB):
            raise Failed("the new fstab has errors (findmnt --verify); the old one is unchanged")
    finally:
        os.unlink(new_file)
    files.replace_file(FSTAB, new, mode=os.stat(FSTAB).st_mode & 0o7777)


def _count_errors(path: str) -> int:
    import subprocess  # a check reads fstab too, and does without

    done = subprocess.run(["findmnt", "--verify", "--tab-file", path], capture_output=True, text=True, check=False)
    return sum("[E]" in line or "parse error at" in line for line in (done.stdout + done.stderr).splitlines())
