"""Render the status for a terminal."""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bulkhead import names
from bulkhead.sizes import human
from bulkhead.text import count, plain, short, span
from bulkhead.watch.findings import CRITICAL, LEVELS, OK, SEVERITY, UNKNOWN, WARNING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.status.report import Status
    from bulkhead.watch.forecast import Forecast

# -- for people

_COLOURS = {OK: "32", WARNING: "33", CRITICAL: "31", UNKNOWN: "35"}
_INDENT = 14
_BAR = 28  # characters at most
_FAILURES = 5  # of a prune that are shown
_ABORTED = 5  # builds that are shown
_SILENT = 60  # seconds after which it is told when the guard looked last


@dataclass(frozen=True)
class _Page:
    """How things are written."""

    colour: bool
    room: int  # characters in a line

    def painted(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour and text else text

    def heading(self, text: str) -> str:
        return "\n" + self.painted(text, "1")

    def bar(self, share: float, length: int, level: int = OK) -> str:
        """
        >>> _Page(colour=False, room=80).bar(0.26, 8)
        '[##......]'
        """
        filled = min(int(share * length), length)  # only what is full looks full
        return f"[{self.painted('#' * filled, _COLOURS[level])}{'.' * (length - filled)}]"

    def line(self, name: str, text: str, level: int | None = None) -> str:
        """A name, and a text that may take more than one line."""
        lines = textwrap.wrap(text, self.room - _INDENT, break_on_hyphens=False) or [""]
        head = f"  {name:<{_INDENT - 2}}"
        if level is not None:
            head = self.painted(head, _COLOURS[level])
        return head + ("\n" + " " * _INDENT).join(lines)


def render(status: Status, colour: bool, width: int) -> str:
    """The page for people.

    Args:
        width: of the terminal, in characters. The table takes at least 72.
    """
    page = _Page(colour, max(width, 72))
    parts = (_summary, _filesystems, _contents, _guard, _volume_groups, _places, _runs, _alerts)
    return "\n".join(line for part in parts for line in part(status, page))


def _summary(status: Status, page: _Page) -> Iterator[str]:
    level = UNKNOWN if "disks" in status.failed else status.seen.level
    yield f"{page.painted(status.host, '1')}  {page.painted(LEVELS[level], f'1;{_COLOURS[level]}')}  {_date(status.now)}"
    for finding in sorted(status.seen.findings, key=lambda finding: SEVERITY.index(finding.level), reverse=True):
        if finding.level:
            yield page.line(LEVELS[finding.level], finding.text, finding.level)


def _filesystems(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading("Filesystems")
    if "disks" in status.failed:
        yield page.line("unknown", status.failed["disks"], UNKNOWN)
        return
    room = page.room - 53  # for the name and the bar
    name = min(max((len(filesystem.mount) for filesystem in status.seen.filesystems), default=0), room - 8)
    length = min(room - name, _BAR)
    yield page.painted(
        f"  {'':<{name}}  {'':<{length + 2}}  {'used':>12}  {'size':>5}  {'free':>5}  {'growth':>8}  {'full in':>7}",
        "2",
    )
    for filesystem in status.seen.filesystems:
        mount = filesystem.mount
        level = max((finding.level for finding in status.seen.findings if finding.mount == mount), default=OK)
        trend = status.seen.forecasts.get(mount)
        yield (
            f"  {_fitting(mount, name):<{name}}  {page.bar(filesystem.percent / 100, length, level)}"
            f"  {int(filesystem.percent):>3} %  {short(filesystem.used):>5}"
            f"  {short(filesystem.size):>5}  {short(filesystem.available):>5}"
            f"  {_growth(trend):>8}  {_time_left(trend):>7}"
        )
    if status.seen.forecasts.keys() != {filesystem.mount for filesystem in status.seen.filesystems}:
        yield page.painted("  ? is known, to root, after five checks", "2")


def _contents(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading(f"What fills {status.volume}")
    if status.usage is None:
        silent = [finding.text for finding in status.seen.findings if finding.key == "docker"]
        yield page.line("unknown", status.failed.get("usage") or "; ".join(silent) or "Docker was not asked", UNKNOWN)
        return
    rows = {
        "images": status.usage.images,
        "containers": status.usage.containers,
        "build cache": status.usage.build_cache,
        "volumes": status.usage.volumes,
        "logs": status.usage.logs,
    }
    whole = next((f.size for f in status.seen.filesystems if f.mount == status.volume), 0) or sum(rows.values()) or 1
    for name, size in rows.items():
        reclaimable = status.usage.reclaimable.get(name, 0)
        rest = f"  {short(reclaimable):>5} reclaimable" if reclaimable else ""
        yield f"  {name:<{_INDENT - 2}}{page.bar(size / whole, min(page.room - 44, _BAR))}  {short(size):>5}{rest}"


def _guard(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading("Guard")
    unit = next((finding for finding in status.seen.findings if finding.key == f"unit:{names.GUARD_SERVICE}"), None)
    if unit is None:
        unseen = status.failed.get("disks")
        yield page.line("unknown", unseen, UNKNOWN) if unseen else "  none: no build is stopped"
        return
    if unit.level:
        yield page.line(LEVELS[unit.level], unit.text, unit.level)
    guard = status.guard
    if guard is None:
        yield page.line("unknown", status.failed.get("guard", "it has not looked yet"), UNKNOWN)
        return
    if status.now - guard.time > _SILENT:
        yield page.line("silent", f"it looked {span(status.now - guard.time)} ago for the last time", WARNING)
    left = f"{short(guard.free - guard.floor)} until then" if guard.free > guard.floor else "less than that is free"
    yield page.line("floor", f"{short(guard.floor)} stay free; {left}", None if guard.free > guard.floor else WARNING)
    yield page.line("ballast", short(guard.ballast) if guard.ballast else "none")
    for aborted in reversed(guard.aborted[-_ABORTED:]):
        written = f", with {short(aborted.written)} written" if aborted.written else ""
        yield page.line("stopped", f"{span(status.now - aborted.time)} ago{written}: {plain(aborted.words)}")


def _volume_groups(status: Status, page: _Page) -> Iterator[str]:
    if not status.seen.groups:
        return
    yield page.heading("Volume groups")
    for group in status.seen.groups:
        text = f"{short(group.free)} of {short(group.size)} free"
        if group.name == status.group and status.reserve:
            text += f"; the reserve is {short(status.reserve)}"
        yield page.line(group.name, text)
    for found in status.seen.snapshots:
        text = f"{found.group}/{found.name} of {found.origin}, {int(found.percent)} % full"
        if found.group == status.group and (since := status.taken.get(found.name)):
            text += f", {span(status.now - since)} old"
            if status.snapshot_hours:
                text += f"; goes in {span(since + status.snapshot_hours * 3600 - status.now)}"
        yield page.line("snapshot", text)
    if "snapshots" in status.failed:
        yield page.line("unknown", f"whose snapshots they are: {status.failed['snapshots']}", UNKNOWN)


def _places(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading("Where the data is")
    if "places" in status.failed:
        yield page.line("unknown", f"whether it was moved: {status.failed['places']}", UNKNOWN)
    for finding in status.seen.findings:
        if finding.key == "isolation":
            yield f"  {finding.text}."
    for place in reversed(status.places):
        if not place.since:
            continue  # it was never moved: there is nothing to tell
        yield from textwrap.wrap(place.outcome, page.room, initial_indent="  ", subsequent_indent="  ")
        yield page.line("  since", _date(place.since))
        for path, size in place.old.items():
            yield page.line("  kept", f"{human(size)} beneath {path}; `bulkhead finalize` removes it")
        if place.reason:
            yield page.line("  reason", place.reason)
    if "rollback" in status.failed:
        yield page.line("unknown", f"whether it goes back to a snapshot: {status.failed['rollback']}", UNKNOWN)
    if status.rollback:
        yield page.line("rollback", status.rollback, WARNING)
    if "under way" in status.failed:
        yield page.line("unknown", f"whether a move is under way: {status.failed['under way']}", UNKNOWN)
    if status.under_way:
        yield page.line("now", "a move is under way: `bulkhead relocate --join` watches it", WARNING)


def _runs(status: Status, page: _Page) -> Iterator[str]:
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
        for failure in pruned.failed[:_FAILURES]:
            yield page.line("  failed", failure, WARNING)
        if pruned.failed[_FAILURES:]:
            yield page.line("", f"and {len(pruned.failed) - _FAILURES} more: `journalctl -u docker-prune`")


def _alerts(status: Status, page: _Page) -> Iterator[str]:
    yield page.heading("Alerts")
    for name in ("alerts", "messages"):
        if name in status.failed:
            yield page.line("unknown", status.failed[name], UNKNOWN)
    if not (status.standing or status.queued or {"alerts", "messages"} & status.failed.keys()):
        yield "  none"
    for standing in status.standing:
        since, told = (span(status.now - moment) for moment in (standing.since, standing.told))
        text = f"{standing.key} since {since}, told {told} ago"
        yield page.line(LEVELS[standing.level], text, standing.level)
    for receiver, messages in status.queued.items():
        if messages:
            yield page.line("waiting", f"{count(messages, 'message')} for {receiver}", WARNING)


# -- words


def _date(moment: float) -> str:
    return time.strftime("%F %T %Z", time.localtime(moment))


def _growth(trend: Forecast | None) -> str:
    """
    >>> from bulkhead.watch.forecast import Forecast
    >>> _growth(Forecast(rate=2**20 / 30, seconds_left=3 * 3600)), _growth(Forecast(rate=-1.0, seconds_left=None)), _growth(None)
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
    """The end of a long path says more than its beginning.

    >>> _fitting("/srv/machine-learning/models", 15)
    '...rning/models'
    """
    return text if len(text) <= length else f"...{text[3 - length :]}"
