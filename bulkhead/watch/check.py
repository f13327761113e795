"""`bulkhead check`: print one line and exit with a level, as the Monitoring Plugins guidelines want it."""

from __future__ import annotations

import contextlib
import os
import time

from bulkhead import procfs, state, systemd, uptime
from bulkhead.config import Config
from bulkhead.docker import roots, sightings
from bulkhead.docker.daemon import PATIENCE, silence
from bulkhead.errors import Problem
from bulkhead.names import DOCKER, EMPTIED, GUARD_SERVICE, MIRROR_RECORD, PRUNE_TIMER, VOLUME_FILE
from bulkhead.storage import filesystems, lvm
from bulkhead.storage.mounts import MountInfo, mounts_of
from bulkhead.text import plain, short, span
from bulkhead.watch.forecast import SAMPLES, Forecast, forecast
from bulkhead.watch.results import CRITICAL, LEVELS, OK, SEVERITY, UNKNOWN, WARNING, CheckResult, Observation, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from bulkhead.storage.filesystems import FilesystemUsage
    from bulkhead.storage.lvm import GroupUsage, MirrorHealth, SnapshotUsage

LOCK_PATIENCE = 30.0  # seconds to wait for another check
_EASE = 5  # a level ends so many percentage points below its threshold
_EASE_LEFT = 1.5  # a forecast's level ends at so many times the time left at which it begins
_HOUR = 3600
_DAY = 24 * _HOUR
_GUARD_LATE = 300  # seconds; the guard writes its state every 60, at rest
# Seconds of uptime: prune_spread may delay the nightly prune by up to a day, so after this two are missing.
_PRUNE_LATE = 50 * _HOUR
SKIPPED_NIGHTS = 3  # in a row, after which it is a warning that something is in the prune's way
_SPACING = 240  # minimum seconds between samples: a check by hand right after cron's adds none


# Plain classes: a NamedTuple would cost a check half a percent more.


class CheckClock:
    def __init__(self, now: float, uptime: float, boot: str) -> None:
        self.now = now
        self.uptime = uptime
        self.boot = boot  # that the uptime belongs to

    @classmethod
    def read(cls) -> CheckClock:
        return cls(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), procfs.boot_id())


class Limits:
    """Where a level begins. It ends a little lower, so that it does not flap."""

    def __init__(self, warning: int, critical: int, hours_left: float) -> None:
        self.warning = warning  # percent
        self.critical = critical
        self.hours_left = hours_left

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
    """Run a check with the host's configuration. Without one, print why and return UNKNOWN."""
    try:
        config = Config.load()
    except Problem as problem:
        observation = Observation(results=[CheckResult("configuration", UNKNOWN, str(problem))])
        print(_json(observation) if as_json else f"DISK UNKNOWN - {problem}")
        if alert and os.geteuid() == 0:
            complain(str(problem))
        return UNKNOWN
    return run(config, threshold, verbose, as_json, alert)


def run(
    config: Config, threshold: int | None = None, verbose: bool = False, as_json: bool = False, alert: bool = True
) -> int:
    """Check, print, remember and alert.

    With a threshold other than the configuration's, as a user other than root, or without alerts, only print.

    Args:
        threshold: percent in use that are worth a warning.
        verbose: also print a line for each result.

    Returns:
        The exit code: the worst level.
    """
    limits = Limits.of(config, threshold)
    keeps = alert and limits.warning == config.check_threshold and os.geteuid() == 0
    observation = Observation()
    reported: list[str] = []
    try:
        with state.locked("check", LOCK_PATIENCE) if keeps else contextlib.nullcontext():
            known = state.load("check")
            levels = known.get("levels")
            standing = levels if isinstance(levels, dict) and limits.warning == config.check_threshold else {}
            observation, memory = collect(config, limits, CheckClock.read(), known, standing)
            if keeps:
                reported = _keep(config, observation, memory)
    except Exception as error:  # whatever it is, a monitoring system must get its line
        observation.results.append(CheckResult("check", UNKNOWN, f"the check failed: {error or repr(error)}"))
        if keeps:
            complain(observation.results[-1].text)
    if as_json:
        print(_json(observation))
    else:
        print("\n".join([line(observation, limits, config), *(details(observation, reported) if verbose else [])]))
    return observation.level


