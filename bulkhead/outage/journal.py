"""What a move or a rollback must still know after a power cut: one file, replaced whole."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bulkhead import names
from bulkhead.files import replace_file
from bulkhead.procfs import boot_id

PATH = names.RELOCATION_JOURNAL
ROLLBACK = names.ROLLBACK_JOURNAL

# COPYING: Docker runs on its old data, and has not been touched.
# STOPPING: Docker runs on its old data or is being stopped, and the last difference is copied.
# SWITCHING: whether the new fstab is in place decides whether the move is finished or undone.
# CHECKING: Docker is started on the volume and inspected. The old data is beneath the mounts.
# RETURNING: Docker goes back to its old data, after a failed check or for a rollback.
COPYING, STOPPING, SWITCHING, CHECKING, RETURNING = UNFINISHED = names.UNFINISHED

# DONE: Docker runs on the volume, and its old data is kept.
# FINALIZING: the old data is being removed. A rollback is no longer possible.
DONE, FINALIZING = names.RELOCATED
# FINALIZED: there is no old data, or none any more. An adopted filesystem can go back.
FINALIZED = "finalized"

FAILED = "failed"  # Docker runs on its old data; `reason` says why
ROLLED_BACK = "rolled-back"


@dataclass
class Journal:
    """The journal of one move or rollback.

    Args:
        path: of its file.
    """

    path: str
    phase: str = ""  # empty: there has been no move
    since: float = 0  # when the phase began, in seconds since the epoch
    boot: str = ""  # in which the phase began: `procfs.boot_id`. The clock may be set between two phases
    reason: str = ""  # why it failed or went back, for people
    asked: bool = False  # somebody asked to go back: it is a rollback, and no failure
    lived: bool = False  # Docker has been started on the volume, and may have written there
    ran: list[str] = field(default_factory=list)  # containers to start again, in this order
    before: dict[str, Any] = field(default_factory=dict)  # what Docker held before it was stopped
    switched: float = 0  # since when nobody has used the old data, in seconds since the epoch
    old: dict[str, int] = field(default_factory=dict)  # directory → bytes of its old data
    fstab: list[str] = field(default_factory=list)  # where a filesystem is adopted: its lines as they were
    set_aside: str = ""  # where a store that nobody used was renamed to
    volume: str = ""  # of an extra volume: the UUID of the filesystem that the files are copied to

    @classmethod
    def load(cls, path: str) -> Journal:
        """Read a journal. Return an empty one if there is no file. Ignore the fields of other versions of the program.

        Raises:
            ValueError: the file is not a journal.
        """
        try:
            values = json.loads(Path(path).read_text()) | {"path": path}
            return cls(**{name.name: values[name.name] for name in fields(cls) if name.name in values})
        except FileNotFoundError:
            return cls(path)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a journal of a move: {error}") from error

    def enter(self, phase: str, **changes: object) -> None:
        """Begin a phase, change these fields, and write the journal to the disk."""
        for name, value in {"phase": phase, "since": time.time(), "boot": boot_id(), **changes}.items():
            setattr(self, name, value)
        self.save()

    def save(self) -> None:
        """Write the journal to the disk."""
        replace_file(self.path, json.dumps(vars(self), indent=4) + "\n")

    def clear(self) -> None:
        """Forget everything, but leave the file as it is until the next phase begins."""
        vars(self).update(vars(Journal(self.path)))
