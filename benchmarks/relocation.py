"""Compare the outage and the duration of a move of Docker's data to stop, `cp -a`, bind and start.

Both ways run on the same virtual machine of the lab, from the same snapshot, with the same data: images with many small
files, and a container that writes a timestamp every tenth of a second.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import publish
from lab.deploy import deploy
from lab.machine import Machine
from lab.progress import step

# $1: GiB. Images of 256 MiB, with as many files per GiB as images of programming languages have, and the container.
_FILL = r"""
set -e
work=$(mktemp -d /var/tmp/fill.XXXXXX)
cd "$work"
mkdir -p image/bin image/small && cp /bin/busybox image/bin/ && ln -s busybox image/bin/sh
head -c 250000000 /dev/urandom >image/big
head -c 15000000 /dev/urandom | split --bytes 2500 --suffix-length 5 - image/small/
for number in $(seq $(($1 * 4))); do
    echo "$number" >image/number
    tar -C image -c . | docker import - "box:$number" >/dev/null
done
cd / && rm -rf "$work"
docker volume create ticks >/dev/null
docker run --detach --name ticker --restart always --stop-signal KILL --network none -v ticks:/ticks box:1 \
    sh -c 'while :; do busybox cut -d" " -f1 /proc/uptime >>/ticks/log; busybox usleep 100000; done' >/dev/null
sync
"""

_NAIVE = r"""
set -e
systemctl stop docker.socket docker containerd
mkdir -p /srv/docker-volume/docker
cp -a /var/lib/docker/. /srv/docker-volume/docker/
mount --bind /srv/docker-volume/docker /var/lib/docker
systemctl start containerd docker
"""

_SIZE = "25G"

# Both ways begin with this volume, before the move.
_VOLUME = (
    f"lvcreate -qq -y -L {_SIZE} -n docker-lv ubuntu-vg --addtag docker-bulkhead && mkfs.ext4 -q /dev/ubuntu-vg/docker-lv && "
    "mkdir -p /srv/docker-volume && mount /dev/ubuntu-vg/docker-lv /srv/docker-volume && apt-get install -qq rsync >/dev/null"
)


@dataclass(frozen=True)
class Figures:
    outage: float  # seconds in which the container did not run
    total: float  # seconds of the whole


def _outage(machine: Machine) -> float:
    ticks = [float(line) for line in machine.out("cat /var/lib/docker/volumes/ticks/_data/log").splitlines()]
    return max(later - earlier for earlier, later in itertools.pairwise(ticks))


def _figures(machine: Machine, move: Callable[[Machine], object]) -> Figures:
    began = time.monotonic()
    move(machine)
    total = time.monotonic() - began
    time.sleep(5)  # for ticks after the outage
    return Figures(_outage(machine), total)


def _ours(machine: Machine) -> None:
    deploy(machine.name, volume_size=_SIZE)


def _naive(machine: Machine) -> None:
    machine.run(_NAIVE, timeout=3600)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark relocation", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4], metavar="GIB", help="amounts of data (1 and 4)")
    sizes: list[int] = parser.parse_args().sizes
    rows = []
    for size in sizes:
        machine = Machine.create(f"benchmark-{size}", suite="bookworm", docker="preinstalled")
        try:
            with step(f"filling Docker with {size} GiB"):
                machine.run(f"set -- {size}; {_FILL}", timeout=3600)
                machine.run(_VOLUME, timeout=600)
                machine.snapshot("filled")
            with step("the naive way"):
                naive = _figures(machine, _naive)
            machine.restore("filled")
            with step("ours"):
                ours = _figures(machine, _ours)
            rows.append((size, naive, ours))
        finally:
            machine.destroy()
    figures = {size: {"naive": naive, "ours": ours} for size, naive, ours in rows}
    table = [(size, way, one.outage, one.total) for size, ways in figures.items() for way, one in ways.items()]
    ratios = [
        f"{size} GiB: our outage is {ours.outage / naive.outage:.2f} times the naive one, our move takes "
        f"{ours.total / naive.total:.2f} times as long."
        for size, naive, ours in rows
    ]
    (least, _, before), (most, _, after) = rows[0], rows[-1]
    if most != least:
        ratios.append(
            f"Our outage with {most / least:g} times the data: {after.outage / before.outage:.2f} times as long."
        )
    publish("relocation", ("GiB", "way", "seconds of outage", "seconds in all"), table, ratios)


if __name__ == "__main__":
    main()
