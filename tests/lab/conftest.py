"""Make machines for the lab tests, and run pyinfra on them as a user does.

The tests inspect a machine from outside, over ssh. The tests of a file share one machine, and most of them restore a
snapshot first: that takes two seconds instead of a boot.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lab.deploy import INVENTORY, TOP, command
from lab.machine import Machine
from lab.repository import LabRepository
from tasks.support.archive import write
from tests.lab import ledger, recorder, sample

DATA = Path(__file__).parent / "data"


TIMEOUT = 60 * 60  # seconds for a test with what it is the first to set up; the machines are removed after it

DRAWN = pytest.StashKey[set[str]]()
PASSED = pytest.StashKey[frozenset[str]]()  # the tests that a full run leaves out
TREE = pytest.StashKey[ledger.Tree]()
LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("docker-bulkhead")
    group.addoption("--full", action="store_true", help="every lab test that has not passed on this commit yet")
    group.addoption("--again", action="store_true", help="with --full: also what has passed")
    group.addoption("--seed", default="0", help="draws the sample of the tests that do not always run")
    group.addoption(
        "--until", type=float, metavar="TIME", help="seconds since 1970 after which no test of the sample begins"
    )


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for a main process."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = 0
    if is_worker(config):
        config.stash[PASSED] = frozenset(config.workerinput["passed"])
        return
    tree = config.stash[TREE] = ledger.tree()
    resumes = config.getoption("--full") and not config.getoption("--again") and tree.clean
    config.stash[PASSED] = frozenset(ledger.Ledger(tree.commit).passed() if resumes else ())
    if not config.option.collectonly:
        recorder.stop_on_signals()
        recorder.remove_machines_left_behind()
        again = config.getoption("--full") and config.getoption("--again")
        config.pluginmanager.register(recorder.Recorder(tree, again=again))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    # All workers leave out the same tests, also a worker that replaces a crashed one later.
    node.workerinput["passed"] = sorted(node.config.stash[PASSED])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[LEFT_OUT] += getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_report_header(config: pytest.Config) -> str:
    if is_worker(config):
        return ""
    if not config.getoption("--full"):
        return f"at most {sample.BUDGET:.0f} minutes of lab tests by {sample.DURATIONS.name}, drawn by --seed {config.getoption('--seed')}"
    tree = config.stash[TREE]
    if not tree.clean:
        return "every lab test; the checkout has changes that are not committed, so no result is kept"
    passed = len(config.stash[PASSED])
    return f"every lab test on commit {tree.name}" + (f" but the {passed} that have passed on it" if passed else "")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the tests measured: pytest does not show their own output if several run side by side."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


def pytest_sessionstart(session: pytest.Session) -> None:
    plugins = session.config.pluginmanager
    if reporter := plugins.get_plugin("terminalreporter"):
        plugins.register(FailuresAtOnce(reporter))


# Last: by then the workers have ended.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if is_worker(config):
        config.workeroutput["left_out"] = config.stash[LEFT_OUT]
        return
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and config.stash[LEFT_OUT]:
        session.exitstatus = pytest.ExitCode.OK
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        recorder.remove_machines_left_behind()
        LabRepository.stop_unused()


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.timeout(TIMEOUT, method="signal"))  # a mark of the test itself comes first


class FailuresAtOnce:
    """Print each failure as soon as it happens: a run is long, and may be stopped before its summary."""

    def __init__(self, reporter: Any) -> None:
        self.reporter = reporter

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.reporter.write_line(f"\n{report.nodeid}\n{report.longreprtext}")


# Last: what is drawn is drawn of what -k has selected.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:] = on_one_host(items)
    passed = config.stash[PASSED]
    if config.getoption("--full"):
        runs = {item.nodeid for item in items} - passed
        config.stash[LEFT_OUT] = len(items) - len(runs)
        config.stash[DRAWN] = set()
    else:
        cases = [case_of(item) for item in items]
        runs = sample.chosen(cases, config.getoption("--seed"), sample.durations())
        config.stash[DRAWN] = runs - {case.test for case in cases if case.always}
    left_out = [item for item in items if item.nodeid not in runs]
    items[:] = [item for item in items if item.nodeid in runs]
    config.hook.pytest_deselected(items=left_out)


def on_one_host(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests without those whose case another host has, as the mark in_turn says."""
    marked = [item for item in items if isinstance(item, pytest.Function) and item.get_closest_marker("in_turn")]
    tests = []
    for item in marked:
        parameters = dict(item.callspec.params)
        host = str(parameters.pop(next(item.iter_markers("in_turn")).args[0]))
        tests.append((f"{item.path}::{item.originalname}", host, str(parameters)))
    elsewhere = {item for item, runs in zip(marked, sample.on_one_host(tests), strict=True) if not runs}
    return [item for item in items if item not in elsewhere]


