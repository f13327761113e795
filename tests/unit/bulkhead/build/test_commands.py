"""A build that is looked at before, watched, and told of after, with a docker that is played."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import names, state
from bulkhead.build import checklist, commands, estimate, history
from bulkhead.build import progress as build_progress
from bulkhead.build.checklist import room
from bulkhead.build.commands import BuildOutcome, outcome_lines
from bulkhead.build.estimate import Need
from bulkhead.build.progress import Gauge, kind_of_display
from bulkhead.docker import daemon
from bulkhead.errors import Failed
from bulkhead.guard import loop
from bulkhead.outage import journal, lock
from bulkhead.prune import pruner
from bulkhead.prune.pruner import Pruner
from bulkhead.sizes import Size
from bulkhead.storage import filesystems
from bulkhead.storage.volume import VolumeSpace
from bulkhead.watch import check

from ..configs import config
from ..fake_engine import Query, fake_engine

G, M = 2**30, 2**20
TOP = Path(__file__).parents[4]
CONFIG = config(watched_units=("docker-prune.timer", names.GUARD_SERVICE), guard_floor=Size.parse("2G"))


class Host:
    """One with a volume of 100 GiB, half of it free, and an engine with 3 GiB of idle cache."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.used = 50 * G
        self.cache = 3 * G
        self.images: dict[str, int] = {}
        self.snapshots: list[dict[str, Any]] = []

    def volume(self) -> VolumeSpace:
        """With what docker, as it is played, has written to it."""
        written = self.place / "written"
        used = self.used + (int(written.read_text() or 0) if written.exists() else 0)
        return VolumeSpace(100 * G, used, 100 * G - used)

    def docker(self, script: str) -> None:
        """What docker does instead of a build."""
        path = self.place / "bin" / "docker"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{self.place}/words\ncd {self.place}\n{script}\n")
        path.chmod(0o755)

    @property
    def words(self) -> list[str]:
        return (self.place / "words").read_text().splitlines()

    def has_begun(self) -> bool:
        return (self.place / "words").exists()

    def answer(self, _method: str, path: str, _query: Query) -> tuple[int, Any]:
        if path == "/system/df":
            record = {"ID": "a", "Size": self.cache, "InUse": False, "Shared": False, "LastUsedAt": ""}
            idle = {
                "Id": "sha256:1",
                "RepoTags": ["old:1"],
                "RepoDigests": [],
                "Labels": None,
                "Size": G,
                "SharedSize": 0,
            }
            return 200, {"BuildCache": [record] if self.cache else [], "Images": [idle], "Containers": []}
        if path == "/build/prune":
            freed, self.cache = self.cache, 0
            self.used -= freed
            return 200, {"CachesDeleted": ["a"], "SpaceReclaimed": freed}
        name = path.removeprefix("/images/").removesuffix("/json")
        return (200, {"Size": self.images[name]}) if name in self.images else (404, {"message": "No such image"})


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host(tmp_path)
    host.docker("exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "BUILDKIT_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setattr(journal, "PATH", str(tmp_path / "lib/relocation.json"))
    monkeypatch.setattr(lock, "lock", lambda: state.locked("move", 0))
    for module in (daemon, pruner):
        monkeypatch.setattr(module, "docker_runs", lambda: True)
    monkeypatch.setattr(pruner, "_SETTLING", 0)
    for module in (daemon, check):
        monkeypatch.setattr(module, "silence", lambda: "")
    monkeypatch.setattr(filesystems, "out_of_place", lambda *_: [])
    monkeypatch.setattr(filesystems, "put_elsewhere", lambda _: [])
    monkeypatch.setattr(loop, "is_alive", lambda: True)
    monkeypatch.setattr(checklist, "programs_that_build", list)
    monkeypatch.setattr(build_progress, "_INTERVAL", 0.02)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(VolumeSpace, "of", lambda _: host.volume())
    inodes = SimpleNamespace(f_files=1000, f_ffree=900)
    monkeypatch.setattr(os, "statvfs", lambda _: inodes)
    monkeypatch.setattr(Pruner, "free", lambda _: host.volume().free)
    with fake_engine(tmp_path / "docker.sock", host.answer) as engine:
        monkeypatch.setattr(checklist, "Engine", lambda: engine)
        monkeypatch.setattr(pruner, "Engine", lambda: engine)
        yield host


def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def run(words: str = "-t app .", *, need: int | None = G, snapshot: bool = False) -> int:
    return commands.run(CONFIG, argparse.Namespace(need=need, snapshot=snapshot, arguments=words.split()))


def preflight(words: str = "-t app .", *, need: int | None = G, as_json: bool = False) -> int:
    return commands.preflight(CONFIG, argparse.Namespace(need=need, json=as_json, arguments=words.split()))


# -- before it


def test_checklist_says_everything_and_begins_nothing(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split() for line in lines] == [
        ["ok", name] for name in ("docker", "volume", "inodes", "guard", "builds", "room")
    ]
    assert "free: 50.0 GiB; needed: 1.0 GiB (--need 1G) above the guard's floor of 2.0 GiB" in lines[-1]
    assert not host.has_begun()


@pytest.mark.usefixtures("host")
def test_checklist_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight(need=90 * G, as_json=True) == 3
    values = json.loads(capsys.readouterr().out)
    assert (values["fits"], values["need"], values["free"], values["floor"]) == (False, 90 * G, 50 * G, 2 * G)
    assert {item["name"]: item["level"] for item in values["checks"]}["room"] == "failed"


@pytest.mark.parametrize(
    ("place", "name", "found", "said"),
    [
        (pruner, "docker_runs", lambda: False, "failed   docker: docker.service is not active"),
        (
            check,
            "silence",
            lambda: "does not answer within 10 s",
            "failed   docker: Docker does not answer within 10 s",
        ),
        (filesystems, "out_of_place", lambda *_: ["/x is not mounted"], "failed   volume: /x is not mounted"),
        (filesystems, "put_elsewhere", lambda _: ["f puts data into /d"], "failed   volume: f puts data into /d"),
        (os, "statvfs", lambda _: SimpleNamespace(f_files=100, f_ffree=5), "failed   inodes: 95 % used, 5 free"),
        (loop, "is_alive", lambda: False, "failed   guard: docker-guard.service is not active: `systemctl start"),
    ],
)
def test_build_is_not_begun_on_a_host_that_is_not_as_it_should_be(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: Any,
    name: str,
    found: Callable[..., Any],
    said: str,
) -> None:
    monkeypatch.setattr(place, name, found)
    assert run() == 3
    output = capsys.readouterr()
    assert said in output.err
    assert "not begun, because of: " in output.err
    assert output.out == ""
    assert not host.has_begun()


@pytest.mark.usefixtures("host")
def test_user_who_may_not_talk_to_docker_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> str:
        raise PermissionError

    for module in (daemon, check):
        monkeypatch.setattr(module, "silence", refused)
    assert run() == 3
    assert "members of the group docker" in capsys.readouterr().err


@pytest.mark.parametrize(("free", "level"), [(300, "ok"), (150, "warning"), (50, "failed")])
@pytest.mark.usefixtures("host")
def test_inodes_count_like_bytes(monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_files=1000, f_ffree=free))
    assert checklist._inodes(CONFIG).level == level


