"""`bulkhead check`: one line in the form that every monitoring system reads (Monitoring Plugins guidelines), and its code."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead import command, state
from bulkhead.config import Config
from bulkhead.docker.daemon import PATIENCE, silence
from bulkhead.errors import Problem
from bulkhead.names import DOCKER, GUARD_SERVICE, PRUNE_TIMER
from bulkhead.storage import filesystems, lvm
from bulkhead.storage.mounts import MountInfo, mounts_of
from bulkhead.text import plain, short, span
from bulkhead.watch.findings import CRITICAL, LEVELS, OK, SEVERITY, UNKNOWN, WARNING, CheckResult, Observation, complain
from bulkhead.watch.forecast import SAMPLES, Forecast, forecast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bulkhead.storage.filesystems import FilesystemUsage
    from bulkhead.storage.lvm import GroupUsage, SnapshotUsage

LOCK_PATIENCE = 30.0  # seconds that another check may take
_EASE = 5  # percent below its threshold that a level is left
_EASE_LEFT = 1.5  # times the time left at which a level is reached
_HOUR = 3600
_DAY = 24 * _HOUR
_GUARD_LATE = 300  # seconds; it leaves word every 30
_PRUNE_LATE = 50 * _HOUR  # the nightly prune may be spread over a day: two nights are missing for sure
_SPACING = 240  # seconds at least between samples: a check by hand, right after cron's, adds none


class CheckClock(NamedTuple):
    now: float
    uptime: float
    boot: str  # changes when the uptime begins anew

    @classmethod
    def read(cls) -> CheckClock:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return cls(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), file.read().strip())


class Limits(NamedTuple):
    """Where a level begins; one that stands ends a little further down."""

    warning: int  # percent
    critical: int
    hours_left: float

    @classmethod
    def of(cls, config: Config, threshold: int | None) -> Limits:
        warning = config.check_threshold if threshold is None else threshold
        return cls(warning, max(config.check_critical, warning), config.check_hours_left)

    def level(self, percent: float, was: int) -> int:
        if percent >= self.critical - _EASE * (was == CRITICAL):
            return CRITICAL
        return WARNING if percent >= self.warning - _EASE * (was in (WARNING, CRITICAL)) else OK

    def level_of_time(self, seconds: float, was: int) -> int:
        hours = seconds / _HOUR
        if hours <= (_EASE_LEFT if was == CRITICAL else 1):
            return CRITICAL
        return WARNING if hours <= self.hours_left * (_EASE_LEFT if was in (WARNING, CRITICAL) else 1) else OK


def start(threshold: int | None = None, verbose: bool = False, as_json: bool = False, alert: bool = True) -> int:
    """`run` with the host's configuration; without it there is nothing to say but that."""
    try:
        config = Config.load()
    except Problem as problem:
        print(f"DISK UNKNOWN - {problem}")
        if alert and os.geteuid() == 0:
            complain(str(problem))
        return UNKNOWN
    return run(config, threshold, verbose, as_json, alert)


def run(
    config: Config, threshold: int | None = None, verbose: bool = False, as_json: bool = False, alert: bool = True
) -> int:
    """Check, print, remember and alert; the exit code.

    With another threshold than the configuration's, as another user than root, or without alerts it only looks.

    Args:
        threshold: percent in use that are worth a warning.
        verbose: a line for each finding, too.
    """
    limits = Limits.of(config, threshold)
    keeps = alert and limits.warning == config.check_threshold and os.geteuid() == 0
    seen = Observation()
    told: list[str] = []
    try:
        with state.locked("check", LOCK_PATIENCE) if keeps else contextlib.nullcontext():
            known = state.load("check")
            levels = known.get("levels")
            standing = levels if isinstance(levels, dict) and limits.warning == config.check_threshold else {}
            seen, memory = collect(config, limits, CheckClock.read(), known, standing)
            if keeps:
                told = _keep(config, seen, memory)
    except Exception as error:  # whatever it is, the line is what is read
        seen.findings.append(CheckResult("check", UNKNOWN, f"the check failed: {error or repr(error)}"))
        if keeps:
            complain(seen.findings[-1].text)
    if as_json:
        print(_json(seen))
    else:
        print("\n".join([line(seen, limits, config), *(details(seen, told) if verbose else [])]))
    return seen.level


