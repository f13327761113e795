"""What the deploy tells the program: /etc/bulkhead/bulkhead.json."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from bulkhead.errors import Problem
from pyinfra_lvm.fstab import FstabEntry

PATH = "/etc/bulkhead/bulkhead.json"


class Config(NamedTuple):
    volume: str  # where the volume is mounted
    stores: dict[str, str]  # directory on the volume → where it is bound
    fstab: tuple[FstabEntry, ...]  # the lines that bind the stores
    extra_volumes: tuple[FstabEntry, ...]  # the lines that mount the extra volumes
    drop_ins: dict[str, str]  # path → content: they order Docker after its stores
    patience: int  # seconds to wait for builds and --rm containers to end
    group: str  # volume group and logical volume of Docker
    logical_volume: str
    reserve: int  # bytes of the group that should stay free; 0: whoever set the size may use it up
    warning: int  # percent
    critical: int
    hours_left: float  # a filesystem that will be full within so many hours is worth a warning
    metrics: str  # directory of node_exporter's textfile collector; empty: none are written
    receivers: tuple[str, ...]  # of alerts, by name: their addresses are secrets, in a file of their own
    reminder: float  # hours until a standing alert is told again; ever longer from then on
    units: tuple[str, ...]  # that must be active
    prune_hours: int  # what was unused for so long goes
    prune_image_days: int  # 0: an image that no container has stays
    keep: tuple[str, ...]  # shell patterns of names that are not pruned: images, containers, networks
    check_interval: int  # minutes between two checks by cron
    floor: str  # what the guard keeps free of the volume: "auto", "5%" or "10G"
    ballast: int  # bytes of a file that is given back where the guard is too slow; 0: there is none
    stop_pulls: bool  # the guard interrupts pulls and loads too, not only builds
    rescue: bool  # the guard itself rescues an engine that a full volume has stopped
    snapshot_hours: int  # the age at which a snapshot goes

    @property
    def snapshot(self) -> str:
        """The name of the snapshot of Docker's volume, where there is one of ours."""
        return f"{self.logical_volume}-snapshot"

    @classmethod
    def load(cls, path: str = PATH) -> Config:
        """Read the configuration.

        Raises:
            Problem: it cannot be read, or is not one of this version of the program.
        """
        try:
            with open(path, encoding="utf-8") as file:
                values: dict[str, Any] = json.load(file)
            for name in ("fstab", "extra_volumes"):
                values[name] = tuple(FstabEntry.of(*line) for line in values[name])
            for name in ("receivers", "units", "keep"):
                values[name] = tuple(values[name])
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Problem(f"{path} cannot be read: {error}. Run the deploy again: it writes it") from error