def collect(
    config: Config, limits: Limits, clock: CheckClock, known: Mapping[str, Any], standing: Mapping[str, int]
) -> tuple[Observation, dict[str, Any]]:
    """Observe the host.

    Args:
        known: the memory that the last check returned.
        standing: the levels of the last check, by key.

    Returns:
        The observation, and the memory for the next check.
    """
    mounted = mounts_of()
    observation = Observation(filesystems.watched(config, mounted))
    memory = remembered(known, {each.mount: each.used for each in observation.filesystems if each.size}, clock)
    for filesystem in observation.filesystems:
        trend = forecast(memory["samples"].get(filesystem.mount, []), filesystem.available)
        if trend:
            observation.forecasts[filesystem.mount] = trend
        observation.results += check_filesystem(filesystem, trend, limits, standing)
    units = [*_check_units(config, _unguarded(config, mounted, clock))]
    docker_answers = any(result.key == "docker" and result.level == OK for result in units)
    observation.results += check_mounts(mounted, config, docker_answers=docker_answers)
    if config.disk_file_bytes:
        observation.results.append(check_disk_file(config))
    try:
        observation.groups, observation.snapshots, observation.mirrors = lvm.list_groups()
        observation.results += check_lvm(observation.groups, observation.snapshots, config, limits, standing)
        ours = (config.vg_name, config.logical_volume)
        observation.results += [check_mirror(m, is_dockers=(m.group, m.name) == ours) for m in observation.mirrors]
    except OSError as error:
        # An alert has not recovered just because LVM is silent.
        keys = [key for key in standing if key.startswith(("reserve:", "snapshot:", "mirror:"))] or ["lvm"]
        observation.results += [CheckResult(key, UNKNOWN, f"LVM does not answer: {error}") for key in keys]
    observation.results += units
    observation.results += check_prune(state.load("prune"), config, clock.now, uptime.current().before(_PRUNE_LATE))
    # Once an unknown answers again, it is judged by the last level that was known.
    memory["levels"] = {
        result.key: standing.get(result.key, UNKNOWN) if result.level == UNKNOWN else result.level
        for result in observation.results
        if result.level
    }
    return observation, memory


def _keep(config: Config, observation: Observation, memory: dict[str, Any]) -> list[str]:
    """Remember, write the metrics, and then alert: what could not be written is a result too.

    Returns:
        The lines of the alerts.
    """
    reported: list[str] = []
    try:
        state.save("check", memory)
        uptime.remember()
    except OSError as error:
        observation.results.append(CheckResult("state", UNKNOWN, f"the check's state cannot be saved: {error}"))
    _remember_copy(config, observation)
    answers = any((result.key, result.level) == ("docker", OK) for result in observation.results)
    if answers and PRUNE_TIMER in config.watched_units:
        with contextlib.suppress(OSError, LookupError, TypeError, ValueError):  # the next check sees almost the same
            sightings.remember(time.time())
    if config.metrics_directory:
        from bulkhead.watch import metrics

        try:
            metrics.write(config.metrics_directory, observation)
        except Exception as error:  # the check goes on
            text = f"the metrics cannot be written: {error or repr(error)}"
            observation.results.append(CheckResult("metrics", UNKNOWN, text))
    if any(result.level for result in observation.results) or state.load("alerts"):  # else there is nothing to report
        from bulkhead.watch import alert

        try:
            reported = alert.report_changes(config, observation.results, time.time())
        except Exception as error:  # the check goes on
            wrong = [result.text for result in observation.results if result.level]
            text = f"nobody could be alerted: {error or repr(error)}"
            observation.results.append(CheckResult("alerts", UNKNOWN, text))
            complain("; ".join([text, *wrong]))
    if os.path.exists(EMPTIED):
        reported += _report_empty_disks(config)
    return reported


