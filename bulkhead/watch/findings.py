"""Levels and results of a check."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bulkhead.storage.filesystems import FilesystemUsage
    from bulkhead.storage.lvm import GroupUsage, SnapshotUsage
    from bulkhead.watch.forecast import Forecast

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
LEVELS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
SEVERITY = (OK, UNKNOWN, WARNING, CRITICAL)  # the worst last


class CheckResult(NamedTuple):
    key: str  # what it is about: use:/, isolation, unit:docker-prune.timer
    level: int
    text: str  # for people, a clause
    mount: str = ""  # the filesystem that it is about


class Observation:
    """What there is to see on a host, and what is to be said of it."""

    def __init__(
        self,
        filesystems: Sequence[FilesystemUsage] = (),
        forecasts: Mapping[str, Forecast] | None = None,  # by mount point
        groups: Sequence[GroupUsage] = (),
        snapshots: Sequence[SnapshotUsage] = (),
        findings: Sequence[CheckResult] = (),
    ) -> None:
        self.filesystems = list(filesystems)
        self.forecasts = dict(forecasts or {})
        self.groups = list(groups)
        self.snapshots = list(snapshots)
        self.findings = list(findings)

    @property
    def level(self) -> int:
        return max((finding.level for finding in self.findings), key=SEVERITY.index, default=OK)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "filesystems": [
                {**each._asdict(), "percent": each.percent, "inodes_percent": each.inodes_percent}
                for each in self.filesystems
            ],
            "forecasts": {mount: trend._asdict() for mount, trend in self.forecasts.items()},
            "groups": [group._asdict() for group in self.groups],
            "snapshots": [snapshot._asdict() for snapshot in self.snapshots],
            "findings": [finding._asdict() for finding in self.findings],
        }


def complain(text: str) -> None:
    """Where nobody can be alerted: in the system's log, and on standard error, which cron mails."""
    import syslog

    syslog.syslog(syslog.LOG_ERR, plain(text))
    print(f"bulkhead: {plain(text)}", file=sys.stderr)
