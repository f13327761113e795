"""Files on a host: read as they are, written whole, and no secret of theirs in a command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.support.files import File, FileStates, replace_file
from tasks.watch import JournalLimits, journald, receivers

from ..example_hosts import settings


def states_of(paths: list[str], service: str = "") -> dict[str, str]:
    fact = FileStates()
    done = subprocess.run(["sh", "-c", fact.command(paths, service)], capture_output=True, text=True, check=True)
    return fact.process(done.stdout.splitlines())


def write(path: Path, file: File) -> None:
    command = replace_file(str(path), file.content, file.mode)
    assert file.content not in str(command)
    subprocess.run(["sh", "-c", str(command)], input=command.connector_arguments["_stdin"], text=True, check=True)


def test_file_that_was_written_is_up_to_date(tmp_path: Path) -> None:
    file = File("secret=1\n'quoted' $HOME\n", mode="0600")
    path = tmp_path / "new" / "receivers"
    assert states_of([str(path)]) == {}
    write(path, file)
    assert path.read_text() == file.content
    assert states_of([str(path), f"{tmp_path}/none"]) == {str(path): file.state}
    path.chmod(0o644)
    assert states_of([str(path)])[str(path)] != file.state
    write(path, file)
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_that_its_service_has_not_read_yet_is_not_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho 'Tue 2026-11-24 03:00:00 UTC'\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = tmp_path / "journald.conf"
    write(path, File("[Journal]\n"))
    assert states_of([str(path)], "systemd-journald.service") == {str(path): "unread"}
    subprocess.run(["touch", "--date=2026-11-24 02:59 UTC", path], check=True)
    assert states_of([str(path)], "systemd-journald.service") == {str(path): File("[Journal]\n").state}


def test_only_root_reads_the_receivers_and_there_is_no_file_without_any() -> None:
    assert receivers(settings()) is None
    file = receivers(settings(alert_receivers={"ops": "slack://a/b/c", "mail": "mailto://x@example.com"}))
    assert file == File("ops=slack://a/b/c\nmail=mailto://x@example.com\n", mode="0600")


def test_journal_limit_of_the_hosts_own_stays() -> None:
    ours = journald(settings(journal_max_use="2G"), others=[])
    assert ours
    assert "SystemMaxUse=2G" in ours.content
    assert journald(settings(), others=["/etc/systemd/journald.conf:SystemMaxUse=4G"]) is None
    assert journald(settings(journal_max_use=""), others=[]) is None
    assert "50-bulkhead.conf" in JournalLimits().command()
