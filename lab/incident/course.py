"""The course of events: the disks before the build, the build, what is left after it, the power cut."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab import LabError
from lab.incident import report
from lab.incident.probes import PROBES, Session, Watch
from lab.incident.report import Story
from lab.incident.scenario import (
    BASE,
    CONTEXT,
    FREE,
    Event,
    Line,
    dockerfile,
    ending,
    mebibytes,
    steps_begun,
)
from lab.machine import Machine
from lab.progress import step

CALM = 20  # seconds of observation before the first build
AGAIN = 10  # seconds between a failed build and the next attempt
AFTER = 90  # seconds of observation after both builds: cron runs each minute, and a failure shows late
BOOTED = 90  # seconds of observation after the boot, for the same reason
BUILD_TIMEOUT = 3600

_WORK = "/srv/incident"
_DATA = "/var/lib/docker/volumes/earlier/_data"  # data that Docker had before
_PREPARE = Path(__file__).with_name("prepare.sh")

# Question → command, asked of each host after the boot.
_QUESTIONS = {
    "state after the boot": "timeout 90 systemctl is-system-running --wait",
    "failed units": "systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1",
    "root is mounted": "findmnt --noheadings --output OPTIONS / | cut -d , -f 1",
    "the kernel on ext4": "dmesg | grep -oE 'EXT4-fs .*(error|warning|orphan|recovery complete).*' | head -n 3",
    "Docker after the boot": "systemctl is-active docker.service",
    "root after the boot": "df --human-readable --output=pcent,avail / | tail -n 1",
}
_RUN = "docker run --rm --network none base true"
_BUILD = f"docker build --no-cache --network none --tag smaller {_WORK}/small"


class IncidentHost:
    """One of the two machines, and its story."""

    def __init__(self, machine: Machine, title: str, docker: str) -> None:
        """
        Args:
            docker: the mount point of the filesystem that holds Docker's data.
        """
        self.machine, self.docker = machine, docker
        self.story = Story(title)
        self.filesystems = {"root": "/"} if docker == "/" else {"root": "/", "Docker's volume": docker}


class Clock:
    """Seconds since the first build began; negative before it begins."""

    def __init__(self, delay: float) -> None:
        self._zero = time.monotonic() + delay

    def __call__(self) -> float:
        return time.monotonic() - self._zero


def run(before: IncidentHost, after: IncidentHost) -> None:
    """Run the whole course on both hosts at once.

    Raises:
        LabError: something failed that is not part of the story.
    """
    hosts = [before, after]
    with step("putting on both what was there before the build"):
        each(hosts, lambda host: _prepare(host.machine))
        _fill(before, after)
    with step("waiting until every probe works on both"):
        each(hosts, lambda host: _wait_until_ready(host.machine))
    clock = Clock(CALM)
    with _watched(hosts, clock):
        time.sleep(CALM)
        each(hosts, lambda host: _build(host, clock))
        time.sleep(AFTER)
        each(hosts, _inspect_after_build)
    each(hosts, lambda host: _cut_and_boot(host, clock))
    up = [host for host in hosts if host.machine.running]
    with _watched(up, clock):
        time.sleep(BOOTED)
    each(up, _inspect_after_boot)


def each(hosts: Sequence[IncidentHost], work: Callable[[IncidentHost], object]) -> None:
    """Do some work on all hosts at once, in daemon threads, so that an interrupted program ends at once.

    Raises:
        Exception: the first exception of any thread.
    """
    errors: list[Exception] = []

    def guarded(host: IncidentHost) -> None:
        try:
            work(host)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(host,), daemon=True) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# -- before the build


def _prepare(machine: Machine) -> None:
    context = mebibytes(CONTEXT.size * 1024)
    machine.run(f"set -- {_WORK} {context}\n{_PREPARE.read_text()}", timeout=300)
    machine.run(f"cat >{_WORK}/context/Dockerfile <<'EOF'\n{dockerfile()}EOF")


def _fill(before: IncidentHost, after: IncidentHost) -> None:
    """Leave as much space as the incident's disk had: on root of one host, on Docker's volume of the other.

    The same data takes the rest on both: what Docker had before, and data that is not Docker's.
    """
    earlier = _leave(after, mebibytes(FREE), f"{_DATA}/images")
    before.machine.run(f"fallocate --length {earlier}M {_DATA}/images")
    others = _leave(before, mebibytes(FREE), "/srv/other-data")
    after.machine.run(f"fallocate --length {others}M /srv/other-data")


def _leave(host: IncidentHost, size: int, path: str) -> int:
    """Make a file that leaves ``size`` MiB available to Docker, and return its size in MiB."""
    available = int(host.machine.out(f"df --output=avail --block-size=1M {host.docker} | tail -n 1"))
    host.machine.run(f"fallocate --length {available - size}M {path}")
    return available - size


def _wait_until_ready(machine: Machine) -> None:
    """Wait until every probe works; cron's job may need a minute.

    Raises:
        LabError: a probe does not work within three minutes.
    """
    session = Session(machine)
    deadline = time.monotonic() + 180
    for probe in PROBES:
        while not (outcome := probe.attempt(machine, session, time.monotonic)).worked:
            if time.monotonic() > deadline:
                raise LabError(f"{probe.name} does not work on {machine.name} before the build: {outcome.output}")
            time.sleep(1)
    session.close()


@contextlib.contextmanager
def _watched(hosts: Sequence[IncidentHost], clock: Clock) -> Iterator[None]:
    """Observe the machines while the block runs, and print every few seconds how full they are."""
    over = threading.Event()

    def progress() -> None:
        while not over.wait(5):
            parts = [
                f"{host.story.title}: {name} {sample.used_percent:.1f} %"
                for host in hosts
                for name in host.filesystems
                if (sample := host.story.observations.latest(name))
            ]
            print(f"{clock():+6.0f} s  {'   '.join(parts)}", flush=True)

    with contextlib.ExitStack() as stack:
        stack.callback(over.set)
        for host in hosts:
            stack.enter_context(Watch(host.machine, host.filesystems, host.story.observations, clock))
        threading.Thread(target=progress, daemon=True).start()
        yield


# -- the build


def _build(host: IncidentHost, clock: Clock) -> None:
    """Build on a base image, and build once more if that fails, as people and CI do.

    The space of the base image is allocated at once: there is no registry to pull from, and an emulated machine takes
    minutes to unpack a layer of that size.
    """
    _record(host, clock, BASE.name)
    host.machine.run(f"fallocate --length {mebibytes(BASE.size)}M {_DATA}/base")
    for attempt in ("first build", "second build"):
        code, lines = _listen(host, clock, f"docker build --network none --tag service {_WORK}/context")
        steps = steps_begun(lines)
        host.story.events += steps
        words = ending(code, [line.text for line in lines])
        _record(host, clock, words)
        host.story.facts[attempt] = (
            f"{words} (+{clock():.0f} s{f', in step {steps[-1].text}' if code and steps else ''})"
        )
        if code == 0:
            return
        time.sleep(AGAIN)


def _record(host: IncidentHost, clock: Clock, text: str) -> None:
    """Record an event, and print it."""
    host.story.events.append(Event(clock(), text))
    print(f"{clock():+6.0f} s  {host.story.title}: {text}", flush=True)


def _listen(host: IncidentHost, clock: Clock, command: str) -> tuple[int, list[Line]]:
    """Run a command on a machine, and return its exit code and its lines, each with its time."""
    process = subprocess.Popen(
        [*host.machine.ssh_command(user="root"), f"exec 2>&1; {command}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stdout
    timer = threading.Timer(BUILD_TIMEOUT, process.kill)
    timer.start()
    lines = []
    for line in process.stdout:
        lines.append(Line(clock(), _plain(line)))
        host.story.lines.append(lines[-1])
        if re.match(r"Step |#\d+ \[|.*no space left|.*docker-guard", line, re.IGNORECASE):
            print(f"{clock():+6.0f} s  {host.story.title}: {lines[-1].text}", flush=True)
    code = process.wait()
    timer.cancel()
    return code, lines


def _plain(text: str) -> str:
    """Remove the colours that the classic builder gives to errors."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


