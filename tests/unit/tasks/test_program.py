"""The host program as it is shipped: one file, the same each time, that runs with nothing but Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bulkhead.config import Config

from settings import Settings, defaults
from tasks.paths import DROP_INS, STORES
from tasks.preflight import Plan, examine
from tasks.program import archive, configuration
from tasks.volume import extra_entry

from .example_hosts import bare_host, settings, shared_vg


def plan_of(wanted: Settings) -> Plan:
    plan = examine(wanted, bare_host(), shared_vg()).plan
    assert plan
    return plan


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "bulkhead"
    program.write_bytes(archive())
    # -I: nothing of this project's tree or virtual environment can be imported.
    return subprocess.run([sys.executable, "-I", program, *arguments], capture_output=True, text=True, cwd=tmp_path)


def test_it_is_the_same_from_the_same_source() -> None:
    first = archive()
    archive.cache_clear()
    assert archive() == first
    assert first.startswith(b"#!/usr/bin/python3\n")


def test_it_runs_by_itself(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bulkhead ")
    for command in ("relocate", "rollback", "finalize", "status"):
        assert run(tmp_path, command, "--help").returncode == 0


def test_command_line_without_a_command_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


def test_it_reads_the_configuration_that_the_deploy_writes(tmp_path: Path) -> None:
    path = tmp_path / "bulkhead.json"
    wanted = settings(volume_mount="/srv/other", extra_volumes={"home-lv": {"mount": "/home", "size": "5G"}})
    path.write_text(configuration(wanted, plan_of(wanted)))
    config = Config.load(str(path))
    assert config.volume == "/srv/other"
    assert config.stores == STORES
    assert [(entry.source, entry.target) for entry in config.fstab] == [
        ("/srv/other/docker", "/var/lib/docker"),
        ("/srv/other/containerd", "/var/lib/containerd"),
    ]
    assert config.extra_volumes == (extra_entry("/home", "/dev/mapper/ubuntu--vg-home--lv", "ext4"),)
    assert set(config.drop_ins) == set(DROP_INS.values())
    assert config.patience == defaults()["relocation_patience"]


def test_configuration_has_a_newline_at_its_end_and_no_secret() -> None:
    wanted = settings(daemon_json={"http-proxy": "http://me:hunter2@proxy.example.com"})
    text = configuration(wanted, plan_of(wanted))
    assert text.endswith("}\n")
    assert "hunter2" not in text
    json.loads(text)
