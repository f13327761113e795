"""Write the metrics of a check, of the last prune and of the guard for node_exporter's textfile collector."""

from __future__ import annotations

import os
import time

from bulkhead import __version__, names, state
from bulkhead.watch import results

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from bulkhead.watch.results import Observation


def write(directory: str, observation: Observation) -> None:
    """Replace the metrics file whole, so that the collector never reads half of one. Anybody may read it.

    Raises:
        OSError: it cannot be written.
    """
    queued: dict[str, int] = {}
    if state.load("alerts"):  # else a check saves the import
        from bulkhead.watch import alert_store

        queued = alert_store.queued()
    content = text(observation, time.time(), state.load("prune"), state.load("guard"), queued)
    path = f"{directory}/{names.METRICS}"
    with open(f"{path}.new", "w", encoding="utf-8", errors="replace") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)
    os.rename(f"{path}.new", path)


def text(
    observation: Observation, now: float, prune: Mapping[str, Any], guard: Mapping[str, Any], queued: Mapping[str, int]
) -> str:
    """Return the metrics in Prometheus' text format.

    Args:
        prune: the state that the last prune saved; empty before the first.
        guard: the state that the guard saved last; empty before its first sample.
        queued: the number of waiting messages, by receiver.
    """
    lines: list[str] = []
    for name, explanation, values in _metrics(observation, now, prune, guard, queued):
        if values:
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP bulkhead_{name} {explanation}", f"# TYPE bulkhead_{name} {kind}"]
            lines += [f"bulkhead_{name}{labels} {float(value)!r}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"


def _metrics(
    observation: Observation, now: float, prune: Mapping[str, Any], guard: Mapping[str, Any], queued: Mapping[str, int]
) -> Iterator[tuple[str, str, Mapping[str, float]]]:
    """Yield the name of each metric, its help text, and its values by their labels."""
    levels = {result.key: result.level for result in observation.results}
    mounts = {_labels(mountpoint=filesystem.mount): filesystem for filesystem in observation.filesystems}
    sized = {labels: filesystem for labels, filesystem in mounts.items() if filesystem.size}
    trends = {_labels(mountpoint=mount): trend for mount, trend in observation.forecasts.items()}

    yield "info", "The host program.", {_labels(version=__version__): 1}
    yield "check_timestamp_seconds", "When the last check ended.", {"": now}
    yield "check_level", "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.", {_labels(check=k): v for k, v in levels.items()}
    for name, explanation, attribute in (
        ("size_bytes", "Size of the filesystem.", "size"),
        ("used_bytes", "Bytes in use.", "used"),
        ("available_bytes", "Bytes available to others than root.", "available"),
        ("inodes", "Number of inodes; 0 where the filesystem has no limit.", "inodes"),
        ("inodes_free", "Free inodes.", "inodes_free"),
    ):
        yield f"filesystem_{name}", explanation, {labels: getattr(f, attribute) for labels, f in sized.items()}
    yield (
        "filesystem_read_only",
        "1 if the filesystem should be writable and is not.",
        {k: f.read_only for k, f in mounts.items()},
    )
    yield (
        "filesystem_growth_bytes_per_second",
        "How fast the filesystem fills; below 0 while it empties.",
        {k: trend.rate for k, trend in trends.items()},
    )
    yield (
        "filesystem_full_seconds",
        "Time until the filesystem is full; absent while it does not fill.",
        {labels: trend.seconds_left for labels, trend in trends.items() if trend.seconds_left is not None},
    )
    isolated = levels.get("isolation") in (results.OK, results.UNKNOWN)  # its check has a level of its own
    yield "isolated", "0 if Docker's data is off its volume.", {"": isolated}
    yield "docker_up", "1 if Docker runs and answers.", {"": levels.get("docker") == results.OK}
    groups = {_labels(group=group.name): group for group in observation.groups}
    yield "volume_group_size_bytes", "Size of the volume group.", {k: group.size for k, group in groups.items()}
    yield (
        "volume_group_free_bytes",
        "Bytes that no logical volume uses.",
        {k: group.free for k, group in groups.items()},
    )
    snapshots = {_labels(group=s.group, snapshot=s.name): s.percent / 100 for s in observation.snapshots}
    yield "snapshot_used_ratio", "How full the snapshot is; LVM drops it at 1.", snapshots
    mirrors = {_labels(group=mirror.group, volume=mirror.name): mirror for mirror in observation.mirrors}
    yield "mirror_degraded", "1 if a copy of the mirror is not in use.", {k: m.is_degraded for k, m in mirrors.items()}
    yield "mirror_synced_ratio", "How much of the copies is the same.", {k: m.synced / 100 for k, m in mirrors.items()}
    if prune:
        yield "prune_timestamp_seconds", "When the last prune ended.", {"": prune["time"]}
        yield "prune_freed_bytes", "Bytes that the last prune freed.", {"": prune["freed"]}
        yield "prune_success", "1 if the last prune removed all that it meant to.", {"": not prune["failed"]}
        nights = prune.get("skipped_nights", 0)
        yield "prune_skipped_nights", "Nights in a row for which something was in the way of the prune.", {"": nights}
    if (unit := f"unit:{names.GUARD_SERVICE}") in levels:
        yield "guard_up", "1 if the guard keeps builds from filling Docker's volume.", {"": levels[unit] == results.OK}
        floor, aborted = guard.get("floor"), guard.get("aborted")
        if isinstance(floor, int) and isinstance(aborted, list):
            total = guard.get("aborted_total", len(aborted))  # only the last are listed
            yield "guard_floor_bytes", "Bytes that the guard keeps free on Docker's volume.", {"": floor}
            if isinstance(inodes := guard.get("inode_floor"), int):
                explanation = "Inodes that the guard keeps free; 0 where the filesystem has no limit."
                yield "guard_floor_inodes", explanation, {"": inodes}
            yield "guard_aborted_total", "Builds that the guard has stopped since boot.", {"": total}
    waiting = {_labels(receiver=receiver): count for receiver, count in queued.items()}
    yield "alerts_queued", "Messages that waited for the receiver when the check began.", waiting
    yield "alerts_standing", "Open alerts.", {"": sum(1 for level in levels.values() if level)}


def _labels(**values: str) -> str:
    """
    >>> _labels(group="ubuntu-vg", snapshot='a"b')
    '{group="ubuntu-vg",snapshot="a\\\\"b"}'
    """
    escaped = {k: v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for k, v in values.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