# -- afterwards


def _inspect_after_build(host: IncidentHost) -> None:
    facts, samples = host.story.facts, host.story.observations.samples
    for name in host.filesystems:
        fullest = report.peak(samples, name)
        facts[f"{name}, at its fullest"] = (
            f"{fullest.used_percent:.1f} %; {fullest.free / 2**20:.0f} MiB free, {fullest.available / 2**20:.0f} MiB of them for every user"
        )
        facts[f"{name}, grown by at most"] = f"{report.increase(samples, name) / 1e6:.1f} MB"
        latest = host.story.observations.latest(name)
        assert latest
        facts[f"{name}, {AFTER} s after the last build"] = f"{latest.used_percent:.1f} %"
    facts["`docker run` after the builds"] = _result_of(host.machine, _RUN)
    facts["a small build after the builds"] = _result_of(host.machine, _BUILD)
    records = host.machine.out("grep -oE '^[0-9]{10}' /var/lib/incident/records; date +%s").split()
    facts["the service's longest time without a record"] = f"{report.longest_gap([*map(int, records)])} s"


def _result_of(machine: Machine, command: str) -> str:
    """Run a command, and say whether it works, or why it fails."""
    try:
        done = machine.run(f"timeout 90 {command} 2>&1", check=False)
    except subprocess.TimeoutExpired:
        return "does not end"
    if done.returncode == 0:
        return "works"
    lines = _plain(done.stdout).splitlines() or [f"exit code {done.returncode}"]
    return f"fails: {next((line for line in lines if 'no space' in line.lower()), lines[-1])}"


def _cut_and_boot(host: IncidentHost, clock: Clock) -> None:
    host.story.power = clock()
    _record(host, clock, "power pulled")
    host.machine.cut()
    try:
        host.machine.boot()
    except LabError as error:
        print(error, flush=True)
        # Without the end of its console: an answer is a cell of a table.
        host.story.facts["boots after the power cut"] = f"no: {str(error).partition(';')[0]}"
        _record(host, clock, "does not boot")
        host.machine.cut()
    else:
        host.story.facts["boots after the power cut"] = f"yes, ssh after {clock() - host.story.power:.0f} s"
        _record(host, clock, "booted")


def _inspect_after_boot(host: IncidentHost) -> None:
    for question, command in _QUESTIONS.items():
        answer = host.machine.run(command, check=False).stdout
        host.story.facts[question] = ", ".join(line.strip() for line in answer.splitlines()) or "none"
    host.story.facts["`docker run` after the boot"] = _result_of(host.machine, _RUN)
    host.story.facts["a small build after the boot"] = _result_of(host.machine, _BUILD)
