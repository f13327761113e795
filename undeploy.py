"""Remove from a host what deploy.py has installed. Docker, its data and the volume with its mounts stay."""

from __future__ import annotations

from pyinfra import config, host

from fleet import lost_connection, output
from fleet.record import summarize_at_the_end
from settings.check import settings_of
from tasks import removal
from tasks.support import run_lock

config.ENV = run_lock.ENVIRONMENT
lost_connection.keep_to_its_host(host)
output.read_every_byte()
summarize_at_the_end(host.state)

settings = settings_of(host)  # bad settings of any host end the run here

if removal.inspect(settings):
    removal.remove(settings)
