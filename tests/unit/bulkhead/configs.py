"""A configuration of the host program, as the deploy would write it."""

from __future__ import annotations

from typing import Any

from bulkhead.config import Config


def config(**changed: Any) -> Config:
    values = {
        "volume": "/srv/docker-volume",
        "stores": {"docker": "/var/lib/docker", "containerd": "/var/lib/containerd"},
        "fstab": (),
        "extra_volumes": (),
        "drop_ins": {},
        "patience": 0,
        "group": "ubuntu-vg",
        "logical_volume": "docker-lv",
        "reserve": 5 * 2**30,
        "warning": 80,
        "critical": 90,
        "hours_left": 4,
        "metrics": "",
        "receivers": (),
        "reminder": 4,
        "units": ("docker-prune.timer",),
        "prune_hours": 48,
        "prune_image_days": 0,
        "keep": (),
        "check_interval": 15,
        "floor": "auto",
        "ballast": 256 * 2**20,
        "stop_pulls": False,
        "rescue": False,
        "snapshot_hours": 24,
    }
    return Config(**{**values, **changed})
