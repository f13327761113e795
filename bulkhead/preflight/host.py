"""The checks of the host, from what `bulkhead status` collects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkhead.build.checklist import FAILED, OK, WARNING, Item
from bulkhead.errors import in_words
from bulkhead.guard import ballast
from bulkhead.names import GUARD_SERVICE, PRUNE_TIMER
from bulkhead.sizes import human
from bulkhead.status.report import collect
from bulkhead.text import count, span
from bulkhead.watch import results

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.config import Config
    from bulkhead.status.report import Status

_PRUNE = (f"unit:{PRUNE_TIMER}", "prune")  # keys of results
_MISSED = 2  # intervals after which a check is missing


def items(config: Config) -> Iterator[Item]:
    status = collect(config, list, measures_usage=False)
    yield _ballast(config)
    yield _check(config, status)
    yield _prune(config, status)
    yield _alerts(config, status)
    yield _others(config, status)


def _ballast(config: Config) -> Item:
    try:
        wanted = ballast.size(config)
    except OSError as error:
        return Item("ballast", WARNING, f"the volume does not answer: {in_words(error)}")
    if not wanted or GUARD_SERVICE not in config.watched_units:
        return Item("ballast", WARNING, "none, by the settings: Docker may not come back by itself from a full volume")
    held = ballast.held(config)
    if held < wanted:
        text = f"{human(held)} of {human(wanted)}. The guard has used it, and makes it again when there is room"
        return Item("ballast", WARNING, text)
    return Item("ballast", OK, human(held))


def _check(config: Config, status: Status) -> Item:
    if why := status.failed.get("last check"):
        return Item("check", WARNING, f"the last check is unknown: {why}")
    if status.checked is None:
        return Item("check", WARNING, "the host has not been checked yet: `bulkhead check`")
    age = status.now - status.checked
    level = WARNING if age > _MISSED * 60 * config.check_interval else OK
    return Item("check", level, f"the last one was {span(age)} ago; every {config.check_interval} min is usual")


def _prune(config: Config, status: Status) -> Item:
    if PRUNE_TIMER not in config.watched_units:
        return Item("prune", WARNING, "switched off in the settings: nothing is removed at night")
    found = [each for each in status.observation.results if each.key in _PRUNE]
    wrong = [each.text for each in found if each.level]
    if wrong or not found:
        return Item("prune", WARNING, "; ".join(wrong) or f"cannot tell whether {PRUNE_TIMER} is active")
    coming = [f"the next one is in {span(status.next_prune - status.now)}"] if status.next_prune else []
    return Item("prune", OK, "; ".join([*(each.text for each in found), *coming]))


def _alerts(config: Config, status: Status) -> Item:
    if not config.receiver_names:
        return Item("alerts", WARNING, "nobody is alerted: name somebody in alert_receivers")
    names = ", ".join(config.receiver_names)
    if waiting := sum(status.queued.values()):
        return Item("alerts", WARNING, f"{count(waiting, 'message')} could not be sent yet to {names}")
    return Item("alerts", OK, f"go to {names}")


def _others(config: Config, status: Status) -> Item:
    """Return what `bulkhead check` finds that no other item names."""
    if why := status.failed.get("disks"):
        return Item("host", WARNING, f"cannot be checked: {why}")
    own = {"docker", "isolation", f"unit:{GUARD_SERVICE}", f"inodes:{config.volume_mount}", *_PRUNE}
    wrong = [each for each in status.observation.results if each.level and each.key not in own]
    if status.under_way:
        return Item("host", FAILED, "Docker's data is being moved: `bulkhead relocate --join` follows it")
    if not wrong:
        return Item("host", OK, "`bulkhead check` finds nothing else")
    is_critical = any(each.level == results.CRITICAL for each in wrong)
    return Item("host", FAILED if is_critical else WARNING, "; ".join(each.text for each in wrong))
