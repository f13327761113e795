"""Remember when images, networks and volumes were last used, as far as anything shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bulkhead import procfs, state
from bulkhead.docker import sightings
from bulkhead.docker.usage import ANONYMOUS, anonymous_volumes, made_for_containers, mounted_volumes
from bulkhead.prune.unused import Json, images_in_use, networks_in_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEVICES = "/sys/class/net"


class Memory:
    """What is known of earlier runs and checks, and what this run adds. Times are seconds since the epoch.

    Args:
        now: the present.
        boot: identifies this boot of the host.
    """

    def __init__(self, now: float, boot: str) -> None:
        self._now = now
        self._boot = boot
        self._bridges: dict[str, str] = {}
        self.volumes: dict[str, float] = {}  # anonymous, by name: last seen in a container, or first seen at all
        self.networks: dict[str, float] = {}  # by identifier
        self.images: dict[str, float] = {}
        self.images_before = self._known("images")  # without this run: an image that is new to it may still be old

    def collect(
        self,
        containers: Sequence[Json],
        images: Sequence[Json],
        networks: Sequence[Json],
        volumes: Iterable[Json],
    ) -> None:
        """Take in what Docker holds now.

        Args:
            containers: all, as Docker inspects them.
        """
        used = images_in_use(images, containers)
        self.images = last_seen([image["Id"] for image in images], used, self.images_before, self._now)
        referred = networks_in_use(containers)
        used = {network["Id"] for network in networks if {network["Id"], network["Name"]} & referred}
        used |= self._bridges_used(networks)
        self.networks = last_seen([network["Id"] for network in networks], used, self._known("networks"), self._now)
        used = {name for container in containers for name in mounted_volumes(container)}
        known = self._known(ANONYMOUS)
        names = [
            volume["Name"] for volume in anonymous_volumes(volumes, made_for_containers(containers) | known.keys())
        ]
        self.volumes = last_seen(names, used, known, self._now)

    def save(self) -> None:
        """
        Raises:
            OSError: it cannot be written.
        """
        state.save("images", self.images)
        state.save("networks", self.networks)
        state.save(ANONYMOUS, self.volumes)
        state.save(sightings.COUNTED, {"time": self._now, "bridges": self._bridges})

    def _known(self, kind: str) -> dict[str, float]:
        known = dict(sightings.moments(state.load(kind)))
        uses = sightings.known(kind)
        return known | {key: max(when, known.get(key, 0.0)) for key, when in uses.items()}

    def _bridges_used(self, networks: Iterable[Json]) -> set[str]:
        """Return the networks whose bridge has had a container since the last run.

        A bridge gets a carrier with its first container and loses it with the last, and the kernel counts both. Nothing else
        shows a container with --rm.
        """
        known = state.load(sightings.COUNTED).get("bridges")
        known = known if isinstance(known, dict) else {}
        used = set()
        for network in networks:
            name = (network.get("Options") or {}).get("com.docker.network.bridge.name") or f"br-{network['Id'][:12]}"
            if not (counter := procfs.read(os.path.join(DEVICES, name, "carrier_changes")).strip()):
                continue
            self._bridges[network["Id"]] = f"{self._boot} {counter}"
            was_boot, _, was = str(known.get(network["Id"], "")).partition(" ")
            # A new bridge that has had no container has counted at most one change.
            if counter != was if was_boot == self._boot else int(counter) > 1:
                used.add(network["Id"])
        return used


def last_seen(names: Iterable[str], used: set[str], known: dict[str, float], now: float) -> dict[str, float]:
    """Return when each object was last seen in use, or first seen at all, in seconds since the epoch.

    Args:
        names: of all that there are, or their identifiers.
        used: those in use now.
        known: what this returned before.
        now: seconds since the epoch.
    """
    # A clock that was ahead has left times in the future.
    return {name: now if name in used else min(known.get(name, now), now) for name in names}
