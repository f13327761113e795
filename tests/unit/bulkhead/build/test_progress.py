"""How the volume fills while a build runs, and signals on the way to docker."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bulkhead.build import progress as build_progress
from bulkhead.build.progress import Gauge, describe, kind_of_display
from bulkhead.storage.space import Space

from .build_host import BuildHost, G, run

TOP = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("progress", "terminal", "term", "kind"),
    [
        ("", True, "xterm", "title"),
        ("tty", True, "xterm", "title"),
        ("quiet", True, "xterm", "title"),
        ("plain", True, "xterm", "lines"),
        ("", True, "dumb", ""),
        ("", False, "xterm", "lines"),
        ("plain", False, "dumb", "lines"),
        ("quiet", False, "xterm", ""),
        ("rawjson", False, "xterm", ""),
    ],
)
def test_kind_of_display_depends_on_the_terminal_and_dockers_progress(
    monkeypatch: pytest.MonkeyPatch, progress: str, terminal: bool, term: str, kind: str
) -> None:
    monkeypatch.setenv("TERM", term)
    assert kind_of_display(progress, terminal) == kind


def test_without_a_terminal_there_is_a_line_every_few_seconds(host: BuildHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build_progress._EVERY, "lines", 0.1)
    live: list[tuple[float, str]] = []

    def say(line: str) -> None:
        if line.startswith("["):
            live.append((time.monotonic(), line))
        if len(live) == 3:
            (host.place / "enough").touch()

    monkeypatch.setattr(build_progress, "say", say)
    host.docker(f"echo {5 * G} >written; until [ -e enough ]; do sleep 0.02; done")
    assert run() == 0
    assert len(live) >= 3
    assert live[-1][0] - live[0][0] > 0.1
    assert live[-1][1].startswith("[#####.....] 55 % used, 45G free, 5.0G since the start")


def test_live_line_says_when_the_floor_is_reached() -> None:
    volume = Space(os.statvfs_result((1, 1, 100 * G, 40 * G, 40 * G, 0, 0, 0, 0, 255)))
    assert describe(volume, written=G, rate=2**28, floor=5 * G) == (
        "[######....] 60 % used, 40G free, 1.0G since the start, +256M/s, 2 min 20 s to the floor"
    )


@pytest.mark.usefixtures("host")
def test_gauge_goes_on_without_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    gauge = Gauge("/volume", 2 * G)

    def gone(_: str) -> os.statvfs_result:
        raise OSError("gone")

    monkeypatch.setattr(os, "statvfs", gone)
    gauge.sample()
    assert gauge.volume.available == 50 * G


# Its docker writes down the signals that it gets, and ends a moment after the first.
DOCKER = f"""#!{sys.executable}
import signal, sys
wanted = {{signal.SIGINT, signal.SIGTERM}}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("building", flush=True)
got = []
while (info := signal.sigtimedwait(wanted, 0.5 if got else 20)):
    got.append(info.si_signo)
sys.stdout.write(" ".join(["got", *(str(int(one)) for one in got)]) + "\\n") # at once: the title goes to the same terminal
sys.exit(130)
"""


RUN_WATCHED = """
import argparse, os, sys
from bulkhead.build import progress
os.statvfs = lambda _: os.statvfs_result((1, 1, 100 << 30, 50 << 30, 50 << 30, 0, 0, 0, 0, 255))
progress._EVERY["title"] = 0.1
progress._INTERVAL = 0.05
display = progress.Display(progress.kind_of_display("", sys.stderr.isatty()))
code, is_interrupted = progress.run_watched(["docker", "build", "."], progress.Gauge("", 0), display, str)
sys.exit(code + is_interrupted)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(TOP), "TERM": "xterm"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_passed_to_docker_and_its_code_is_kept(environment: dict[str, str], number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN_WATCHED], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "building\n"
    process.send_signal(number)
    assert process.stdout.read() == f"got {int(number)}\n"
    assert process.wait(timeout=20) == 131


@pytest.mark.parametrize("ignored", ["SIGCHLD", "SIGHUP"])
def test_signal_that_was_ignored_before_changes_nothing(environment: dict[str, str], ignored: str) -> None:
    (Path(environment["PATH"].partition(":")[0]) / "docker").write_text("#!/bin/sh\necho building\nsleep 1\nexit 7\n")
    script = f"import signal; signal.signal(signal.{ignored}, signal.SIG_IGN)\n{RUN_WATCHED}"
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.Signals[ignored])
    process.stdout.close()
    assert process.wait(timeout=20) == 7


def test_ctrl_c_that_comes_as_docker_ends_is_kept_and_ends_nothing_else() -> None:
    sent: list[int] = []

    def sample() -> None:
        if not sent:
            sent.append(1)
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    gauge = cast(Gauge, SimpleNamespace(sample=sample))
    try:
        found = build_progress.run_watched(["sh", "-c", "exit 7"], gauge, build_progress.Display(""), lambda _: None)
    except KeyboardInterrupt:
        pytest.fail("it ends the program before the build's result is told")
    assert found == (7, True)


def test_ctrl_c_reaches_docker_once_and_the_title_comes_back(environment: dict[str, str]) -> None:
    child, terminal = pty.fork()
    if not child:
        os.execve(sys.executable, [sys.executable, "-c", RUN_WATCHED], environment)
    output = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while chunk := os.read(terminal, 1000):
            output += chunk
            if b"\a" in output and b"building" in output and b"^C" not in output:
                os.write(terminal, b"\x03")
                output += b"^C"
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 131
    assert b"got 2\r\n" in output
    first, last = output.index(b"\033[22;2t\033]2;[#####.....] 50 % used"), output.rindex(b"\033[23;2t")
    assert first < last
    assert output.count(b"\033[22;2t") == output.count(b"\033[23;2t") == 1