@pytest.mark.parametrize(
    ("name", "value", "level"),
    [
        ("DOCKER_HOST", "tcp://build:2376", "warning"),
        ("DOCKER_HOST", "unix:///var/run/docker.sock", "ok"),
        ("DOCKER_CONTEXT", "remote", "warning"),
        ("DOCKER_CONTEXT", "default", "ok"),
    ],
)
@pytest.mark.usefixtures("host")
def test_build_on_another_engine_is_none_of_this_host(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, level: str
) -> None:
    monkeypatch.setenv(name, value)
    assert checklist._docker().level == level


@pytest.mark.parametrize(
    ("content", "level"),
    [
        ('{"currentContext": "remote"}', "warning"),
        ('{"currentContext": "default"}', "ok"),
        ("{}", "ok"),
        ("[]", "ok"),
        ("{", "ok"),
    ],
)
def test_context_that_docker_was_told_to_use_counts_where_the_environment_has_none(
    host: Host, monkeypatch: pytest.MonkeyPatch, content: str, level: str
) -> None:
    (host.place / "docker").mkdir()
    (host.place / "docker" / "config.json").write_text(content)
    assert checklist._docker().level == level
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert checklist._docker().level == "ok"


@pytest.mark.usefixtures("host")
def test_guard_that_the_settings_switch_off_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(need=G, json=False, arguments=["."])
    assert commands.preflight(CONFIG._replace(watched_units=()), options) == 0
    assert "warning  guard: off by the settings" in capsys.readouterr().out


