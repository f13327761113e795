"""GPUs that running containers can lose, and what is said before they do."""

from __future__ import annotations

import json
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FactBase

# Of the environment one variable alone: the others may be secrets.
_TEMPLATE = (
    "[{{json .Name}},{{json .HostConfig.Runtime}},{{json .HostConfig.DeviceRequests}},"
    '{{range .Config.Env}}{{if eq (index (split . "=") 0) "NVIDIA_VISIBLE_DEVICES"}}{{json .}},{{end}}{{end}}""]'
)

_NO_GPU = ("", "void", "none")


class GpuContainers(FactBase[list[str]]):
    """Names of the running containers that were given GPUs by NVIDIA's hook or runtime."""

    def command(self) -> str:
        docker = "timeout 20 docker --host unix:///run/docker.sock"
        return (
            # A question to docker.socket would start Docker.
            "! systemctl is-active --quiet docker.service || ! command -v nvidia-container-runtime >/dev/null || "
            f"{docker} ps --quiet | xargs --no-run-if-empty {docker} inspect --format '{_TEMPLATE}'; true"
        )

    def process(self, output: list[str]) -> list[str]:
        try:
            containers = [json.loads(line) for line in output]
            return [name.lstrip("/") for name, *traits in containers if _has_gpus(*traits)]
        except (ValueError, TypeError, KeyError):
            # Who is only to be warned is not failed for it.
            return ["those that Docker could not be asked for"]

    @staticmethod
    def default() -> list[str]:
        return []


def _has_gpus(runtime: str, requests: list[dict[str, Any]] | None, visible: str, *_: str) -> bool:
    # Only what NVIDIA's hook has given a container behind systemd's back is lost: what CDI gives is in its specification.
    # Under NVIDIA's runtime, from toolkit 1.18 on, it is too, but who knows when the container was made.
    if runtime.startswith("nvidia") and visible.partition("=")[2] not in _NO_GPU:
        return True
    return any(
        request["Driver"].startswith("nvidia") or any("gpu" in one for one in request["Capabilities"] or ())
        for request in requests or []
        if request["Driver"] != "cdi"
    )


# Host → its containers, as they were when they were first asked for.
_running: dict[str, list[str]] = {}
_said: set[tuple[str, str, bool]] = set()


def say_before(what: str) -> None:
    """Say which running containers can lose their GPUs by what comes next.

    Args:
        what: comes, such as "systemd is reloaded".
    """
    once = (host.name, what, host.state.is_executing)  # said before the prompt, and again where it happens
    if once in _said:
        return
    _said.add(once)
    if host.name not in _running:
        _running[host.name] = host.get_fact(GpuContainers)
    if containers := _running[host.name]:
        host.log_styled(
            f"Warning: {what} while containers with GPUs run: {', '.join(containers)}. They may lose them ("
            '"Failed to initialize NVML: Unknown Error"): then `docker restart` them (docs/gpu.md)',
            fg="yellow",
            log_func=logger.warning,
        )
