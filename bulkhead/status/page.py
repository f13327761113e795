"""Render the status as a page for a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bulkhead import names
from bulkhead.sizes import human
from bulkhead.storage.volume import NO_LOGICAL_VOLUME
from bulkhead.terminal import COLOURS, INDENT, NARROWEST, Page
from bulkhead.text import count, plain, short, span
from bulkhead.watch.check import SKIPPED_NIGHTS
from bulkhead.watch.results import LEVELS, OK, SEVERITY, UNKNOWN, WARNING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bulkhead.status.report import Status
    from bulkhead.watch.forecast import Forecast

_LONGEST_BAR, _SHORTEST_BAR = 28, 8  # characters
_SHORTEST_MOUNT = 11  # characters of a mount point, before a column is dropped
_WIDTHS = {"used": 12, "size": 5, "free": 5, "growth": 8, "full in": 7}  # of the columns beside mount point and bar
_FAILURES = 5  # failures of a prune that are shown
_ABORTED = 5  # stopped builds that are shown
_WORTH_GROWING = 2**30  # bytes that are free beside the reserve
_SILENT = 60  # seconds after which the guard's last sample is shown as old


def render(status: Status, colour: bool, width: int) -> str:
    """Return the page.

    Args:
        width: of the terminal, in characters. The page takes at least 40.
    """
    page = Page(colour, max(width, NARROWEST))
    parts = (_summary, _filesystems, _contents, _guard, _builds, _volume_groups, _places, _runs, _alerts)
    return "\n".join(line for part in parts for line in part(status, page))


def _summary(status: Status, page: Page) -> Iterator[str]:
    level = UNKNOWN if "disks" in status.failed else status.observation.level
    yield f"{page.painted(status.host, '1')}  {page.painted(LEVELS[level], f'1;{COLOURS[level]}')}  {_date(status.now)}"
    for result in sorted(status.observation.results, key=lambda each: SEVERITY.index(each.level), reverse=True):
        if result.level:
            yield page.line(LEVELS[result.level], result.text, result.level)


def _filesystems(status: Status, page: Page) -> Iterator[str]:
    yield page.heading("Filesystems")
    if "disks" in status.failed:
        yield page.line("unknown", status.failed["disks"], UNKNOWN)
        return
    filesystems = status.observation.filesystems
    columns, room = _columns(page.room)
    has_bar = room >= _SHORTEST_MOUNT + _SHORTEST_BAR + 4
    longest = max((len(filesystem.mount) for filesystem in filesystems), default=0)
    mount_width = min(longest, room - (4 + _SHORTEST_BAR if has_bar else 0))
    bar_width = min(room - mount_width - 4, _LONGEST_BAR) if has_bar else 0
    gap = " " * (bar_width + 4) if has_bar else ""
    titles = "".join(f"  {title:>{_WIDTHS[title]}}" for title in columns)
    yield page.painted(f"  {'':<{mount_width}}{gap}{titles}", "2")
    for filesystem in filesystems:
        mount = filesystem.mount
        trend = status.observation.forecasts.get(mount)
        cells = {
            "used": f"{int(filesystem.percent):>3} %  {short(filesystem.used):>5}",
            "size": short(filesystem.size),
            "free": short(filesystem.available),
            "growth": _rate(trend),
            "full in": _time_left(trend),
        }
        level = max((result.level for result in status.observation.results if result.mount == mount), default=OK)
        bar = f"  {page.bar(filesystem.percent / 100, bar_width, level)}" if has_bar else ""
        row = "".join(f"  {cells[title]:>{_WIDTHS[title]}}" for title in columns)
        yield f"  {_fitting(mount, mount_width):<{mount_width}}{bar}{row}"
    if status.observation.forecasts.keys() != {filesystem.mount for filesystem in filesystems}:
        yield page.painted("  ?: known to root, after five checks", "2")


def _columns(width: int) -> tuple[list[str], int]:
    """Return the columns of figures that fit a page, and the room that they leave for the mount point and the bar."""
    columns = [*_WIDTHS]
    for dropped in ("growth", "size", ""):
        room = width - 2 - sum(2 + _WIDTHS[title] for title in columns)
        if room >= _SHORTEST_MOUNT or not dropped:
            break
        columns.remove(dropped)
    return columns, room


def _contents(status: Status, page: Page) -> Iterator[str]:
    yield page.heading(f"What fills {status.volume}")
    if status.usage is None:
        silent = [result.text for result in status.observation.results if result.key == "docker"]
        yield page.line("unknown", status.failed.get("usage") or "; ".join(silent) or "Docker was not asked", UNKNOWN)
        return
    rows = {
        "images": status.usage.images,
        "containers": status.usage.containers,
        "build cache": status.usage.build_cache,
        "logs": status.usage.logs,
        "volumes": status.usage.volumes,
    }
    sizes = (each.size for each in status.observation.filesystems if each.mount == status.volume)
    whole = next(sizes, 0) or sum(rows.values()) or 1
    length = min(page.room - 44, _LONGEST_BAR)
    for name, size in rows.items():
        reclaimable = status.usage.reclaimable.get(name, 0)
        rest = f"  {short(reclaimable):>5} reclaimable" if reclaimable else ""
        bar = f"{page.bar(size / whole, length)}  " if length >= _SHORTEST_BAR else ""
        yield f"  {name:<{INDENT - 2}}{bar}{short(size):>5}{rest}"
    if number := status.usage.anonymous:
        text = f"{short(status.usage.anonymous_bytes)} in {count(number, 'anonymous volume')} that no container has"
        yield page.line("  of these", f"{text}; `bulkhead reclaim --volumes` removes them")


def _guard(status: Status, page: Page) -> Iterator[str]:
    yield page.heading("Guard")
    unit = next((each for each in status.observation.results if each.key == f"unit:{names.GUARD_SERVICE}"), None)
    if unit is None:
        reason = status.failed.get("disks")
        yield page.line("unknown", reason, UNKNOWN) if reason else "  off: it stops no build"
        return
    if unit.level:
        yield page.line(LEVELS[unit.level], unit.text, unit.level)
    guard = status.guard
    if guard is None:
        yield page.line("unknown", status.failed.get("guard", "it has not sampled the volume yet"), UNKNOWN)
        return
    if status.now - guard.time > _SILENT:
        yield page.line("silent", f"its last sample is {span(status.now - guard.time)} old", WARNING)
    yield _floor(page, "floor", guard.free, guard.floor, short)
    if guard.inode_floor:
        yield _floor(page, "  inodes", guard.inodes_free, guard.inode_floor, str)
    yield page.line("ballast", short(guard.ballast) if guard.ballast else "none")
    for aborted in reversed(guard.aborted[-_ABORTED:]):
        written = f", after it wrote {short(aborted.written)}" if aborted.written else ""
        yield page.line("stopped", f"{span(status.now - aborted.time)} ago{written}: {plain(aborted.words)}")


def _floor(page: Page, name: str, free: int, floor: int, amount: Callable[[int], str]) -> str:
    is_above = free > floor
    left = f"{amount(free - floor)} left above it" if is_above else "less than that is free now"
    return page.line(name, f"{amount(floor)} kept free; {left}", None if is_above else WARNING)


def _builds(status: Status, page: Page) -> Iterator[str]:
    if not (status.builds or "builds" in status.failed):
        return
    yield page.heading("Guarded builds")
    if "builds" in status.failed:
        yield page.line("unknown", status.failed["builds"], UNKNOWN)
    for build in status.builds:
        age, what = span(status.now - build.since), plain(build.name)
        if build.is_waiting:
            yield page.line("waiting", f"{what} for {age}: needs {short(build.need)}")
            continue
        limit = f" of at most {short(build.limit)}" if build.limit else ""
        text = f"{what} for {age}: {short(build.reserved)} of {short(build.need)} still reserved"
        yield page.line("running", f"{text}, its steps have written {short(build.written)}{limit}")


def _volume_groups(status: Status, page: Page) -> Iterator[str]:
    if not status.observation.groups:
        return
    yield page.heading("Volume groups")
    for group in status.observation.groups:
        text = f"{short(group.free)} of {short(group.size)} free"
        if group.name == status.group and status.reserve:
            text += f"; the reserve is {short(status.reserve)}"
        if group.name == status.group and group.free - status.reserve >= _WORTH_GROWING and not group.raid:
            text += f"; Docker's volume can grow by {short(group.free - status.reserve)}"
        yield page.line(group.name, text)
        for disk in status.disk_room:
            if disk.group == group.name:
                yield page.line(
                    "  disk", f"{disk.disk} has grown by {short(disk.room)}, which are not used; see docs/grow.md"
                )
    if "disk room" in status.failed:
        yield page.line("unknown", f"whether a disk has grown: {status.failed['disk room']}", UNKNOWN)
    for found in status.observation.snapshots:
        text = f"{found.group}/{found.name} of {found.origin}, {int(found.percent)} % full"
        if found.group == status.group and (since := status.taken.get(found.name)):
            text += f", {span(status.now - since)} old"
            if status.snapshot_hours:
                text += f"; dropped in {span(since + status.snapshot_hours * 3600 - status.now)}"
        yield page.line("snapshot", text)
    for mirror in status.observation.mirrors:
        key = f"mirror:{mirror.group}/{mirror.name}"
        for result in status.observation.results:
            if result.key == key:
                yield page.line("mirror", result.text.removeprefix("mirror "), result.level or None)
    if "snapshots" in status.failed:
        yield page.line("unknown", f"which snapshots are ours: {status.failed['snapshots']}", UNKNOWN)


def _places(status: Status, page: Page) -> Iterator[str]:
    yield page.heading("Where the data is")
    if "places" in status.failed:
        yield page.line("unknown", f"whether it was moved: {status.failed['places']}", UNKNOWN)
    for result in status.observation.results:
        if result.key in ("isolation", "disk-file"):
            yield from page.paragraph(f"{result.text}.")
    if not status.group:
        yield from page.paragraph(f"{NO_LOGICAL_VOLUME}.")
    for place in reversed(status.places):
        if not place.since and not place.reason:
            continue  # it was never moved
        yield from page.paragraph(place.outcome)
        if place.since:
            yield page.line("  since", _date(place.since))
        for path, size in place.old.items():
            yield page.line("  kept", f"{human(size)} beneath {path}; `bulkhead finalize` removes it")
        if place.reason:
            yield page.line("  reason", place.reason)
    if "rollback" in status.failed:
        yield page.line("unknown", f"whether a rollback is unfinished: {status.failed['rollback']}", UNKNOWN)
    if status.rollback:
        yield page.line("rollback", status.rollback, WARNING)
    if "under way" in status.failed:
        yield page.line("unknown", f"whether a move is running: {status.failed['under way']}", UNKNOWN)
    if status.under_way:
        yield page.line("now", "a move is running; `bulkhead relocate --join` follows it", WARNING)


def _runs(status: Status, page: Page) -> Iterator[str]:
    yield page.heading("Runs")
    checked, pruned = status.checked, status.pruned
    for name, last, coming in (
        ("check", checked, status.next_check),
        ("prune", pruned and pruned.time, status.next_prune),
    ):
        ran = f"{span(status.now - last)} ago" if last else "unknown" if f"last {name}" in status.failed else "none yet"
        comes = f"next in {span(coming - status.now)}" if coming else ""
        yield page.line(name, f"{ran:<14}{comes}".rstrip())
        for part in (f"last {name}", f"next {name}"):
            if part in status.failed:
                yield page.line("", f"the {part} is unknown: {status.failed[part]}", UNKNOWN)
    if pruned:
        yield page.line("  freed", short(pruned.freed))
        if pruned.hindrance or pruned.skipped_nights:
            nights = f" ({count(pruned.skipped_nights, 'night')} in a row)" if pruned.skipped_nights else ""
            is_skipped = pruned.skipped_nights >= SKIPPED_NIGHTS
            yield page.line("  skipped", f"{pruned.hindrance}{nights}", WARNING if is_skipped else None)
        for failure in pruned.failed[:_FAILURES]:
            yield page.line("  failed", failure, WARNING)
        if pruned.failed[_FAILURES:]:
            yield page.line("", f"and {len(pruned.failed) - _FAILURES} more: `journalctl -u docker-prune`")


def _alerts(status: Status, page: Page) -> Iterator[str]:
    yield page.heading("Alerts")
    for name in ("alerts", "messages"):
        if name in status.failed:
            yield page.line("unknown", status.failed[name], UNKNOWN)
    if not (status.alerts or status.queued or {"alerts", "messages"} & status.failed.keys()):
        yield "  none"
    for alert in status.alerts:
        age, reported = (span(status.now - moment) for moment in (alert.since, alert.reported))
        yield page.line(LEVELS[alert.level], f"{alert.key} for {age}, last reported {reported} ago", alert.level)
    for receiver, messages in status.queued.items():
        if messages:
            yield page.line("waiting", f"{count(messages, 'message')} for {receiver}", WARNING)


# -- words


def _date(moment: float) -> str:
    return time.strftime("%F %T %Z", time.localtime(moment))


def _rate(trend: Forecast | None) -> str:
    """
    >>> from bulkhead.watch.forecast import Forecast
    >>> _rate(Forecast(rate=2**20 / 30, seconds_left=3 * 3600)), _rate(Forecast(rate=-1.0, seconds_left=None)), _rate(None)
    ('+120M/h', '0', '?')
    """
    if trend is None:
        return "?"
    size = short(abs(trend.rate) * 3600)
    return f"{'+' if trend.rate > 0 else '-'}{size}/h" if abs(trend.rate) * 3600 >= 2**20 else "0"


def _time_left(trend: Forecast | None) -> str:
    if trend is None:
        return "?"
    return "-" if trend.seconds_left is None or trend.seconds_left > 365 * 86400 else span(trend.seconds_left)


def _fitting(text: str, length: int) -> str:
    """Shorten a path at its beginning: its end says more.

    >>> _fitting("/srv/machine-learning/models", 15)
    '...rning/models'
    """
    return text if len(text) <= length else f"...{text[3 - length :]}"
