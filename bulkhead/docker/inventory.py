"""Record what Docker holds, and compare it with what Docker holds later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulkhead.docker.engine import Engine, Inventory

NOTHING: Inventory = {"images": {}, "containers": {}, "volumes": {}, "networks": {}}


def differences(before: Inventory, after: Inventory, ran: list[str]) -> list[str]:
    """Describe what an engine no longer holds as it did before. What it holds in addition is no difference.

    Args:
        ran: identifiers of containers that must run, or must have been started again.
    """
    found = []
    down = not_running(before, after, ran)
    for kind, name in (("images", "image"), ("volumes", "volume"), ("networks", "network")):
        for key, value in before[kind].items():
            if key not in after[kind]:
                found.append(f"the {name} {key} is missing")
            elif after[kind][key] != value:
                found.append(f"the {name} {key} is not what it was")
    for key, was in before["containers"].items():
        now = after["containers"].get(key)
        if now is None:
            found.append(f"the container {was['name']} is missing")
        elif (now["name"], now["image"], now["restart"]) != (was["name"], was["image"], was["restart"]):
            found.append(f"the container {was['name']} is not what it was")
        elif key in down:
            found.append(f"the container {was['name']} does not run")
    return found


def not_running(before: Inventory, after: Inventory, ran: list[str]) -> list[str]:
    """Return the containers that ran before, are down, and have not been started since.

    A container that was started again and has ended by itself is none of them.

    Args:
        ran: identifiers of the containers that ran.
    """
    down = []
    for key in ran:
        was, now = before["containers"].get(key), after["containers"].get(key)
        if was and now and now["status"] not in ("running", "restarting") and now["started"] <= was["started"]:
            down.append(key)
    return down


def record(engine: Engine) -> dict[str, Any]:
    """Return what Docker holds ("before"), and the containers that run ("ran"); nothing if Docker does not answer.

    What Docker itself removes when it starts is left out.
    """
    from bulkhead.docker.daemon import docker_runs
    from bulkhead.docker.engine import EngineError

    try:
        if not docker_runs():
            return {}
        passing = [container for container in engine.containers() if container["HostConfig"].get("AutoRemove")]
        before = _without_autoremoved(engine.inventory(), passing)
        return {"before": before, "ran": [key for key in engine.running() if key in before["containers"]]}
    except EngineError:
        return {}


def _without_autoremoved(inventory: Inventory, passing: list[dict[str, Any]]) -> Inventory:
    """Return an inventory without what Docker itself removes when it starts.

    Args:
        passing: the --rm containers, as Docker inspects them. Docker removes them with their anonymous volumes.
    """
    gone = {container["Id"] for container in passing}
    volumes = {mount.get("Name", "") for container in passing for mount in container["Mounts"]}
    gone |= {name for name in volumes if len(name) == 64}
    return {kind: {k: v for k, v in held.items() if k not in gone} for kind, held in inventory.items()}


def in_both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return what two records have in common: a snapshot that was taken between them has it for certain."""
    if not first or not second:
        return {}
    after = second["before"]
    before = {
        kind: {key: value for key, value in held.items() if after[kind].get(key) == value}
        for kind, held in first["before"].items()
    }
    running = [key for key in first["ran"] if key in second["ran"] and key in before["containers"]]
    return {"before": before, "ran": running}
