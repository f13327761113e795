"""The fleet of the benchmark: simulated hosts that are as they should be, and what a run on them costs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.fleet import FleetRun, median, rows_of
from benchmarks.results import TOP
from benchmarks.simulated_fleet import ANSWERS
from benchmarks.simulated_host import answers

from ..tasks.example_hosts import settings


def test_further_host_costs_what_the_larger_fleet_takes_beyond_the_smaller_one() -> None:
    runs = {1: FleetRun(2, 1, 80), 11: FleetRun(4, 3, 90), 111: FleetRun(44, 25, 200)}
    rows, (note,) = rows_of("deploy.py", runs)
    assert rows[0] == ("deploy.py", 1, 2, 1, 80, None, None)
    assert rows[1] == ("deploy.py", 11, 4, 3, 90, 200, 1024)
    assert rows[2][-2:] == (pytest.approx(220), pytest.approx(1.1 * 1024))
    assert "1.10 times the CPU time and 1.10 times the memory" in note


@pytest.mark.parametrize("sizes", [(1,), (1, 1000)])
def test_fleets_of_one_size_have_nothing_to_compare(sizes: tuple[int, ...]) -> None:
    rows, notes = rows_of("deploy.py", {size: FleetRun(2, size, 80) for size in sizes})
    assert [row[1] for row in rows] == list(sizes)
    assert notes == []


def test_median_is_of_each_figure() -> None:
    assert median([FleetRun(1, 9, 5), FleetRun(2, 8, 6), FleetRun(3, 7, 4)]) == FleetRun(2, 8, 5)


@pytest.fixture(scope="module")
def run(python_with_pyinfra: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    top = tmp_path_factory.mktemp("fleet")
    (top / "answers.json").write_text(json.dumps([lines for _, lines in answers(settings())]))
    (top / "inventory.py").write_text("docker = ['@fake/a', '@fake/b']")
    (top / "group_data").symlink_to(TOP / "inventory/group_data")
    line = [python_with_pyinfra, "-m", "benchmarks.simulated_fleet", "-y", "-vv", top / "inventory.py", "deploy.py"]
    environment = {**os.environ, ANSWERS: str(top / "answers.json")}
    return subprocess.run(line, cwd=TOP, env=environment, capture_output=True, text=True, timeout=120)


def test_simulated_hosts_are_as_they_should_be(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["@fake/a  unchanged", "@fake/b  unchanged", "", "2 hosts: 2 unchanged"]


def test_each_of_them_is_asked_by_two_commands(run: subprocess.CompletedProcess[str]) -> None:
    assert len(re.findall(r"^\[@fake/a\] +>>> ", run.stderr, re.MULTILINE)) == 2


def test_idle_deploy_has_as_many_operations(run: subprocess.CompletedProcess[str]) -> None:
    idle = Path(TOP, "benchmarks/idle_deploy.py").read_text()
    assert f"OPERATIONS = {run.stderr.count('--> Starting operation')}\n" in idle
