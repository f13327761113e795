"""Read the verdict on each host from pyinfra, at the end of a run."""

from __future__ import annotations

import atexit
import logging
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary, WeakSet

import pyinfra
from pyinfra import logger
from pyinfra.api import Host, State
from pyinfra.api.operation import OperationMeta
from pyinfra.context import ctx_host

from fleet.verdicts import HostVerdict, host_lines, summary

_MOST_LINES = 100  # kept of a host's output
_STYLE = re.compile("\x1b\\[[0-9;]*m")
_PREFIX = re.compile(r"\[([^\]\s]+)\]\s+(.*)", re.DOTALL)  # pyinfra.api.host, print_prefix
_COUNT = re.compile(r"Error: executed \d+ commands?$")

_refusals: WeakKeyDictionary[Host, tuple[str, ...]] = WeakKeyDictionary()


def note_refusal(reasons: Sequence[str]) -> None:
    """Remember why this host is refused: it is left as it is, which a host that fails may not be.

    Args:
        reasons: the first line of each is a reason in short.
    """
    _refusals[ctx_host.get()] = tuple(reasons)


class HostLog(logging.Filter):
    """Remember the warnings and errors of each host that pyinfra logs."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, deque[str]] = {}
        self.warnings: dict[str, deque[str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        host, message = split(record)
        if host and record.levelno >= logging.WARNING:
            kept = self.errors if record.levelno >= logging.ERROR else self.warnings
            kept.setdefault(host, deque(maxlen=_MOST_LINES)).append(message)
        return True


def split(record: logging.LogRecord) -> tuple[str, str]:
    """Return the host that a message of pyinfra is about, empty for none, and the message."""
    message = _STYLE.sub("", str(record.msg) % record.args if record.args else str(record.msg))
    found = _PREFIX.match(message)
    return (found[1], found[2]) if found else ("", message)


def verdicts_of(state: State, log: HostLog) -> list[HostVerdict]:
    """Return the verdict on each host of the run, in the order of the inventory."""
    chosen = None if state.limit_hosts is None else set(state.limit_hosts)
    return [_verdict(state, host, log) for host in state.inventory if chosen is None or host in chosen]


def _verdict(state: State, host: Host, log: HostLog) -> HostVerdict:
    warnings = tuple(dict.fromkeys(log.warnings.get(host.name, ())))
    if host in _refusals and host in state.failed_hosts:
        reasons = _refusals[host]
        return HostVerdict(host.name, "refused", (), *_at_length(reasons), warnings)
    operations = state.ops[host]
    if host in state.failed_hosts:
        errors = [line for message in log.errors.get(host.name, ()) for line in message.splitlines()]
        errors = [line for line in errors if not _COUNT.match(line)] or ["no reason was given"]
        where = [_name(state, key) for key, one in operations.items() if _has_failed(one.operation_meta)]
        # The host's own words before pyinfra's.
        words = [line for line in errors if line.strip() and not line.startswith("Error: ")] or errors
        reason = ": ".join([*where, words[-1].strip().removeprefix("Error: ")])
        return HostVerdict(host.name, "failed", tuple(_changes(state, host)), reason, tuple(errors), warnings)
    if host not in state.activated_hosts or not operations:
        return HostVerdict(host.name, "failed", reason="the run ended before this host was examined")
    if not is_dry(state) and not all(one.operation_meta.is_complete() for one in operations.values()):
        reason = "the run ended before this host was finished"
        return HostVerdict(host.name, "failed", tuple(_changes(state, host)), reason, (), warnings)
    changes = tuple(_changes(state, host))
    return HostVerdict(host.name, "changed" if changes else "unchanged", changes, warnings=warnings)


def is_dry(state: State) -> bool:
    """Return whether nothing was changed, and pyinfra has predicted what would be."""
    return not state.is_executing and state.check_for_changes


def _at_length(reasons: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the first line of the first reason, and every line."""
    lines = [line for reason in reasons for line in reason.splitlines()]
    return lines[0].strip().removeprefix("found:").strip() if lines else "", tuple(lines)


def _changes(state: State, host: Host) -> Iterator[str]:
    """Yield the names of the operations that have changed a host, or in a dry run would."""
    for key, one in state.ops[host].items():
        meta = one.operation_meta
        if meta._maybe_is_change if is_dry(state) else meta.is_complete() and meta.did_change():
            yield _name(state, key)


def _has_failed(meta: OperationMeta) -> bool:
    return meta.is_complete() and meta.did_error()


def _name(state: State, key: str) -> str:
    return ", ".join(sorted(state.op_meta[key].names))


_summarized: WeakSet[State] = WeakSet()


def summarize_at_the_end(state: State) -> None:
    """Have pyinfra's own command print the verdicts when it ends. scripts/deploy prints more, and has asked already."""
    if not pyinfra.is_cli or state in _summarized:
        return
    take_over(state)
    log = HostLog()
    logger.addFilter(log)
    atexit.register(_print, state, log)


def take_over(state: State) -> None:
    """Keep `summarize_at_the_end` from printing: somebody else does."""
    _summarized.add(state)


def _print(state: State, log: HostLog) -> None:
    found = verdicts_of(state, log)
    lines = ["", *host_lines(found, dry=is_dry(state)), summary(found, dry=is_dry(state))]
    print("\n".join(lines), file=sys.stderr)
