"""Results of a check, and their levels."""

from __future__ import annotations

import sys

from bulkhead.text import plain
from pyinfra_lvm.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from bulkhead.storage.filesystems import FilesystemUsage
    from bulkhead.storage.lvm import GroupUsage, MirrorHealth, SnapshotUsage
    from bulkhead.watch.forecast import Forecast

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
LEVELS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
SEVERITY = (OK, UNKNOWN, WARNING, CRITICAL)  # the worst last


class CheckResult(NamedTuple):
    key: str  # what was checked: use:/, isolation, unit:docker-prune.timer
    level: int
    text: str  # a clause, for people
    mount: str = ""  # the filesystem that it concerns


class Observation:
    """The state of a host at one moment, and the results of its checks."""

    def __init__(
        self,
        filesystems: Sequence[FilesystemUsage] = (),
        forecasts: Mapping[str, Forecast] | None = None,  # by mount point
        groups: Sequence[GroupUsage] = (),
        snapshots: Sequence[SnapshotUsage] = (),
        results: Sequence[CheckResult] = (),
        mirrors: Sequence[MirrorHealth] = (),
    ) -> None:
        self.filesystems = list(filesystems)
        self.forecasts = dict(forecasts or {})
        self.groups = list(groups)
        self.snapshots = list(snapshots)
        self.results = list(results)
        self.mirrors = list(mirrors)

    @property
    def level(self) -> int:
        """Return the worst level of the results."""
        return max((result.level for result in self.results), key=SEVERITY.index, default=OK)

    def as_dict(self) -> dict[str, Any]:
        """Return everything in the form that --json prints."""
        return {
            "filesystems": [
                {**each._asdict(), "percent": each.percent, "inodes_percent": each.inodes_percent}
                for each in self.filesystems
            ],
            "forecasts": {mount: trend._asdict() for mount, trend in self.forecasts.items()},
            "groups": [group._asdict() for group in self.groups],
            "snapshots": [snapshot._asdict() for snapshot in self.snapshots],
            "mirrors": [vars(mirror) for mirror in self.mirrors],
            "findings": [result._asdict() for result in self.results],
        }


def complain(text: str) -> None:
    """Report what no alert can report: in the system's log, and on standard error, which cron mails."""
    import syslog

    syslog.syslog(syslog.LOG_ERR, plain(text))
    print(f"bulkhead: {plain(text)}", file=sys.stderr)
