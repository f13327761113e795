"""After this, a host with NVIDIA GPUs has NVIDIA's container toolkit, at one version, and its CDI devices up to date.

Only `tasks/daemon.py` writes daemon.json, from which Docker knows the runtime: `nvidia-ctk runtime configure` is not
run. daemon.json comes after the toolkit, because dockerd checks for its hook when it starts (moby,
daemon/nvidia_linux.go).
"""

from __future__ import annotations

import shlex
from collections.abc import Generator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand
from pyinfra.api.deploy import deploy

from pyinfra_lvm.collection import fact, operation
from settings.model import Settings
from tasks.preflight.packages import pinned_toolkit
from tasks.preflight.plan import Plan
from tasks.support import gpu
from tasks.support.files import render, replace_file
from tasks.support.package_names import TOOLKIT
from tasks.support.packages import (
    Offer,
    Pinned,
    install_script,
    offer_command,
    outdated,
    parse_offer,
    pin_command,
    purge_command,
    under_pin,
    update_command,
)
from tasks.support.paths import NVIDIA_BROUGHT, NVIDIA_KEY, NVIDIA_PIN, NVIDIA_SOURCE
from tasks.support.repository import repository

# The toolkit's own units write /var/run/cdi/nvidia.yaml at boot, and when driver or toolkit change. Its packages do not
# always enable them (before 1.20, not while the host is still booting).
REFRESH = ("nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service")

# The toolkit makes these, and its packages do not remove them.
_LEFTOVERS = ("/etc/nvidia-container-runtime/config.toml", "/run/cdi/nvidia.yaml")
_LEFT_DIRECTORIES = ("/etc/nvidia-container-runtime", "/etc/nvidia-container-toolkit", "/run/cdi")


@dataclass(frozen=True)
class ToolkitState:
    """NVIDIA's container toolkit as it is on the host."""

    packages: Offer
    brought: tuple[str, ...] = ()  # packages that this project has installed
    disabled: tuple[str, ...] = ()  # units that keep the CDI devices up to date, where they are disabled


class Toolkit(FactBase[ToolkitState]):
    """Return the packages of NVIDIA's container toolkit, their pin, and its units that are disabled."""

    def command(self) -> str:
        return offer_command(TOOLKIT, NVIDIA_PIN) + (
            f"[ ! -f {NVIDIA_BROUGHT} ] || sed 's/^/brought /' {NVIDIA_BROUGHT}; "
            f"for unit in {shlex.join(REFRESH)}; do "
            '[ "$(systemctl is-enabled "$unit" 2>/dev/null)" != disabled ] || echo "disabled $unit"; done'
        )

    def process(self, output: list[str]) -> ToolkitState:
        words = [line.split() for line in output]

        def names(kind: str) -> tuple[str, ...]:
            return tuple(line[1] for line in words if len(line) == 2 and line[0] == kind)

        return ToolkitState(parse_offer(output), names("brought"), names("disabled"))

    @staticmethod
    def default() -> ToolkitState:
        return ToolkitState(Offer({}, frozenset()))


@operation()
def toolkit(pinned: Pinned, lock_timeout: int) -> Generator[StringCommand, None, None]:
    """Install NVIDIA's container toolkit at a version, and keep its CDI devices up to date.

    Args:
        pinned: its packages, and the version.
        lock_timeout: seconds to wait for another package manager.
    """
    found = fact(Toolkit)
    missing = outdated(TOOLKIT, found.packages, pinned)
    if missing:
        yield update_command(lock_timeout)
        brought = [name for name in TOOLKIT if name in found.brought or name not in found.packages.installed]
        yield replace_file(NVIDIA_BROUGHT, "".join(f"{name}\n" for name in brought))
        gpu.warn_before("the toolkit's packages reload systemd")
        yield under_pin(pinned, TOOLKIT, install_script(TOOLKIT, lock_timeout))
    pin = pin_command(found.packages, pinned)
    if pin:
        yield pin
    if missing or found.disabled:
        # A masked unit is somebody's decision. A unit that finds no device must not stop the run, hence --no-block.
        yield StringCommand(
            f"for unit in {shlex.join(REFRESH)}; do "
            '[ "$(systemctl is-enabled "$unit" 2>/dev/null)" = masked ] || '
            '{ systemctl enable --quiet --no-reload "$unit" && systemctl start --no-block "$unit"; } || exit; done'
        )
    elif not pin:
        host.noop("NVIDIA's container toolkit is installed")


@operation()
def removed(lock_timeout: int) -> Generator[StringCommand, None, None]:
    """Remove the packages of NVIDIA's container toolkit that this project has installed, and its own files.

    Args:
        lock_timeout: seconds to wait for another package manager.
    """
    found = fact(Toolkit)
    gpu.warn_before("the toolkit's packages reload systemd")
    if found.brought:
        # Packages before 1.20 leave their links behind.
        yield StringCommand(f"systemctl disable --quiet --no-reload --now {shlex.join(REFRESH)} 2>/dev/null; true")
        yield purge_command(found.brought, lock_timeout)
    if TOOLKIT[1] in found.brought:
        directories = shlex.join(_LEFT_DIRECTORIES)
        yield StringCommand(f"rm -f {shlex.join(_LEFTOVERS)}; rmdir {directories} 2>/dev/null; true")
    # The entry goes last: it shows the next run that there is something left to remove.
    yield StringCommand(f"rm -f {NVIDIA_PIN} {NVIDIA_BROUGHT} {NVIDIA_KEY} && rm -f {NVIDIA_SOURCE}")
    yield update_command(lock_timeout)


@deploy("NVIDIA")
def add_repository(settings: Settings, plan: Plan) -> None:
    """Add NVIDIA's repository, where the plan wants the toolkit from it."""
    if not plan.installs_toolkit:
        return
    repository(
        name="apt has NVIDIA's repository, its key verified",
        whose="NVIDIA's",
        path=NVIDIA_SOURCE,
        source=render("nvidia.sources.j2", repository=settings.nvidia_repository, key=NVIDIA_KEY),
        key=NVIDIA_KEY,
        key_url=settings.nvidia_repository_key or f"{settings.nvidia_repository}/gpgkey",
        fingerprint=settings.nvidia_repository_fingerprint,
        setting="nvidia_repository",
        lock_timeout=settings.apt_lock_timeout,
    )


@deploy("NVIDIA")
def install(settings: Settings, plan: Plan) -> None:
    """Install the toolkit, where the plan wants it."""
    if not plan.installs_toolkit:
        return
    toolkit(
        name=f"NVIDIA's container toolkit {settings.nvidia_version}, and CDI",
        pinned=pinned_toolkit(settings),
        lock_timeout=settings.apt_lock_timeout,
    )


@deploy("NVIDIA")
def remove(settings: Settings, plan: Plan) -> None:
    """Remove the toolkit where the plan says so, after daemon.json no longer names its runtime."""
    if plan.removes_nvidia:
        removed(name="NVIDIA's container toolkit is removed", lock_timeout=settings.apt_lock_timeout)
