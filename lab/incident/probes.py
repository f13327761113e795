"""Observe machines from outside: how full the disks are, and whether each probe still works."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

from lab import LabError
from lab.machine import Machine

TIMEOUT = 60.0  # seconds; a machine under load is slow, and slow is no failure


@dataclass(frozen=True)
class Probe:
    """A function of a host that works or fails."""

    name: str
    what: str
    command: str  # a shell command that succeeds when it works
    user: str = ""  # log in anew as this user; empty: use root's open connection
    rest: float = 10.0  # seconds between two attempts; longer where an attempt costs an emulated machine much

    def attempt(self, machine: Machine, session: Session, clock: Callable[[], float]) -> Outcome:
        began = clock()
        try:
            if self.user:
                code, output = login(machine, self.user, self.command, TIMEOUT)
            else:
                code, output = session.run(self.command, TIMEOUT)
        except LabError as error:
            code, output = -1, str(error)
        return Outcome(began, self.name, code == 0, clock() - began, output)


# Probes check what a write left on the disk, not its exit code. A report younger than 75 s means that a job of the last
# minute wrote it.
PROBES = (
    Probe("ssh", "a user logs in", "true", user="worker"),
    Probe("sudo", "that user runs `sudo -n true`", "runuser -u worker -- sudo -n true"),
    Probe(
        "journald",
        "a line given to `logger` is found in the journal on the disk",
        "token=$(cat /proc/sys/kernel/random/uuid); logger -t incident $token && journalctl --sync && "
        "journalctl --directory /var/log/journal --identifier incident --lines 3 --output cat | grep -q $token",
    ),
    Probe(
        "apt",
        "`apt-get install --reinstall` of a local package of 100 kB",
        "DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=30 install --reinstall /root/incident-probe.deb",
        rest=40.0,
    ),
    Probe(
        "cron",
        "a job that runs each minute writes its report (a failure shows up to 75 s later)",
        "age=$(($(date +%s) - $(cat /var/lib/incident/report))); echo $age s old; [ $age -lt 75 ]",
    ),
    Probe(
        "service",
        "the service of an ordinary user writes a record each second",
        "age=$(($(date +%s) - $(tail -n 1 /var/lib/incident/records | cut -d ' ' -f 1))); echo $age s old; [ $age -lt 10 ]",
    ),
    Probe("docker", "`docker ps` answers within 10 s", "timeout 10 docker ps --quiet"),
)


class Sample(NamedTuple):
    """How full a filesystem is, in bytes. ``free`` is what root can still write, ``available`` what others can."""

    time: float
    filesystem: str
    size: int
    free: int
    available: int

    @property
    def used_percent(self) -> float:
        return 100 * (self.size - self.free) / self.size


class Outcome(NamedTuple):
    """One attempt of a probe: when it began, how long it took, and its output."""

    time: float
    probe: str
    worked: bool
    seconds: float
    output: str


@dataclass
class Observations:
    samples: list[Sample] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def latest(self, filesystem: str) -> Sample | None:
        return next((sample for sample in reversed(self.samples) if sample.filesystem == filesystem), None)


class Session:
    """A shell on a machine that runs many commands after one login."""

    def __init__(self, machine: Machine) -> None:
        self._line = machine.ssh_command(user="root")
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: str, timeout: float) -> tuple[int, str]:
        """Run a command, and return its exit code and its output.

        Raises:
            LabError: the connection was lost, or the command took too long. The next command opens a new connection.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [*self._line, "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        try:
            return self._answer(self._process, command, timeout)
        except (LabError, OSError) as error:
            self.close()
            raise LabError(str(error)) from None

    def _answer(self, process: subprocess.Popen[bytes], command: str, timeout: float) -> tuple[int, str]:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"( {command}\n) </dev/null 2>&1; printf '\\001%s\\002' $?\n".encode())
        process.stdin.flush()
        deadline, output = time.monotonic() + timeout, b""
        while not output.endswith(b"\2"):
            if not select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise LabError(f"no answer within {timeout:.0f} s")
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                raise LabError("the connection was lost")
            output += part
        text, _, code = output[:-1].rpartition(b"\1")
        return int(code), text.decode(errors="replace").strip()

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None


class Watch:
    """Observe a machine until the block ends: its disks every second, the probes in turn."""

    def __init__(
        self,
        machine: Machine,
        filesystems: Mapping[str, str],
        observations: Observations,
        clock: Callable[[], float],
    ) -> None:
        self._machine, self._filesystems, self._observations, self._clock = machine, filesystems, observations, clock
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._sample, self._probe)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if kind is None:
            for thread in self._threads:
                thread.join()

    def _sample(self) -> None:
        session = Session(self._machine)
        command = f"stat --file-system --format '%S %b %f %a' {' '.join(self._filesystems.values())}"
        while not self._over.wait(1 - self._clock() % 1):
            now = self._clock()
            try:
                code, output = session.run(command, TIMEOUT)
            except LabError:
                continue  # a gap in the samples
            if code == 0:
                for name, line in zip(self._filesystems, output.splitlines(), strict=True):
                    block, size, free, available = map(int, line.split())
                    self._observations.samples.append(Sample(now, name, size * block, free * block, available * block))
        session.close()

    def _probe(self) -> None:
        session = Session(self._machine)
        due = dict.fromkeys(PROBES, 0.0)
        while not self._over.wait(0.2):
            probe = min(due, key=lambda probe: due[probe])
            if due[probe] <= time.monotonic():
                self._observations.outcomes.append(probe.attempt(self._machine, session, self._clock))
                due[probe] = time.monotonic() + probe.rest
        session.close()


def login(machine: Machine, user: str, command: str, timeout: float) -> tuple[int, str]:
    """Log in anew, run a command, and return its exit code and its output.

    Raises:
        LabError: the command took too long.
    """
    try:
        done = subprocess.run(
            [*machine.ssh_command(user=user), command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"no answer within {timeout:.0f} s") from None
    return done.returncode, done.stdout.strip()
