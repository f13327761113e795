"""What the program must know after a power cut: one file, replaced whole."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bulkhead.files import replace_file

PATH = "/var/lib/bulkhead/relocation.json"
ROLLBACK = "/var/lib/bulkhead/rollback.json"  # of a rollback to a snapshot


def path_for(directory: str) -> str:
    """The journal of an extra volume's move.

    >>> path_for("/srv/ml-models")
    '/var/lib/bulkhead/relocation-srv-ml%2dmodels.json'
    """
    name = directory.strip("/").replace("%", "%25").replace("-", "%2d").replace("/", "-")
    return f"{PATH.removesuffix('.json')}-{name}.json"


# Docker runs on the old trees.
COPYING = "copying"  # and has not been touched
STOPPING = "stopping"  # or is being stopped, and the last difference copied
FAILED = "failed"  # the relocation did not come about; `reason` says why

# The new fstab may be there or not: it decides.
SWITCHING = "switching"

# Docker runs on the volume, the old trees are beneath.
CHECKING = "checking"  # or is being started there and looked at
DONE = "done"
FINALIZING = "finalizing"  # the old trees are being removed: no way back
FINALIZED = "finalized"

# On the way back to the old trees, after a failed check or a rollback.
RETURNING = "returning"
ROLLED_BACK = "rolled-back"
UNFINISHED = (COPYING, STOPPING, SWITCHING, CHECKING, RETURNING)


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
