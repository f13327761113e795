"""An example fleet. Replace these hosts with yours.

A list is a group of hosts. A tuple is a host or a group, with its own settings. inventory/group_data/all.py explains
every setting and has its default. To see what a run would do: `scripts/deploy inventory/prod.py --dry`.
"""

import os

# How to log in. Secrets come from the environment, never from this file. If sudo asks for a password, set and export
# BULKHEAD_SUDO_PASSWORD first. If it does not, leave the variable unset.
_login = {
    "ssh_user": "admin",
    "_sudo": True,
    "_sudo_password": os.environ.get("BULKHEAD_SUDO_PASSWORD"),
}

# Ordinary Docker hosts: Docker's volume is created in the free space of the existing volume group.
docker = (
    [
        "docker-1.example.com",
        ("docker-2.example.com", {"volume_size": "200G"}),
    ],
    {**_login},
)

# GPU hosts with images of 10 GB and more: Docker's volume takes a whole blank disk. `ls -l /dev/disk/by-id` shows the
# disks' names.
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