def _remember_copy(config: Config, observation: Observation) -> None:
    """Keep the record of which copy of Docker's mirror is not stale, while there is something to record."""
    ours = (config.vg_name, config.logical_volume)
    for mirror in observation.mirrors:
        if (mirror.group, mirror.name) != ours or not mirror.is_active:
            continue
        if not mirror.is_degraded and mirror.synced >= 100 and not os.path.exists(MIRROR_RECORD):
            continue
        from bulkhead.watch import mirror_record

        try:
            mirror_record.update(*ours)
        except OSError as error:
            text = f"which copy of the mirror {'/'.join(ours)} is stale cannot be remembered: {error}"
            observation.results.append(CheckResult("mirror-record", UNKNOWN, text))


def _report_empty_disks(config: Config) -> list[str]:
    """Alert once that a boot has made Docker's volume anew.

    Returns:
        The alert, and what goes wrong with its delivery, in lines.
    """
    from bulkhead.watch import alert
    from bulkhead.watch.alert_store import News

    text = f"WARNING: Docker has begun empty: a boot found its disks blank, and made {config.volume_mount} anew"
    try:
        problems = alert.report_event(config, [News(WARNING, text)], time.time())
        os.unlink(EMPTIED)
    except Exception as error:  # the check goes on, and the next one alerts
        complain(f"{text}; nobody could be alerted: {error or repr(error)}")
        return [text]
    return [text, *problems]


