"""Whole runs of pyinfra on hosts that pyinfra plays: what scripts/deploy and pyinfra itself print, and how they exit."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.__main__ import RunProgress

TOP = Path(__file__).parents[3]

INVENTORY = """
fake = [
    (f"@fake/{kind}", {"my_kind": kind, "fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": {
        "apt-get": {"success": False, "stdout": "Reading", "stderr": "E: the list is locked"},
        "uname": {"success": False, "stderr": "no such program"},
        "relocate": {"success": False, "stdout": "copying", "stderr": "bulkhead: the volume is full. Docker runs as before"},
    }})
    for kind in _KINDS
]
gone = [("127.0.0.1", {"my_kind": "", "ssh_port": 1})] if _GONE else []
"""
DEPLOY = """
from pyinfra import host, logger
from pyinfra.context import ctx_host
from pyinfra.facts.server import Kernel
from pyinfra.operations import server
from fleet.record import note_refusal, summarize_at_the_end
from tasks import relocation

summarize_at_the_end(host.state)
kind = host.data.my_kind
if kind == "refused":
    note_refusal(["  found:  no room\\n  do:     add a disk"])
    host.log_styled("refused\\n  found:  no room", fg="red", log_func=logger.error)
    failing = ctx_host.get()
    failing.state.fail_hosts({failing})
elif kind == "unread":
    host.get_fact(Kernel)
elif kind == "moved":
    relocation.relocate(name="Relocation", directories=["/home"])
elif kind == "silent":
    pass  # as where a host answers nothing, and no command fails
else:
    commands = {"unchanged": [], "changed": ["true"], "failed": ["true", "apt-get update"], "warned": []}[kind]
    if kind == "warned":
        host.log_styled("Warning: a volume is larger than set", fg="yellow", log_func=logger.warning)
    server.shell(name="Preparation", commands=["true"] if kind == "changed" else [])
    server.shell(name="Packages", commands=commands)
