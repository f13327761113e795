"""Find the steps of the builder before BuildKit.

Such a step is an ordinary container, and Docker does not mark it. Here a container counts as a step only if it has
everything that this builder gives one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bulkhead import procfs
from bulkhead.docker import cgroups
from bulkhead.docker.redaction import redacted
from bulkhead.docker.steps import BuildStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bulkhead.docker.engine import Engine

_ANSWER_TIMEOUT = 5  # seconds for Docker to list what runs

# The names that Docker makes up for containers that nobody has named: no step has a name of its own.
_NAMELESS = re.compile(r"[a-z]+_[a-z]+[0-9]?|[0-9a-f]{12,64}")


def classic_steps(engine: Engine) -> tuple[list[BuildStep], list[str]]:
    """Return the containers that are steps of a classic build, and the names of containers that only look like steps.

    Raises:
        EngineError: Docker does not list its containers.
    """
    from bulkhead.docker.engine import EngineError

    certain, similar = [], []
    for row in engine.ask("GET", "/containers/json", _ANSWER_TIMEOUT):
        if not row["Image"].startswith("sha256:"):
            continue
        try:
            container = engine.ask("GET", f"/containers/{row['Id']}/json", _ANSWER_TIMEOUT)
        except EngineError as error:
            if error.status != 404:
                raise
            continue
        if not looks_like_step(container):
            continue
        name, pid = container["Name"].lstrip("/"), container["State"]["Pid"]
        cgroup = cgroups.group_of(pid, container["Id"])
        if is_step(container) and cgroup:
            command = redacted(procfs.command_line(pid))
            certain.append(BuildStep(container["Id"], pid, cgroup, cgroups.written(cgroup), command, name))
        else:
            similar.append(name)
    return certain, similar


def looks_like_step(container: Mapping[str, Any]) -> bool:
    """Return whether a container keeps no logs and runs an image by its identifier, as a step of a classic build does.

    People can have such containers too.

    Args:
        container: as Docker inspects it.
    """
    return bool(
        container["State"]["Running"]
        and container["HostConfig"]["LogConfig"]["Type"] == "none"
        and container["Config"]["Image"].startswith("sha256:")
    )


def is_step(container: Mapping[str, Any]) -> bool:
    """Return whether a container has everything that Docker gives a step of a classic build.

    `docker run` never leaves ports and DNS servers unset, and people do not switch off the health check, the logs and the
    name of a container that they want to keep.

    Args:
        container: as Docker inspects it.
    """
    host, config = container["HostConfig"], container["Config"]
    return bool(
        looks_like_step(container)
        and config.get("Healthcheck") == {"Test": ["NONE"]}
        and (config["Env"] or [""])[0].startswith("PATH=")
        and not any(config.get(name) for name in ("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin"))
        and host["RestartPolicy"]["Name"] in ("", "no")
        and host["PortBindings"] is None
        and host["Dns"] is None
        and not host["AutoRemove"]
        and not host["Privileged"]
        and not any([host["Binds"], host.get("Mounts"), container["Mounts"], host["VolumesFrom"]])
        and _NAMELESS.fullmatch(container["Name"].lstrip("/"))
    )
