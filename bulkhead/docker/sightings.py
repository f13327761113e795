"""Remember, at every check, what running containers use: one with --rm leaves no trace of it for the nightly prune."""

from __future__ import annotations

import json

from bulkhead import state
from bulkhead.docker.daemon import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

COUNTED = "counted"  # the state that a prune saves when it has taken in what was seen until then
_NAME = "sightings"  # of the state
_KINDS = ("images", "networks")


def remember(now: float) -> None:
    """Remember which images and networks running containers use now.

    Args:
        now: seconds since the epoch.

    Raises:
        OSError: Docker does not answer, or nothing can be written.
        LookupError, TypeError, ValueError: Docker's answer has an unexpected form.
    """
    counted = dict(moments(state.load(COUNTED))).get("time", 0.0)
    uses = {kind: {key: when for key, when in known(kind).items() if when >= counted} for kind in _KINDS}
    for container in _running():
        uses["images"][container["ImageID"]] = now
        for endpoint in ((container.get("NetworkSettings") or {}).get("Networks") or {}).values():
            uses["networks"][endpoint["NetworkID"]] = now
    state.save(_NAME, uses)


def known(kind: str) -> dict[str, float]:
    """Return when each object of a kind was last seen in use, in seconds since the epoch, by identifier."""
    uses = state.load(_NAME).get(kind)
    return dict(moments(uses if isinstance(uses, dict) else {}))


def moments(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the values that are moments; others stand in a damaged file."""
    for key, value in values.items():
        if isinstance(value, (int, float)):
            yield key, float(value)


def _running() -> list[dict[str, Any]]:
    silence, answer = ask("containers/json", whole=True)
    if silence:
        raise OSError(f"Docker {silence}")
    return list(json.loads(answer.partition(b"\r\n\r\n")[2]))