def remembered(known: Mapping[str, Any], used: Mapping[str, int], clock: CheckClock) -> dict[str, Any]:
    """Return the last samples of each filesystem, with a new one. When the clock is set, they move with it.

    Args:
        known: what this returned before, or anything that was found in its place.
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
        # After a reboot with a wrong clock, samples can lie in the future.
        kept = [sample for sample in old.get(mount, []) if clock.now - _DAY < sample[0] <= clock.now]
        if not kept or clock.now - kept[-1][0] >= _SPACING:
            kept.append((clock.now, size))
        samples[mount] = kept[-SAMPLES:]
    return {"boot": clock.boot, "began": began, "samples": samples}


# -- the results


def check_filesystem(
    filesystem: FilesystemUsage, trend: Forecast | None, limits: Limits, standing: Mapping[str, int]
) -> Iterator[CheckResult]:
    mount = filesystem.mount
    if filesystem.read_only:
        yield CheckResult(f"read-only:{mount}", CRITICAL, f"{mount} cannot be written to", mount)
    if not filesystem.size:  # its device is gone: an alert has not recovered just because nothing can be measured
        for key in (f"use:{mount}", f"inodes:{mount}", f"forecast:{mount}"):
            if key in standing:
                yield CheckResult(key, UNKNOWN, f"{mount} does not answer: how full it is, is unknown", mount)
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
            text = f"{mount} is filling up: {short(filesystem.available)} free{_trend(trend)}"
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


def check_mounts(mounted: Sequence[MountInfo], config: Config, *, docker_answers: bool) -> Iterator[CheckResult]:
    elsewhere, unread = roots.off_the_volume(config, docker_answers=docker_answers)
    if lost := [*filesystems.out_of_place(mounted, config), *elsewhere]:
        yield CheckResult("isolation", CRITICAL, f"Docker is not isolated from the root disk: {', '.join(lost)}")
    elif unmarked := filesystems.unmarked(config):
        yield CheckResult("isolation", CRITICAL, ", ".join(unmarked))
    elif unread:
        text = f"cannot tell whether Docker is isolated from the root disk: {', '.join(unread)}"
        yield CheckResult("isolation", UNKNOWN, text)
    else:
        yield CheckResult("isolation", OK, f"Docker's data is on {config.volume_mount}")
    targets = {mount.target for mount in mounted}
    for volume in config.extra_fstab:
        if volume.target not in targets:
            yield CheckResult(f"mounted:{volume.target}", CRITICAL, f"{volume.target} is not mounted", volume.target)


def check_disk_file(config: Config) -> CheckResult:
    from bulkhead.storage import disk_file  # few hosts have one, and a check is in a hurry

    try:
        wrong = disk_file.problems(config.disk_file_bytes, config.volume_mount)
    except OSError as error:
        return CheckResult("disk-file", UNKNOWN, f"the file that is Docker's disk cannot be read: {error}")
    if wrong:
        return CheckResult("disk-file", CRITICAL, "; ".join(wrong))
    return CheckResult("disk-file", OK, f"{VOLUME_FILE} has its {short(config.disk_file_bytes)}, and takes no discards")


def check_lvm(
    groups: Sequence[GroupUsage],
    snapshots: Sequence[SnapshotUsage],
    config: Config,
    limits: Limits,
    standing: Mapping[str, int],
) -> Iterator[CheckResult]:
    # A snapshot of ours may use the reserve for a while: the guard drops it, and so does `bulkhead rescue` in need.
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
                text += ", part of which a snapshot uses for now"
            is_gone = group.free < config.reserve_bytes and not is_lent
            yield CheckResult(f"reserve:{group.name}", WARNING if is_gone else OK, text)
    for snapshot in snapshots:
        key = f"snapshot:{snapshot.group}/{snapshot.name}"
        text = f"snapshot {snapshot.group}/{snapshot.name} of {snapshot.origin} {int(snapshot.percent)} % full"
        yield CheckResult(key, limits.level(snapshot.percent, standing.get(key, OK)), text)


def check_mirror(mirror: MirrorHealth, *, is_dockers: bool = True) -> CheckResult:
    """A copy that is lost is a warning: Docker goes on, and nothing is lost yet."""
    name = f"{mirror.group}/{mirror.name}"
    stale = " The other disk is stale: Docker does not start from it alone." if is_dockers else ""
    if is_dockers and mirror.problem == "partial" and not mirror.is_active:
        text = f"mirror {name} lacks a disk, and is not active: `journalctl -u docker-mirror` says why. If the disk "
        text += 'that answers is stale, attach the other one; docs/mirror.md ("The other disk is stale") says what else'
        return CheckResult(f"mirror:{name}", CRITICAL, text)
    texts = {
        "partial": f"lacks a disk: what is written has one copy.{stale} docs/mirror.md says how to replace the disk",
        "refresh": "does not use one of its disks, which has failed or has come back: what is written has one copy."
        f"{stale} `lvchange --refresh {name}` uses it again; docs/mirror.md says how to replace it",
        "mismatches": "has copies that differ: docs/mirror.md says what that means",
    }
    synced = "has both copies" if mirror.synced >= 100 else f"is being synchronized: {int(mirror.synced)} %"
    text = f"mirror {name} {texts.get(mirror.problem, synced)}"
    return CheckResult(f"mirror:{name}", WARNING if mirror.problem else OK, text)


def _unguarded(config: Config, mounted: Sequence[MountInfo], clock: CheckClock) -> float:
    """Return the seconds since the guard last sampled Docker's volume; 0 without a guard or the volume, or for non-root."""
    if (
        GUARD_SERVICE not in config.watched_units
        or os.geteuid()
        or config.volume_mount not in {mount.target for mount in mounted}
    ):
        return 0
    last = state.load("guard").get(
        "uptime"
    )  # not the time of day: setting the clock must not look like a stopped guard
    return clock.uptime - last if isinstance(last, (int, float)) else clock.uptime


