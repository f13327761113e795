"""The settings of every host of this run, checked together: one message for all that is wrong."""

from __future__ import annotations

from functools import cache

from pyinfra.api import Host, Inventory

from settings import Settings, check_fleet


@cache
def _fleet(inventory: Inventory) -> dict[str, Settings]:
    return check_fleet({host.name: host.data.dict() for host in inventory.iter_activated_hosts()})


def settings_of(host: Host) -> Settings:
    """The settings of a host.

    Raises:
        SettingsError: those of any host of this run are bad.
    """
    return _fleet(host.inventory)[host.name]
