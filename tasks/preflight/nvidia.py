"""Judge NVIDIA's GPUs and their container toolkit. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from settings.model import Settings
from tasks.preflight.daemon_json import readable_keys
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.support.paths import NVIDIA_SOURCE


def is_wanted(settings: Settings, state: HostState) -> bool:
    """Return whether a host gets or keeps NVIDIA's container toolkit."""
    if settings.nvidia != "auto":
        return settings.nvidia
    # A driver that was lost to an upgrade of the kernel comes back; the toolkit waits for it where it was in use.
    return bool(state.gpus) and (bool(state.gpu_driver) or state.toolkit_is_ours or _is_in_use(state))


def _is_in_use(state: HostState) -> bool:
    """Return whether an image's toolkit is installed, and this project has put its runtime into daemon.json."""
    return bool(state.toolkit) and "nvidia" in readable_keys(state.daemon_json_applied).get("runtimes", {})


def keeps_toolkit(settings: Settings, state: HostState) -> bool:
    """Return whether a toolkit that is installed stays as it is, as an image brings it: its version, its apt entry, its units."""
    return settings.nvidia == "auto" and bool(state.toolkit) and not state.toolkit_is_ours


def judge_nvidia(settings: Settings, state: HostState) -> Iterator[Finding]:
    """Yield apt entries that are in the way, and containers that would lose their runtime."""
    if is_wanted(settings, state):
        if state.toolkit_sources and not keeps_toolkit(settings, state):
            foreign = ", ".join(state.toolkit_sources)
            yield Finding(
                f"the apt repository of NVIDIA's container toolkit is listed in {foreign}",
                f"one entry for it, {NVIDIA_SOURCE}: apt refuses two entries that name different keys",
                f"remove {foreign}, or set nvidia = False and maintain the toolkit yourself"
                + (', or set nvidia = "auto", which keeps the installed one' if state.toolkit else ""),
            )
    elif state.toolkit_is_ours and state.nvidia_containers:
        yield Finding(
            "this run would remove NVIDIA's container toolkit, and containers need it: "
            f"{', '.join(state.nvidia_containers)}",
            "no containers with GPUs: they would no longer start",
            "remove these containers, or set nvidia = True",
        )
    elif state.toolkit_is_ours and state.docker_hangs:
        yield Finding(
            "this run would remove NVIDIA's container toolkit, and Docker does not say which containers need it",
            "Docker's answer: containers with GPUs would no longer start",
            "run again when `docker info` answers, or set nvidia = True",
        )


def nvidia_warnings(settings: Settings, state: HostState) -> Iterator[str]:
    """Yield what the owner should know of a GPU whose driver does not run."""
    if settings.nvidia is False or state.gpu_driver == "loaded":
        return
    gpus = f"{', '.join(state.gpus)}: an NVIDIA GPU" if state.gpus else "nvidia = True"
    if is_wanted(settings, state) and state.gpu_driver == "installed":
        yield f"{gpus}, whose driver is installed and not loaded: containers with a GPU fail until it is loaded (a reboot?)"
    elif is_wanted(settings, state):
        yield f"{gpus}, and no driver: the container toolkit is installed, but containers with a GPU fail until a driver is"
    elif state.gpus:
        toolkit = "stays as it is, and Docker does not use it" if state.toolkit else "is not installed"
        yield (
            f"{gpus}, and no driver: the container toolkit {toolkit}. Install NVIDIA's driver and run again "
            "(docs/gpu.md)"
        )
