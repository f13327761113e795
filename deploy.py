"""What a host gets, in this order. Each line is a file in tasks/, whose first words say what a host has after it."""

from __future__ import annotations

from pyinfra import config, host

from tasks import daemon, engine, fail_closed, fleet, guard, nvidia, program, prune, relocation, volume, watch
from tasks.preflight import gate
from tasks.support import run_lock

config.ENV = run_lock.ENVIRONMENT

settings = fleet.settings_of(host)  # bad settings of any host end the run here
plan = gate.inspect(settings)  # None: this host is refused and left as it is

if plan:
    gate.hold_the_lock(name="Preflight: one run at a time, on the host as it was seen", settings=settings, plan=plan)
    nvidia.install(settings, plan)  # what can fail outside of the host comes before Docker is touched
    volume.provision(settings, plan)
    program.install(settings, plan)
    if plan.moved:
        relocation.relocate(name=f"Relocation: {' and '.join(plan.moved)} on their volumes", directories=plan.moved)
    volume.clear_stores(plan)
    fail_closed.refuse_to_start_without_the_volume(settings)
    if not plan.relocates:
        volume.mount_stores(settings, plan)
    daemon.configure(settings, plan)
    engine.install(settings, plan)
    nvidia.leave(settings, plan)
    prune.install(settings)
    guard.install(settings)
    watch.install(settings)
    if plan.keeps_old_trees and settings.relocation_finalize:
        relocation.finalize(name="Relocation: the old data is removed from the root disk")
