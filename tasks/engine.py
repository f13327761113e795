"""After this, Docker is installed from the source that the settings name, runs, and starts at boot."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand
from pyinfra.api.deploy import deploy

from bulkhead.names import CONTAINERD, DOCKER
from pyinfra_lvm.collection import fact, operation
from settings.model import Settings
from tasks.preflight.packages import pinned_engine
from tasks.preflight.plan import Plan
from tasks.support import gpu
from tasks.support.files import render
from tasks.support.package_names import (
    ENGINE,
    ENGINE_WHERE_OFFERED,
    SAME_FILE,
    file_conflicts,
    without_file_conflicts,
)
from tasks.support.packages import (
    Offer,
    Offered,
    Pinned,
    install_script,
    offer_command,
    outdated,
    parse_offer,
    pin_command,
    under_pin,
    update_command,
)
from tasks.support.paths import DOCKER_HOST, DOCKER_KEY, DOCKER_PATIENCE, DOCKER_PIN, DOCKER_SOURCE, STOPPED_BY_UPGRADE
from tasks.support.repository import repository
from tasks.support.start_limit import start_limit
from tasks.support.version import is_survived


@dataclass(frozen=True)
class EngineState:
    """The engine as apt and systemd know it."""

    packages: Offer
    running: bool = False  # docker and containerd run and are enabled
    stopped: bool = False  # an upgrade has stopped containers and not started them again


class EngineInstallation(FactBase[EngineState]):
    """Return the packages of an engine, their pin, and whether it runs.

    Args:
        packages: their names.
        where_offered: those that only some releases have.
    """

    def command(self, packages: list[str], where_offered: list[str] | None = None) -> str:
        daemons = f"{DOCKER} {CONTAINERD}"
        return (
            offer_command(packages, DOCKER_PIN, where_offered or [])
            + f"[ ! -e {STOPPED_BY_UPGRADE} ] || echo stopped; "
            # With several units, these succeed if one of them is up: their words count. They have none for a unit that
            # does not exist. Those are the words with which they succeed (systemctl(1)).
            + "are_up() { [ $# = 4 ] && for state; do case $state in active|reloading|enabled|enabled-runtime|static|alias|"
            "indirect|generated|transient) ;; *) return 1 ;; esac; done; }; "
            f"are_up $(systemctl is-active {daemons}) $(systemctl is-enabled {daemons} 2>/dev/null) && echo running; true"
        )

    def process(self, output: list[str]) -> EngineState:
        return EngineState(parse_offer(output), "running" in output, "stopped" in output)

    @staticmethod
    def default() -> EngineState:
        return EngineState(Offered.default())


@dataclass(frozen=True)
class Consent:
    """What a run may do to an installed Docker."""

    change_engine: bool  # remove the packages of another engine
    stop_containers: bool  # for an upgrade that they do not survive
    live_restore: bool  # containers survive an upgrade to a patch release


@operation()
def engine(
    source: str,
    pinned: Pinned,
    consent: Consent,
    lock_timeout: int,
    docker_start_limit: int | None = None,
) -> Generator[StringCommand, None, None]:
    """Install an engine, run it, and start it at boot.

    Args:
        source: of the engine: docker-ce, distro or present.
        pinned: those packages that stay at a version.
        consent: what the run may do to an installed Docker.
        lock_timeout: seconds to wait for another package manager.
        docker_start_limit: seconds that Docker may take to start; None: "auto".
    """
    required, extra = ENGINE[source], ENGINE_WHERE_OFFERED.get(source, ())
    limit = start_limit(docker_start_limit)
    names = [*required, *extra, *SAME_FILE, *SAME_FILE.values()]
    found = fact(EngineInstallation, packages=names, where_offered=list(extra))
    packages = found.packages
    where_offered = without_file_conflicts(extra, packages.installed)
    wanted = [*required, *(name for name in where_offered if name in packages.offered)]
    missing = outdated(wanted, packages, pinned)
    if missing:
        yield update_command(lock_timeout)
        # The new lists decide. A package that needs nothing is left out: apt would upgrade it.
        offered = fact(Offered, packages=where_offered).offered if where_offered else ()
        missing = outdated([*required, *(name for name in where_offered if name in offered)], packages, pinned)
        gpu.warn_before("Docker is restarted")
        if consent.change_engine:
            missing += [f"{name}-" for name in file_conflicts(source, packages.installed)]
        script = _installation(missing, packages, pinned, consent, found.stopped, lock_timeout, limit)
        yield under_pin(pinned, [name for name in required if name in pinned.names], script)
    pin = pin_command(packages, pinned)
    if pin:
        yield pin
    if missing or not found.running:
        yield StringCommand(
            f"systemctl reset-failed {DOCKER} {CONTAINERD} 2>/dev/null; "
            f"systemctl enable --quiet --no-reload {CONTAINERD} {DOCKER} && "
            f'timeout "{limit}" systemctl start {CONTAINERD} {DOCKER} && '
            f"timeout {DOCKER_PATIENCE} docker --host {DOCKER_HOST} version >/dev/null || "
            f"{{ journalctl --unit {DOCKER} --lines 15 --no-pager --output cat >&2; "
            "echo 'Docker does not start, for the reason above' >&2; exit 1; }"
        )
    if missing or found.stopped:
        yield StringCommand(_START_STOPPED)
    elif found.running and not pin:
        host.noop("Docker is installed and runs")


_START_STOPPED = render("start-stopped.sh.j2", stopped=STOPPED_BY_UPGRADE)


def _installation(
    missing: list[str], found: Offer, pinned: Pinned, consent: Consent, was_cut: bool, lock_timeout: int, limit: str
) -> str:
    """Return the script that installs packages; where containers do not survive that, it stops and starts them."""
    install = install_script(missing, lock_timeout, may_remove=consent.change_engine)
    version = found.installed.get(pinned.names[0], "") if pinned.version else ""
    if is_survived(version, pinned.version, live_restore=consent.live_restore):
        return install
    return render(
        "upgrade-engine.sh.j2",
        stopped=STOPPED_BY_UPGRADE,
        consent=consent.stop_containers or was_cut,
        download=install_script(missing, lock_timeout, may_remove=consent.change_engine, only_download=True),
        install=install,
        start=f"({_START_STOPPED})",
        start_limit=limit,
    )


@deploy("Engine")
def add_repository(settings: Settings, plan: Plan) -> None:
    """Add Docker's repository, where the engine comes from it."""
    if plan.engine == "docker-ce":
        repository(
            name="apt has Docker's repository, its key verified",
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


@deploy("Engine")
def install(settings: Settings, plan: Plan) -> None:
    """Install the engine that the plan names, and run Docker."""
    engine(
        name="Docker is installed and runs",
        source=plan.engine,
        consent=Consent(settings.engine_change, settings.engine_upgrade_stops_containers, settings.live_restore),
        pinned=pinned_engine(settings, plan.engine),
        lock_timeout=settings.apt_lock_timeout,
        docker_start_limit=settings.docker_start_limit,
    )
