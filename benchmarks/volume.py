"""Compare a volume on a file (`volume_file`) to a logical volume on a disk: fio's throughput, and the time of a build.

Both are on the same virtual machine of the lab, with ext4. Its two disks are files of the same kind on this machine. The
measurements take turns, and each figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from statistics import median

from benchmarks.results import publish
from lab.deploy import deploy
from lab.machine import Machine
from lab.progress import step

SETTINGS = {"volume_disks": [], "volume_file": "40%"}
VOLUMES = {"file": "/srv/docker-volume", "logical volume": "/srv/plain"}

# The volume to compare with, as large as that on the file, and a Docker of its own on it. The deploy's own Docker is on the
# file. apt's lists are the image's.
_PREPARE = r"""
set -e
apt-get update -qq && apt-get install -qq fio >/dev/null
systemctl stop cron docker-prune.timer docker-guard.service
disk=/dev/disk/by-id/virtio-spare
pvcreate -qq -y "$disk" && vgcreate -qq plain "$disk"
lvcreate -qq -y -n plain -L "$(blockdev --getsize64 "$(findmnt -no SOURCE /srv/docker-volume)")b" plain
mkfs.ext4 -q /dev/plain/plain
mkdir -p /srv/plain && mount /dev/plain/plain /srv/plain
systemd-run --quiet --unit=plain-docker dockerd --data-root /srv/plain/docker --exec-root /run/plain-docker \
    --pidfile /run/plain-docker.pid --host unix:///run/plain-docker.sock --bridge none --iptables=false \
    --containerd-namespace plain --containerd-plugins-namespace plain-plugins
until docker --host unix:///run/plain-docker.sock info >/dev/null 2>&1; do sleep 1; done
mkdir -p /root/image/bin && cp /bin/busybox /root/image/bin/
for name in sh dd seq mkdir cp cat tar sync; do ln -sf busybox "/root/image/bin/$name"; done
for socket in docker plain-docker; do tar -C /root/image -c . | docker --host "unix:///run/$socket.sock" import - box >/dev/null; done
# As large builds are: a layer of small files, a copy of it, and large files.
cat >/root/Dockerfile <<'EOF'
FROM box
RUN mkdir /small && for d in $(seq 40); do mkdir /small/$d; for n in $(seq 50); do echo $n >/small/$d/$n; done; done
RUN cp -r /small /copy
RUN dd if=/dev/zero of=/large bs=1M count=400
RUN cp /large /other
EOF
sync
"""

# fio's name of the job, its block size, and how it is called in the table.
JOBS = (
    ("write", "1M", "sequential write, MB/s"),
    ("read", "1M", "sequential read, MB/s"),
    ("randwrite", "4k", "random write of 4 KiB, MB/s"),
    ("randread", "4k", "random read of 4 KiB, MB/s"),
)
BUILD = "image build, s"
_SECONDS = 15  # of each job


def throughput(machine: Machine, directory: str, job: str, block: str) -> float:
    """Run a job of fio past the page cache, and return its megabytes per second."""
    output = machine.out(
        f"fio --name=job --directory={directory} --rw={job} --bs={block} --size=1G --direct=1 --ioengine=libaio --iodepth=16 "
        f"--runtime={_SECONDS} --time_based --end_fsync=1 --output-format=json; rm -f {directory}/job.*",
        timeout=600,
    )
    return megabytes(output)


def megabytes(output: str) -> float:
    """Return the megabytes per second of the only job in fio's output."""
    (job,) = json.loads(output)["jobs"]
    return float(job["read"]["bw_bytes"] + job["write"]["bw_bytes"]) / 1e6


def build(machine: Machine, volume: str) -> float:
    """Build an image without the cache, and return the seconds until it is on the disk."""
    socket = "docker" if volume == "file" else "plain-docker"
    began = float(machine.out("date +%s.%N"))
    machine.run(
        f"docker --host unix:///run/{socket}.sock build --quiet --no-cache --network none --tag built - </root/Dockerfile && sync",
        timeout=1800,
    )
    return float(machine.out("date +%s.%N")) - began


def measure(machine: Machine, rounds: int) -> dict[str, dict[str, float]]:
    """Return the medians of each measurement, by volume."""
    kinds: dict[str, Callable[[str], float]] = {
        name: lambda volume, job=job, block=block: throughput(machine, VOLUMES[volume], job, block)  # type: ignore[misc]
        for job, block, name in JOBS
    }
    kinds[BUILD] = lambda volume: build(machine, volume)
    found: dict[str, dict[str, list[float]]] = {name: {volume: [] for volume in VOLUMES} for name in kinds}
    for number in range(rounds):
        # Whoever comes first in one round is second in the next.
        for name, one in kinds.items():
            for volume in list(VOLUMES)[:: 1 if number % 2 == 0 else -1]:
                with step(f"round {number + 1} of {rounds}: {name.partition(',')[0]}, {volume}"):
                    found[name][volume].append(one(volume))
    return {name: {volume: median(values) for volume, values in each.items()} for name, each in found.items()}


def rows_of(figures: dict[str, dict[str, float]]) -> list[tuple[str, float, float, float]]:
    """Return the rows of the table. A ratio above 1 says that the file is faster."""
    rows = []
    for name, each in figures.items():
        file, plain = (each[volume] for volume in VOLUMES)
        rows.append((name, file, plain, plain / file if name == BUILD else file / plain))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark volume", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    rounds: int = parser.parse_args().rounds
    machine = Machine.create(
        "benchmark-volume", suite="trixie", layout="spare-disk", docker="preinstalled", settings=SETTINGS
    )
    try:
        with step("deploying"):
            deploy(machine.name)
        with step("making the other volume"):
            machine.run(_PREPARE, timeout=1800)
        rows = rows_of(measure(machine, rounds))
    finally:
        machine.destroy()
    publish("volume", ("measurement", *VOLUMES, "file in relation to it"), rows)


if __name__ == "__main__":
    main()
