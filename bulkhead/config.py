"""What the deploy tells the program: /etc/bulkhead/bulkhead.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead import names
from bulkhead.errors import Problem
from pyinfra_lvm.fstab import FstabEntry

if TYPE_CHECKING:
    from bulkhead.sizes import Size

PATH = names.PROGRAM_CONFIGURATION


class Config(NamedTuple):
    """A setting has the name here that it has in inventory/group_data/all.py. What the deploy computes comes first."""

    # Computed by the deploy.
    stores: dict[str, str]  # directory on the volume → where it is bound
    store_fstab: tuple[FstabEntry, ...]  # the lines that bind the stores
    extra_fstab: tuple[FstabEntry, ...]  # the lines that mount the extra volumes
    ordering_drop_ins: dict[str, str]  # path → content: they order Docker after its stores
    vg_name: str  # the volume group that has Docker's logical volume
    reserve_bytes: int  # that should stay free in the group; 0: a volume_size in bytes may use the reserve up
    receiver_names: tuple[str, ...]  # of alert_receivers; their addresses are secrets, in a file of their own
    watched_units: tuple[str, ...]  # that must be active

    # Settings.
    volume_mount: str
    logical_volume: str
    relocation_patience: int  # seconds
    check_interval: int  # minutes
    check_threshold: int  # percent
    check_critical: int  # percent
    check_hours_left: float
    alert_reminder: float  # hours
    metrics_directory: str
    prune_hours: int
    prune_images_after_days: int
    prune_keep: tuple[str, ...]
    guard_floor: Size | None  # None: "auto"
    guard_ballast: int  # bytes; 0: none
    guard_stop_pulls: bool
    guard_rescue: bool
    snapshot_max_hours: int

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
            for name in ("store_fstab", "extra_fstab"):
                values[name] = tuple(FstabEntry.of(*line) for line in values[name])
            for name in ("receiver_names", "watched_units", "prune_keep"):
                values[name] = tuple(values[name])
            if values["guard_floor"]:
                from bulkhead.sizes import Size  # which takes its time, and a check is in a hurry

                values["guard_floor"] = Size(**values["guard_floor"])
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Problem(f"{path} cannot be read: {error}. Run the deploy again: it writes it") from error