"""
KINDS = ("unchanged", "changed", "refused", "failed", "unread", "warned")


def run_of(
    top: Path, *command: str, kinds: tuple[str, ...] = KINDS, gone: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command on the hosts of an inventory."""
    (top / "hosts.py").write_text(f"_KINDS, _GONE = {kinds!r}, {gone}\n{INVENTORY}")
    (top / "deploy.py").write_text(DEPLOY)
    return subprocess.run(
        [*command, "hosts.py", "deploy.py"],
        cwd=top,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def fleet(python_with_pyinfra: Path) -> tuple[str, ...]:
    """Return the command."""
    return (str(python_with_pyinfra), "-m", "fleet")


@pytest.fixture(scope="module")
def run(fleet: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    return run_of(tmp_path_factory.mktemp("run"), *fleet, "-y", gone=True)


def test_each_host_has_a_line_and_what_differs_its_details(run: subprocess.CompletedProcess[str]) -> None:
    lines, _, details = run.stdout.partition("\n\n")
    *others, gone = lines.splitlines()
    assert others == [
        "@fake/unchanged  unchanged",
        "@fake/changed    changed       2 operations",
        "@fake/refused    refused       no room",
        "@fake/failed     failed        Packages: E: the list is locked",
        "@fake/unread     failed        no such program",
        "@fake/warned     unchanged",
    ]
    assert re.match(r"127.0.0.1        failed        .*(SSH|[Cc]onnect)", gone)
    assert "changed, @fake/changed:\n  Packages\n  Preparation\n" in details or (
        "changed, @fake/changed:\n  Preparation\n  Packages\n" in details
    )
    assert "refused, @fake/refused:\n    found:  no room\n    do:     add a disk\n" in details
    assert "failed, @fake/failed:\n  Reading\n  E: the list is locked\n" in details
    assert "warning, @fake/warned:\n  a volume is larger than set\n" in details
    assert run.stdout.endswith("\n\n7 hosts: 2 unchanged, 1 changed, 1 refused, 3 failed\n")


def test_run_fails_and_shows_the_steps_where_there_is_no_terminal(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 1
    assert "Preparing operation files...\n" in run.stderr
    assert "\nPackages\n" in run.stderr
    assert "@fake" not in run.stderr


def test_run_that_refuses_nobody_succeeds(fleet: tuple[str, ...], tmp_path: Path) -> None:
    done = run_of(tmp_path, *fleet, "-y", kinds=("unchanged", "changed"))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 hosts: 1 unchanged, 1 changed")


def test_dry_run_waits_for_nobody_and_predicts_in_json(fleet: tuple[str, ...], tmp_path: Path) -> None:
    done = run_of(tmp_path, *fleet, "--json", "--dry")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["dry"] is True
    assert {host["host"]: (host["verdict"], len(host["operations"])) for host in found["hosts"]} == {
        "@fake/unchanged": ("unchanged", 0),
        "@fake/changed": ("changed", 2),
        "@fake/refused": ("refused", 0),
        "@fake/failed": ("changed", 1),
        "@fake/unread": ("failed", 0),
        "@fake/warned": ("unchanged", 0),
    }


def test_run_that_refuses_every_host_is_no_dry_run(fleet: tuple[str, ...], tmp_path: Path) -> None:
    done = run_of(tmp_path, *fleet, "--json", "-y", kinds=("refused",))
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["dry"], found["summary"]["refused"]) == (False, 1)
    assert done.stderr.count("No hosts remaining!") == 1


def test_terminal_shows_how_far_the_run_is() -> None:
    terminal, other_side = os.openpty()
    with os.fdopen(other_side, "w") as stream:
        progress = RunProgress(stream)
        progress.hosts = 12
        progress.begin("Engine | Docker is installed and runs")
        for host in ("a", "b", "b"):
            progress._drawn = 0.0  # long ago
            progress.done(host)
        progress.end()
    shown = ""
    with contextlib.suppress(OSError):  # EIO is the end: the other side is closed
        while part := os.read(terminal, 10_000):
            shown += part.decode()
    os.close(terminal)
    step = "Engine | Docker is installed and runs"
    assert [line.strip() for line in shown.split("\r\x1b[K")] == [
        "", f"0/12  {step}", f"1/12  {step}", f"2/12  {step}", f"2/12  {step}", "",
    ]  # fmt: skip


def test_own_output_of_pyinfra_is_shown_on_demand(fleet: tuple[str, ...], tmp_path: Path) -> None:
    done = run_of(tmp_path, *fleet, "-y", "-v", kinds=("changed",))
    assert "[@fake/changed] Success" in done.stderr
    assert done.stdout.endswith("1 host: 1 changed\n")


def test_pyinfra_itself_ends_with_the_verdicts(python_with_pyinfra: Path, tmp_path: Path) -> None:
    done = run_of(tmp_path, str(python_with_pyinfra), str(Path(sys.executable).with_name("pyinfra")), "-y")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "\n@fake/unchanged  unchanged\n"
        "@fake/changed    changed       2 operations\n"
        "@fake/refused    refused       no room\n"
        "@fake/failed     failed        Packages: E: the list is locked\n"
        "@fake/unread     failed        no such program\n"
        "@fake/warned     unchanged\n"
        "6 hosts: 2 unchanged, 1 changed, 1 refused, 2 failed\n"
    )
    assert done.stdout == ""


def test_host_whose_data_could_not_be_moved_says_why(fleet: tuple[str, ...], tmp_path: Path) -> None:
    done = run_of(tmp_path, *fleet, "-y", kinds=("moved",))
    assert done.returncode == 1
    why = "bulkhead: the volume is full. Docker runs as before"
    assert done.stdout.splitlines()[:4] == [
        f"@fake/moved  failed        Relocation: {why}", "", "failed, @fake/moved:", f"  {why}",
    ]  # fmt: skip


def test_run_that_ends_before_any_host_is_examined_shows_why_alone(fleet: tuple[str, ...], tmp_path: Path) -> None:
    done = run_of(tmp_path, *fleet, "-y", kinds=("unknown",))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "KeyError" in done.stderr


def test_host_that_was_not_examined_has_failed(fleet: tuple[str, ...], tmp_path: Path) -> None:
    done = run_of(tmp_path, *fleet, "-y", kinds=("silent",))
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "@fake/silent  failed        the run ended before this host was examined"


@pytest.mark.parametrize("limits", [(), ("--limit", "nobody")])
def test_run_without_a_host_fails(fleet: tuple[str, ...], tmp_path: Path, limits: tuple[str, ...]) -> None:
    done = run_of(tmp_path, *fleet, "-y", *limits, kinds=("unchanged",) if limits else ())
    assert done.returncode == 1
    wrong = "no host of hosts.py matches --limit nobody" if limits else "there is no host in hosts.py"
    assert done.stderr.endswith(f"scripts/deploy: {wrong}. Nothing was changed\n")
