"""`bulkhead build`, from the checks to what it remembers."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

from bulkhead import state
from bulkhead.build import commands, estimate, history
from bulkhead.build import progress as build_progress
from bulkhead.build.arguments import Arguments
from bulkhead.errors import Failed
from bulkhead.guard import loop, reporter

from .build_host import BuildHost, G, M, as_user, preflight, run


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
    host.docker(f"echo {10 * G} >written; sleep 0.3; echo {6 * G} >written")
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
    if user == "root":
        entry = json.dumps({"aborted": [{"time": time.time() + 60}]})
        host.docker(f"echo {9 * G} >written; mkdir -p run; echo '{entry}' >run/guard.json; sleep 0.2; exit 1")
    else:
        as_user(monkeypatch)
        host.docker(FILL.format(end=48 * G, step=8 * G) + "exit 1")
    assert run() == 4
    output = capsys.readouterr().err
    assert "the guard stopped it: it needs more space" in output
    assert "bulkhead reclaim --need " in output
    assert len(history.load()["app"]) == 1, "the next one needs no less"


def test_build_that_was_stopped_earlier_does_not_count(host: BuildHost) -> None:
    state.save(reporter.STATE, {"aborted": [{"time": time.time() - 1}]})
    host.docker("exit 1")
    assert run() == 1


def test_build_that_was_stopped_well_before_this_one_ended_was_somebody_elses(
    host: BuildHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (commands, build_progress):
        monkeypatch.setattr(module, "ENDING", 0.2)
    host.docker(
        """mkdir -p run; echo "{\\"aborted\\": [{\\"time\\": $(date +%s.%N)}]}" >run/guard.json; sleep 0.5; exit 1"""
    )
    assert run() == 1
    assert state.load(reporter.STATE)["aborted"]


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
