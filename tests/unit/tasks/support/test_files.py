"""Files on a host: read as they are, written whole, and no secret of theirs in a command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.support.files import File, FileStates, Present, files, removed, render, replace_file
from tasks.watch import JournalLimits, journald, receivers

from ..example_hosts import settings
from ..operations import OperationHost, calls, noted, performed, shell, stand_in


def states_of(paths: list[str], service: str = "") -> dict[str, str]:
    fact = FileStates()
    done = subprocess.run(["sh", "-c", fact.command(paths, service)], capture_output=True, text=True, check=True)
    return fact.process(done.stdout.splitlines())


def write(path: Path, file: File) -> None:
    command = replace_file(str(path), file.content, file.mode)
    subprocess.run(["sh", "-c", str(command)], input=command.connector_arguments["_stdin"], text=True, check=True)


def test_file_that_was_written_is_up_to_date(tmp_path: Path) -> None:
    file = File("secret=1\n'quoted' $HOME\n", mode="0600")
    path = tmp_path / "new" / "receivers"
    assert "secret" not in str(replace_file(str(path), file.content))
    assert states_of([str(path)]) == {}
    write(path, file)
    assert path.read_text() == file.content
    assert states_of([str(path), f"{tmp_path}/none"]) == {str(path): file.state}
    path.chmod(0o644)
    assert states_of([str(path)])[str(path)] != file.state
    write(path, file)
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_that_is_cut_at_any_step_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    path, programs, steps = tmp_path / "etc" / "file", tmp_path / "bin", 0
    programs.mkdir()
    path.parent.mkdir()
    noted(programs, "mkdir", "rm", "base64", "chmod", "sync", "mv")
    stand_in(programs, "before", f"echo before >>{programs}/calls")
    command = replace_file(str(path), "new", "0640", before="before")
    stdin = command.connector_arguments["_stdin"]
    while True:
        path.write_text("old")
        done = shell(str(command), programs, stdin=stdin, CUT=str(steps + 1))
        called = calls(programs)
        if done.returncode != -9:
            break
        steps += 1
        assert path.read_text() == ("new" if called[-1] == f"sync {path.parent}" else "old")
    assert (done.returncode, done.stderr) == (0, "")
    assert called[2:] == [
        "base64 --decode",
        f"chmod 0640 {path}.new",
        f"sync {path}.new",
        "before",
        f"mv -fT {path}.new {path}",
        f"sync {path.parent}",
    ]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("content", ["", "no end", "\n", "two\nlines\n", "Gerät\n"])
def test_file_has_the_content_to_the_byte(tmp_path: Path, content: str) -> None:
    write(tmp_path / "file", File(content))
    assert (tmp_path / "file").read_text() == content


@pytest.mark.parametrize("kept", [0, 5, -1])
def test_content_that_did_not_arrive_whole_is_not_used(tmp_path: Path, kept: int) -> None:
    (tmp_path / "file").write_text("old")
    command = replace_file(str(tmp_path / "file"), "the new content")
    done = shell(str(command), tmp_path, stdin=command.connector_arguments["_stdin"][:kept])
    assert done.returncode != 0
    assert (tmp_path / "file").read_text() == "old"


def done_to(present: dict[str, str], service: str = "", **wanted: File | None) -> list[str]:
    """What is done to files that a host has in these states."""
    host = OperationHost({FileStates: present})
    return [str(one) for one in performed(files, host, wanted=wanted, service=service)]


def test_only_files_that_differ_are_written_and_only_those_that_exist_are_removed() -> None:
    same, other = File("a"), File("b")
    assert done_to({"same": same.state}, same=same, gone=None) == []
    write_other, remove = done_to(
        {"same": same.state, "other": same.state, "gone": same.state}, same=same, other=other, gone=None
    )
    assert write_other.endswith("mv -fT other.new other && sync .")
    assert remove == "rm -f gone"
    assert len(done_to({"a": File("a", mode="0600").state}, a=File("a"))) == 1


def test_service_is_restarted_after_a_change_and_only_then() -> None:
    file = File("a")
    assert done_to({"a": file.state}, "x.service", a=file) == []
    assert done_to({"a": "unread"}, "x.service", a=file)[1:] == ["systemctl restart x.service"]
    assert done_to({"a": "unread"}, "x.service", a=None) == ["rm -f a", "systemctl restart x.service"]


def test_what_exists_of_a_list_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "directory" / "below").mkdir(parents=True)
    (tmp_path / "other").touch()
    paths = [str(tmp_path / name) for name in ("directory", "none", "other")]
    found = Present().process(shell(Present().command(paths), tmp_path).stdout.splitlines())
    assert found == [paths[0], paths[2]]
    (command,) = performed(removed, OperationHost({Present: found}), paths=paths)
    assert str(command) == f"rm -rf {paths[0]} {paths[2]}"
    assert performed(removed, OperationHost({Present: []}), paths=paths) == []


def test_file_that_its_service_has_not_read_yet_is_not_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho 'Tue 2026-11-24 03:00:00 UTC'\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = tmp_path / "journald.conf"
    write(path, File("[Journal]\n"))
    for moment, is_read in (("02:59", True), ("03:00", True), ("03:01", False)):
        subprocess.run(["touch", f"--date=2026-11-24 {moment} UTC", path], check=True)
        state = File("[Journal]\n").state if is_read else "unread"
        assert states_of([str(path)], "systemd-journald.service") == {str(path): state}


def test_value_stands_in_a_file_as_it_is() -> None:
    assert "\nSystemMaxUse=<&'\">\n" in render("journald.conf.j2", limit="<&'\">")


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
