"""Read the configuration that the deploy writes: /etc/bulkhead/bulkhead.json."""

from __future__ import annotations

import json

from bulkhead import names
from bulkhead.errors import Problem
from pyinfra_lvm.fstab import FstabEntry
from pyinfra_lvm.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from bulkhead.sizes import Size

PATH = names.PROGRAM_CONFIGURATION


class Config(NamedTuple):
    """Settings have the names that they have in inventory/group_data/all.py. Values that the deploy computes come first."""

    # Computed by the deploy.
    stores: dict[str, str]  # directory on the volume → where it is bound
    store_fstab: tuple[FstabEntry, ...]  # the lines that bind the stores
    extra_fstab: tuple[FstabEntry, ...]  # the lines that mount the extra volumes
    volume_fstab: tuple[FstabEntry, ...]  # the line that mounts an adopted filesystem; none for a logical volume
    ordering_drop_ins: dict[str, str]  # path → content: they order Docker after its stores
    closed_drop_ins: dict[str, str]  # where a filesystem is adopted: they keep Docker down without its volume
    vg_name: str  # the volume group that has Docker's logical volume; empty: the volume is an adopted filesystem
    reserve_bytes: int  # that should stay free in the group; 0 where a volume_size in bytes may use up the reserve
    disk_file_bytes: int  # bytes of the file that is Docker's disk; 0: the volume is on disks
    receiver_names: tuple[str, ...]  # of alert_receivers; the addresses are secrets, in a file of their own
    watched_units: tuple[str, ...]  # that must be active

    # Settings.
    volume_mount: str
    logical_volume: str
    relocation_patience: int  # seconds
    docker_start_limit: int | None  # seconds; None: "auto"
    check_interval: int  # minutes
    check_threshold: int  # percent
    check_critical: int  # percent
    check_hours_left: float
    alert_reminder: float  # hours
    metrics_directory: str
    prune_hours: int
    prune_images_after_days: int
    prune_anonymous_volumes: bool
    prune_keep: tuple[str, ...]
    guard_floor: Size | None  # None: "auto"
    guard_ballast: int  # bytes; 0: none
    guard_stop_pulls: bool
    guard_rescue: bool
    snapshot_max_hours: int

    @property
    def snapshot(self) -> str:
        """Return the name that our snapshot of Docker's volume has."""
        return f"{self.logical_volume}-snapshot"

    @property
    def way_to_grow(self) -> str:
        """Return how Docker's volume becomes larger, as a part of a sentence."""
        return (
            "grow the volume (setting volume_size)" if self.vg_name else "grow its disk and filesystem (docs/adopt.md)"
        )

    @classmethod
    def load(cls, path: str = PATH) -> Config:
        """Read the configuration.

        Raises:
            Problem: there is none, or it is not one that this version of the program can use.
        """
        try:
            with open(path, encoding="utf-8") as file:
                values: dict[str, Any] = json.load(file)
            for name in ("store_fstab", "extra_fstab", "volume_fstab"):
                values[name] = tuple(FstabEntry.of(*line) for line in values[name])
            for name in ("receiver_names", "watched_units", "prune_keep"):
                values[name] = tuple(values[name])
            if values["guard_floor"] is not None:
                from bulkhead.sizes import Size  # only here: it is slow to import, and a check rarely needs it

                values["guard_floor"] = floor = Size(**values["guard_floor"])
                if not (floor.bytes or floor.percent):
                    raise KeyError("guard_floor")
            return cls(**values)
        except FileNotFoundError:
            raise Problem(
                f"docker-bulkhead is not deployed to this host: there is no {path}. Run deploy.py with this host in the inventory"
            ) from None
        except OSError as error:
            reason = error.strerror
        except (ValueError, RecursionError) as error:
            reason = f"it is not valid JSON ({error})"
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"it is not from this version of docker-bulkhead ({error})"
        raise Problem(f"{path} cannot be read: {reason}. Run the deploy again: it writes this file")
