"""The status of a host whose Docker volume is nearly full."""

from __future__ import annotations

import re
from typing import Any

from bulkhead.docker.usage import Usage
from bulkhead.status.report import DataLocation, GuardStatus, Status
from bulkhead.storage import lvm
from bulkhead.storage.filesystems import FilesystemUsage
from bulkhead.storage.lvm import GroupUsage
from bulkhead.watch.forecast import Forecast
from bulkhead.watch.results import CRITICAL, OK, CheckResult, Observation

G = 2**30


NOW = 1764021300.0


VOLUME = "/srv/docker-volume"


ANSWERS = CheckResult("docker", OK, "Docker answers")


GUARDS = CheckResult("unit:docker-guard.service", OK, "docker-guard.service is active")


def usage_of(**changed: Any) -> Usage:
    values = {"images": 30 * G, "containers": G, "build_cache": 14 * G, "volumes": 6 * G, "logs": G // 2}
    return Usage(**{**values, "reclaimable": {"images": 12 * G}, **changed})


def example_status(**changed: Any) -> Status:
    """A host whose Docker volume is nearly full."""
    observation = Observation(
        filesystems=[
            FilesystemUsage("/", 30 * G, 15 * G, 15 * G, 2_000_000, 1_700_000, False),
            FilesystemUsage(VOLUME, 60 * G, 54 * G, 3 * G, 4_000_000, 3_000_000, False),
        ],
        forecasts={"/": Forecast(0.0, None), VOLUME: Forecast(G / 3600, 3 * 3600)},
        groups=[GroupUsage("ubuntu-vg", 100 * G, 2 * G)],
        snapshots=[lvm.SnapshotUsage("ubuntu-vg", "before", "docker-lv", 41.5)],
        results=[CheckResult(f"use:{VOLUME}", CRITICAL, f"{VOLUME} 94 % used", VOLUME), ANSWERS, GUARDS],
    )
    values = {
        "host": "ci-7",
        "now": NOW,
        "volume": VOLUME,
        "group": "ubuntu-vg",
        "reserve": 5 * G,
        "observation": observation,
        "usage": usage_of(),
        "guard": GuardStatus(NOW - 1, 3 * G, 4 * G, G // 4, []),
        "places": [DataLocation("/var/lib/docker", "Docker runs on the volume.", "finalized", NOW - 86400, "", {})],
    }
    return Status(**{**values, **changed})


def row(page: str, beginning: str) -> str:
    """Return the row of a page that begins so."""
    (found,) = [line for line in page.splitlines() if re.match(rf"\s*{re.escape(beginning)}\s", line)]
    return found
