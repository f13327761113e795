"""`bulkhead check`: one line in the form that every monitoring system reads (Monitoring Plugins guidelines), and its code."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from bulkhead import Problem, filesystems, lvm, state
from bulkhead.config import Config
from bulkhead.forecast import SAMPLES, Forecast, forecast
from bulkhead.mounts import mounts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from bulkhead.filesystems import Filesystem
    from bulkhead.lvm import Group, Snapshot
    from bulkhead.mounts import Mount

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
LEVELS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
SEVERITY = (OK, UNKNOWN, WARNING, CRITICAL)  # the worst last

DOCKER = "docker.service"
GUARD = "docker-guard.service"
PRUNE_TIMER = "docker-prune.timer"
DOCKER_SOCKET = "/run/docker.sock"
PATIENCE = 10.0  # seconds that Docker, and systemd, may take to answer
LOCK_PATIENCE = 30.0  # seconds that another check may take

_EASE = 5  # percent below its threshold that a level is left
_EASE_LEFT = 1.5  # times the time left at which a level is reached
_HOUR = 3600
_DAY = 24 * _HOUR
_GUARD_LATE = 300  # seconds; it leaves word every 30
_PRUNE_LATE = 50 * _HOUR  # the nightly prune may be spread over a day: two nights are missing for sure
_SPACING = 240  # seconds at least between samples: a check by hand, right after cron's, adds none


class Finding(NamedTuple):
    key: str  # what it is about: use:/, isolation, unit:docker-prune.timer
    level: int
    text: str  # for people, a clause
    mount: str = ""  # the filesystem that it is about


class Seen:
    """What there is to see on a host, and what is to be said of it."""

    def __init__(
        self,
        filesystems: Sequence[Filesystem] = (),
        forecasts: Mapping[str, Forecast] | None = None,  # by mount point
        groups: Sequence[Group] = (),
        snapshots: Sequence[Snapshot] = (),
        findings: Sequence[Finding] = (),
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


class Clock(NamedTuple):
    now: float
    uptime: float
    boot: str  # changes when the uptime begins anew

    @classmethod
    def read(cls) -> Clock:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return cls(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), file.read().strip())


class Limits(NamedTuple):
    """Where a level begins; one that stands ends a little further down."""

    warning: int  # percent
    critical: int
    hours_left: float

    @classmethod
    def of(cls, config: Config, threshold: int | None) -> Limits:
        warning = config.warning if threshold is None else threshold
        return cls(warning, max(config.critical, warning), config.hours_left)

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
    keeps = alert and limits.warning == config.warning and os.geteuid() == 0
    seen = Seen()
    told: list[str] = []
    try:
        with state.locked("check", LOCK_PATIENCE) if keeps else contextlib.nullcontext():
            known = state.load("check")
            levels = known.get("levels")
            standing = levels if isinstance(levels, dict) and limits.warning == config.warning else {}
            seen, memory = look(config, limits, Clock.read(), known, standing)
            if keeps:
                told = _keep(config, seen, memory)
    except Exception as error:  # whatever it is, the line is what is read
        seen.findings.append(Finding("check", UNKNOWN, f"the check failed: {error or repr(error)}"))
        if keeps:
            complain(seen.findings[-1].text)
    if as_json:
        print(_json(seen))
    else:
        print("\n".join([line(seen, limits, config), *(details(seen, told) if verbose else [])]))
    return seen.level


def complain(text: str) -> None:
    """Where nobody can be alerted: in the system's log, and on standard error, which cron mails."""
    import syslog

    syslog.syslog(syslog.LOG_ERR, plain(text))
    print(f"bulkhead: {plain(text)}", file=sys.stderr)