def collect(
    config: Config, limits: Limits, clock: CheckClock, known: Mapping[str, Any], standing: Mapping[str, int]
) -> tuple[Observation, dict[str, Any]]:
    """What there is to see now, and what the next look should know of it.

    Args:
        known: what the last look left.
        standing: levels by key, as they were then.
    """
    mounted = mounts_of()
    seen = Observation(filesystems.watched(config, mounted))
    memory = remembered(known, {each.mount: each.used for each in seen.filesystems if each.size}, clock)
    for filesystem in seen.filesystems:
        trend = forecast(memory["samples"].get(filesystem.mount, []), filesystem.available)
        if trend:
            seen.forecasts[filesystem.mount] = trend
        seen.findings += of_filesystem(filesystem, trend, limits, standing)
    seen.findings += of_mounts(mounted, config)
    try:
        seen.groups, seen.snapshots = lvm.list_groups()
        seen.findings += of_lvm(seen.groups, seen.snapshots, config, limits, standing)
    except OSError as error:
        # What stands has not recovered because nobody can look at it.
        keys = [key for key in standing if key.startswith(("reserve:", "snapshot:"))] or ["lvm"]
        seen.findings += [CheckResult(key, UNKNOWN, f"LVM does not answer: {error}") for key in keys]
    seen.findings += _units(config, _unguarded(config, mounted, clock))
    seen.findings += of_prune(state.load("prune"), config, clock.now)
    # What nobody can look at is judged by its last known level when it is seen again.
    memory["levels"] = {
        finding.key: standing.get(finding.key, UNKNOWN) if finding.level == UNKNOWN else finding.level
        for finding in seen.findings
        if finding.level
    }
    return seen, memory


def _keep(config: Config, seen: Observation, memory: dict[str, Any]) -> list[str]:
    """Remember, write the metrics, and alert: last, for what could not be done is a finding too.

    Returns:
        What the alerts say.
    """
    told: list[str] = []
    try:
        state.save("check", memory)
    except OSError as error:
        seen.findings.append(CheckResult("state", UNKNOWN, f"what was seen cannot be remembered: {error}"))
    if config.metrics_directory:
        from bulkhead.watch import metrics

        try:
            metrics.write(config.metrics_directory, seen)
        except Exception as error:  # the check goes on
            seen.findings.append(
                CheckResult("metrics", UNKNOWN, f"the metrics cannot be written: {error or repr(error)}")
            )
    if any(finding.level for finding in seen.findings) or state.load("alerts"):  # else there is nothing to tell
        from bulkhead.watch import alert

        try:
            told = alert.changed(config, seen.findings, time.time())
        except Exception as error:  # the check goes on
            wrong = [finding.text for finding in seen.findings if finding.level]
            seen.findings.append(CheckResult("alerts", UNKNOWN, f"nobody could be alerted: {error or repr(error)}"))
            complain("; ".join([seen.findings[-1].text, *wrong]))
    return told


def remembered(known: Mapping[str, Any], used: Mapping[str, int], clock: CheckClock) -> dict[str, Any]:
    """The last samples of each filesystem, with this one. They move with the clock when somebody sets it.

    Args:
        known: what this returned before, or whatever was found in its place.
        used: bytes in use, by mount point.
    """
    began = clock.now - clock.uptime
    try:
        step = began - known["began"] if known["boot"] == clock.boot else 0
        old = {
            mount: [(float(when) + step, int(size)) for when, size in samples]
            for mount, samples in known["samples"].items()
        }
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        old = {}
    samples = {}
    for mount, size in used.items():
        # After a reboot with a wrong clock there can be samples of the future.
        kept = [sample for sample in old.get(mount, []) if clock.now - _DAY < sample[0] <= clock.now]
        if not kept or clock.now - kept[-1][0] >= _SPACING:
            kept.append((clock.now, size))
        samples[mount] = kept[-SAMPLES:]
    return {"boot": clock.boot, "began": began, "samples": samples}


# -- findings


