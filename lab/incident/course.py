"""The course of events: what is on the disks before, the build, what is left of it, the power cut."""

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

CALM = 20  # seconds that are watched before the first build begins
AGAIN = 10  # seconds after which a build that has failed is begun again
AFTER = 90  # seconds that are watched when both have ended: cron's minute, and until it is noticed
BOOTED = 90  # seconds that are watched after the boot, for the same
BUILD_TIMEOUT = 3600

_WORK = "/srv/incident"
_DATA = "/var/lib/docker/volumes/earlier/_data"  # of Docker's: what it had before
_PREPARE = Path(__file__).with_name("prepare.sh")

# What a host is asked once it has booted, and what is made of its answer.
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


class Host:
    """One of the two machines, and its story."""

    def __init__(self, machine: Machine, title: str, docker: str) -> None:
        """
        Args:
            docker: where the filesystem with Docker's data is mounted.
        """
        self.machine, self.docker = machine, docker
        self.story = Story(title)
        self.filesystems = {"root": "/"} if docker == "/" else {"root": "/", "Docker's volume": docker}


class Clock:
    """Seconds since the first build began: negative ones before it does."""

    def __init__(self, delay: float) -> None:
        self._zero = time.monotonic() + delay

    def __call__(self) -> float:
        return time.monotonic() - self._zero


def run(before: Host, after: Host) -> None:
    """The whole course, on both at once.

    Raises:
        LabError: something that is no part of the story went wrong.
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
        each(hosts, _look_after_the_build)
    each(hosts, lambda host: _cut_and_boot(host, clock))
    up = [host for host in hosts if host.machine.running]
    with _watched(up, clock):
        time.sleep(BOOTED)
    each(up, _look_after_the_boot)


def each(hosts: Sequence[Host], work: Callable[[Host], object]) -> None:
    """Do something on all machines at once, in threads that nobody waits for when the program is interrupted.

    Raises:
        Exception: what one of them has raised.
    """
    errors: list[Exception] = []

    def guarded(host: Host) -> None:
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


def _fill(before: Host, after: Host) -> None:
    """Leave as much room as the incident's disk had: to the one on its root, to the other on Docker's volume.

    What takes the rest is the same on both: what Docker had earlier, and data that is not Docker's.
    """
    earlier = _leave(after, mebibytes(FREE), f"{_DATA}/images")
    before.machine.run(f"fallocate --length {earlier}M {_DATA}/images")
    others = _leave(before, mebibytes(FREE), "/srv/other-data")
    after.machine.run(f"fallocate --length {others}M /srv/other-data")


def _leave(host: Host, size: int, path: str) -> int:
    """Make a file that leaves so many MiB available to Docker; its size in MiB."""
    available = int(host.machine.out(f"df --output=avail --block-size=1M {host.docker} | tail -n 1"))
    host.machine.run(f"fallocate --length {available - size}M {path}")
    return available - size


def _wait_until_ready(machine: Machine) -> None:
    """Wait until every probe works; cron's job may have to wait for its minute.

    Raises:
        LabError: one does not.
    """
    session = Session(machine)
    deadline = time.monotonic() + 180
    for probe in PROBES:
        while not (outcome := probe.attempt(machine, session, time.monotonic)).worked:
            if time.monotonic() > deadline:
                raise LabError(f"{probe.name} does not work on {machine.name} to begin with: {outcome.said}")
            time.sleep(1)
    session.close()


@contextlib.contextmanager
def _watched(hosts: Sequence[Host], clock: Clock) -> Iterator[None]:
    """Watch the machines while the block runs, and print every few seconds how full they are."""
    over = threading.Event()

    def progress() -> None:
        while not over.wait(5):
            parts = [
                f"{host.story.title}: {name} {sample.used_percent:.1f} %"
                for host in hosts
                for name in host.filesystems
                if (sample := host.story.seen.latest(name))
            ]
            print(f"{clock():+6.0f} s  {'   '.join(parts)}", flush=True)

    with contextlib.ExitStack() as stack:
        stack.callback(over.set)
        for host in hosts:
            stack.enter_context(Watch(host.machine, host.filesystems, host.story.seen, clock))
        threading.Thread(target=progress, daemon=True).start()
        yield


# -- the build


def _build(host: Host, clock: Clock) -> None:
    """Build on a base image; if that fails, try once more, as people and CI do.

    What a pull of the base image would write is allocated at once: there is no registry, and an emulated machine takes
    minutes to unpack a layer of that size.
    """
    _tell(host, clock, BASE.name)
    host.machine.run(f"fallocate --length {mebibytes(BASE.size)}M {_DATA}/base")
    for attempt in ("first build", "second build"):
        code, lines = _listen(host, clock, f"docker build --network none --tag service {_WORK}/context")
        steps = steps_begun(lines)
        host.story.events += steps
        words = ending(code, [line.text for line in lines])
        _tell(host, clock, words)
        host.story.facts[attempt] = (
            f"{words} (+{clock():.0f} s{f', in step {steps[-1].text}' if code and steps else ''})"
        )
        if code == 0:
            return
        time.sleep(AGAIN)


def _tell(host: Host, clock: Clock, text: str) -> None:
    """Note an event, and say it."""
    host.story.events.append(Event(clock(), text))
    print(f"{clock():+6.0f} s  {host.story.title}: {text}", flush=True)


def _listen(host: Host, clock: Clock, command: str) -> tuple[int, list[Line]]:
    """Run a command on a machine; its exit code, and its lines, each with the time at which it came."""
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
        host.story.said.append(lines[-1])
        if re.match(r"Step |#\d+ \[|.*no space left|.*docker-guard", line, re.IGNORECASE):
            print(f"{clock():+6.0f} s  {host.story.title}: {lines[-1].text}", flush=True)
    code = process.wait()
    timer.cancel()
    return code, lines


def _plain(text: str) -> str:
    """Without the colours that the classic builder gives to errors."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