def _check_units(config: Config, unguarded: float) -> Iterator[CheckResult]:
    """Check the units, and that Docker answers if its unit is active.

    Args:
        unguarded: seconds since the guard last sampled the volume.
    """
    units = [DOCKER, *config.watched_units]
    try:
        active = systemd.unit_states(units, PATIENCE)
    except OSError as error:
        yield CheckResult("docker", UNKNOWN, f"cannot tell whether Docker runs: {error}")
        for unit in config.watched_units:
            yield CheckResult(f"unit:{unit}", UNKNOWN, f"cannot tell whether {unit} is active")
        return
    if active[DOCKER] in systemd.RUNNING:
        try:
            reason = silence()
        except PermissionError:
            yield CheckResult("docker", OK, f"{DOCKER} is active")
        else:
            yield CheckResult("docker", UNKNOWN if reason else OK, f"Docker {reason or 'answers'}")
    else:
        # Leave its socket alone: systemd would start Docker.
        yield CheckResult("docker", UNKNOWN, f"Docker does not run: {DOCKER} is {active[DOCKER]}")
    for unit in config.watched_units:
        is_active = active[unit] in systemd.RUNNING
        if is_active and unit == GUARD_SERVICE and unguarded > _GUARD_LATE:
            text = f"{unit} is active, but has not checked {config.volume_mount} for {span(unguarded)}"
            yield CheckResult(f"unit:{unit}", WARNING, text)
        else:
            yield CheckResult(f"unit:{unit}", OK if is_active else WARNING, f"{unit} is {active[unit]}")


def check_prune(last: Mapping[str, Any], config: Config, now: float, late: float) -> Iterator[CheckResult]:
    """
    Args:
        last: the state that the last prune saved; empty before the first.
        late: the moment before which the last prune is too long ago.
    """
    if last:
        time_ago, failed, nights = span(now - last["time"]), last["failed"], last.get("skipped_nights", 0)
        is_late = last["time"] <= late and PRUNE_TIMER in config.watched_units
        text = f"the last prune was {time_ago} ago" + (f" and failed: {failed[0]}" if failed else "")
        if is_skipped := nights >= SKIPPED_NIGHTS:
            text += (
                f"; something was in its way for {nights} nights in a row: {last['hindrance']}. Set prune_time to a quieter "
                "hour, or run `bulkhead prune` when nothing is in the way"
            )
        yield CheckResult("prune", WARNING if failed or is_late or is_skipped else OK, text)


# -- the output


def line(observation: Observation, limits: Limits, config: Config) -> str:
    """Return the line: the level, then what is wrong (the worst first) or else how full it is, and performance data."""
    wrong = sorted((r for r in observation.results if r.level), key=lambda r: SEVERITY.index(r.level), reverse=True)
    shown = wrong or [result for result in observation.results if result.key.startswith("use:")]
    text = "; ".join(plain(result.text) for result in shown)
    return f"DISK {LEVELS[observation.level]} - {text} | {' '.join(_performance(observation, limits, config))}"


def details(observation: Observation, reported: Sequence[str]) -> list[str]:
    """Return the further lines of --verbose."""
    return [*(f"{LEVELS[each.level]}: {plain(each.text)}" for each in observation.results), *map(plain, reported)]


def _performance(observation: Observation, limits: Limits, config: Config) -> Iterator[str]:
    percent = f"{limits.warning};{limits.critical};0;100"
    for filesystem in observation.filesystems:
        whole = filesystem.used + filesystem.available
        warning, critical = (whole * limit // 100 for limit in (limits.warning, limits.critical))
        yield f"{_label(filesystem.mount)}={filesystem.used}B;{warning};{critical};0;{whole}"
        if filesystem.inodes:
            yield f"{_label(f'inodes {filesystem.mount}')}={filesystem.inodes_percent:.1f}%;{percent}"
    for group in observation.groups:
        reserve = f"{config.reserve_bytes}:" if group.name == config.vg_name and config.reserve_bytes else ""
        yield f"{_label(f'free {group.name}')}={group.free}B;{reserve};;0;{group.size}"
    for snapshot in observation.snapshots:
        yield f"{_label(f'snapshot {snapshot.group}/{snapshot.name}')}={snapshot.percent:.1f}%;{percent}"


def _label(text: str) -> str:
    # The guidelines have no way to escape an equals sign.
    return "'" + plain(text).replace("=", "_").replace("'", "''") + "'"


def _json(observation: Observation) -> str:
    import json

    values = {"level": observation.level, "status": LEVELS[observation.level], **observation.as_dict()}
    return json.dumps(values, indent=4)