def look(
    config: Config, limits: Limits, clock: Clock, known: Mapping[str, Any], standing: Mapping[str, int]
) -> tuple[Seen, dict[str, Any]]:
    """What there is to see now, and what the next look should know of it.

    Args:
        known: what the last look left.
        standing: levels by key, as they were then.
    """
    mounted = mounts_of()
    seen = Seen(filesystems.watched(config, mounted))
    memory = remembered(known, {each.mount: each.used for each in seen.filesystems if each.size}, clock)
    for filesystem in seen.filesystems:
        trend = forecast(memory["samples"].get(filesystem.mount, []), filesystem.available)
        if trend:
            seen.forecasts[filesystem.mount] = trend
        seen.findings += of_filesystem(filesystem, trend, limits, standing)
    seen.findings += of_mounts(mounted, config)
    try:
        seen.groups, seen.snapshots = lvm.look()
        seen.findings += of_lvm(seen.groups, seen.snapshots, config, limits, standing)
    except OSError as error:
        # What stands has not recovered because nobody can look at it.
        keys = [key for key in standing if key.startswith(("reserve:", "snapshot:"))] or ["lvm"]
        seen.findings += [Finding(key, UNKNOWN, f"LVM does not answer: {error}") for key in keys]
    seen.findings += _units(config, _unguarded(config, mounted, clock))
    seen.findings += of_prune(state.load("prune"), config, clock.now)
    # What nobody can look at is judged by its last known level when it is seen again.
    memory["levels"] = {
        finding.key: standing.get(finding.key, UNKNOWN) if finding.level == UNKNOWN else finding.level
        for finding in seen.findings
        if finding.level
    }
    return seen, memory


def _keep(config: Config, seen: Seen, memory: dict[str, Any]) -> list[str]:
    """Remember, write the metrics, and alert: last, for what could not be done is a finding too.

    Returns:
        What the alerts say.
    """
    told: list[str] = []
    try:
        state.save("check", memory)
    except OSError as error:
        seen.findings.append(Finding("state", UNKNOWN, f"what was seen cannot be remembered: {error}"))
    if config.metrics:
        from bulkhead import metrics

        try:
            metrics.write(config.metrics, seen)
        except Exception as error:  # the check goes on
            seen.findings.append(Finding("metrics", UNKNOWN, f"the metrics cannot be written: {error or repr(error)}"))
    if any(finding.level for finding in seen.findings) or state.load("alerts"):  # else there is nothing to tell
        from bulkhead import alert

        try:
            told = alert.changed(config, seen.findings, time.time())
        except Exception as error:  # the check goes on
            wrong = [finding.text for finding in seen.findings if finding.level]
            seen.findings.append(Finding("alerts", UNKNOWN, f"nobody could be alerted: {error or repr(error)}"))
            complain("; ".join([seen.findings[-1].text, *wrong]))
    return told


def remembered(known: Mapping[str, Any], used: Mapping[str, int], clock: Clock) -> dict[str, Any]:
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
    filesystem: Filesystem, trend: Forecast | None, limits: Limits, standing: Mapping[str, int]
) -> Iterator[Finding]:
    mount = filesystem.mount
    if filesystem.read_only:
        yield Finding(f"read-only:{mount}", CRITICAL, f"{mount} cannot be written to", mount)
    if not filesystem.size:  # its device is gone: what stands has not recovered because nobody can look at it
        for key in (f"use:{mount}", f"inodes:{mount}", f"forecast:{mount}"):
            if key in standing:
                yield Finding(key, UNKNOWN, f"how full {mount} is, is unknown: it does not answer", mount)
        return
    key = f"use:{mount}"
    text = f"{mount} {int(filesystem.percent)} % used, {short(filesystem.available)} free{_trend(trend)}"
    yield Finding(key, limits.level(filesystem.percent, standing.get(key, OK)), text, mount)
    if filesystem.inodes:
        key = f"inodes:{mount}"
        text = f"{mount} {int(filesystem.inodes_percent)} % of inodes used, {filesystem.inodes_free} free"
        yield Finding(key, limits.level(filesystem.inodes_percent, standing.get(key, OK)), text, mount)
    if trend and trend.seconds_left is not None:
        key = f"forecast:{mount}"
        if level := limits.level_of_time(trend.seconds_left, standing.get(key, OK)):
            text = f"{mount} will be full, with {short(filesystem.available)} free{_trend(trend)}"
            yield Finding(key, level, text, mount)


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


