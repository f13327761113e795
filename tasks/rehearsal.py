"""After this, apt has simulated every installation of the run: each is possible, and removes nothing without consent.

It comes before the first package is installed and before storage is touched: what apt cannot install or would remove
depends on what others have installed, and only apt can tell.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.deploy import deploy

from pyinfra_lvm.collection import fact, operation
from settings.model import Settings
from tasks.preflight import packages
from tasks.preflight.packages import PackageStep
from tasks.preflight.plan import Plan
from tasks.support.package_names import (
    ENGINE_PARTS,
    ENGINE_WHERE_OFFERED,
    SAME_FILE,
    file_conflicts,
)
from tasks.support.packages import Offered, simulation_script, under_pin, update_command


@operation()
def simulated(
    steps: Sequence[PackageStep], change_engine: bool, lock_timeout: int
) -> Generator[StringCommand, None, None]:
    """Update apt's lists and simulate each step. Fail where one cannot be done, or removes what nobody agreed to.

    Args:
        steps: of the run.
        change_engine: parts of another engine may be removed.
        lock_timeout: seconds to wait for another package manager.
    """
    names = [name for step in steps for name in (*step.packages, *ENGINE_WHERE_OFFERED.get(step.engine, ()))]
    names += [*SAME_FILE, *SAME_FILE.values()]
    found = fact(Offered, packages=names)
    missing = [name for step in steps for name in packages.packages_of(step, found)]
    if not missing:
        host.noop("every package is installed")
        return
    if not host.state.is_executing:
        host.log(
            f"Packages are missing: {', '.join(missing)}. Only the run itself asks apt whether it can install them without "
            "removing others, because apt's lists must be up to date for that. Where apt cannot, the run ends before it "
            "touches storage or Docker"
        )
    yield update_command(lock_timeout)
    found = fact(Offered, packages=names)
    for step in steps:
        missing = packages.packages_of(step, found)
        changes = change_engine and bool(step.engine)
        if missing:
            replaced = [f"{name}-" for name in file_conflicts(step.engine, found.installed)] if changes else []
            script = simulation_script([*missing, *replaced], lock_timeout, ENGINE_PARTS if changes else ())
            yield under_pin(step.pinned, [name for name in step.packages if name in step.pinned.names], script)


@deploy("Packages")
def simulate(settings: Settings, plan: Plan) -> None:
    """Simulate the installation of every package that is missing."""
    if plan.installs:
        simulated(
            name="Every installation is possible, and removes nothing without consent",
            steps=packages.steps(settings, plan),
            change_engine=settings.engine_change,
            lock_timeout=settings.apt_lock_timeout,
        )
