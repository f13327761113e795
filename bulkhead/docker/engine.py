"""Docker's API over its socket."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from bulkhead.errors import Problem
from bulkhead.names import DOCKER_API

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANSWER_TIMEOUT = 120  # seconds; a list of thousands of containers on a busy disk
_STOP_GRACE = 60  # seconds for Docker itself, beside the container's own time to stop
_START_TIMEOUT = 600  # seconds for a container, beside the others that start
_AT_ONCE = 16  # containers that are stopped or started in parallel
_COUNT_TIMEOUT = 600  # seconds; Docker before 23.0 walks through every volume whatever it is to count
_REMOVAL_TIMEOUT = 600  # seconds; a large image on a busy disk
_PRUNE_TIMEOUT = 1800  # seconds; a cache of thousands of records

# In the answer of /system/df: the name of a kind's list, and of the object that has the list since API 1.52.
_COUNTED = {
    "image": ("Images", "ImageUsage"),
    "container": ("Containers", "ContainerUsage"),
    "volume": ("Volumes", "VolumeUsage"),
    "build-cache": ("BuildCache", "BuildCacheUsage"),
}

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")
Inventory = dict[str, dict[str, Any]]


class EngineError(Problem):
    """The engine does not answer, or refuses.

    Args:
        status: of HTTP, of a refusal; 0 if there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


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
        path: the engine's socket.
    """

    def __init__(self, path: str = DOCKER_API) -> None:
        self._path = path

    def ask(self, method: str, path: str, timeout: float = _ANSWER_TIMEOUT, **query: str | list[str]) -> Any:
        """Make one request, without a version: the engine answers by its newest API.

        Args:
            timeout: seconds without a part of the answer.

        Returns:
            The answer, from JSON; None if it is empty.

        Raises:
            EngineError: the engine does not answer, or refuses.
        """
        arguments = urlencode(query, doseq=True, quote_via=quote)
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
                message = json.loads(body)["message"]
            except (ValueError, KeyError, TypeError):
                message = body.decode(errors="replace").strip()
            raise EngineError(f"Docker refuses {path}: {message}", response.status)
        return json.loads(body) if body.strip() else None

    def answers(self, timeout: float) -> bool:
        """Return whether the engine answers.

        Args:
            timeout: seconds that it may take.
        """
        try:
            self.ask("GET", "/containers/json", timeout, limit="1")
        except EngineError:
            return False
        return True

    # -- what the engine holds

    def containers(self) -> Iterator[dict[str, Any]]:
        """Yield every container, as Docker inspects it. One that is removed meanwhile is left out.

        Raises:
            EngineError: the engine does not answer, or refuses.
        """
        for row in self.ask("GET", "/containers/json", all="1"):
            try:
                yield self.ask("GET", f"/containers/{row['Id']}/json")
            except EngineError as error:
                if "No such container" not in str(error):
                    raise

    def inventory(self) -> Inventory:
        """Return what must be the same after a move, by identifier.

        Raises:
            EngineError: the engine does not answer, or refuses.
        """
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
            # By name: the default bridge gets another identifier at each start of Docker.
            "networks": {
                network["Name"]: "" if network["Name"] in ("bridge", "host", "none") else network["Id"]
                for network in self.ask("GET", "/networks")
                if network["Scope"] == "local"
            },
        }

    def usage(self, *kinds: str, timeout: float = _COUNT_TIMEOUT) -> dict[str, Any]:
        """Return the objects of some kinds with the sizes that Docker counts.

        Args:
            kinds: "image", "container", "volume", "build-cache".
            timeout: seconds that Docker may take.

        Returns:
            A list by each kind's name, and "layers", the bytes of all images together.

        Raises:
            EngineError: the engine does not answer in time, or refuses.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                # Without `verbose`, Docker has the lists only in the old form of its answer.
                found = self.ask("GET", "/system/df", timeout, type=[*kinds], verbose="1")
                break
            except EngineError as error:
                # Docker before 23.0 counts for one client at a time.
                if "already running" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(1)
        counted: dict[str, Any] = {}
        for kind in kinds:
            old, new = _COUNTED[kind]
            counted[kind] = found.get(new, {}).get("Items") or found.get(old) or []
        counted["layers"] = found.get("ImageUsage", {}).get("TotalSize") or found.get("LayersSize") or 0
        return counted

    # -- removing

    def remove(self, kind: str, reference: str) -> None:
        """Remove a container, an image, a network or a volume, without force. A container's volumes are kept.

        Args:
            kind: "container", "image", "network" or "volume".
            reference: the object's identifier, or one of an image's names: Docker removes the image with its last name.

        Raises:
            EngineError: it is not removed. Status 404: it is gone already; 409, of networks 403: it is in use.
        """
        self.ask("DELETE", f"/{kind}s/{quote(reference, safe='/:@')}", _REMOVAL_TIMEOUT)

    def prune_cache(self, unused_for: float) -> tuple[set[str], int]:
        """Remove the build cache that no build uses and that none has used for a while.

        Args:
            unused_for: seconds.

        Returns:
            The identifiers of the records that were removed, and the bytes that they had by Docker's count.

        Raises:
            EngineError: the engine refuses, or does not answer. It may have removed a part.
        """
        filters = json.dumps({"until": [f"{max(int(unused_for), 0)}s"]})
        found = self.ask("POST", "/build/prune", _PRUNE_TIMEOUT, all="1", filters=filters)
        return set(found["CachesDeleted"] or []), found["SpaceReclaimed"]

    # -- stopping and starting

    def running(self) -> list[str]:
        """Return the containers that run, are paused or restart, by identifier, in the order in which they were started.

        Raises:
            EngineError: the engine does not answer, or refuses.
        """
        active = [c for c in self.containers() if c["State"]["Running"] or c["State"]["Restarting"]]
        return [c["Id"] for c in sorted(active, key=lambda c: str(c["State"]["StartedAt"]))]

    def stop(self, containers: list[str]) -> None:
        """Stop containers in parallel, each within the time that it may take by its settings.

        Args:
            containers: identifiers.

        Raises:
            EngineError: a container cannot be stopped.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(self._stop, containers):
                pass

    def _stop(self, container: str) -> None:
        try:
            grace = self.ask("GET", f"/containers/{container}/json")["Config"].get("StopTimeout") or 10
            self.ask("POST", f"/containers/{container}/stop", timeout=grace + _STOP_GRACE)
        except EngineError as error:
            if "No such container" not in str(error):
                raise

    def start(self, containers: list[str]) -> list[str]:
        """Start containers in parallel. One that runs already is left as it is.

        Args:
            containers: identifiers.

        Returns:
            Why some could not be started.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [problem for problem in pool.map(self._start, containers) if problem]

    def _start(self, container: str) -> str:
        try:
            self.ask("POST", f"/containers/{container}/start", _START_TIMEOUT)
        except EngineError as error:
            return str(error)
        return ""


def moment(text: str) -> float:
    """Return a time of Docker's in seconds since the epoch; 0 for the year 1, which means "never", and for no time.

    >>> moment("1970-01-01T01:00:02.500000000+01:00"), moment("0001-01-01T00:00:00Z")
    (2.5, 0.0)
    """
    match = _MOMENT.fullmatch(text)
    if not match:
        return 0.0
    # Python before 3.11 reads neither nanoseconds nor a Z.
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).timestamp()
    return max(whole + float(match[2] or 0), 0.0)