def of_mounts(mounted: Sequence[Mount], config: Config) -> Iterator[Finding]:
    if lost := [*filesystems.out_of_place(mounted, config), *filesystems.put_elsewhere(config)]:
        yield Finding("isolation", CRITICAL, f"Docker is not kept off the root disk: {', '.join(lost)}")
    else:
        yield Finding("isolation", OK, f"Docker's data is on {config.volume}")
    targets = {mount.target for mount in mounted}
    for volume in config.extra_volumes:
        if volume.target not in targets:
            yield Finding(f"mounted:{volume.target}", CRITICAL, f"{volume.target} is not mounted", volume.target)


def of_lvm(
    groups: Sequence[Group],
    snapshots: Sequence[Snapshot],
    config: Config,
    limits: Limits,
    standing: Mapping[str, int],
) -> Iterator[Finding]:
    # A snapshot of ours has it for a while: the guard drops it, and so does who needs the reserve (`bulkhead rescue`).
    ours = (config.group, config.snapshot)
    is_lent = GUARD in config.units and ours in [(snapshot.group, snapshot.name) for snapshot in snapshots]
    for group in groups:
        if group.name == config.group and config.reserve:
            text = f"volume group {group.name} has {short(group.free)} free, its reserve is {short(config.reserve)}"
            if is_lent:
                text += ", and a snapshot has some of it for now"
            is_gone = group.free < config.reserve and not is_lent
            yield Finding(f"reserve:{group.name}", WARNING if is_gone else OK, text)
    for snapshot in snapshots:
        key = f"snapshot:{snapshot.group}/{snapshot.name}"
        text = f"snapshot {snapshot.group}/{snapshot.name} of {snapshot.origin} {int(snapshot.percent)} % full"
        yield Finding(key, limits.level(snapshot.percent, standing.get(key, OK)), text)


def _unguarded(config: Config, mounted: Sequence[Mount], clock: Clock) -> float:
    """Seconds in which the guard has not looked at Docker's volume, as far as that is there, and this user may know."""
    if GUARD not in config.units or os.geteuid() or config.volume not in {mount.target for mount in mounted}:
        return 0
    last = state.load("guard").get("uptime")  # no time of day: a clock that is set is no guard that has stopped
    return clock.uptime - last if isinstance(last, (int, float)) else clock.uptime


def _units(config: Config, unguarded: float) -> Iterator[Finding]:
    """What systemd says of the units, and Docker itself if its unit is active.

    Args:
        unguarded: seconds in which the guard has not looked.
    """
    units = [DOCKER, *config.units]
    try:
        states = lvm.said(["systemctl", "is-active", *units], PATIENCE).split()
    except OSError as error:
        yield Finding("docker", UNKNOWN, f"whether Docker runs is unknown: {error}")
        for unit in config.units:
            yield Finding(f"unit:{unit}", UNKNOWN, f"whether {unit} is active is unknown")
        return
    active = dict(zip(units, states, strict=True))
    if active.get(DOCKER) in ("active", "reloading"):
        try:
            reason = silence()
        except PermissionError:
            yield Finding("docker", OK, f"{DOCKER} is active")
        else:
            yield Finding("docker", UNKNOWN if reason else OK, f"Docker {reason or 'answers'}")
    else:
        # Its socket is not touched: systemd would start it.
        yield Finding("docker", UNKNOWN, f"Docker does not run: {DOCKER} is {active.get(DOCKER)}")
    for unit in config.units:
        is_active = active.get(unit) in ("active", "reloading")
        if is_active and unit == GUARD and unguarded > _GUARD_LATE:
            text = f"{unit} runs, and has not looked at {config.volume} for {span(unguarded)}"
            yield Finding(f"unit:{unit}", WARNING, text)
        else:
            yield Finding(f"unit:{unit}", OK if is_active else WARNING, f"{unit} is {active.get(unit)}")


