"""Describe what is under way in Docker: builds, and what else is lost if Docker stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulkhead.docker.classic_builder import is_step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bulkhead.docker.engine import Engine


def builds_under_way(engine: Engine, containers: Iterable[dict[str, Any]]) -> list[str]:
    """Describe the builds that are under way.

    Args:
        containers: all of the engine's, as Docker inspects them.

    Raises:
        EngineError: Docker does not answer.
    """
    steps = [
        f"a build (its step is the container {container['Name'].lstrip('/')})"
        for container in containers
        if is_step(container)
    ]
    # A build holds records of the cache, and they are in use as long as it runs.
    held = any(record["InUse"] for record in engine.usage("build-cache")["build-cache"])
    return [*steps, *(["a build"] if held else [])]


def under_way(engine: Engine) -> list[str]:
    """Describe what is lost if Docker stops now: builds, --rm containers, the memory of paused containers.

    Raises:
        EngineError: Docker does not answer.
    """
    found = []
    containers = [*engine.containers()]
    for container in containers:
        name = container["Name"].lstrip("/")
        if container["HostConfig"].get("AutoRemove"):
            found.append(f"the --rm container {name}")
        elif container["State"]["Paused"]:
            found.append(f"the paused container {name}")
    return [*found, *builds_under_way(engine, containers)]
