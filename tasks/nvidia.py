"""After this, a host with NVIDIA GPUs has NVIDIA's container toolkit, at one version, and its CDI devices up to date.

daemon.json, which Docker knows the runtime from, is `tasks/daemon.py`'s alone: `nvidia-ctk runtime configure` is not run. It
comes after the toolkit: dockerd looks for the toolkit's hook when it starts (moby, daemon/nvidia_linux.go).
"""

from __future__ import annotations

import shlex
from collections.abc import Generator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation
from pyinfra.api.deploy import deploy

from settings.model import Settings
from tasks.preflight.plan import Plan
from tasks.support import gpu
from tasks.support.files import render, replace_file
from tasks.support.packages import (
    Offer,
    Pinned,
    install_script,
    offer_command,
    offer_of,
    outdated,
    pin_command,
    purge_command,
    under_pin,
    update_command,
)
from tasks.support.paths import NVIDIA_BROUGHT, NVIDIA_KEY, NVIDIA_PIN, NVIDIA_SOURCE
from tasks.support.repository import repository

# Each depends on the next at its own version: apt takes another one only if all of them are named.
PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)

# The toolkit's own: they write /var/run/cdi/nvidia.yaml at boot, and when driver or toolkit change. Its packages enable
# them, but not everywhere (not before 1.20 while the host is still booting).
REFRESH = ("nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service")

# What the toolkit makes and its packages do not remove.
_LEFTOVERS = ("/etc/nvidia-container-runtime/config.toml", "/run/cdi/nvidia.yaml")
_LEFT_DIRECTORIES = ("/etc/nvidia-container-runtime", "/etc/nvidia-container-toolkit", "/run/cdi")


@dataclass(frozen=True)
class ToolkitState:
    packages: Offer
    brought: tuple[str, ...] = ()  # those of the packages that were not there before us
    disabled: tuple[str, ...] = ()  # of the units that keep the CDI devices up to date


class Toolkit(FactBase[ToolkitState]):
    """NVIDIA's container toolkit: its packages, their pin, and the units that keep its CDI devices up to date."""

    def command(self) -> str:
        return offer_command(PACKAGES, NVIDIA_PIN) + (
            f"[ ! -f {NVIDIA_BROUGHT} ] || sed 's/^/brought /' {NVIDIA_BROUGHT}; "
            f"for unit in {shlex.join(REFRESH)}; do "
            '[ "$(systemctl is-enabled "$unit" 2>/dev/null)" != disabled ] || echo "disabled $unit"; done'
        )

    def process(self, output: list[str]) -> ToolkitState:
        words = [line.split() for line in output]

        def those(what: str) -> tuple[str, ...]:
            return tuple(line[1] for line in words if len(line) == 2 and line[0] == what)

        return ToolkitState(offer_of(output), those("brought"), those("disabled"))

    @staticmethod
    def default() -> ToolkitState:
        return ToolkitState(Offer({}, frozenset()))


@operation()
def toolkit(pinned: Pinned, lock_timeout: int) -> Generator[StringCommand, None, None]:
    """Have NVIDIA's container toolkit installed at a version, and its CDI devices kept up to date.

    Args:
        pinned: its packages, and the version.
        lock_timeout: seconds to wait for another package manager.
    """
    found = host.get_fact(Toolkit)
    missing = outdated(PACKAGES, found.packages, pinned)
    if missing:
        yield update_command(lock_timeout)
        brought = [name for name in PACKAGES if name in found.brought or name not in found.packages.installed]
        yield replace_file(NVIDIA_BROUGHT, "".join(f"{name}\n" for name in brought))
        gpu.say_before("systemd is reloaded, by the toolkit's packages,")
        yield under_pin(pinned, PACKAGES, install_script(PACKAGES, lock_timeout))
    pin = pin_command(found.packages, pinned)
    if pin:
        yield pin
    if missing or found.disabled:
        # A masked one is somebody's decision. That no device can be found is no reason to leave the rest undone.
        yield StringCommand(
            f"for unit in {shlex.join(REFRESH)}; do "
            '[ "$(systemctl is-enabled "$unit" 2>/dev/null)" = masked ] || '
            '{ systemctl enable --quiet --no-reload "$unit" && systemctl start --no-block "$unit"; } || exit; done'
        )
    elif not pin:
        host.noop("NVIDIA's container toolkit is installed")


@operation()
def removed(lock_timeout: int) -> Generator[StringCommand, None, None]:
    """Have nothing of NVIDIA's container toolkit on the host that this project brought.

    Args:
        lock_timeout: seconds to wait for another package manager.
    """
    found = host.get_fact(Toolkit)
    gpu.say_before("systemd is reloaded, by the toolkit's packages,")
    if found.brought:
        # Packages before 1.20 leave their links behind.
        yield StringCommand(f"systemctl disable --quiet --no-reload --now {shlex.join(REFRESH)} 2>/dev/null; true")
        yield purge_command(found.brought, lock_timeout)
    if PACKAGES[1] in found.brought:
        directories = shlex.join(_LEFT_DIRECTORIES)
        yield StringCommand(f"rm -f {shlex.join(_LEFTOVERS)}; rmdir {directories} 2>/dev/null; true")
    # The entry last: by it the next run knows that there is something left to remove.
    yield StringCommand(f"rm -f {NVIDIA_PIN} {NVIDIA_BROUGHT} {NVIDIA_KEY} && rm -f {NVIDIA_SOURCE}")
    yield update_command(lock_timeout)


@deploy("NVIDIA")
def install(settings: Settings, plan: Plan) -> None:
    if not plan.nvidia:
        return
    repository(
        name="NVIDIA's repository, its key checked",
        whose="NVIDIA's",
        path=NVIDIA_SOURCE,
        source=render("nvidia.sources.j2", repository=settings.nvidia_repository, key=NVIDIA_KEY),
        key=NVIDIA_KEY,
        key_url=settings.nvidia_repository_key or f"{settings.nvidia_repository}/gpgkey",
        fingerprint=settings.nvidia_repository_fingerprint,
        setting="nvidia_repository",
        lock_timeout=settings.apt_lock_timeout,
    )
    toolkit(
        name=f"NVIDIA's container toolkit {settings.nvidia_version}, and CDI",
        pinned=Pinned(PACKAGES, settings.nvidia_version, NVIDIA_PIN, "nvidia_version"),
        lock_timeout=settings.apt_lock_timeout,
    )


@deploy("NVIDIA")
def leave(settings: Settings, plan: Plan) -> None:
    """After daemon.json no longer names the runtime."""
    if plan.nvidia_leaves:
        removed(name="NVIDIA's container toolkit is gone", lock_timeout=settings.apt_lock_timeout)
