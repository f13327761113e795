"""Takes off a host what deploy.py has put on it. Docker, its data and the volume with its mounts stay."""

from pyinfra import config, host

from tasks import departure, fleet, run_lock

config.ENV = run_lock.ENVIRONMENT

settings = fleet.settings_of(host)

if departure.look():
    departure.leave(settings)
