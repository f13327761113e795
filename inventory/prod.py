"""An example fleet: put your hosts here. `pyinfra inventory/prod.py deploy.py --dry` shows what a run would do.

A list is a group of hosts; a tuple is a group, or a host, with what is special about it. Every setting and its default:
inventory/group_data/all.py.
"""

import os

# How to log in. Secrets come from the environment, never from this file: where sudo asks for a password,
# `export BULKHEAD_SUDO_PASSWORD` first; where it does not, leave it unset.
_login = {
    "ssh_user": "admin",
    "_sudo": True,
    "_sudo_password": os.environ.get("BULKHEAD_SUDO_PASSWORD"),
}

# Ordinary Docker hosts: Docker's volume is made in the free space of the volume group that is there.
docker = (
    [
        "docker-1.example.com",
        ("docker-2.example.com", {"volume_size": "200G"}),
    ],
    {**_login},
)

# GPU hosts: images of 10 GB and more, on a blank disk of their own, all of it. `ls -l /dev/disk/by-id` shows the names.
gpu = (
    [
        ("gpu-1.example.com", {"volume_disks": ["/dev/disk/by-id/nvme-eui.0025388b710116a1"]}),
        ("gpu-2.example.com", {"volume_disks": ["/dev/disk/by-id/nvme-eui.0025388b710116b7"]}),
    ],
    {
        **_login,
        "build_cache_size": "40%",
    },
)