def of_prune(last: Mapping[str, Any], config: Config, now: float) -> Iterator[Finding]:
    """
    Args:
        last: what the last prune left; empty before the first, of which there is nothing to say.
    """
    if last:
        age, failed = now - last["time"], last["failed"]
        is_late = age > _PRUNE_LATE and PRUNE_TIMER in config.units
        text = f"the last prune was {span(age)} ago" + (f", and failed: {failed[0]}" if failed else "")
        yield Finding("prune", WARNING if failed or is_late else OK, text)


def silence() -> str:
    """Why Docker cannot be talked to, in words; empty: it answers.

    Raises:
        PermissionError: this user may not ask.
    """
    deadline = time.monotonic() + PATIENCE
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(DOCKER_SOCKET)
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            connection.settimeout(max(deadline - time.monotonic(), 0.01))
            answer = connection.recv(100).split(b"\r\n")[0].decode(errors="replace")
    except PermissionError:
        raise
    except TimeoutError:
        return f"does not answer within {PATIENCE:g} s"
    except OSError as error:
        return f"does not answer: {error.strerror}"
    return "" if " 200 " in answer else f"does not answer as it should: {answer or 'nothing'}"


# -- what is printed


def line(seen: Seen, limits: Limits, config: Config) -> str:
    """The line: the level, what is wrong (the worst first) or how full it is, and the performance data."""
    wrong = sorted((f for f in seen.findings if f.level), key=lambda f: SEVERITY.index(f.level), reverse=True)
    said = wrong or [finding for finding in seen.findings if finding.key.startswith("use:")]
    text = "; ".join(plain(finding.text) for finding in said)
    return f"DISK {LEVELS[seen.level]} - {text} | {' '.join(_performance(seen, limits, config))}"


def details(seen: Seen, told: Sequence[str]) -> list[str]:
    """The further lines."""
    return [*(f"{LEVELS[f.level]}: {plain(f.text)}" for f in seen.findings), *map(plain, told)]


def _performance(seen: Seen, limits: Limits, config: Config) -> Iterator[str]:
    percent = f"{limits.warning};{limits.critical};0;100"
    for filesystem in seen.filesystems:
        whole = filesystem.used + filesystem.available
        warning, critical = (whole * limit // 100 for limit in (limits.warning, limits.critical))
        yield f"{_label(filesystem.mount)}={filesystem.used}B;{warning};{critical};0;{whole}"
        if filesystem.inodes:
            yield f"{_label(f'inodes {filesystem.mount}')}={filesystem.inodes_percent:.1f}%;{percent}"
    for group in seen.groups:
        reserve = f"{config.reserve}:" if group.name == config.group and config.reserve else ""
        yield f"{_label(f'free {group.name}')}={group.free}B;{reserve};;0;{group.size}"
    for snapshot in seen.snapshots:
        yield f"{_label(f'snapshot {snapshot.group}/{snapshot.name}')}={snapshot.percent:.1f}%;{percent}"


def _label(text: str) -> str:
    # The guidelines know no way to write an equals sign.
    return "'" + plain(text).replace("=", "_").replace("'", "''") + "'"


def _json(seen: Seen) -> str:
    import json

    return json.dumps({"level": seen.level, "status": LEVELS[seen.level], **seen.as_dict()}, indent=4)


def plain(text: str) -> str:
    r"""On one line, without the sign that the performance data begin with. Names of mount points are any bytes.

    >>> plain("/srv/a|b\n\udcff")
    '/srv/a/b\\n\\udcff'
    """
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escaped.replace("|", "/")


def span(seconds: float) -> str:
    """
    >>> span(-5), span(3599), span(47 * 3600), span(50 * 3600)
    ('0 min', '59 min', '47 h', '2 d')
    """
    minutes = max(int(seconds), 0) // 60
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d"


def short(size: float) -> str:
    """Bytes in the few letters that a line has room for. (sizes.human: its module costs more than the rest of a check.)

    >>> short(10_522_669_875), short(120 * 2**20), short(0)
    ('9.8G', '120M', '0K')
    """
    unit, factor = next((pair for pair in _UNITS if size >= pair[1]), _UNITS[-1])
    return f"{size / factor:.{int(0 < size < 10 * factor)}f}{unit}"


_UNITS = (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10))
