"""Race this project's deploy against an Ansible playbook that leaves the same state, on the same virtual machine of the lab.

A dry run and a run on a fresh host, and both on a host that is as it should be, in turns; the medians count. Then the same on a
machine that answers with a delay. The states that both leave are compared before the race.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import TOP, publish
from bulkhead.names import ALERT_SERVICE, CONTAINERD, DOCKER, GUARD_SERVICE, PROGRAM, PROGRAM_CONFIGURATION, PRUNE_TIMER
from lab import cache
from lab.machine import Machine
from lab.progress import step
from tasks.support.package_names import ENGINE
from tasks.support.paths import (
    CHECK_CRON,
    CHECK_DISK,
    DAEMON_JSON,
    DAEMON_JSON_APPLIED,
    DROP_INS,
    FSTAB,
    JOURNALD_DROP_IN,
    STORES,
    UNITS,
)
from tests.verify import questions

ANSIBLE = "BULKHEAD_ANSIBLE"  # the directory of Ansible's commands: scripts/benchmark sets it

_VOLUME = "/srv/docker-volume"
_SIZE = "40G"
_MOUNTS = (_VOLUME, *STORES.values())
_PATHS = (
    *(*UNITS.values(), *DROP_INS.values(), CHECK_CRON, CHECK_DISK, PROGRAM, PROGRAM_CONFIGURATION),
    *(DAEMON_JSON, DAEMON_JSON_APPLIED, JOURNALD_DROP_IN),
)

# Name → the command whose output must be the same after both.
STATE = {
    "files": f"sha256sum {' '.join(_PATHS)} && stat --format '%a %U:%G %n' {' '.join(_PATHS)}",
    "units": "; ".join(
        f'echo "{unit} $(systemctl is-enabled {unit}) $(systemctl is-active {unit})"'
        for unit in (DOCKER, CONTAINERD, GUARD_SERVICE, PRUNE_TIMER, ALERT_SERVICE)
    ),
    "mounts": "; ".join(
        f"findmnt --kernel --noheadings --raw -o TARGET,SOURCE,FSTYPE,PROPAGATION --mountpoint {path}"
        for path in _MOUNTS
    ),
    "fstab": f"awk '$2 ~ \"^({'|'.join(_MOUNTS)})$\" {{ print $1, $2, $3, $4, $5 + 0, $6 + 0 }}' {FSTAB}",
    "volumes": "lvs --noheadings --units b -o lv_name,lv_size,segtype,lv_tags",
    "beneath the mounts": questions.beneath(list(_MOUNTS)),
    "markers": f"cat {' '.join(f'{path}/.docker-bulkhead' for path in _MOUNTS)}",
    "engine": "docker info --format '{{.Driver}} {{.LoggingDriver}} {{.LiveRestoreEnabled}} {{.DockerRootDir}}'",
    "packages": f"dpkg-query -W -f '${{Package}} ${{Version}} ${{db:Status-Status}}\\n' {' '.join(ENGINE['distro'])} 2>/dev/null; true",
}

_DELAY = """
modprobe sch_netem 2>/dev/null
device=$(ip -o route get 10.0.2.2 | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p')
tc qdisc replace dev "$device" root netem delay {delay}ms
"""


@dataclass(frozen=True)
class Race:
    """What both do to the machine.

    Args:
        name: of the race.
        fresh: the machine is fresh; otherwise it is as the contestant has left it.
        dry: nothing is changed.
    """

    name: str
    fresh: bool
    dry: bool


RACES = (
    Race("dry run, fresh host", fresh=True, dry=True),
    Race("run, fresh host", fresh=True, dry=False),
    Race("dry run, nothing to do", fresh=False, dry=True),
    Race("run, nothing to do", fresh=False, dry=False),
)
WAYS = ("ours", "playbook")


def differences(ours: Mapping[str, str], playbook: Mapping[str, str]) -> list[str]:
    """Return what differs between two states, a line each.

    Args:
        ours, playbook: by the names of STATE, what the commands have printed.
    """
    found = []
    for name in STATE:
        lines = [[line.strip() for line in state.get(name, "").splitlines()] for state in (ours, playbook)]
        for way, (one, other) in (("ours", lines), ("playbook", lines[::-1])):
            found += [f"{name}, only {way}: {line}" for line in one if line not in other]
    return found


def row(name: str, seconds: Mapping[str, Sequence[float]]) -> tuple[str, float, float, float]:
    """Return the row of a race: its name, the medians of both, and how many times as long the playbook takes.

    Args:
        seconds: of the runs, by way.
    """
    ours, playbook = (statistics.median(seconds[way]) for way in WAYS)
    return name, ours, playbook, playbook / ours


def in_turns(runs: int, run: Callable[[str], float]) -> dict[str, list[float]]:
    """Return the seconds of so many runs of each, one after the other: what slows the machine down slows both."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(runs):
        for way in WAYS:
            seconds[way].append(run(way))
    return seconds


def changes_of(way: str, output: str) -> int:
    """Return how many changes a run reports, or a dry run predicts.

    Raises:
        ValueError: the run has not succeeded.
    """
    if way == "ours":
        (host,) = json.loads(output)["hosts"]
        if host["verdict"] not in ("unchanged", "changed"):
            raise ValueError(f"{host['verdict']}: {host['reason']}")
        return len(host["operations"])
    recap = output.rpartition("PLAY RECAP")[2]
    counts = dict(word.split("=") for word in recap.split() if "=" in word)
    if int(counts["failed"]) or int(counts["unreachable"]):
        raise ValueError(recap)
    return int(counts["changed"])


class Contest:
    """The machine, and both ways to provision it.

    Args:
        machine: of the lab.
        top: a directory for the files of the playbook.
    """

    def __init__(self, machine: Machine, top: Path) -> None:
        self.machine = machine
        self.top = top
        self.output = ""  # of the last run

    def run(self, way: str, *, dry: bool) -> tuple[float, int]:
        """Return the seconds of a run, and its changes."""
        line = self._ours(dry) if way == "ours" else self._playbook(dry)
        # A connection that outlasts its run leads nowhere after the snapshot of the next one.
        control = tempfile.mkdtemp(prefix="a", dir="/tmp")
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(TOP / "benchmarks/ansible/ansible.cfg"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": control,
        }
        began = time.monotonic()
        done = subprocess.run(
            line,
            cwd=TOP,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - began
        self.output = done.stdout
        shutil.rmtree(control, ignore_errors=True)
        try:
            return seconds, changes_of(way, done.stdout)
        except (KeyError, ValueError) as error:
            sys.exit(f"{way}: {error}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")

    def _ours(self, dry: bool) -> list[str]:
        how = ["--json", "--dry" if dry else "-y", "--limit", self.machine.name, "--data", f"volume_size={_SIZE}"]
        return [sys.executable, "-m", "fleet", *how, "inventory/lab.py", "deploy.py"]

    def _playbook(self, dry: bool) -> list[str]:
        values = {
            "ansible_port": self.machine.ssh_port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(cache.ssh_key()),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.machine.known_hosts}",
            "volume_group": "ubuntu-vg",
            "volume_size": _SIZE,
            "files": str(self.top),
            "paths": list(_PATHS),
            "packages": list(ENGINE["distro"]),
        }
        program = str(Path(os.environ[ANSIBLE]) / "ansible-playbook")
        how = ["--check"] if dry else []
        return [program, *how, "-i", "127.0.0.1,", "-e", json.dumps(values), "benchmarks/ansible/playbook.yml"]

    def fetch_files(self) -> None:
        """Fetch the files that the playbook copies from the machine, which is provisioned."""
        packed = subprocess.run(
            [*self.machine.ssh_command(), f"tar -C / -c {' '.join(path[1:] for path in _PATHS)}"],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        subprocess.run(["tar", "-C", self.top, "-x", "--no-same-owner"], input=packed.stdout, check=True)

    def state(self) -> dict[str, str]:
        """Return what is to be compared, by the names of STATE."""
        mark = f"##STATE## {secrets.token_hex(8)}"
        script = questions.script(STATE, _VOLUME, mark)
        return {name: found.stdout for name, found in questions.outputs(self.machine.out(script), mark).items()}

    def prepare(self) -> list[str]:
        """Provision the machine in both ways, and keep a snapshot of each. Return how the states differ."""
        # Ansible's check mode needs it, and cannot install it.
        self.machine.run("apt-get -qq update && apt-get -qq -y install python3-apt >/dev/null", timeout=600)
        self.machine.snapshot("fresh")
        states = {}
        for way in WAYS:
            with step(f"{way}: a run, and one that has nothing to do"):
                self.machine.restore("fresh")
                self.run(way, dry=False)
                _, changes = self.run(way, dry=False)
                if changes:
                    sys.exit(f"{way}: the second run has changed something\n{self.output[-4000:]}")
                states[way] = self.state()
                if way == "ours":
                    self.fetch_files()
                self.machine.snapshot(way)
        return differences(*(states[way] for way in WAYS))

    def race(self, race: Race, runs: int, delay: int) -> dict[str, list[float]]:
        """Return the seconds of each run of a race.

        Args:
            delay: milliseconds that the machine waits before it sends a packet.
        """

        def run(way: str) -> float:
            self.machine.restore("fresh" if race.fresh else way)
            if delay:
                self.machine.run(_DELAY.format(delay=delay))
            return self.run(way, dry=race.dry)[0]

        with step(f"{race.name}{f', {delay} ms' if delay else ''}"):
            seconds = in_turns(runs, run)
            print(
                "    " + ", ".join(f"{way}: {' and '.join(f'{one:.1f}' for one in seconds[way])} s" for way in WAYS),
                flush=True,
            )
            return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark deploy", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each, whose median counts (3)")
    parser.add_argument("--delay", type=int, default=50, metavar="MS", help="of the distant machine (50); 0: none")
    options = parser.parse_args()
    machine = Machine.create("benchmark-deploy", suite="bookworm", docker="preinstalled")
    notes = [
        "Seconds, median of each; the ratio is the playbook's by ours. A fresh host has Docker's packages, which apt would install "
        "for both, and nothing in Docker."
    ]
    try:
        with tempfile.TemporaryDirectory() as top:
            contest = Contest(machine, Path(top))
            different = contest.prepare()
            notes += [f"The states differ: {line}" for line in different] or ["Both leave the same state."]
            rows = [row(race.name, contest.race(race, options.runs, 0)) for race in RACES]
            if options.delay:
                machine.restore("fresh")
                if machine.run(_DELAY.format(delay=options.delay), check=False).returncode:
                    notes.append("The machine's kernel has no sch_netem: there are no figures with a delay.")
                else:
                    rows += [
                        row(f"{race.name}, {options.delay} ms", contest.race(race, options.runs, options.delay))
                        for race in RACES
                        if not race.fresh
                    ]
    finally:
        machine.destroy()
    publish("deploy", ("race", "ours, s", "playbook, s", "ratio"), rows, notes)


if __name__ == "__main__":
    main()
