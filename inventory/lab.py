"""The lab machines that are up. `scripts/lab up` creates one."""

from lab import cache as _cache
from lab.machine import Machine as _Machine

lab = [
    (
        _machine.name,
        {
            "ssh_hostname": "127.0.0.1",
            "ssh_port": _machine.ssh_port,
            "ssh_user": "root",
            "ssh_key": str(_cache.ssh_key()),
            "ssh_known_hosts_file": str(_machine.known_hosts),
            "ssh_strict_host_key_checking": "accept-new",
            "ssh_connect_retries": 2,  # an emulated sshd may need more than the 10 s that pyinfra gives it
            **_machine.settings,
        },
    )
    for _machine in _Machine.all()
    if _machine.up
]

if not lab:
    raise SystemExit("no lab machine is up: `scripts/lab up` creates one")
