"""Remember which copy of Docker's mirror is not stale, for a boot at which only one of its disks answers."""

from __future__ import annotations

import contextlib
import os

from bulkhead.files import replace_file, sync_directory
from bulkhead.names import MIRROR_RECORD
from bulkhead.storage import lvm


def update(group: str, volume: str) -> None:
    """Remember the only copy that is whole, until both are. The unit of the mirror activates no other one alone.

    While neither copy is known to be whole, what is remembered stays.

    Raises:
        OSError: LVM does not answer, or the record cannot be written or removed.
    """
    copies = lvm.copies_of(group, volume)
    whole = [disks for disks, is_whole in copies if is_whole]
    if len(whole) == 1 and len(copies) > 1:
        if read() != whole[0]:
            replace_file(MIRROR_RECORD, f"{whole[0]}\n")
    elif len(whole) > 1 and len(whole) == len(copies):
        forget()


def read() -> str:
    """Return the UUIDs of the physical volumes of the copy that is remembered; empty: none is."""
    with contextlib.suppress(OSError), open(MIRROR_RECORD, encoding="utf-8") as file:
        return file.read().strip()
    return ""


def forget() -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(MIRROR_RECORD)
        sync_directory(os.path.dirname(MIRROR_RECORD))
