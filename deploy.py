"""What a host gets, in this order. Each line is a file in tasks/, whose first words say what a host has after it."""

from pyinfra import config, host

from tasks import daemon, engine, fail_closed, fleet, preflight, run_lock, volume

config.ENV = run_lock.ENVIRONMENT

settings = fleet.settings_of(host)  # bad settings of any host end the run here
plan = preflight.look(settings)  # None: this host is refused and left as it is

if plan:
    preflight.hold_the_lock(
        name="Preflight: one run at a time, on the host as it was seen", settings=settings, plan=plan
    )
    volume.provision(settings, plan)
    volume.clear_stores(plan)
    fail_closed.refuse_to_start_without_the_volume(settings)
    volume.mount_stores(settings)
    daemon.configure(settings, plan.size)
    engine.install(settings, plan)
