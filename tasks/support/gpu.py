"""Warn before running containers can lose their GPUs."""

from __future__ import annotations

import json
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FactBase

from tasks.support.paths import DOCKER_HOST, DOCKER_PATIENCE

# Read one variable of the environment only: the others may be secrets.
_TEMPLATE = (
    "[{{json .Name}},{{json .HostConfig.Runtime}},{{json .HostConfig.DeviceRequests}},"
    '{{range .Config.Env}}{{if eq (index (split . "=") 0) "NVIDIA_VISIBLE_DEVICES"}}{{json .}},{{end}}{{end}}""]'
)

_NO_GPU = ("", "void", "none")


class GpuContainers(FactBase[list[str]]):
    """Return the names of the running containers that got GPUs from NVIDIA's hook or runtime."""

    def command(self) -> str:
        docker = f"timeout {DOCKER_PATIENCE} docker --host {DOCKER_HOST}"
        return (
            # A request to docker.socket would start Docker.
            "! systemctl is-active --quiet docker.service || ! command -v nvidia-container-runtime >/dev/null || "
            f"{docker} ps --quiet | xargs --no-run-if-empty {docker} inspect --format '{_TEMPLATE}'; true"
        )

    def process(self, output: list[str]) -> list[str]:
        try:
            containers = [json.loads(line) for line in output]
            return [name.lstrip("/") for name, *traits in containers if _has_gpus(*traits)]
        except (ValueError, TypeError, KeyError):
            # A warning is no reason to fail the host.
            return ["containers that Docker could not list"]

    @staticmethod
    def default() -> list[str]:
        return []


def _has_gpus(runtime: str, requests: list[dict[str, Any]] | None, visible: str, *_: str) -> bool:
    # A container loses only GPUs that NVIDIA's hook gave it without systemd's knowledge: those from CDI are in its
    # specification. So are those from NVIDIA's runtime since toolkit 1.18, but the container may be older.
    if runtime.startswith("nvidia") and visible.partition("=")[2] not in _NO_GPU:
        return True
    return any(
        request["Driver"].startswith("nvidia") or any("gpu" in one for one in request["Capabilities"] or ())
        for request in requests or []
        if request["Driver"] != "cdi"
    )


# Host → its containers with GPUs, from the first time that they were needed.
_running: dict[str, list[str]] = {}
_warned: set[tuple[str, str, bool]] = set()


def warn_before(what: str) -> None:
    """Warn of the running containers that can lose their GPUs by what happens next.

    Args:
        what: happens next, such as "systemd is reloaded".
    """
    warning = (host.name, what, host.state.is_executing)  # once before the prompt, and once when it happens
    if warning in _warned:
        return
    _warned.add(warning)
    if host.name not in _running:
        _running[host.name] = host.get_fact(GpuContainers)
    if containers := _running[host.name]:
        host.log_styled(
            f"Warning: {what} while containers with GPUs run: {', '.join(containers)}. They may lose their GPUs ("
            '"Failed to initialize NVML: Unknown Error"): then `docker restart` them (docs/gpu.md)',
            fg="yellow",
            log_func=logger.warning,
        )