# -- afterwards


def _look_after_the_build(host: Host) -> None:
    facts, samples = host.story.facts, host.story.seen.samples
    for name in host.filesystems:
        fullest = report.peak(samples, name)
        facts[f"{name}, at its fullest"] = (
            f"{fullest.used_percent:.1f} %; {fullest.free / 2**20:.0f} MiB free, {fullest.available / 2**20:.0f} MiB of them for every user"
        )
        facts[f"{name}, grown by at most"] = f"{report.growth(samples, name) / 1e6:.1f} MB"
        latest = host.story.seen.latest(name)
        assert latest
        facts[f"{name}, {AFTER} s after the last build"] = f"{latest.used_percent:.1f} %"
    facts["`docker run` after the builds"] = _tried(host.machine, _RUN)
    facts["a small build after the builds"] = _tried(host.machine, _BUILD)
    records = host.machine.out("grep -oE '^[0-9]{10}' /var/lib/incident/records; date +%s").split()
    facts["the service's longest time without a record"] = f"{report.longest_gap([*map(int, records)])} s"


def _tried(machine: Machine, command: str) -> str:
    """What came of a command; where it failed, what it said of it."""
    try:
        done = machine.run(f"timeout 90 {command} 2>&1", check=False)
    except subprocess.TimeoutExpired:
        return "does not end"
    if done.returncode == 0:
        return "works"
    lines = _plain(done.stdout).splitlines() or [f"exit code {done.returncode}"]
    return f"fails: {next((line for line in lines if 'no space' in line.lower()), lines[-1])}"


def _cut_and_boot(host: Host, clock: Clock) -> None:
    host.story.power = clock()
    _tell(host, clock, "power pulled")
    host.machine.cut()
    try:
        host.machine.boot()
    except LabError as error:
        host.story.facts["boots after the power cut"] = f"no: {error}"
        _tell(host, clock, "does not boot")
        host.machine.cut()
    else:
        host.story.facts["boots after the power cut"] = f"yes, ssh after {clock() - host.story.power:.0f} s"
        _tell(host, clock, "booted")


def _look_after_the_boot(host: Host) -> None:
    for question, command in _QUESTIONS.items():
        answer = host.machine.run(command, check=False).stdout
        host.story.facts[question] = ", ".join(line.strip() for line in answer.splitlines()) or "none"
    host.story.facts["`docker run` after the boot"] = _tried(host.machine, _RUN)
    host.story.facts["a small build after the boot"] = _tried(host.machine, _BUILD)
