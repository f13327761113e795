"""The settings of every host of this run, checked together: one message for all that is wrong."""

from __future__ import annotations

from functools import cache

from pyinfra.api import Host, Inventory

from settings.check import SettingsError, check_fleet
from settings.model import Settings


@cache
def _fleet(inventory: Inventory) -> dict[str, Settings] | SettingsError:
    # The error is kept as well: a thousand hosts ask, and the answer to all of them is the same.
    try:
        return check_fleet({host.name: host.data.dict() for host in inventory.iter_activated_hosts()})
    except SettingsError as error:
        return error


def settings_of(host: Host) -> Settings:
    """The settings of a host.

    Raises:
        SettingsError: those of any host of this run are bad.
    """
    fleet = _fleet(host.inventory)
    if isinstance(fleet, SettingsError):
        raise fleet
    return fleet[host.name]
