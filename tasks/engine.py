"""After this, Docker is installed from where the settings say, runs, and starts at boot."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation
from pyinfra.api.deploy import deploy

from bulkhead.names import CONTAINERD, DOCKER
from settings.model import Settings
from tasks.preflight.plan import Plan
from tasks.support import gpu
from tasks.support.files import render
from tasks.support.packages import (
    Offer,
    Offered,
    Pinned,
    install_script,
    offer_command,
    offer_of,
    outdated,
    pin_command,
    under_pin,
    update_command,
)
from tasks.support.paths import DOCKER_KEY, DOCKER_PIN, DOCKER_SOURCE, STOPPED_BY_UPGRADE
from tasks.support.repository import repository
from tasks.support.version import is_outlived

# Without apparmor's tools every container fails to start where the kernel has AppArmor on.
REQUIRED = {
    "docker-ce": (
        "docker-ce",
        "docker-ce-cli",
        "containerd.io",
        "docker-buildx-plugin",
        "docker-compose-plugin",
        "apparmor",
    ),
    "distro": ("docker.io", "apparmor", "ca-certificates"),
    "present": (),
}

# Debian and Ubuntu split these off in some releases and lack them in others.
WHERE_OFFERED = {"distro": ("docker-cli", "docker-buildx")}

# The daemon first.
PINNED = {"docker-ce": ("docker-ce", "docker-ce-cli"), "distro": ("docker.io", "docker-cli")}


@dataclass(frozen=True)
class EngineState:
    """What apt and systemd say of the engine."""

    packages: Offer
    running: bool = False  # docker and containerd, and enabled
    stopped: bool = False  # an upgrade has stopped containers, and has not started them again


class EngineInstallation(FactBase[EngineState]):
    """The packages of an engine, their pin, and whether it runs.

    Args:
        packages: names to ask for.
    """

    def command(self, packages: list[str]) -> str:
        return (
            offer_command(packages, DOCKER_PIN)
            + f"[ ! -e {STOPPED_BY_UPGRADE} ] || echo stopped; "
            # Of several units is-active is content with one.
            + f"systemctl is-active --quiet {DOCKER} && systemctl is-active --quiet {CONTAINERD} && "
            f"systemctl is-enabled --quiet {DOCKER} && systemctl is-enabled --quiet {CONTAINERD} && echo running; true"
        )

    def process(self, output: list[str]) -> EngineState:
        return EngineState(offer_of(output), "running" in output, "stopped" in output)

    @staticmethod
    def default() -> EngineState:
        return EngineState(Offered.default())


@dataclass(frozen=True)
class Consent:
    """What may be done to a Docker that is there."""

    change_engine: bool  # packages of another engine may go
    stop_containers: bool  # for a step that they do not outlive
    live_restore: bool  # they outlive one to a patch release


@operation()
def engine(
    required: list[str], where_offered: list[str], pinned: Pinned, consent: Consent, lock_timeout: int
) -> Generator[StringCommand, None, None]:
    """Have an engine installed, running, and started at boot.

    Args:
        required: packages.
        where_offered: packages that are installed where the release has them.
        pinned: those of them that stay at a version.
        consent: what may be done for it.
        lock_timeout: seconds to wait for another package manager.
    """
    found = host.get_fact(EngineInstallation, packages=[*required, *where_offered])
    packages = found.packages
    wanted = [*required, *(name for name in where_offered if name in packages.offered)]
    missing = outdated(wanted, packages, pinned)
    if missing:
        yield update_command(lock_timeout)
        # By the new lists. What is there and well stays at its version: apt upgrades what it is told to install.
        offered = host.get_fact(Offered, packages=where_offered).offered if where_offered else ()
        missing = outdated([*required, *offered], packages, pinned)
        gpu.say_before("Docker is restarted")
        script = _installation(missing, packages, pinned, consent, found.stopped, lock_timeout)
        yield under_pin(pinned, [name for name in required if name in pinned.names], script)
    pin = pin_command(packages, pinned)
    if pin:
        yield pin
    if missing or not found.running:
        yield StringCommand(
            f"systemctl reset-failed {DOCKER} {CONTAINERD} 2>/dev/null; "
            f"systemctl enable --quiet --no-reload {CONTAINERD} {DOCKER} && systemctl start {CONTAINERD} {DOCKER} && "
            "timeout 60 docker --host unix:///run/docker.sock version >/dev/null || "
            f"{{ journalctl --unit {DOCKER} --lines 15 --no-pager --output cat >&2; "
            "echo 'Docker does not start, for the reason above' >&2; exit 1; }"
        )
    if missing or found.stopped:
        yield StringCommand(_START_STOPPED)
    elif found.running and not pin:
        host.noop("Docker is installed and runs")


_START_STOPPED = render("start-stopped.sh.j2", stopped=STOPPED_BY_UPGRADE)


def _installation(
    missing: list[str], found: Offer, pinned: Pinned, consent: Consent, is_begun: bool, lock_timeout: int
) -> str:
    """The script that installs packages; where containers do not outlive it, it sees to them."""
    install = install_script(missing, lock_timeout, may_remove=consent.change_engine)
    version = found.installed.get(pinned.names[0], "") if pinned.version else ""
    if is_outlived(version, pinned.version, live_restore=consent.live_restore):
        return install
    return render(
        "upgrade-engine.sh.j2",
        stopped=STOPPED_BY_UPGRADE,
        consent=consent.stop_containers or is_begun,
        download=install_script(missing, lock_timeout, may_remove=consent.change_engine, only_download=True),
        install=install,
        start=f"({_START_STOPPED})",
    )


@deploy("Engine")
def install(settings: Settings, plan: Plan) -> None:
    """The packages of the engine that the plan names, and Docker running."""
    if plan.engine == "docker-ce":
        repository(
            name="Docker's repository, its key checked",
            whose="Docker's",
            path=DOCKER_SOURCE,
            source=render(
                "docker.sources.j2",
                repository=settings.docker_repository,
                os_id=plan.os_id,
                codename=plan.os_codename,
                channel=settings.docker_repository_channel,
                key=DOCKER_KEY,
            ),
            key=DOCKER_KEY,
            key_url=settings.docker_repository_key or f"{settings.docker_repository}/{plan.os_id}/gpg",
            fingerprint=settings.docker_repository_fingerprint,
            setting="docker_repository",
            lock_timeout=settings.apt_lock_timeout,
        )
    engine(
        name="Docker is installed and runs",
        required=list(REQUIRED[plan.engine]),
        where_offered=list(WHERE_OFFERED.get(plan.engine, ())),
        consent=Consent(settings.engine_change, settings.engine_upgrade_stops_containers, settings.live_restore),
        pinned=Pinned(PINNED.get(plan.engine, ()), settings.engine_version, DOCKER_PIN, "engine_version"),
        lock_timeout=settings.apt_lock_timeout,
    )
