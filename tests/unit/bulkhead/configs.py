"""A configuration of the host program, as the deploy would write it."""

from __future__ import annotations

from typing import Any

from bulkhead.config import Config


def config(**changed: Any) -> Config:
    values = {
        "volume_mount": "/srv/docker-volume",
        "stores": {"docker": "/var/lib/docker", "containerd": "/var/lib/containerd"},
        "store_fstab": (),
        "extra_fstab": (),
        "volume_fstab": (),
        "ordering_drop_ins": {},
        "closed_drop_ins": {},
        "relocation_patience": 0,
        "docker_start_limit": None,
        "vg_name": "ubuntu-vg",
        "logical_volume": "docker-lv",
        "reserve_bytes": 5 * 2**30,
        "disk_file_bytes": 0,
        "check_threshold": 80,
        "check_critical": 90,
        "check_hours_left": 4,
        "metrics_directory": "",
        "receiver_names": (),
        "alert_reminder": 4,
        "watched_units": ("docker-prune.timer",),
        "prune_hours": 48,
        "prune_images_after_days": 0,
        "prune_anonymous_volumes": False,
        "prune_keep": (),
        "check_interval": 15,
        "guard_floor": None,
        "guard_ballast": 256 * 2**20,
        "guard_stop_pulls": False,
        "guard_rescue": False,
        "snapshot_max_hours": 24,
    }
    return Config(**{**values, **changed})
