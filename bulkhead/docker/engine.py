"""Docker's API over its socket, and what an engine holds."""

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
_COUNT_TIMEOUT = 600  # seconds; Docker before 23.0 walks through every volume to count anything
_REMOVAL_TIMEOUT = 600  # seconds; a large image on a busy disk
_PRUNE_TIMEOUT = 1800  # seconds; a cache of thousands of records

# In /system/df: the name of a kind's list, and of what holds the list since API 1.52.
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
        status: of its refusal, as HTTP has it; 0 where there was no answer.
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
        path: of its socket.
    """

    def __init__(self, path: str = DOCKER_API) -> None:
        self._path = path

    def ask(self, method: str, path: str, timeout: float = _ANSWER_TIMEOUT, **query: str | list[str]) -> Any:
        """One request without a version: the engine answers by its own newest API.

        Args:
            timeout: seconds of silence; a part of the answer begins them anew.

        Raises:
            EngineError: no answer, or an answer that says no.
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
                said = json.loads(body)["message"]
            except (ValueError, KeyError, TypeError):
                said = body.decode(errors="replace").strip()
            raise EngineError(f"Docker refuses {path}: {said}", response.status)
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

    def usage(self, *kinds: str, timeout: float = _COUNT_TIMEOUT) -> dict[str, Any]:
        """What Docker counts of its objects of some kinds: a list by each kind's name; for "image" also "layers", the
        bytes of all images together.

        Args:
            kinds: of "image", "container", "volume", "build-cache".
            timeout: seconds that it may take.

        Raises:
            EngineError: no answer in time, or an answer that says no.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                # Without `verbose`, the lists are only there as long as Docker keeps its old form of the answer.
                found = self.ask("GET", "/system/df", timeout, type=[*kinds], verbose="1")
                break
            except EngineError as error:
                # Docker before 23.0 counts for one at a time.
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
        """Remove a container, an image or a network; of a container never its volumes, of nothing by force.

        Args:
            kind: "container", "image" or "network".
            reference: its identifier, or one of an image's names: the image goes with the last.

        Raises:
            EngineError: it is not removed. Status 404: it has gone already; 409, of networks 403: it is in use.
        """
        self.ask("DELETE", f"/{kind}s/{quote(reference, safe='/:@')}", _REMOVAL_TIMEOUT)

    def prune_cache(self, unused_for: float) -> tuple[set[str], int]:
        """Remove the build cache that no build uses and none has used for so many seconds.

        Returns:
            The records that went, and the bytes that they had by Docker's count.

        Raises:
            EngineError: Docker cannot, or does not answer. A part may be gone.
        """
        filters = json.dumps({"until": [f"{max(int(unused_for), 0)}s"]})
        found = self.ask("POST", "/build/prune", _PRUNE_TIMEOUT, all="1", filters=filters)
        return set(found["CachesDeleted"] or []), found["SpaceReclaimed"]

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


def moment(text: str) -> float:
    """A time of Docker's in seconds since the epoch; 0 for "never", which it writes as the year 1, and for no time.

    >>> moment("1970-01-01T01:00:02.500000000+01:00"), moment("0001-01-01T00:00:00Z")
    (2.5, 0.0)
    """
    match = _MOMENT.fullmatch(text)
    if not match:
        return 0.0
    # Python before 3.11 reads neither nanoseconds nor a Z.
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).timestamp()
    return max(whole + float(match[2] or 0), 0.0)
