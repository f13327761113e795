"""Takes off a host what deploy.py has put on it. Docker, its data and the volume with its mounts stay."""

from __future__ import annotations

from pyinfra import config, host

from tasks import departure, fleet
from tasks.support import run_lock

config.ENV = run_lock.ENVIRONMENT

settings = fleet.settings_of(host)

if departure.inspect():
    departure.leave(settings)
