"""`bulkhead build`, from the checks to what it remembers."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.build import checklist, commands, estimate, history
from bulkhead.build import progress as build_progress
from bulkhead.build import queue as build_queue
from bulkhead.build.arguments import Arguments
from bulkhead.build.outcome import CERTAINLY, MAYBE, NOT
from bulkhead.errors import Failed
from bulkhead.guard import loop, reservations
from bulkhead.guard.reservations import Account, Accounts, Stop
from bulkhead.storage.processes import Process

from .build_host import CONFIG, BuildHost, G, M, as_user, options, preflight, run


def test_snapshot_has_room_for_the_need(snapshots: list[dict[str, Any]]) -> None:
    assert run(need=5 * G, snapshot=True) == 0
    assert snapshots == [{"writes": 5 * G, "note": "before a build of app"}]


def test_snapshot_is_described_after_the_build(
    snapshots: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bulkhead.snapshot import commands as snapshot_commands
    from bulkhead.snapshot import snapshots as snapshot_snapshots

    assert run(snapshot=True) == 0
    assert "bulkhead: the snapshot is gone: " in capsys.readouterr().err
    standing = snapshot_snapshots.Snapshot("docker-snapshot", 6 * G, 40.0, int(time.time()))
    for module in (snapshot_commands, snapshot_snapshots):
        monkeypatch.setattr(module, "ours", lambda _: [standing])
    assert run(snapshot=True) == 0
    assert "docker-snapshot: taken " in (output := capsys.readouterr().err)
    assert "40 % of 6.0 GiB full" in output

    def silent(_: object) -> None:
        raise OSError("LVM does not answer")

    for module in (snapshot_commands, snapshot_snapshots):
        monkeypatch.setattr(module, "ours", silent)
    assert run(snapshot=True) == 0
    assert "cannot tell whether the snapshot still exists: LVM does not answer" in capsys.readouterr().err
    assert run() == 0
    assert "snapshot" not in capsys.readouterr().err
    assert len(snapshots) == 3


def test_recorder_gets_dockers_output_and_what_the_guard_counted(
    host: BuildHost, capfd: pytest.CaptureFixture[str]
) -> None:
    class FakeRecorder:
        """One that keeps what docker prints, and does not pass it on."""

        def __init__(self) -> None:
            self.streams: dict[int, int] = {}
            self.steps_written: int | None = None
            self.is_disturbed = True
            self.events: list[str] = []

        def begin(self) -> None:
            self.events.append("begin" if not host.has_begun() else "late")
            self.reader, writer = os.pipe()
            self.streams = {1: writer, 2: writer}

        def started(self) -> None:
            self.events.append("started")
            os.close(self.streams[1])

        def ended(self) -> None:
            self.events.append(os.read(self.reader, 100).decode())

    host.docker("echo progress >&2; echo $((200 * 1048576)) >written; sleep 0.2; echo done")
    host.account = Account(steps=150 * M, total=200 * M)
    recorder = FakeRecorder()
    assert commands.run(CONFIG, options(), recorder) == 0
    assert recorder.events == ["begin", "started", "progress\ndone\n"]
    assert (recorder.steps_written, recorder.is_disturbed) == (150 * M, False)
    assert "progress" not in (printed := capfd.readouterr()).err
    assert printed.out == ""
    (host.place / "written").write_text("0")
    host.account, unseen = None, FakeRecorder()
    assert commands.run(CONFIG, options(), unseen) == 0
    assert unseen.steps_written is None, "the guard has not counted"
    refused = FakeRecorder()
    assert commands.run(CONFIG, options(need=99 * G), refused) == 3
    assert refused.events == [], "a build that does not start is not measured"


def test_password_in_the_context_is_not_in_the_snapshots_note(snapshots: list[dict[str, Any]]) -> None:
    assert run("https://me:token@host/app.git", snapshot=True) == 0
    assert snapshots[0]["note"] == "before a build of https://host/app.git"


def test_no_snapshot_is_taken_for_a_build_that_is_refused(snapshots: list[dict[str, Any]]) -> None:
    assert run(need=99 * G, snapshot=True) == 3
    assert snapshots == []


def test_build_does_not_start_without_the_snapshot_that_was_asked_for(
    host: BuildHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def test_docker_gets_its_arguments_unchanged_and_its_output_is_its_own(
    host: BuildHost, capfd: pytest.CaptureFixture[str]
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


def test_build_that_ends_well_is_reported_and_remembered(host: BuildHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.images["app"] = 5 * G
    host.docker(f"echo {10 * G} >written; until [ -e seen ]; do sleep 0.01; done; echo {6 * G} >written")
    assert run() == 0
    output = capsys.readouterr().err
    assert "took 10.0 GiB at its peak; the image has 5.0 GiB; 44.0 GiB is free now" in output
    assert "the next build should need 11.0 GiB (1 earlier build took up to 10.0 GiB, and 10 % more)" in output
    assert preflight(need=None) == 0
    assert "needed: 11.0 GiB (1 earlier build took up to 10.0 GiB" in capsys.readouterr().out


def test_second_build_is_estimated_within_a_fifth_of_its_need(host: BuildHost) -> None:
    host.docker(f"echo {8 * G} >written; sleep 0.2")
    run()
    for real in (7.5 * G, 8 * G, 8.8 * G):
        need = estimate.need_of(None, Arguments.of(["-t", "app", "."]), history.load(), lambda _: False)
        assert abs(need.bytes - real) < 0.2 * real


@pytest.mark.parametrize(("script", "code"), [("exit 1", 1), ("exit 17", 17), ("kill -KILL $$", 137)])
def test_exit_code_of_a_build_that_fails_is_dockers(
    host: BuildHost, capsys: pytest.CaptureFixture[str], script: str, code: int
) -> None:
    # So little that it is no rate at which the volume would soon be full, however close two looks at it are.
    host.docker(f"echo {10 * M} >written; sleep 0.1; {script}")
    assert run() == code
    assert f"exit code {code}: took 10.0 MiB at its peak" in capsys.readouterr().err
    assert history.load() == {}, "what fails says nothing of what the whole needs"


def test_build_from_the_cache_is_not_remembered(host: BuildHost) -> None:
    host.images["app"] = 5 * G
    host.docker(f"echo {M} >written; sleep 0.1")
    assert run() == 0
    assert history.load() == {}


FILL = (
    "used=0; while [ $used -lt {end} ]; do used=$((used + {step})); echo $used >new; mv new written; sleep 0.05; done; "
)


@pytest.mark.parametrize("user", ["root", "other"])
def test_build_that_the_guard_stops_has_a_code_of_its_own(
    host: BuildHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], user: str
) -> None:
    if user == "other":
        as_user(monkeypatch)
    host.stopped = [(0, [])]
    host.used = 80 * G
    host.docker(f"echo {8 * G} >written; sleep 0.1; exit 1")
    assert run() == 4
    output = capsys.readouterr().err
    assert "bulkhead: the guard stopped it: it needs more space. Reclaimable: build cache 3.0 GiB" in output
    assert "bulkhead reclaim --need 14G`" in output
    assert len(history.load()["app"]) == 1, "the next one needs no less"


def test_stop_of_another_build_at_the_same_moment_is_not_ours(host: BuildHost, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = Accounts(time.time(), {}, (Stop(time.time(), ["7 700"]),))
    monkeypatch.setattr(reservations, "accounts", lambda: accounts)
    monkeypatch.setattr(build_queue, "_COUNT_TIMEOUT", 0)
    host.docker("exit 1")
    assert run() == 1


def test_build_that_was_stopped_before_this_one_began_was_another(host: BuildHost) -> None:
    host.stopped = [(5, [])]
    host.docker("exit 1")
    assert run() == 1


def test_build_that_was_stopped_more_than_fifteen_seconds_before_ours_ended_was_another() -> None:
    now = time.time()
    assert commands.ENDING == 15
    known = Accounts(now, {}, (Stop(now - 16, ["7 700"]),))
    assert commands._stopped(known, "7 700", now - commands.ENDING) == NOT
    assert commands._stopped(known, "7 700", now - 17) == CERTAINLY


def test_failed_build_without_a_stop_is_not_stopped_although_the_volume_was_nearly_full(
    host: BuildHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.docker(FILL.format(end=48 * G, step=8 * G) + "exit 1")
    assert run() == 1
    assert "Docker's volume was nearly full when it failed: it needs more space" in capsys.readouterr().err


class Clients:
    """Clients of builds: those that have ended, and a clock that moves when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.ended, self.ending = 1000.0, set[str](), dict[str, float]()
        clock = SimpleNamespace(time=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(commands, "time", clock)
        monkeypatch.setattr(commands, "is_alive", lambda client: client not in self.ended)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.ended |= {client for client, at in self.ending.items() if at <= self.now}


def test_of_two_builds_that_may_have_been_stopped_the_one_is_it_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = Clients(monkeypatch)
    known = Accounts(1000, {}, (Stop(1000, ["5 1", "7 1"]),))
    assert commands._stopped(known, "5 1", 990) == CERTAINLY
    assert 1014 < clients.now < 1016, "the other one may need so long to end"


def test_of_two_builds_that_both_end_after_a_stop_neither_is_called_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = Clients(monkeypatch)
    clients.ending["7 1"] = 1003
    known = Accounts(1000, {}, (Stop(1000, ["5 1", "7 1"]),))
    assert commands._stopped(known, "5 1", 990) == MAYBE
    assert clients.now < 1004


def test_build_that_may_have_been_stopped_keeps_dockers_code_and_says_so(
    host: BuildHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.stopped = [(0, ["7 0"])]
    host.docker("exit 1")
    assert run() == 1
    assert "the guard stopped this build or another one: it cannot tell which" in capsys.readouterr().err


def test_build_that_passes_its_limit_has_a_code_and_figures_of_its_own(
    host: BuildHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.account = Account(steps=41 * G // 2, total=21 * G, has_passed_limit=True)
    host.stopped = [(0, [])]
    host.docker("sleep 0.1; exit 130")
    assert run(limit=20 * G) == 5
    output = capsys.readouterr().err
    assert (
        "the guard stopped it: this build has written 20.5 GiB, its limit is 20.0 GiB. "
        "Make the build smaller, or give a larger --limit"
    ) in output
    assert "grow the volume" not in output


def test_what_neighbours_wrote_is_not_remembered_as_the_builds(host: BuildHost) -> None:
    host.account = Account(steps=2 * G, total=3 * G)
    host.docker(f"rm -f seen; sleep 0.2; echo {10 * G} >written; until [ -e seen ]; do sleep 0.01; done; rm written")
    for early in (0.1, 5.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build_progress, "_EARLY", early)
            assert run() == 0
    peaks = [(each["peak"], each["disturbed"]) for each in history.load()["app"]]
    assert peaks == [(3 * G, False), (10 * G, False)], "what is written before the guard counts is the build's"


def test_build_beside_another_is_remembered_as_disturbed(host: BuildHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checklist, "programs_that_build", lambda: [Process(1, "docker")])
    host.account = Account(steps=2 * G, total=3 * G)
    host.docker(f"echo {10 * G} >written; sleep 0.2")
    assert run() == 0
    assert [(each["peak"], each["disturbed"]) for each in history.load()["app"]] == [(10 * G, True)]


def test_build_beside_one_that_only_the_guard_sees_is_remembered_as_disturbed(host: BuildHost) -> None:
    host.account = Account(steps=0, total=G, is_disturbed=True)
    host.docker(f"echo {10 * G} >written; sleep 0.2")
    assert run() == 0
    assert [(each["peak"], each["disturbed"]) for each in history.load()["app"]] == [(10 * G, True)]


def test_command_of_docker_that_builds_runs_as_it_is(host: BuildHost) -> None:
    host.docker(f"echo {2 * G} >written; sleep 0.1")
    assert run("docker compose build web") == 0
    assert host.words == "compose build web".split()
    assert [*history.load()] == [f"compose build web in {os.getcwd()}"]
    assert run("docker buildx bake") == 0
    assert host.words == "buildx bake".split()


def test_command_of_docker_that_does_more_than_build_is_a_wrong_argument(
    host: BuildHost, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run("docker compose up --build")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(
        "bulkhead build: `docker compose up` does more than build. What can be guarded: docker build, docker buildx build, "
    )
    assert not host.has_begun()


def test_what_is_remembered_is_listed_and_forgotten(host: BuildHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(list=True) == 0
    assert capsys.readouterr().out == "no build is remembered\n"
    history.remember("app", 10 * G, None, disturbed=False)
    history.remember("app", 30 * G, None, disturbed=True)
    history.remember("web", 20 * G, None, disturbed=False)
    assert run(list=True) == 0
    assert capsys.readouterr().out.splitlines() == [
        "      NEED  BUILDS  DISTURBED    LAST  BUILD",
        "  11.0 GiB       2          1   0 min  app",
        "  22.0 GiB       1          0   0 min  web",
    ]
    assert run(list=True, json=True) == 0
    assert json.loads(capsys.readouterr().out)["app"].items() >= {"need": 11 * G, "builds": 2, "disturbed": 1}.items()
    assert run("", forget="web") == 0
    assert capsys.readouterr().out == "1 image forgotten: web\n"
    assert run("", forget="web") == 1
    assert "no build of web is remembered; `bulkhead build --list` lists what is" in capsys.readouterr().err
    history.remember("web", 20 * G, None, disturbed=False)
    assert run("-", forget=True) == 1, "nothing is remembered of standard input: that does not mean all"
    assert "builds without a tag and a context are not remembered" in capsys.readouterr().err
    assert run("-t app:2 .", forget=True) == 0
    assert history.load().keys() == {"web"}
    assert run("", forget=True) == 0
    assert history.load() == {}
    assert not host.has_begun()


def test_build_that_fails_on_a_volume_that_nobody_guards_is_reported_why(
    host: BuildHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alive = iter([True, False])
    monkeypatch.setattr(loop, "is_alive", lambda: next(alive))
    host.docker(FILL.format(end=50 * G, step=10 * G) + "exit 1")
    assert run() == 1
    assert "Docker's volume was nearly full when it failed" in capsys.readouterr().err


def test_build_succeeds_although_it_cannot_be_remembered(
    host: BuildHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_user(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    host.docker(f"echo {G} >written; sleep 0.1")
    assert run() == 0
    assert "the peak of this build could not be saved: " in capsys.readouterr().err
