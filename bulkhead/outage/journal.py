"""What the program must know after a power cut: one file, replaced whole."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bulkhead import names
from bulkhead.files import replace_file

PATH = names.RELOCATION_JOURNAL
ROLLBACK = names.ROLLBACK_JOURNAL

# COPYING: Docker runs on the old trees, and has not been touched.
# STOPPING: Docker runs on the old trees or is being stopped; the last difference is copied.
# SWITCHING: whether the new fstab is in place decides which way it goes on.
# CHECKING: Docker is being started on the volume and inspected. The old trees are beneath the mounts.
# RETURNING: Docker goes back to the old trees, after a failed check or for a rollback.
COPYING, STOPPING, SWITCHING, CHECKING, RETURNING = UNFINISHED = names.UNFINISHED

# DONE: Docker runs on the volume, and the old trees are kept.
# FINALIZING: the old trees are being removed. There is no way back.
DONE, FINALIZING = names.RELOCATED
FINALIZED = "finalized"

FAILED = "failed"  # Docker runs on the old trees; `reason` says why
ROLLED_BACK = "rolled-back"


@dataclass
class Journal:
    """One move.

    Args:
        path: of its file.
    """

    path: str
    phase: str = ""  # empty: there has been no relocation
    since: float = 0  # seconds since the epoch, of the phase
    reason: str = ""  # of a failure or a return, for people
    asked: bool = False  # the return was asked for: it is a rollback
    lived: bool = False  # Docker has been started on the volume: something may have been written there
    ran: list[str] = field(default_factory=list)  # containers to start again, in this order
    before: dict[str, Any] = field(default_factory=dict)  # the engine's inventory before it was stopped
    switched: float = 0  # from this moment on nobody had the old trees any more
    old: dict[str, int] = field(default_factory=dict)  # directory → bytes of its old tree
    volume: str = ""  # of an extra volume: the UUID of the filesystem that is copied to

    @classmethod
    def load(cls, path: str) -> Journal:
        """Read it; an empty one where there is none. What another version of the program wrote beside is passed over.

        Raises:
            ValueError: it is no journal.
        """
        try:
            values = json.loads(Path(path).read_text()) | {"path": path}
            return cls(**{name.name: values[name.name] for name in fields(cls) if name.name in values})
        except FileNotFoundError:
            return cls(path)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is no journal of a move: {error}") from error

    def enter(self, phase: str, **changes: object) -> None:
        """Come to a phase, with these fields changed, and have it on disk."""
        for name, value in {"phase": phase, "since": time.time(), **changes}.items():
            setattr(self, name, value)
        self.save()

    def save(self) -> None:
        replace_file(self.path, json.dumps(asdict(self), indent=4) + "\n")
