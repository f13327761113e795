"""The figures of a check, of the last prune and of the guard, for node_exporter's textfile collector."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from bulkhead import __version__, names, state
from bulkhead.watch import findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bulkhead.watch.findings import Observation

FILE = "bulkhead.prom"


def write(directory: str, seen: Observation) -> None:
    """Replace the file: the collector never reads half of one, and anybody may read it.

    Raises:
        OSError: it cannot be written.
    """
    queued: dict[str, int] = {}
    if state.load("alerts"):  # else a check has no need of the module
        from bulkhead.watch import alert_store

        queued = alert_store.queued()
    content = text(seen, time.time(), state.load("prune"), state.load("guard"), queued)
    path = f"{directory}/{FILE}"
    with open(f"{path}.new", "w", encoding="utf-8", errors="replace") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)
    os.rename(f"{path}.new", path)


def text(
    seen: Observation, now: float, prune: Mapping[str, Any], guard: Mapping[str, Any], queued: Mapping[str, int]
) -> str:
    """The metrics in Prometheus' text format.

    Args:
        prune: what the last prune left; empty before the first.
        guard: what the guard has seen last; empty before its first look.
        queued: messages that wait, by receiver.
    """
    lines: list[str] = []
    for name, explanation, values in _metrics(seen, now, prune, guard, queued):
        if values:
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP bulkhead_{name} {explanation}", f"# TYPE bulkhead_{name} {kind}"]
            lines += [f"bulkhead_{name}{labels} {float(value)!r}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"


def _metrics(
    seen: Observation, now: float, prune: Mapping[str, Any], guard: Mapping[str, Any], queued: Mapping[str, int]
) -> Iterator[tuple[str, str, Mapping[str, float]]]:
    """Of each metric its name, its explanation, and its values by their labels."""
    levels = {finding.key: finding.level for finding in seen.findings}
    mounts = {_labels(mountpoint=filesystem.mount): filesystem for filesystem in seen.filesystems}
    sized = {labels: filesystem for labels, filesystem in mounts.items() if filesystem.size}
    trends = {_labels(mountpoint=mount): trend for mount, trend in seen.forecasts.items()}

    yield "info", "The host program.", {_labels(version=__version__): 1}
    yield "check_timestamp_seconds", "When the last check ended.", {"": now}
    yield "check_level", "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.", {_labels(check=k): v for k, v in levels.items()}
    for name, explanation, attribute in (
        ("size_bytes", "Size of the filesystem.", "size"),
        ("used_bytes", "Bytes in use.", "used"),
        ("available_bytes", "Bytes available to others than root.", "available"),
        ("inodes", "Inodes; none where there is no limit of them.", "inodes"),
        ("inodes_free", "Free inodes.", "inodes_free"),
    ):
        yield f"filesystem_{name}", explanation, {labels: getattr(f, attribute) for labels, f in sized.items()}
    yield "filesystem_read_only", "It cannot be written to, and should be.", {k: f.read_only for k, f in mounts.items()}
    yield "filesystem_growth_bytes_per_second", "How fast it fills.", {k: trend.rate for k, trend in trends.items()}
    yield (
        "filesystem_full_seconds",
        "Time until it is full; absent where it does not fill.",
        {labels: trend.seconds_left for labels, trend in trends.items() if trend.seconds_left is not None},
    )
    yield "isolated", "Docker's data is on its volume.", {"": levels.get("isolation") == findings.OK}
    yield "docker_up", "Docker runs and answers.", {"": levels.get("docker") == findings.OK}
    groups = {_labels(group=group.name): group for group in seen.groups}
    yield "volume_group_size_bytes", "Size of the volume group.", {k: group.size for k, group in groups.items()}
    yield "volume_group_free_bytes", "Bytes in no logical volume.", {k: group.free for k, group in groups.items()}
    snapshots = {_labels(group=s.group, snapshot=s.name): s.percent / 100 for s in seen.snapshots}
    yield "snapshot_used_ratio", "How full the snapshot is; it is lost at 1.", snapshots
    if prune:
        yield "prune_timestamp_seconds", "When the last prune ended.", {"": prune["time"]}
        yield "prune_freed_bytes", "What it freed.", {"": prune["freed"]}
        yield "prune_success", "It could remove all that it meant to.", {"": not prune["failed"]}
    if (unit := f"unit:{names.GUARD_SERVICE}") in levels:
        yield "guard_up", "The guard keeps builds from filling Docker's volume.", {"": levels[unit] == findings.OK}
        floor, aborted = guard.get("floor"), guard.get("aborted")
        if isinstance(floor, int) and isinstance(aborted, list):
            total = guard.get("aborted_total", len(aborted))  # of which the last are listed
            yield "guard_floor_bytes", "What the guard keeps free of Docker's volume.", {"": floor}
            yield "guard_aborted_total", "Builds that it has stopped since the host came up.", {"": total}
    waiting = {_labels(receiver=receiver): count for receiver, count in queued.items()}
    yield "alerts_queued", "Messages that waited for their receiver when the check began.", waiting
    yield "alerts_standing", "Alerts that stand.", {"": sum(1 for level in levels.values() if level)}


def _labels(**values: str) -> str:
    """
    >>> _labels(group="ubuntu-vg", snapshot='a"b')
    '{group="ubuntu-vg",snapshot="a\\\\"b"}'
    """
    escaped = {k: v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for k, v in values.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
