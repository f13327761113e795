"""The command line of `scripts/incident`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from lab import LabError, cache, qemu
from lab.deploy import TOP, command
from lab.incident import course, report
from lab.incident.scenario import DOCKER_VOLUME, FACTOR, FREE, mebibytes
from lab.machine import Machine
from lab.progress import step

PAGE = TOP / "docs" / "incident.md"
PICTURES = TOP / "docs" / "pictures"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/incident",
        description="Plays the incident again on two virtual machines from one image: deploy.py provisions one of them, the other stays "
        "as it is. Both run the same build, with the same free space. The program observes both from outside, then cuts "
        "the power. It writes the tables of docs/incident.md and the pictures docs/pictures/incident.svg and .png, and all "
        "observations as JSON and CSV into the cache. It takes about 40 minutes without KVM, and 25 GB of disk.",
    )
    parser.add_argument("--keep", action="store_true", help="keep the machines: scripts/lab ssh incident-before")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with contextlib.ExitStack() as cleanup:
            play(contextlib.ExitStack() if arguments.keep else cleanup)
    except (LabError, subprocess.SubprocessError) as error:
        print(f"incident: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def play(cleanup: contextlib.ExitStack) -> None:
    """Play the incident, and register the removal of the machines with ``cleanup``."""
    started = time.monotonic()
    machines = []
    for name in ("incident-before", "incident-after"):
        with step(f"starting {name}"):
            machines.append(Machine.create(name, suite="bookworm", docker="preinstalled"))
            cleanup.callback(machines[-1].destroy)
    before = course.IncidentHost(machines[0], "as it was", "/")
    after = course.IncidentHost(machines[1], "provisioned", "/srv/docker-volume")
    with step("pyinfra inventory/lab.py --limit incident-after deploy.py"):
        deploy(after.machine)
    course.run(before, after)
    directory = cache.root() / "incident" / f"{datetime.now():%Y-%m-%d-%H%M%S}"
    directory.mkdir(parents=True)
    publish(before.story, after.story, directory)
    print(f"wrote docs/incident.md and docs/pictures/ in {time.monotonic() - started:.0f} s; observations: {directory}")


def deploy(machine: Machine) -> None:
    """Provision a machine with a volume of the incident's size.

    Raises:
        LabError: pyinfra failed.
    """
    line = command(machine.name, volume_size=f"{mebibytes(DOCKER_VOLUME)}M")
    done = subprocess.run(
        line, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise LabError(f"{machine.name} was not provisioned:\n{done.stdout}")


def publish(before: report.Story, after: report.Story, directory: Path) -> None:
    """Write the results for programs and for people."""
    report.keep({"before": before, "after": after}, directory)
    title = f"The incident's build, played again: {FREE * FACTOR:g} GB free, {FACTOR:g} times the sizes"
    report.draw(before, after, title, directory, PICTURES)
    tables = (
        f"Run of {datetime.now():%Y-%m-%d} with factor {FACTOR:g}, on machines under {qemu.working_accelerator()}; "
        "times are seconds since the first build began.\n\n"
        f"{report.probe_table([before, after])}\n{report.fact_table([before, after])}"
    )
    PAGE.write_text(report.with_generated(PAGE.read_text(), tables))
    print(f"\n{tables}")


if __name__ == "__main__":
    sys.exit(main())
