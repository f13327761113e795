"""Decide which packages a run installs, in which steps, and at which versions. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from settings.model import Settings
from tasks.preflight.host import HostState
from tasks.preflight.plan import Plan
from tasks.support import package_names
from tasks.support.packages import Offer, Pinned, outdated
from tasks.support.paths import DOCKER_PIN, NVIDIA_PIN

_UNPINNED = Pinned((), "", "", "")


@dataclass(frozen=True)
class PackageStep:
    """Packages that are installed together.

    Args:
        packages: their names.
        pinned: those that stay at a version.
        engine: that they make up; empty for others.
    """

    packages: tuple[str, ...]
    pinned: Pinned = _UNPINNED
    engine: str = ""


def pinned_engine(settings: Settings, engine: str) -> Pinned:
    """Return the packages of an engine that stay at ``engine_version``."""
    return Pinned(package_names.ENGINE_PINNED.get(engine, ()), settings.engine_version, DOCKER_PIN, "engine_version")


def pinned_toolkit(settings: Settings) -> Pinned:
    """Return the packages of NVIDIA's container toolkit, which stay at ``nvidia_version``."""
    return Pinned(package_names.TOOLKIT, settings.nvidia_version, NVIDIA_PIN, "nvidia_version")


def volume_tools(plan: Plan) -> list[str]:
    """Return the packages that make volumes and their filesystems. An adopted filesystem needs none of them."""
    if plan.adopted:
        return []
    kinds = [plan.filesystem, *(volume.filesystem for volume in plan.extra_volumes)]
    return ["lvm2", *dict.fromkeys(package_names.VOLUME_TOOLS[kind] for kind in kinds)]


def program_needs(settings: Settings, plan: Plan) -> list[str]:
    """Return the packages that the host program needs."""
    return [
        *package_names.PROGRAM,
        *(package_names.MOVE if plan.directories_to_move else ()),
        *(package_names.ALERT if settings.alert_receivers else ()),
    ]


def steps(settings: Settings, plan: Plan) -> tuple[PackageStep, ...]:
    """Return all packages that a host needs, in the steps in which a run installs them."""
    found = [PackageStep((*volume_tools(plan), *program_needs(settings, plan)))]
    if plan.engine != "present":
        found.append(PackageStep(package_names.ENGINE[plan.engine], pinned_engine(settings, plan.engine), plan.engine))
    if plan.installs_toolkit:
        found.append(PackageStep(package_names.TOOLKIT, pinned_toolkit(settings)))
    return tuple(found)


def are_missing(settings: Settings, state: HostState, plan: Plan) -> bool:
    """Return whether any of these packages is missing, not configured, or not at its version."""
    installed = {name: version for name, version in state.packages.items() if name not in state.unfinished_packages}
    found = Offer(installed, frozenset({*state.packages, *state.offered}))
    return any(packages_of(step, found) for step in steps(settings, plan))


def packages_of(step: PackageStep, found: Offer) -> list[str]:
    """Return what a step installs on a host."""
    offered = [name for name in package_names.ENGINE_WHERE_OFFERED.get(step.engine, ()) if name in found.offered]
    named = [*step.packages, *package_names.without_file_conflicts(offered, found.installed)]
    return outdated(named, found, step.pinned)
