"""What preflight judges of NVIDIA's GPUs and their container toolkit. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from settings.model import Settings
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.support.paths import NVIDIA_SOURCE


def is_wanted(settings: Settings, state: HostState) -> bool:
    """Whether a host gets NVIDIA's container toolkit, or keeps it."""
    if settings.nvidia != "auto":
        return settings.nvidia
    # A driver that an upgrade of the kernel has lost comes back; what is there from us waits for it.
    return bool(state.gpus) and (bool(state.gpu_driver) or state.toolkit_is_ours)


def judge(settings: Settings, state: HostState) -> Iterator[Finding]:
    """Entries of apt that are in the way, and containers that are left without their runtime."""
    if is_wanted(settings, state):
        if state.toolkit_sources:
            foreign = ", ".join(state.toolkit_sources)
            yield Finding(
                f"NVIDIA's container toolkit is in {foreign}",
                f"one entry for it, {NVIDIA_SOURCE}: apt refuses two that name different keys",
                f"remove {foreign}, or set nvidia = False and look after the toolkit yourself",
            )
    elif state.toolkit_is_ours and state.nvidia_containers:
        yield Finding(
            f"containers with GPUs, and NVIDIA's container toolkit is to be removed: {', '.join(state.nvidia_containers)}",
            "none: they would not start any more",
            "remove them, or set nvidia = True",
        )


def warnings(settings: Settings, state: HostState) -> Iterator[str]:
    if settings.nvidia is False or state.gpu_driver == "loaded":
        return
    gpus = f"{', '.join(state.gpus)}: an NVIDIA GPU" if state.gpus else "nvidia = True"
    if is_wanted(settings, state) and state.gpu_driver == "installed":
        yield f"{gpus}, whose driver is installed and not loaded: containers with a GPU fail until it is (a reboot?)"
    elif is_wanted(settings, state):
        yield f"{gpus}, and no driver: the container toolkit is there, and containers with a GPU fail until there is one"
    elif state.gpus:
        yield f"{gpus}, and no driver: the container toolkit is left out. Install NVIDIA's driver and run again (docs/gpu.md)"
