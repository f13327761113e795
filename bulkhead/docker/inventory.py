"""Compare what Docker holds now with what it held before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulkhead.docker.engine import Engine, Inventory


def differences(before: Inventory, after: Inventory, ran: list[str]) -> list[str]:
    """What an engine held and no longer holds as it was, in words. What has come since is none.

    Args:
        ran: containers that must run, or have been started again.
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
    """Of the containers that ran those that are down, and have not been started since: one that has ended by itself ran."""
    down = []
    for key in ran:
        was, now = before["containers"].get(key), after["containers"].get(key)
        if was and now and now["status"] not in ("running", "restarting") and now["started"] <= was["started"]:
            down.append(key)
    return down


def held(engine: Engine) -> dict[str, Any]:
    """What Docker holds ("before"), and what runs ("ran"); empty where it does not answer."""
    from bulkhead.docker.daemon import docker_runs
    from bulkhead.docker.engine import EngineError

    try:
        if not docker_runs():
            return {}
        passing = [container for container in engine.containers() if container["HostConfig"].get("AutoRemove")]
        before = without(engine.inventory(), passing)
        return {"before": before, "ran": [key for key in engine.running() if key in before["containers"]]}
    except EngineError:
        return {}


def without(inventory: Inventory, passing: list[dict[str, Any]]) -> Inventory:
    """What Docker holds, but for what it removes itself when it is started.

    Args:
        passing: the --rm containers, inspected. They go, with their volumes that have no name but Docker's.
    """
    gone = {container["Id"] for container in passing}
    volumes = {mount.get("Name", "") for container in passing for mount in container["Mounts"]}
    gone |= {name for name in volumes if len(name) == 64}
    return {kind: {k: v for k, v in there.items() if k not in gone} for kind, there in inventory.items()}


def common_names(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What was there before and after: the snapshot has it for sure."""
    if not one or not other:
        return {}
    after = other["before"]
    before = {
        kind: {key: value for key, value in there.items() if after[kind].get(key) == value}
        for kind, there in one["before"].items()
    }
    running = [key for key in one["ran"] if key in other["ran"] and key in before["containers"]]
    return {"before": before, "ran": running}
