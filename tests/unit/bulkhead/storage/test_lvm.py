"""What LVM says, from a command that answers as lvs does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bulkhead import command
from bulkhead.storage import lvm
from bulkhead.storage.lvm import GroupUsage, SnapshotUsage

LVS = """\
  ubuntu-vg|107369988096|10737418240|ubuntu-lv||
  ubuntu-vg|107369988096|10737418240|docker-lv||
  ubuntu-vg|107369988096|10737418240|before-build|docker-lv|83.21
  ubuntu-vg|107369988096|10737418240|lost|docker-lv|100.00
  data|4290772992|0|thin-snapshot|thin|
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_groups_and_snapshots_are_seen(programs: Path) -> None:
    program(programs / "lvs", f"cat <<'E'\n{LVS}E")
    assert lvm.usage() == (
        [GroupUsage("ubuntu-vg", 107369988096, 10737418240), GroupUsage("data", 4290772992, 0)],
        [
            SnapshotUsage("ubuntu-vg", "before-build", "docker-lv", 83.21),
            SnapshotUsage("ubuntu-vg", "lost", "docker-lv", 100.0),
        ],
    )


def test_volumes_are_told_with_tags_and_what_is_merged(programs: Path) -> None:
    lines = """\
  docker-lv|Owi-aos---|6442450944||23.90|docker-bulkhead|1795573124
  [docker-lv-snapshot]|Swi-a-s---|5708447744|docker-lv|23.90|bulkhead-snapshot,mine|1795575357
  ubuntu-lv|-wi-a-----|32212254720||||1795561591
"""
    program(programs / "lvs", f"cat <<'E'\n{lines}E")
    origin, copy, root = lvm.volumes("ubuntu-vg")
    assert (origin.is_merging, copy.is_merging, root.is_merging) == (True, True, False)
    assert (origin.is_open, root.is_open) == (True, False)
    assert copy == lvm.VolumeRecord(
        "docker-lv-snapshot", "Swi-a-s---", 5708447744, "docker-lv", 23.9, ("bulkhead-snapshot", "mine"), 1795575357
    )
    assert (root.percent, root.tags) == (None, ())


def test_volume_that_is_merged_is_no_snapshot(programs: Path) -> None:
    program(programs / "lvs", "echo '  data|20|10|docker-lv||23.90'")
    assert lvm.usage() == ([GroupUsage("data", 20, 10)], [])


def test_warning_beside_the_answer_does_not_matter(programs: Path) -> None:
    program(programs / "lvs", "echo '  WARNING: VG data is missing PV' >&2; echo '  data|20|10|lv||'; exit 5")
    assert lvm.usage() == ([GroupUsage("data", 20, 10)], [])


def test_failure_is_told(programs: Path) -> None:
    program(programs / "lvs", "echo '  /run/lock/lvm: open failed' >&2; exit 5")
    with pytest.raises(OSError, match="`lvs` says: /run/lock/lvm: open failed"):
        lvm.usage()


def test_hung_device_holds_nobody_up(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs / "lvs", "exec sleep 60")
    monkeypatch.setattr(lvm, "PATIENCE", 0.2)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"`lvs` did not end within 0\.2 s"):
        lvm.usage()
    assert time.monotonic() - began < 10


def test_host_without_lvm_has_no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(lvm, "_COMMAND", ["no-such-lvs"])
    assert lvm.usage() == ([], [])


def test_others_than_root_are_not_shown_any(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs / "lvs", f"cat <<'E'\n{LVS}E")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert lvm.usage() == ([], [])


def test_system_programs_are_found_with_the_path_that_cron_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert command.output_of(["chroot", "--version"], 10).startswith("chroot")


def test_program_in_the_working_directory_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "no-such-lvs", "echo taken")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        command.output_of(["no-such-lvs"], 10)
