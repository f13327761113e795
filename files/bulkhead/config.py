"""What the deploy tells the program: /etc/bulkhead/bulkhead.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfra_lvm.model import FstabEntry

PATH = "/etc/bulkhead/bulkhead.json"


@dataclass(frozen=True)
class Config:
    volume: str  # where the volume is mounted
    stores: dict[str, str]  # directory on the volume → where it is bound
    fstab: tuple[FstabEntry, ...]  # the lines that bind the stores
    extra_volumes: tuple[FstabEntry, ...]  # the lines that mount the extra volumes
    drop_ins: dict[str, str]  # path → content: they order Docker after its stores
    patience: int  # seconds to wait for builds and --rm containers to end

    @classmethod
    def load(cls, path: str = PATH) -> Config:
        """Read the configuration.

        Raises:
            OSError: it cannot be read.
            ValueError, KeyError, TypeError: it is not one of this version of the program.
        """
        values: dict[str, Any] = json.loads(Path(path).read_text())
        for name in ("fstab", "extra_volumes"):
            values[name] = tuple(FstabEntry.of(*line) for line in values[name])
        return cls(**values)
