"""Provision a host. Each line is a file in tasks/, whose docstring says what the host has after it."""

from __future__ import annotations

from pyinfra import config, host

from fleet import lost_connection, output
from fleet.record import summarize_at_the_end
from settings.check import settings_of
from tasks import (
    daemon,
    engine,
    ephemeral,
    fail_closed,
    guard,
    lost_volumes,
    nvidia,
    program,
    prune,
    questions,
    rehearsal,
    relocation,
    volume,
    watch,
)
from tasks.preflight import gate
from tasks.support import run_lock

config.ENV = run_lock.ENVIRONMENT
lost_connection.keep_to_its_host(host)
output.read_every_byte()
summarize_at_the_end(host.state)

settings = settings_of(host)  # bad settings of any host end the run here
asked = questions.of_capabilities(settings)
plan = gate.inspect(settings, asked)  # None: this host is refused and left as it is

if plan:
    gate.hold_the_lock(
        name="Preflight: one run at a time, on a host that has not changed",
        settings=settings,
        plan=plan,
        questions=asked,
    )
    # Packages first, before storage and Docker are touched: they can fail for reasons outside of the host.
    engine.add_repository(settings, plan)
    nvidia.add_repository(settings, plan)
    rehearsal.simulate(settings, plan)
    nvidia.install(settings, plan)
    ephemeral.forbid(plan)
    lost_volumes.give_up(plan)
    volume.provision(settings, plan)
    program.install(settings, plan)
    if directories := plan.directories_to_move:
        relocation.relocate(name=f"Relocation: {' and '.join(directories)} on their volumes", directories=directories)
    volume.clear_stores(plan)
    fail_closed.refuse_to_start_without_the_volume(settings)
    if not (plan.relocates or plan.adopts):
        volume.mount_stores(settings, plan)
    daemon.configure(settings, plan)
    engine.install(settings, plan)
    nvidia.remove(settings, plan)
    prune.install(settings)
    guard.install(settings)
    watch.install(settings)
    ephemeral.permit(settings, plan)
    if plan.keeps_old_trees and settings.relocation_finalize:
        relocation.finalize(name="Relocation: the old data is removed from the root disk")
