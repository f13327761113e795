"""The files of builds that run or wait."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.guard import reservations
from bulkhead.guard.reservations import Account, Accounts, Reservation, Stop

from ...fake_proc import FakeProc
from .world import G


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proc: FakeProc) -> Path:
    monkeypatch.setattr(reservations, "DIRECTORY", str(tmp_path / "builds"))
    monkeypatch.setattr(reservations, "DOCKER_API", str(tmp_path / "docker.sock"))
    (tmp_path / "builds").mkdir()
    proc.add(10, "bulkhead build -- .")
    proc.add(11, "docker build .", parent=10)
    return tmp_path / "builds"


def place(process: str = "10 1000", *, client: str = "", since: float = 0, used: int = 0) -> Reservation:
    return Reservation(process, "app", 25 * G, 0, since, used, client=client)


def end(proc: FakeProc, pid: int) -> None:
    (proc.path / str(pid) / "stat").unlink()


def test_reservation_counts_as_long_as_its_process_lives(proc: FakeProc) -> None:
    reservations.save(place())
    assert reservations.standing() == [place()]
    end(proc, 10)
    assert reservations.standing() == []


def test_reservation_of_a_killed_command_counts_as_long_as_its_docker_lives(proc: FakeProc) -> None:
    reservations.save(place(client="11 1100"))
    end(proc, 10)
    assert len(reservations.standing()) == 1
    end(proc, 11)
    assert reservations.standing() == []


@pytest.mark.parametrize("process", ["10 999", "99 0", "10", "", "x y"])
def test_reservation_of_a_process_that_is_another_now_is_void(process: str) -> None:
    reservations.save(place()._replace(process=process))
    assert reservations.standing() == []


@pytest.mark.parametrize("client", ["x y", "x", "11", "11 0", " 1100"])
def test_client_of_a_damaged_file_does_not_live(client: str) -> None:
    reservations.save(place(client=client))
    assert reservations.standing() == [place(client=client)], "its `bulkhead build` lives"
    assert not reservations.is_alive(client), "it would end each of the guard's counts with an error"


def test_files_of_killed_builds_go_when_the_next_build_ends(proc: FakeProc, directory: Path) -> None:
    proc.add(20, "bulkhead build -- .")
    for process in ("10 1000", "20 2000", "30 3000"):
        reservations.save(place(process))
    reservations.save_accounts({}, [])
    reservations.remove(place())
    assert sorted(os.listdir(directory)) == ["20 2000.json", "guard.json"]


def test_build_of_another_user_that_is_hidden_keeps_its_space(
    proc: FakeProc, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(pid: int, _: int) -> None:
        raise PermissionError if pid == 20 else ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    proc.add(20, "bulkhead build -- .")
    for process in ("10 1000", "20 2000", "30 3000"):
        reservations.save(place(process))
    proc.hide(1, 20)
    assert [each.process for each in reservations.standing()] == ["10 1000", "20 2000"]
    assert reservations.is_alive("20 2000")
    assert not any(map(reservations.is_alive, ("20 x", "20", "20 0")))
    reservations.remove(place())
    assert os.listdir(directory) == ["20 2000.json"]


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}", '{"process": "10 1000"}', '{"process": 7, "need": "much"}'),
        '{"process": "10 1000", "name": "", "need": 1e999}',
        json.dumps(place()._asdict()).replace(f"{25 * G}", "Infinity"),
    ],
)
def test_damaged_file_reserves_nothing(directory: Path, content: str) -> None:
    (directory / "10 1000.json").write_text(content)
    (directory / "guard.json").write_text(content)
    assert reservations.standing() == []
    assert reservations.accounts() == Accounts()


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_is_no_file_is_neither_waited_for_nor_followed(directory: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other"
    other.write_text(json.dumps(place()._asdict()))
    for name in ("10 1000.json", "guard.json", "guard.json.new"):
        if kind == "pipe":
            os.mkfifo(directory / name)
        else:
            (directory / name).symlink_to(other)
    before = other.read_text()
    assert (reservations.standing(), reservations.accounts()) == ([], Accounts())
    reservations.save_accounts({"10 1000": Account(1, 2)}, [])
    assert reservations.accounts().builds == {"10 1000": Account(1, 2)}
    assert other.read_text() == before


def test_reservations_stand_in_the_order_in_which_they_came(proc: FakeProc) -> None:
    proc.add(20, "bulkhead build -- .")
    reservations.save(place(since=7))
    reservations.save(place("20 2000", since=3))
    assert [each.process for each in reservations.standing()] == ["20 2000", "10 1000"]


@pytest.mark.parametrize(
    ("total", "used", "remaining"),
    [(0, 50, 25), (10, 50, 15), (10, 45, 20), (10, 30, 25), (40, 90, 0)],
)
def test_remaining_is_the_need_without_what_it_wrote_and_what_stayed(total: int, used: int, remaining: int) -> None:
    assert place(used=40 * G).remaining(Account(total=total * G), used * G) == remaining * G


def test_what_the_guard_writes_down_is_read_by_the_builds() -> None:
    reservations.save_accounts({"10 1000": Account(1, 2, has_passed_limit=True)}, [Stop(3.5, ["11 1100"])])
    found = reservations.accounts()
    assert found.of(place()) == Account(1, 2, has_passed_limit=True)
    assert found.of(place("20 2000")) == Account()
    assert found.stops == (Stop(3.5, ["11 1100"]),)
    assert found.time > 0


def test_only_one_build_at_a_time_reserves(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr(reservations, "_LOCK_TIMEOUT", 0)
    with (
        reservations.locked(),
        pytest.raises(TimeoutError, match=f"another build has locked {directory} for 0 s"),
        reservations.locked(),
    ):
        pass
    with reservations.locked():
        pass


def test_build_says_that_the_directory_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reservations, "DIRECTORY", str(tmp_path / "none"))
    assert reservations.standing() == []
    with (
        pytest.raises(FileNotFoundError, match=f"there is no {tmp_path}/none: the guard makes it"),
        reservations.locked(),
    ):
        pass


def test_build_waits_ten_seconds_for_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += 2.5

    monkeypatch.setattr(reservations, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    with reservations.locked(), pytest.raises(TimeoutError, match="for 10 s"), reservations.locked():
        pass
    assert slept == [0.05] * 4


@pytest.mark.parametrize("group", [998, 2])
def test_directory_is_for_the_group_of_dockers_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, group: int
) -> None:
    monkeypatch.setattr(reservations, "DIRECTORY", str(tmp_path / "new"))
    owners = []
    monkeypatch.setattr(os, "chown", lambda _, user, group: owners.append((user, group)))
    reservations.make_directory()
    assert owners == [], "Docker is down"
    (tmp_path / "docker.sock").touch()
    groups, there = {"new": 100, "docker.sock": group}, os.stat

    def stat(path: Any, **how: Any) -> Any:
        found = there(path, **how)
        name = os.path.basename(path)
        return SimpleNamespace(st_gid=groups[name], st_mode=found.st_mode) if name in groups else found

    monkeypatch.setattr(os, "stat", stat)
    reservations.make_directory()
    assert owners == [(0, group)]
    assert os.lstat(tmp_path / "new").st_mode & 0o777 == 0o770
    groups["new"] = group
    reservations.make_directory()
    assert owners == [(0, group)], "it has the group already"


def test_file_can_be_read_by_others_of_the_group(directory: Path) -> None:
    reservations.save(place())
    assert (directory / "10 1000.json").stat().st_mode & 0o777 == 0o644
    assert json.loads((directory / "10 1000.json").read_text())["name"] == "app"


def test_user_without_access_learns_who_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(PermissionError, match="only root and members of the group docker may see the builds of others"):
        reservations.standing()
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PermissionError, match="only root and members of the group docker"), reservations.locked():
        pass