def of_filesystem(
    filesystem: FilesystemUsage, trend: Forecast | None, limits: Limits, standing: Mapping[str, int]
) -> Iterator[CheckResult]:
    mount = filesystem.mount
    if filesystem.read_only:
        yield CheckResult(f"read-only:{mount}", CRITICAL, f"{mount} cannot be written to", mount)
    if not filesystem.size:  # its device is gone: what stands has not recovered because nobody can look at it
        for key in (f"use:{mount}", f"inodes:{mount}", f"forecast:{mount}"):
            if key in standing:
                yield CheckResult(key, UNKNOWN, f"how full {mount} is, is unknown: it does not answer", mount)
        return
    key = f"use:{mount}"
    text = f"{mount} {int(filesystem.percent)} % used, {short(filesystem.available)} free{_trend(trend)}"
    yield CheckResult(key, limits.level(filesystem.percent, standing.get(key, OK)), text, mount)
    if filesystem.inodes:
        key = f"inodes:{mount}"
        text = f"{mount} {int(filesystem.inodes_percent)} % of inodes used, {filesystem.inodes_free} free"
        yield CheckResult(key, limits.level(filesystem.inodes_percent, standing.get(key, OK)), text, mount)
    if trend and trend.seconds_left is not None:
        key = f"forecast:{mount}"
        if level := limits.level_of_time(trend.seconds_left, standing.get(key, OK)):
            text = f"{mount} will be full, with {short(filesystem.available)} free{_trend(trend)}"
            yield CheckResult(key, level, text, mount)


def _trend(trend: Forecast | None) -> str:
    """
    >>> _trend(Forecast(rate=2**20 / 30, seconds_left=3 * 3600))
    ', +120M/h, full in 3 h'
    """
    if trend is None or abs(trend.rate) * _HOUR < 2**20:
        return ""
    text = f", {'+' if trend.rate > 0 else '-'}{short(abs(trend.rate) * _HOUR)}/h"
    if trend.seconds_left is None or trend.seconds_left >= 7 * _DAY:
        return text
    return f"{text}, full in {span(trend.seconds_left)}"


def of_mounts(mounted: Sequence[MountInfo], config: Config) -> Iterator[CheckResult]:
    if lost := [*filesystems.out_of_place(mounted, config), *filesystems.put_elsewhere(config)]:
        yield CheckResult("isolation", CRITICAL, f"Docker is not kept off the root disk: {', '.join(lost)}")
    else:
        yield CheckResult("isolation", OK, f"Docker's data is on {config.volume_mount}")
    targets = {mount.target for mount in mounted}
    for volume in config.extra_fstab:
        if volume.target not in targets:
            yield CheckResult(f"mounted:{volume.target}", CRITICAL, f"{volume.target} is not mounted", volume.target)


def of_lvm(
    groups: Sequence[GroupUsage],
    snapshots: Sequence[SnapshotUsage],
    config: Config,
    limits: Limits,
    standing: Mapping[str, int],
) -> Iterator[CheckResult]:
    # A snapshot of ours has it for a while: the guard drops it, and so does who needs the reserve (`bulkhead rescue`).
    ours = (config.vg_name, config.snapshot)
    is_lent = GUARD_SERVICE in config.watched_units and ours in [
        (snapshot.group, snapshot.name) for snapshot in snapshots
    ]
    for group in groups:
        if group.name == config.vg_name and config.reserve_bytes:
            text = (
                f"volume group {group.name} has {short(group.free)} free, its reserve is {short(config.reserve_bytes)}"
            )
            if is_lent:
                text += ", and a snapshot has some of it for now"
            is_gone = group.free < config.reserve_bytes and not is_lent
            yield CheckResult(f"reserve:{group.name}", WARNING if is_gone else OK, text)
    for snapshot in snapshots:
        key = f"snapshot:{snapshot.group}/{snapshot.name}"
        text = f"snapshot {snapshot.group}/{snapshot.name} of {snapshot.origin} {int(snapshot.percent)} % full"
        yield CheckResult(key, limits.level(snapshot.percent, standing.get(key, OK)), text)


def _unguarded(config: Config, mounted: Sequence[MountInfo], clock: CheckClock) -> float:
    """Seconds in which the guard has not looked at Docker's volume, as far as that is there, and this user may know."""
    if (
        GUARD_SERVICE not in config.watched_units
        or os.geteuid()
        or config.volume_mount not in {mount.target for mount in mounted}
    ):
        return 0
    last = state.load("guard").get("uptime")  # no time of day: a clock that is set is no guard that has stopped
    return clock.uptime - last if isinstance(last, (int, float)) else clock.uptime


