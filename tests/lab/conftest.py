"""Machines for the lab tests, and pyinfra run on them as a user runs it.

What tests claim they look at from outside, through ssh. A machine is shared by the tests of a file and brought back to
a snapshot by each: two seconds instead of a boot.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lab.machine import Machine
from lab.repository import Repository

TOP = Path(__file__).parent.parent.parent
INVENTORY = "inventory/lab.py"
DATA = Path(__file__).parent / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("docker-bulkhead")
    group.addoption("--full", action="store_true", help="every lab test, not only the chosen part")
    group.addoption("--seed", default="0", help="what draws the sample of the tests that run in full only")


def pytest_report_header(config: pytest.Config) -> str:
    return "every test" if config.getoption("--full") else f"sample drawn by --seed {config.getoption('--seed')}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests have measured: their own output is not shown where several run side by side."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


def pytest_sessionstart(session: pytest.Session) -> None:
    plugins = session.config.pluginmanager
    if reporter := plugins.get_plugin("terminalreporter"):
        plugins.register(FailuresAtOnce(reporter))


class FailuresAtOnce:
    """Shows what failed when it does, too: a run is long, and may be ended before its summary."""

    def __init__(self, reporter: Any) -> None:
        self.reporter = reporter

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.reporter.write_line(f"\n{report.nodeid}\n{report.longreprtext}")


# Last: what is drawn is drawn of what -k has selected.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return

    def drawn(count: int, name: str, cases: list[Any]) -> list[Any]:
        return random.Random(config.getoption("--seed") + name).sample(cases, min(count, len(cases)))

    files = sorted({item.path for item in items if item.get_closest_marker("turn")})
    waiting = set(files) - set(drawn(1, "turn", files))
    left_out = [item for item in items if item.path in waiting or item.get_closest_marker("full")]
    sampled: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item not in left_out and (marker := item.get_closest_marker("sample")):
            sampled.setdefault(marker.kwargs.get("of", item.nodeid.split("[")[0]), []).append(item)
    for name, cases in sampled.items():
        chosen = drawn(cases[0].get_closest_marker("sample").args[0], name, cases)  # type: ignore[union-attr]
        left_out += [case for case in cases if case not in chosen]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


# Makes the image "box" on a machine: nothing but busybox.
IMAGE = (
    "mkdir -p /root/image/bin && cp /bin/busybox /root/image/bin/busybox && cd /root/image/bin && "
    "for name in sh dd sleep cat env true; do ln -sf busybox $name; done && tar -C /root/image -c . | docker import - box >/dev/null"
)


@dataclass
class Run:
    """A run of pyinfra that has ended."""

    code: int
    output: str
    plan: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """Operations that changed something, of pyinfra's own results."""
        match = re.search(r"Grand total\s+(\d+)\s+(\d+|-)", self.output)
        assert match, self.output
        return 0 if match[2] == "-" else int(match[2])

    @property
    def changed(self) -> set[str]:
        """The names of the operations that changed something."""
        blocks = re.findall(r"--> Starting operation: (.*?)\s*\n(.*?)(?=\n-->|\Z)", self.output, re.DOTALL)
        return {name for name, block in blocks if re.search(r"\]\s+Success$", block, re.MULTILINE)}

    @property
    def predicted(self) -> set[str]:
        """The names of the operations that a dry run says will change something."""
        return {
            step["name"] for step in self.plan if step["hosts_with_change"] or step["hosts_with_conditional_change"]
        }