@pytest.mark.usefixtures("host")
def test_another_build_is_a_warning(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(checklist, "programs_that_build", lambda: ["docker (process 7)"])
    assert run() == 0
    assert "warning  builds: beside docker (process 7)" in capsys.readouterr().err


# -- room


def test_volume_is_counted_as_df_counts_it(tmp_path: Path) -> None:
    volume, df = VolumeSpace.of(str(tmp_path)), shutil.disk_usage(tmp_path)
    assert volume.size == df.total
    assert abs(volume.used - df.used) + abs(volume.free - df.free) < 2**30  # others write meanwhile


def test_room_is_what_is_above_the_floor() -> None:
    need = Need(8 * G, "--need 8G")
    assert room(10 * G, 2 * G, need).level == "ok"
    short = room(10 * G - 1, 2 * G, need)
    assert short.level == "failed"
    assert short.text.endswith("above the guard's floor of 2.0 GiB: 1 bytes missing")


def test_build_that_does_not_fit_is_refused_with_figures(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.cache = 0
    assert run(need=60 * G) == 3
    said = capsys.readouterr().err
    assert "free: 50.0 GiB; needed: 60.0 GiB (--need 60G) above the guard's floor of 2.0 GiB: 12.0 GiB missing" in said
    assert "Could be reclaimed: image old:1 1.0 GiB: `bulkhead reclaim --need 62G`" in said
    assert not host.has_begun()


def test_root_has_idle_cache_removed_and_nothing_else(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(need=50 * G) == 0
    said = capsys.readouterr().err
    assert "build cache that is not in use: 1 record" in said
    assert "ok       room: free: 53.0 GiB" in said
    assert host.has_begun()


def test_cache_stays_where_something_else_keeps_the_build_from_beginning(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "is_alive", lambda: False)
    assert run(need=50 * G) == 3
    assert host.cache == 3 * G


def test_preflight_removes_nothing_and_says_what_a_build_would(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight(need=50 * G) == 0
    assert "warning  room: " in (said := capsys.readouterr().out)
    assert "A build removes so much idle build cache first" in said
    assert host.cache == 3 * G


@pytest.mark.parametrize("command", [run, preflight])
def test_others_are_told_what_root_can_do(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: Callable[..., int]
) -> None:
    as_user(monkeypatch)
    assert command(need=50 * G) == 3
    output = capsys.readouterr()
    assert "build cache 3.0 GiB, image old:1 1.0 GiB: `sudo bulkhead reclaim --need 52G`" in output.out + output.err
    assert host.cache == 3 * G


def test_cache_stays_while_a_move_of_dockers_data_is_unfinished(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    moving = journal.Journal(journal.PATH)
    moving.enter("copying")
    assert run(need=50 * G) == 3
    assert "no build cache was removed: a move of Docker's data is not finished (copying)" in capsys.readouterr().err
    assert host.cache == 3 * G


# -- the snapshot


@pytest.fixture
def snapshots(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    from bulkhead.snapshot import commands as snapshot_commands
    from bulkhead.snapshot import snapshots as snapshot_snapshots

    for module in (snapshot_commands, snapshot_snapshots):
        monkeypatch.setattr(module, "create", lambda _, **values: host.snapshots.append(values))
    for module in (snapshot_commands, snapshot_snapshots):
        monkeypatch.setattr(module, "ours", lambda _: [])
    return host.snapshots


def test_snapshot_has_room_for_the_need(snapshots: list[dict[str, Any]]) -> None:
    assert run(need=5 * G, snapshot=True) == 0
    assert snapshots == [{"writes": 5 * G, "note": "before a build of app"}]


def test_what_has_become_of_the_snapshot_is_told(
    snapshots: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bulkhead.snapshot import commands as snapshot_commands
    from bulkhead.snapshot import snapshots as snapshot_snapshots

    assert run(snapshot=True) == 0
    assert "bulkhead: the snapshot no longer stands: " in capsys.readouterr().err
    standing = snapshot_snapshots.Snapshot("docker-snapshot", 6 * G, 40.0, int(time.time()))
    for module in (snapshot_commands, snapshot_snapshots):
        monkeypatch.setattr(module, "ours", lambda _: [standing])
    assert run(snapshot=True) == 0
    assert "docker-snapshot: taken " in (said := capsys.readouterr().err)
    assert "40 % of 6.0 GiB full" in said

    def silent(_: object) -> None:
        raise OSError("LVM does not answer")

    for module in (snapshot_commands, snapshot_snapshots):
        monkeypatch.setattr(module, "ours", silent)
    assert run(snapshot=True) == 0
    assert "whether the snapshot still stands is not known: LVM does not answer" in capsys.readouterr().err
    assert run() == 0
    assert "snapshot" not in capsys.readouterr().err
    assert len(snapshots) == 3


def test_password_in_the_context_is_not_in_the_snapshots_note(snapshots: list[dict[str, Any]]) -> None:
    assert run("https://me:token@host/app.git", snapshot=True) == 0
    assert snapshots[0]["note"] == "before a build of https://host/app.git"


def test_no_snapshot_is_taken_for_a_build_that_is_refused(snapshots: list[dict[str, Any]]) -> None:
    assert run(need=99 * G, snapshot=True) == 3
    assert snapshots == []


def test_build_without_the_snapshot_that_was_asked_for_is_not_begun(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bulkhead.snapshot import commands as snapshot_commands
    from bulkhead.snapshot import snapshots as snapshot_snapshots

    def no_room(*_: object, **__: object) -> None:
        raise Failed("ubuntu-vg has no room for it")

    for module in (snapshot_commands, snapshot_snapshots):
        monkeypatch.setattr(module, "create", no_room)
    assert run(snapshot=True) == 3
    assert "failed   snapshot: ubuntu-vg has no room for it" in capsys.readouterr().err
    as_user(monkeypatch)
    assert run(snapshot=True) == 3
    assert "failed   snapshot: only root can take one" in capsys.readouterr().err
    assert not host.has_begun()


# -- the build


def test_docker_gets_its_arguments_unchanged_and_its_output_is_its_own(
    host: Host, capfd: pytest.CaptureFixture[str]
) -> None:
    host.docker("echo sha256:1; cat >read")
    with (host.place / "input").open("w") as file:
        file.write("FROM scratch\n")
    stdin = os.dup(0)
    with (host.place / "input").open() as file:
        os.dup2(file.fileno(), 0)
    try:
        assert run("-q --build-arg A=b -t app:1 -") == 0
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
    assert host.words == "build -q --build-arg A=b -t app:1 -".split()
    assert capfd.readouterr().out == "sha256:1\n"
    assert (host.place / "read").read_text() == "FROM scratch\n"


def test_build_that_ends_well_is_told_and_remembered(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.images["app"] = 5 * G
    host.docker(f"echo {10 * G} >written; sleep 0.3; echo {6 * G} >written")
    assert run() == 0
    said = capsys.readouterr().err
    assert "took 10.0 GiB at its peak; the image has 5.0 GiB; 44.0 GiB are free now" in said
    assert "the next one is expected to need 11.0 GiB (1 earlier build took up to 10.0 GiB, and 10 % more)" in said
    assert preflight(need=None) == 0
    assert "needed: 11.0 GiB (1 earlier build took up to 10.0 GiB" in capsys.readouterr().out


def test_second_build_is_estimated_within_a_fifth_of_its_need(host: Host) -> None:
    host.docker(f"echo {8 * G} >written; sleep 0.2")
    run()
    for real in (7.5 * G, 8 * G, 8.8 * G):
        need = estimate.need_of(None, estimate.Arguments.of(["-t", "app", "."]), history.load(), lambda _: False)
        assert abs(need.bytes - real) < 0.2 * real


@pytest.mark.parametrize(("script", "code"), [("exit 1", 1), ("exit 17", 17), ("kill -KILL $$", 137)])
def test_exit_code_of_a_build_that_fails_is_dockers(
    host: Host, capsys: pytest.CaptureFixture[str], script: str, code: int
) -> None:
    # So little that it is no rate at which the volume would soon be full, however close two looks at it are.
    host.docker(f"echo {10 * M} >written; sleep 0.1; {script}")
    assert run() == code
    assert f"exit code {code}: took 10.0 MiB at its peak" in capsys.readouterr().err
    assert history.load() == {}, "what fails says nothing of what the whole needs"


def test_build_from_the_cache_says_nothing_of_the_next(host: Host) -> None:
    host.images["app"] = 5 * G
    host.docker(f"echo {M} >written; sleep 0.1")
    assert run() == 0
    assert history.load() == {}


FILL = (
    "used=0; while [ $used -lt {end} ]; do used=$((used + {step})); echo $used >new; mv new written; sleep 0.05; done; "
)


@pytest.mark.parametrize("user", ["root", "other"])
def test_build_that_the_guard_stops_has_a_code_of_its_own(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], user: str
) -> None:
    if user == "root":
        entry = json.dumps({"aborted": [{"time": time.time() + 60}]})
        host.docker(f"echo {9 * G} >written; mkdir -p run; echo '{entry}' >run/guard.json; sleep 0.2; exit 1")
    else:
        as_user(monkeypatch)
        host.docker(FILL.format(end=48 * G, step=8 * G) + "exit 1")
    assert run() == 4
    said = capsys.readouterr().err
    assert "the guard has stopped it: it needs more than it found" in said
    assert "bulkhead reclaim --need " in said
    assert len(history.load()["app"]) == 1, "the next one needs no less"


def test_builds_that_were_stopped_earlier_are_no_sign(host: Host) -> None:
    state.save(loop.STATE, {"aborted": [{"time": time.time() - 1}]})
    host.docker("exit 1")
    assert run() == 1


def test_build_that_was_stopped_well_before_this_one_ended_was_somebody_elses(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (commands, build_progress):
        monkeypatch.setattr(module, "ENDING", 0.2)
    host.docker(
        """mkdir -p run; echo "{\\"aborted\\": [{\\"time\\": $(date +%s.%N)}]}" >run/guard.json; sleep 0.5; exit 1"""
    )
    assert run() == 1
    assert state.load(loop.STATE)["aborted"]


def test_build_that_fails_on_a_volume_that_nobody_guards_is_told_why(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alive = iter([True, False])
    monkeypatch.setattr(loop, "is_alive", lambda: next(alive))
    host.docker(FILL.format(end=50 * G, step=10 * G) + "exit 1")
    assert run() == 1
    assert "Docker's volume was nearly full when it failed" in capsys.readouterr().err


def test_what_cannot_be_remembered_fails_no_build(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_user(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    host.docker(f"echo {G} >written; sleep 0.1")
    assert run() == 0
    assert "what it took is not remembered: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcome", "code", "telling"),
    [
        (BuildOutcome(0, peak=G), 0, True),
        (BuildOutcome(0, peak=0), 0, False),
        (BuildOutcome(0, peak=64 * M - 1), 0, False),
        (BuildOutcome(0, peak=64 * M), 0, True),
        (BuildOutcome(0, peak=64 * M, size=50 * G), 0, False),
        (BuildOutcome(1, peak=G), 1, False),
        (BuildOutcome(1, is_short=True, peak=G), 1, True),
        (BuildOutcome(1, is_stopped=True, peak=G), 4, True),
        (BuildOutcome(137, is_stopped=True, peak=G), 4, True),
        (BuildOutcome(130, is_interrupted=True, peak=G), 130, False),
    ],
)
def test_outcomes(outcome: BuildOutcome, code: int, telling: bool) -> None:
    assert (outcome.exit_code, outcome.is_telling) == (code, telling)


def test_interrupted_build_is_called_so() -> None:
    (line,) = outcome_lines(BuildOutcome(130, is_interrupted=True, duration=12, free=G), G)
    assert line == "interrupted after 12 s, exit code 130: took 0 bytes at its peak; 1.0 GiB are free now"


def test_build_that_ends_well_in_spite_of_a_signal_is_built() -> None:
    (line,) = outcome_lines(BuildOutcome(0, is_interrupted=True), G)
    assert line.startswith("built after 0 s: ")


# -- what is shown


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
def test_live_line_spoils_nothing_of_dockers(
    monkeypatch: pytest.MonkeyPatch, progress: str, terminal: bool, term: str, kind: str
) -> None:
    monkeypatch.setenv("TERM", term)
    assert kind_of_display(progress, terminal) == kind


def test_without_a_terminal_there_is_a_line_every_few_seconds(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(build_progress._EVERY, "lines", 0.1)
    host.docker(f"echo {5 * G} >written; sleep 0.5")
    assert run() == 0
    live = [
        line for line in capsys.readouterr().err.splitlines() if "% used" in line and line.startswith("bulkhead: [")
    ]
    assert 2 <= len(live) <= 5
    assert live[0].startswith("bulkhead: [#####.....] 55 % used, 45G free, 5.0G since the start")


@pytest.mark.usefixtures("host")
def test_gauge_goes_on_without_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    gauge = Gauge("/volume", 2 * G)

    def gone(_: str) -> VolumeSpace:
        raise OSError("gone")

    monkeypatch.setattr(VolumeSpace, "of", gone)
    gauge.look()
    assert gauge.volume.free == 50 * G


# -- signals, in a process of its own

# Its docker writes down the signals that it gets, and ends a moment after the first.
DOCKER = f"""#!{sys.executable}
import signal, sys
wanted = {{signal.SIGINT, signal.SIGTERM}}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("building", flush=True)
got = []
while (info := signal.sigtimedwait(wanted, 0.5 if got else 20)):
    got.append(info.si_signo)
print("got", *map(int, got), flush=True)
sys.exit(130)
"""

ATTEND = """
import argparse, os, sys
from bulkhead import build
from bulkhead.build import Display, Gauge, Volume
Volume.of = lambda _: Volume(100 << 30, 50 << 30, 50 << 30)
build._EVERY["title"] = 0.1
build._INTERVAL = 0.05
display = Display(build.kind_of_display("", sys.stderr.isatty()))
code, is_interrupted = build._attend(["docker", "build", "."], Gauge("", 0), display)
sys.exit(code + is_interrupted)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": f"{TOP}/files:{TOP}", "TERM": "xterm"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_passed_to_docker_and_its_code_is_kept(environment: dict[str, str], number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", ATTEND], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "building\n"
    process.send_signal(number)
    assert process.stdout.read() == f"got {int(number)}\n"
    assert process.wait(timeout=20) == 131


@pytest.mark.parametrize("ignored", ["SIGCHLD", "SIGHUP"])
def test_signal_that_was_ignored_before_changes_nothing(environment: dict[str, str], ignored: str) -> None:
    (Path(environment["PATH"].partition(":")[0]) / "docker").write_text("#!/bin/sh\necho building\nsleep 1\nexit 7\n")
    script = f"import signal; signal.signal(signal.{ignored}, signal.SIG_IGN)\n{ATTEND}"
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.Signals[ignored])
    process.stdout.close()
    assert process.wait(timeout=20) == 7


def test_ctrl_c_reaches_docker_once_and_the_title_comes_back(environment: dict[str, str]) -> None:
    child, terminal = pty.fork()
    if not child:
        os.execve(sys.executable, [sys.executable, "-c", ATTEND], environment)
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