def case_of(item: pytest.Item) -> sample.Case:
    """Return a test with its marks, as the sample needs them."""
    of_sample = item.get_closest_marker("sample")
    return sample.Case(
        item.nodeid,
        full=bool(item.get_closest_marker("full")),
        turn=bool(item.get_closest_marker("turn")),
        count=of_sample.args[0] if of_sample else 0,
        group=of_sample.kwargs.get("of", item.nodeid.split("[")[0]) if of_sample else "",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    until = item.config.getoption("--until")
    if until and time.time() > until and item.nodeid in item.config.stash[DRAWN]:
        pytest.skip("the time for the sample is over")


# A shell command that makes the image "box" on a machine. The image holds busybox and nothing else.
IMAGE = (
    "mkdir -p /root/image/bin && cp /bin/busybox /root/image/bin/busybox && cd /root/image/bin && "
    "for name in sh dd sleep cat env true; do ln -sf busybox $name; done && tar -C /root/image -c . | docker import - box >/dev/null"
)


@dataclass
class Run:
    """The result of a run of pyinfra."""

    code: int
    output: str
    plan: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """Return how many operations changed something, as pyinfra counts them."""
        match = re.search(r"Grand total\s+(\d+)\s+(\d+|-)", self.output)
        assert match, self.output
        return 0 if match[2] == "-" else int(match[2])

    @property
    def changed(self) -> set[str]:
        """Return the names of the operations that changed something."""
        blocks = re.findall(r"--> Starting operation: (.*?)\s*\n(.*?)(?=\n-->|\Z)", self.output, re.DOTALL)
        return {name for name, block in blocks if re.search(r"\]\s+Success$", block, re.MULTILINE)}

    @property
    def predicted(self) -> set[str]:
        """Return the names of the operations that will change something, according to a dry run."""
        return {
            step["name"] for step in self.plan if step["hosts_with_change"] or step["hosts_with_conditional_change"]
        }


def start(line: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        line, cwd=TOP, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def deploy(*machines: Machine, options: tuple[str, ...] = ("-y",), **settings: Any) -> Run:
    """Run the deploy on these machines as a user does."""
    process = start(command(*(machine.name for machine in machines), options=options, **settings))
    output, _ = process.communicate(timeout=3000)
    return Run(process.returncode, output)


def converge(machine: Machine, **settings: Any) -> Run:
    """Run the deploy, and assert that it succeeds."""
    run = deploy(machine, **settings)
    assert run.code == 0, run.output
    return run


def dry(machine: Machine, **settings: Any) -> Run:
    """Run `--dry --json`, and return its plan."""
    line = command(machine.name, options=("--dry", "--json"), **settings)
    done = subprocess.run(line, cwd=TOP, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return Run(done.returncode, done.stderr, json.loads(done.stdout)["plan"])


def converge_as_predicted(machine: Machine, **settings: Any) -> Run:
    """Run the deploy, and assert that it changes exactly what a dry run has announced."""
    predicted = dry(machine, **settings).predicted
    run = converge(machine, **settings)
    assert run.changed == predicted
    return run


def verification(machine: Machine, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the whole verification as a user does, with a build and containers."""
    return subprocess.run(
        ["scripts/verify", INVENTORY, "--limit", machine.name, "--containers", *options],
        cwd=TOP,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=1200,
    )


def verify(machine: Machine, *options: str) -> None:
    """Run the verification, and assert that it passes."""
    done = verification(machine, *options)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_isolated(machine: Machine) -> None:
    """Assert that Docker runs on the volume, not on root: the core of the verification, in one command."""
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
    """Return everything on a machine that a run could change, as text."""
    return machine.out(FINGERPRINT)


@pytest.fixture(scope="module")
def machines(worker_prefix: str) -> Iterator[Callable[..., Machine]]:
    """Return a function that makes machines. They are removed after the last test of the file.

    A machine takes a processor also when nothing happens on it. So a new one cuts the power of those made before, which a
    snapshot brings back; unless it is to run ``beside`` them.
    """
    made: list[Machine] = []

    # Keep the nightly prune away from the tests, at whatever time of day they run.
    far_from_now = f"{(datetime.now(timezone.utc) + timedelta(hours=12)):%H}:00"

    def make(name: str, *, beside: bool = False, settings: dict[str, Any] | None = None, **recipe: Any) -> Machine:
        for earlier in made:
            if not beside and earlier.directory.exists():
                earlier.cut()
        settings = {"prune_time": far_from_now, **(settings or {})}
        machine = Machine.create(f"{worker_prefix}-{name}", settings=settings, **recipe)
        made.append(machine)
        return machine

    yield make
    for machine in made:
        if machine.directory.exists():
            machine.destroy()


@pytest.fixture(scope="module")
def repository() -> Iterator[LabRepository]:
    """Serve the repository as long as any file of tests needs it: two files may run side by side."""
    with LabRepository.served() as repository:
        yield repository


@pytest.fixture(scope="session")
def worker_prefix() -> str:
    return f"{recorder.PREFIX}{os.getpid()}"


def peak_memory(line: list[str]) -> tuple[str, int]:
    """Run a command that must succeed, and return its output and its peak memory in bytes."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(line, cwd=TOP, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        # wait4 measures this process alone. RUSAGE_CHILDREN is the maximum over all ended children, machines included.
        with kill_after(process, 600):
            _, status, used = os.wait4(process.pid, 0)
        output.seek(0)
        text = output.read()
    assert os.waitstatus_to_exitcode(status) == 0, text
    return text, used.ru_maxrss * 1024


def send(machine: Machine, file: Path, to: str) -> None:
    """Copy a text file to a machine."""
    machine.run(f"cat >{to} <<'EOF'\n{file.read_text()}\nEOF")


def install_program_alone(machine: Machine, directory: Path) -> None:
    """Install buildx where Docker has none, and the host program as `scripts/program` writes it, without the deploy.

    Args:
        directory: an empty one, here.
    """
    if machine.recipe.suite == "trixie":
        machine.run("apt-get -qq update && apt-get -qq -y install docker-buildx >/dev/null 2>&1", timeout=600)
    write(program := directory / "bulkhead")
    copy = [*machine.ssh_command(user="root"), "cat >/usr/local/bin/bulkhead && chmod 755 /usr/local/bin/bulkhead"]
    subprocess.run(copy, input=program.read_bytes(), check=True)


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not become true within {seconds:.0f} s"
        time.sleep(0.2)


def wait_until_booted(machine: Machine) -> None:
    """Wait until the boot is complete and ``bulkhead-recover`` has ended."""
    machine.run(
        "systemctl is-system-running --wait; while systemctl is-active --quiet bulkhead-recover.service; do sleep 0.5; done",
        timeout=600,
    )


def cut_and_boot(machine: Machine) -> None:
    """Cut the power, boot the machine, and wait until the boot is complete."""
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
    """Start a move. The block gets its process, and can read the lines that it prints."""
    return killed_at_the_end(start([*machine.ssh_command(user="root"), f"bulkhead relocate {' '.join(directories)}"]))


@contextlib.contextmanager
def kill_after(process: subprocess.Popen[Any], seconds: float) -> Iterator[None]:
    """Kill a process that has not ended, and so closed its output, before the block ends."""
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


class TooLate(Exception):
    """The move was over before it was cut."""


def in_time(cut: Callable[[float], None], seconds: float, restore: Callable[[], object]) -> None:
    """Cut a move so many seconds after the beginning of a phase, or sooner where that is too late.

    A phase may be much shorter than it was when its length was measured.

    Args:
        restore: brings the machine back to where the move had not begun.

    Raises:
        TooLate: even a cut at once is.
    """
    for sooner in (seconds, seconds / 4):
        try:
            cut(sooner)
        except TooLate:
            restore()
        else:
            return
    cut(0)


def until(process: subprocess.Popen[str], pattern: str, seconds: float) -> None:
    """Wait until a process prints a line that matches, and then for ``seconds`` more.

    Raises:
        TooLate: it has ended by then.
    """
    assert process.stdout
    with kill_after(process, 1200):
        for line in process.stdout:
            if re.search(pattern, line):
                time.sleep(seconds)
                if (code := process.poll()) is not None:
                    assert code == 0, f"it failed within {seconds:.1f} s after {line!r}"
                    raise TooLate(f"it ended within {seconds:.1f} s after {line!r}")
                return
    raise AssertionError(f"it ended before it printed {pattern!r}")


def phase_lengths(machine: Machine, phases: Sequence[str], *directories: str) -> dict[str, float]:
    """Move directories, and return how many seconds it takes from the first line of each phase to that of the next."""
    began: dict[str, float] = {}
    with relocation(machine, *directories) as move, kill_after(move, 1200):
        assert move.stdout
        for line in move.stdout:
            ended = time.monotonic()  # the program still tidies up after its last line
            for phase in phases:
                if phase in line:
                    began.setdefault(phase, ended)
        assert move.wait() == 0
    assert list(began) == list(phases)
    times = [*began.values(), ended]
    return {phase: after - before for phase, before, after in zip(phases, times, times[1:], strict=False)}


def cut_the_move(machine: Machine) -> None:
    """Cut the power during a move, and boot.

    Raises:
        TooLate: there was no move to finish or to undo.
    """
    cut_and_boot(machine)
    if not machine.out("journalctl --boot --quiet --unit bulkhead-recover.service"):
        unfinished = 'grep -hsE \'"phase": "(copying|stopping|switching|checking|returning)"\' /var/lib/bulkhead/*.json'
        assert machine.run(unfinished, check=False).stdout == "", "nothing has recovered what is unfinished"
        raise TooLate("nothing was to be recovered")


def kill_the_move(machine: Machine) -> None:
    """Kill the program that moves the data, and wait until its service has ended.

    Raises:
        TooLate: the program has ended.
    """
    killed = machine.run("systemctl kill --kill-whom=main --signal=KILL bulkhead-relocate.service", check=False)
    if killed.returncode:
        raise TooLate(killed.stderr)
    state = "systemctl show --property ActiveState --value bulkhead-relocate.service"
    wait_until(lambda: machine.out(state) in ("inactive", "failed"), 600)