def command(*names: str, options: tuple[str, ...] = ("-y",), script: str = "deploy.py", **settings: Any) -> list[str]:
    """pyinfra's command line for machines of the lab."""
    line = [sys.executable, "-m", "pyinfra", *options, INVENTORY]
    for name in names:
        line += ["--limit", name]
    for name, value in settings.items():
        line += ["--data", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return [*line, script]


def start(line: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        line, cwd=TOP, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def deploy(*machines: Machine, options: tuple[str, ...] = ("-y",), **settings: Any) -> Run:
    """Run the deploy on these machines as a user does."""
    process = start(command(*(machine.name for machine in machines), options=options, **settings))
    output, _ = process.communicate(timeout=1200)
    return Run(process.returncode, output)


def converge(machine: Machine, **settings: Any) -> Run:
    """Run the deploy; it must end well."""
    run = deploy(machine, **settings)
    assert run.code == 0, run.output
    return run


def dry(machine: Machine, **settings: Any) -> Run:
    """What `--dry --json` says."""
    line = command(machine.name, options=("--dry", "--json"), **settings)
    done = subprocess.run(line, cwd=TOP, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return Run(done.returncode, done.stderr, json.loads(done.stdout)["plan"])


def verification(machine: Machine, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the verification as a user does."""
    return subprocess.run(
        ["scripts/verify", INVENTORY, "--limit", machine.name, *options],
        cwd=TOP,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=1200,
    )


def verify(machine: Machine, *options: str) -> None:
    """Run the verification; it must pass."""
    done = verification(machine, *options)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_isolated(machine: Machine) -> None:
    """The heart of the verification in one command: Docker runs, on the volume, and root is another device."""
    observed = machine.out(
        "systemctl is-active docker containerd; findmnt -no SOURCE /var/lib/docker; findmnt -no SOURCE /var/lib/containerd; "
        "docker info -f '{{.Driver}} {{.LiveRestoreEnabled}}'; findmnt --verify >/dev/null && echo fstab-valid"
    ).splitlines()
    assert observed[:2] == ["active", "active"], observed
    assert observed[2].endswith("docker--lv[/docker]"), observed
    assert observed[3].endswith("docker--lv[/containerd]"), observed
    assert observed[4:] == ["overlay2 true", "fstab-valid"], observed


FINGERPRINT = (
    "cat /etc/fstab; find /etc/docker /etc/bulkhead /etc/systemd/system /etc/apt -type f 2>/dev/null | sort | xargs sha256sum; "
    "ls -A /var/lib /srv; lsattr -d /srv/* /var/lib/docker /var/lib/containerd 2>/dev/null; "
    "lsblk; pvs; vgs; lvs -o+lv_tags; dpkg-query -W; sort /proc/self/mounts; systemctl is-active docker containerd || true"
)


def fingerprint(machine: Machine) -> str:
    """Everything on a machine that a run could change, as text."""
    return machine.out(FINGERPRINT)


@pytest.fixture(scope="module")
def machines(worker_prefix: str) -> Iterator[Callable[..., Machine]]:
    """A maker of machines that are gone when the file's tests are through."""
    made: list[Machine] = []

    # No nightly prune comes between, at whatever time of day the tests run.
    far_from_now = f"{(datetime.now(timezone.utc) + timedelta(hours=12)):%H}:00"

    def make(name: str, *, settings: dict[str, Any] | None = None, **recipe: Any) -> Machine:
        settings = {"prune_time": far_from_now, **(settings or {})}
        machine = Machine.create(f"{worker_prefix}-{name}", settings=settings, **recipe)
        made.append(machine)
        return machine

    yield make
    for machine in made:
        if machine.directory.exists():
            machine.destroy()


@pytest.fixture(scope="module")
def repository() -> Iterator[Repository]:
    """Served for as long as any test's file needs it: two may run side by side."""
    with Repository.served() as repository:
        yield repository


@pytest.fixture(scope="session")
def worker_prefix() -> str:
    return f"test{os.getpid()}"


def peak_memory(line: list[str]) -> tuple[str, int]:
    """Run a command, which must succeed; what it printed, and the most memory it had at once, in bytes."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(line, cwd=TOP, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        # Of this process alone: RUSAGE_CHILDREN has the largest of all that were ever waited for, machines among them.
        _, status, used = os.wait4(process.pid, 0)
        output.seek(0)
        text = output.read()
    assert os.waitstatus_to_exitcode(status) == 0, text
    return text, used.ru_maxrss * 1024


def send(machine: Machine, file: Path, to: str) -> None:
    """Put a text file onto a machine."""
    machine.run(f"cat >{to} <<'EOF'\n{file.read_text()}\nEOF")


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.2)


def wait_until_booted(machine: Machine) -> None:
    """Until all that a boot starts has started, and what had to be recovered is recovered."""
    machine.run(
        "systemctl is-system-running --wait; while systemctl is-active --quiet bulkhead-recover.service; do sleep 0.5; done",
        timeout=600,
    )


def cut_and_boot(machine: Machine) -> None:
    """Pull the power, and let the machine boot to its end."""
    machine.cut()
    machine.boot()
    wait_until_booted(machine)


@contextlib.contextmanager
def killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def relocation(machine: Machine, *directories: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A move that has begun, with the lines that it says."""
    return killed_at_the_end(start([*machine.ssh_command(user="root"), f"bulkhead relocate {' '.join(directories)}"]))


def until(process: subprocess.Popen[str], words: str, seconds: float) -> None:
    """Wait until a process prints a line with these words, and so many seconds longer."""
    assert process.stdout
    for line in process.stdout:
        if words in line:
            time.sleep(seconds)
            return
    raise AssertionError(f"the move ended before it printed {words!r}")


def kill_the_move(machine: Machine) -> None:
    """Kill the program that moves, and wait until what systemd does about it is over."""
    machine.run("systemctl kill --kill-whom=main --signal=KILL bulkhead-relocate.service", check=False)
    state = "systemctl show --property ActiveState --value bulkhead-relocate.service"
    wait_until(lambda: machine.out(state) in ("inactive", "failed"), 300)
