"""Count what the removal of several images frees: layers that they share go with the last of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from bulkhead.docker.usage import own_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Chain = tuple[str, ...]


class Layers:
    """The layers of images. Removals are counted in their order.

    Docker counts two sizes of an image: all of its layers, and those that it shares. Where images part is known from them,
    or else taken to be higher up: rather too little is promised than too much.

    Args:
        images: with the sizes that Docker counts.
        chains: the layers of each, from the lowest, by the image's identifier.
    """

    def __init__(self, images: Iterable[dict[str, Any]], chains: Mapping[str, Chain]) -> None:
        self._images = {image["Id"]: image for image in images}
        self._chains = {key: chain for key, chain in chains.items() if key in self._images and chain}
        self._users = Counter(part for chain in self._chains.values() for part in _parts(chain))
        self._sizes: dict[Chain, int] = {(): 0}
        for key, chain in self._chains.items():
            image = self._images[key]
            self._sizes[chain] = image["Size"]
            self._sizes.setdefault(self._held(chain, 1), image["Size"] - own_bytes(image))

    def remove(self, image: str) -> int:
        """Count an image as removed, and return the bytes that its removal frees.

        Args:
            image: its identifier.
        """
        if image not in self._chains:
            return own_bytes(self._images[image]) if image in self._images else 0
        chain = self._chains.pop(image)
        self._users.subtract(_parts(chain))
        held = len(self._held(chain, 0))
        stays = min(size for part, size in self._known(chain) if len(part) >= held)
        return max(int(self._images[image]["Size"]) - stays, 0)

    def _held(self, chain: Chain, others: int) -> Chain:
        """Return the layers of a chain that more images have than a number."""
        return next((part for part in reversed(_parts(chain)) if self._users[part] > others), ())

    def _known(self, chain: Chain) -> Iterable[tuple[Chain, int]]:
        return [(part, self._sizes[part]) for part in [(), *_parts(chain)] if part in self._sizes]


def _parts(chain: Chain) -> list[Chain]:
    return [chain[:length] for length in range(1, len(chain) + 1)]