def _units(config: Config, unguarded: float) -> Iterator[CheckResult]:
    """What systemd says of the units, and Docker itself if its unit is active.

    Args:
        unguarded: seconds in which the guard has not looked.
    """
    units = [DOCKER, *config.watched_units]
    try:
        states = command.output_of(["systemctl", "is-active", *units], PATIENCE).split()
    except OSError as error:
        yield CheckResult("docker", UNKNOWN, f"whether Docker runs is unknown: {error}")
        for unit in config.watched_units:
            yield CheckResult(f"unit:{unit}", UNKNOWN, f"whether {unit} is active is unknown")
        return
    active = dict(zip(units, states, strict=True))
    if active.get(DOCKER) in ("active", "reloading"):
        try:
            reason = silence()
        except PermissionError:
            yield CheckResult("docker", OK, f"{DOCKER} is active")
        else:
            yield CheckResult("docker", UNKNOWN if reason else OK, f"Docker {reason or 'answers'}")
    else:
        # Its socket is not touched: systemd would start it.
        yield CheckResult("docker", UNKNOWN, f"Docker does not run: {DOCKER} is {active.get(DOCKER)}")
    for unit in config.watched_units:
        is_active = active.get(unit) in ("active", "reloading")
        if is_active and unit == GUARD_SERVICE and unguarded > _GUARD_LATE:
            text = f"{unit} runs, and has not looked at {config.volume_mount} for {span(unguarded)}"
            yield CheckResult(f"unit:{unit}", WARNING, text)
        else:
            yield CheckResult(f"unit:{unit}", OK if is_active else WARNING, f"{unit} is {active.get(unit)}")


def of_prune(last: Mapping[str, Any], config: Config, now: float) -> Iterator[CheckResult]:
    """
    Args:
        last: what the last prune left; empty before the first, of which there is nothing to say.
    """
    if last:
        age, failed = now - last["time"], last["failed"]
        is_late = age > _PRUNE_LATE and PRUNE_TIMER in config.watched_units
        text = f"the last prune was {span(age)} ago" + (f", and failed: {failed[0]}" if failed else "")
        yield CheckResult("prune", WARNING if failed or is_late else OK, text)


# -- what is printed


def line(seen: Observation, limits: Limits, config: Config) -> str:
    """The line: the level, what is wrong (the worst first) or how full it is, and the performance data."""
    wrong = sorted((f for f in seen.findings if f.level), key=lambda f: SEVERITY.index(f.level), reverse=True)
    said = wrong or [finding for finding in seen.findings if finding.key.startswith("use:")]
    text = "; ".join(plain(finding.text) for finding in said)
    return f"DISK {LEVELS[seen.level]} - {text} | {' '.join(_performance(seen, limits, config))}"


def details(seen: Observation, told: Sequence[str]) -> list[str]:
    """The further lines."""
    return [*(f"{LEVELS[f.level]}: {plain(f.text)}" for f in seen.findings), *map(plain, told)]


def _performance(seen: Observation, limits: Limits, config: Config) -> Iterator[str]:
    percent = f"{limits.warning};{limits.critical};0;100"
    for filesystem in seen.filesystems:
        whole = filesystem.used + filesystem.available
        warning, critical = (whole * limit // 100 for limit in (limits.warning, limits.critical))
        yield f"{_label(filesystem.mount)}={filesystem.used}B;{warning};{critical};0;{whole}"
        if filesystem.inodes:
            yield f"{_label(f'inodes {filesystem.mount}')}={filesystem.inodes_percent:.1f}%;{percent}"
    for group in seen.groups:
        reserve = f"{config.reserve_bytes}:" if group.name == config.vg_name and config.reserve_bytes else ""
        yield f"{_label(f'free {group.name}')}={group.free}B;{reserve};;0;{group.size}"
    for snapshot in seen.snapshots:
        yield f"{_label(f'snapshot {snapshot.group}/{snapshot.name}')}={snapshot.percent:.1f}%;{percent}"


def _label(text: str) -> str:
    # The guidelines know no way to write an equals sign.
    return "'" + plain(text).replace("=", "_").replace("'", "''") + "'"


def _json(seen: Observation) -> str:
    import json

    return json.dumps({"level": seen.level, "status": LEVELS[seen.level], **seen.as_dict()}, indent=4)
