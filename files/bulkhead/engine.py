"""Docker's API over its socket, and what an engine holds."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

SOCKET = "/run/docker.sock"
_ANSWER_TIMEOUT = 120  # seconds; a list of thousands of containers on a busy disk
_STOP_GRACE = 60  # seconds for Docker itself, beside the container's own time to stop

Inventory = dict[str, dict[str, Any]]


class EngineError(Exception):
    """The engine does not answer, or refuses."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """The engine of this host.

    Args:
        path: of its socket.
    """

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path

    def ask(self, method: str, path: str, timeout: float = _ANSWER_TIMEOUT, **query: str) -> Any:
        """One request without a version: the engine answers by its own newest API.

        Raises:
            EngineError: no answer, or an answer that says no.
        """
        arguments = "&".join(f"{name}={quote(value)}" for name, value in query.items())
        connection = _Connection(self._path, timeout)
        try:
            connection.request(method, f"{path}?{arguments}" if arguments else path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"Docker does not answer {path}: {error}") from error
        finally:
            connection.close()
        if response.status >= 400:
            try:
                said = json.loads(body)["message"]
            except (ValueError, KeyError, TypeError):
                said = body.decode(errors="replace").strip()
            raise EngineError(f"Docker refuses {path}: {said}")
        return json.loads(body) if body.strip() else None

    def answers(self) -> bool:
        try:
            self.ask("GET", "/containers/json", limit="1")
        except EngineError:
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Wait until the engine answers.

        Raises:
            EngineError: it does not in time.
        """
        deadline = time.monotonic() + seconds
        while not self.answers():
            if time.monotonic() > deadline:
                raise EngineError(f"Docker did not answer within {seconds:.0f} s")
            time.sleep(0.5)

    # -- what it holds

    def containers(self) -> Iterator[dict[str, Any]]:
        """Every container, inspected; one that goes away meanwhile is passed over."""
        for row in self.ask("GET", "/containers/json", all="1"):
            try:
                yield self.ask("GET", f"/containers/{row['Id']}/json")
            except EngineError as error:
                if "No such container" not in str(error):
                    raise

    def inventory(self) -> Inventory:
        """What must be the same after a move, by identifier."""
        return {
            "images": {
                image["Id"]: sorted([*(image["RepoTags"] or []), *(image["RepoDigests"] or [])])
                for image in self.ask("GET", "/images/json", all="1")
            },
            "containers": {
                container["Id"]: {
                    "name": container["Name"].lstrip("/"),
                    "image": container["Image"],
                    "status": container["State"]["Status"],
                    "started": container["State"]["StartedAt"],
                    "restart": container["HostConfig"]["RestartPolicy"],
                }
                for container in self.containers()
                if container["State"]["Status"] not in ("removing", "dead")
            },
            "volumes": {volume["Name"]: volume["Driver"] for volume in self.ask("GET", "/volumes")["Volumes"] or []},
            # By name: the default bridge has another identifier after each start of Docker.
            "networks": {
                network["Name"]: "" if network["Name"] in ("bridge", "host", "none") else network["Id"]
                for network in self.ask("GET", "/networks")
                if network["Scope"] == "local"
            },
        }

    def under_way(self) -> list[str]:
        """What would be lost if Docker were stopped now, in words: builds, --rm containers, the memory of paused ones."""
        found = []
        for container in self.containers():
            name = container["Name"].lstrip("/")
            if container["HostConfig"].get("AutoRemove"):
                found.append(f"the --rm container {name}")
            elif container["State"]["Paused"]:
                found.append(f"the paused container {name}")
            elif _is_classic_build_step(container):
                found.append(f"a build (its step is the container {name})")
        # Records of the cache are in use while a build holds them.
        try:
            cache = self.ask("GET", "/system/df", timeout=600, type="build-cache").get("BuildCache") or []
        except EngineError as error:
            if "already running" not in str(error):  # Docker before 23.0 counts for one at a time
                raise
            return [*found, "a count of Docker's disk usage"]
        if any(record["InUse"] for record in cache):
            found.append("a build")
        return found

    # -- stopping and starting

    def running(self) -> list[str]:
        """Identifiers of what runs, is paused or restarts, in the order in which it was started."""
        active = [c for c in self.containers() if c["State"]["Running"] or c["State"]["Restarting"]]
        return [c["Id"] for c in sorted(active, key=lambda c: str(c["State"]["StartedAt"]))]

    def stop(self, containers: list[str]) -> None:
        """Stop containers side by side, each with the time that it has to stop in.

        Raises:
            EngineError: one cannot be stopped.
        """
        with ThreadPoolExecutor(max_workers=16) as pool:
            for _ in pool.map(self._stop, containers):
                pass

    def _stop(self, container: str) -> None:
        try:
            grace = self.ask("GET", f"/containers/{container}/json")["Config"].get("StopTimeout") or 10
            self.ask("POST", f"/containers/{container}/stop", timeout=grace + _STOP_GRACE)
        except EngineError as error:
            if "No such container" not in str(error):
                raise

    def start(self, container: str) -> None:
        """Start a container, also one that runs.

        Raises:
            EngineError: it does not start.
        """
        self.ask("POST", f"/containers/{container}/start")


def _is_classic_build_step(container: dict[str, Any]) -> bool:
    """Whether a container is a step of a build without BuildKit: it logs nowhere and runs an image by its identifier."""
    return bool(
        container["State"]["Running"]
        and container["HostConfig"]["LogConfig"]["Type"] == "none"
        and container["Config"]["Image"].startswith("sha256:")
    )


def differences(before: Inventory, after: Inventory, ran: list[str]) -> list[str]:
    """What an engine held and no longer holds as it was, in words. What has come since is none.

    Args:
        ran: containers that must run, or have been started again.
    """
    found = []
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
        # One that has ended by itself since ran all the same.
        elif key in ran and now["status"] not in ("running", "restarting") and now["started"] <= was["started"]:
            found.append(f"the container {was['name']} does not run")
    return found
