"""An example fleet: put your hosts here. `pyinfra inventory/prod.py deploy.py --dry` shows what a run would do."""

import os

# Ordinary Docker hosts: everything as inventory/group_data/all.py says.
docker = [
    "docker-1.example.com",
    ("docker-2.example.com", {"volume_size": "200G"}),
]

# GPU hosts: images of 10 GB and more, on a disk of their own.
gpu = (
    ["gpu-1.example.com"],
    {
        "volume_disks": ["/dev/disk/by-id/nvme-eui.0025388b710116a1"],
        "build_cache_size": "40%",
    },
)

# How to log in, for every host. Secrets come from the environment, never from this file.
all = (  # noqa: A001 - the group that pyinfra calls by this name
    [*docker, *gpu[0]],
    {
        "ssh_user": "admin",
        "_sudo": True,
        # Where sudo asks for a password: export BULKHEAD_SUDO_PASSWORD before the run.
        "_sudo_password": os.environ.get("BULKHEAD_SUDO_PASSWORD"),
    },
)
