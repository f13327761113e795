"""What is checked before a build."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.build import checklist, commands
from bulkhead.build.checklist import room
from bulkhead.build.estimate import Need
from bulkhead.docker import daemon, roots
from bulkhead.guard import loop
from bulkhead.outage import journal
from bulkhead.storage import filesystems
from bulkhead.storage.processes import Process
from bulkhead.storage.space import space_of
from bulkhead.watch import check

from .build_host import CONFIG, BuildHost, G, as_user, options, preflight, run


def test_preflight_prints_every_check_and_starts_nothing(host: BuildHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split() for line in lines] == [
        ["ok", name] for name in ("docker", "volume", "inodes", "guard", "builds", "room")
    ]
    assert "free: 50.0 GiB; needed: 1.0 GiB (--need 1G) above the guard's floor of 2.0 GiB" in lines[-1]
    assert not host.has_begun()


@pytest.mark.usefixtures("host")
def test_preflight_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight(need=90 * G, as_json=True) == 3
    values = json.loads(capsys.readouterr().out)
    assert (values["fits"], values["need"], values["free"], values["floor"]) == (False, 90 * G, 50 * G, 2 * G)
    assert {item["name"]: item["level"] for item in values["checks"]}["room"] == "failed"


@pytest.mark.parametrize(
    ("place", "name", "found", "line"),
    [
        (daemon, "docker_runs", lambda: False, "failed   docker: docker.service is not active"),
        (
            daemon,
            "silence",
            lambda: "does not answer within 10 s",
            "failed   docker: Docker does not answer within 10 s",
        ),
        (filesystems, "out_of_place", lambda *_: ["/x is not mounted"], "failed   volume: /x is not mounted"),
        (
            roots,
            "off_the_volume",
            lambda *_, **__: (["f puts data into /d"], []),
            "failed   volume: f puts data into /d",
        ),
        (filesystems, "unmarked", lambda _: ["no marker"], "failed   volume: no marker"),
        (
            os,
            "statvfs",
            lambda _: os.statvfs_result((1, 1, 100 * G, 50 * G, 50 * G, 100, 5, 5, 0, 255)),
            "failed   inodes: 95 % used, 5 free",
        ),
        (
            loop,
            "is_alive",
            lambda: False,
            "failed   guard: docker-guard.service is not active. Start it: `systemctl start",
        ),
    ],
)
def test_build_does_not_start_on_an_unhealthy_host(
    host: BuildHost,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: Any,
    name: str,
    found: Callable[..., Any],
    line: str,
) -> None:
    monkeypatch.setattr(place, name, found)
    assert run() == 3
    output = capsys.readouterr()
    assert line in output.err
    assert "not started, because of: " in output.err
    assert output.out == ""
    assert not host.has_begun()


@pytest.mark.usefixtures("host")
def test_docker_whose_configuration_cannot_be_read_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(roots, "off_the_volume", lambda *_, **__: ([], ["daemon.json cannot be read: no"]))
    run()
    output = capsys.readouterr().err
    assert "warning  volume: cannot tell whether Docker's data is on it: daemon.json cannot be read: no\n" in output


@pytest.mark.usefixtures("host")
def test_user_without_access_to_docker_learns_who_has_it(
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


def of_docker(output: str) -> str:
    """Return the line of the checklist that is about docker."""
    (line,) = [line for line in output.splitlines() if " docker: " in line]
    return line


@pytest.mark.parametrize(
    ("words", "name", "value", "chosen_by"),
    [
        (".", "DOCKER_HOST", "tcp://build:2376", "DOCKER_HOST"),
        (".", "DOCKER_HOST", "unix:///var/run/docker.sock", ""),
        (".", "DOCKER_CONTEXT", "remote", "DOCKER_CONTEXT"),
        (".", "DOCKER_CONTEXT", "default", ""),
        (".", "BUILDX_BUILDER", "default", ""),
        (".", "BUILDX_BUILDER", "cloud", "BUILDX_BUILDER"),
        ("docker -H tcp://build:2376 build .", "", "", "--host"),
        ("docker -H unix:///var/run/docker.sock build .", "", "", ""),
        ("docker -c other compose build", "", "", "--context"),
        ("docker buildx build --builder cloud .", "", "", "--builder"),
        ("--builder cloud .", "", "", "--builder"),
        ("-c 512 --builder default .", "", "", ""),
    ],
)
@pytest.mark.usefixtures("host")
def test_build_on_another_engine_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    name: str,
    value: str,
    chosen_by: str,
) -> None:
    if name:
        monkeypatch.setenv(name, value)
    preflight(words)
    elsewhere = f"warning  docker: {chosen_by} may send the build to an engine other than the one checked here"
    assert of_docker(capsys.readouterr().out) == (elsewhere if chosen_by else "ok       docker: answers")


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
def test_context_that_docker_is_configured_to_use_counts_where_the_environment_has_none(
    host: BuildHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str, level: str
) -> None:
    (host.place / "docker").mkdir()
    (host.place / "docker" / "config.json").write_text(content)
    preflight()
    line = of_docker(capsys.readouterr().out)
    assert line.startswith(level)
    assert ("the context remote (`docker context use`) may send" in line) == (level == "warning")
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    preflight()
    assert of_docker(capsys.readouterr().out).startswith("ok")


@pytest.mark.parametrize(("words", "counts"), [(".", True), ("docker buildx build .", False)])
def test_limit_is_refused_where_a_builder_in_a_container_would_build(
    host: BuildHost, capsys: pytest.CaptureFixture[str], words: str, counts: bool
) -> None:
    (host.place / "docker/buildx/instances").mkdir(parents=True)
    nodes = [{"Name": "mine0", "Endpoint": "unix:///var/run/docker.sock"}]
    builder = {"Name": "mine", "Driver": "docker-container", "Nodes": nodes}
    (host.place / "docker/buildx/instances/mine").write_text(json.dumps(builder))
    (host.place / "docker/buildx/current").write_text(json.dumps({"Name": "mine", "Global": True}))
    assert preflight(words, limit=G) == (0 if counts else 3)
    output = capsys.readouterr().out
    assert of_docker(output) == "ok       docker: answers", "it writes to the volume"
    line = "failed   limit: the builder mine runs in a container: the guard does not count its steps for this build"
    assert (line in output) != counts


@pytest.mark.usefixtures("host")
def test_guard_that_is_switched_off_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.preflight(CONFIG._replace(watched_units=()), options(".")) == 0
    assert "warning  guard: switched off in the settings" in capsys.readouterr().out


@pytest.mark.usefixtures("host")
def test_another_build_is_a_warning(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(checklist, "programs_that_build", lambda: [Process(7, "docker")])
    assert run() == 0
    assert "warning  builds: also running: docker (process 7)" in capsys.readouterr().err


@pytest.mark.usefixtures("host")
def test_user_is_told_whose_builds_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight() == 0
    assert "builds: no other build is running\n" in capsys.readouterr().out
    as_user(monkeypatch)
    assert preflight() == 0
    text = "ok       builds: no other build of this user's is running. Only root can see those of others\n"
    assert text in capsys.readouterr().out


def test_volume_is_counted_as_df_counts_it(tmp_path: Path) -> None:
    volume, df = space_of(str(tmp_path)), shutil.disk_usage(tmp_path)
    assert volume.size == df.total
    assert abs(volume.used - df.used) + abs(volume.available - df.free) < 2**30  # others write meanwhile


def test_only_space_above_the_floor_counts_as_room() -> None:
    need = Need(8 * G, "--need 8G")
    assert room(10 * G, 2 * G, need).level == "ok"
    short = room(10 * G - 1, 2 * G, need)
    assert short.level == "failed"
    assert short.text.endswith("above the guard's floor of 2.0 GiB: 1 bytes missing")


def test_build_that_does_not_fit_is_refused_with_figures(host: BuildHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.cache = 0
    assert run(need=60 * G) == 3
    output = capsys.readouterr().err
    assert (
        "free: 50.0 GiB; needed: 60.0 GiB (--need 60G) above the guard's floor of 2.0 GiB: 12.0 GiB missing" in output
    )
    assert "Reclaimable: image old:1 1.0 GiB. That is not enough: grow the volume (setting volume_size)" in output
    assert not host.has_begun()


def test_build_by_root_removes_idle_cache_and_nothing_else(host: BuildHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(need=50 * G) == 0
    output = capsys.readouterr().err
    assert "build cache that is not in use: removed 1 record" in output
    assert "ok       room: free: 53.0 GiB" in output
    assert host.has_begun()


def test_cache_stays_where_it_is_not_enough(host: BuildHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(need=52 * G) == 3
    assert "image old:1 1.0 GiB. Make room: `bulkhead reclaim --need 54G`" in capsys.readouterr().err
    assert host.cache == 3 * G


def test_cache_stays_if_another_check_fails(host: BuildHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "is_alive", lambda: False)
    assert run(need=50 * G) == 3
    assert host.cache == 3 * G


def test_preflight_removes_nothing_but_announces_what_a_build_would_remove(
    host: BuildHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight(need=50 * G) == 0
    assert "warning  room: " in (output := capsys.readouterr().out)
    assert "`bulkhead build` first removes that much idle build cache" in output
    assert host.cache == 3 * G


@pytest.mark.parametrize("command", [run, preflight])
def test_others_than_root_get_the_command_for_root(
    host: BuildHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: Callable[..., int]
) -> None:
    as_user(monkeypatch)
    assert command(need=50 * G) == 3
    output = capsys.readouterr()
    assert (
        "build cache 3.0 GiB, image old:1 1.0 GiB. Make room: `sudo bulkhead reclaim --need 52G`"
        in output.out + output.err
    )
    assert host.cache == 3 * G


def test_cache_stays_while_a_move_of_dockers_data_is_unfinished(
    host: BuildHost, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = journal.Journal(journal.PATH)
    unfinished.enter("copying")
    assert run(need=50 * G) == 3
    assert "no build cache was removed: a move of Docker's data is not finished (copying)" in capsys.readouterr().err
    assert host.cache == 3 * G


def test_advice_names_only_what_helps(host: BuildHost) -> None:
    can_be_had = "Reclaimable: build cache 3.0 GiB, image old:1 1.0 GiB"
    assert checklist.advice(54 * G, CONFIG) == f"{can_be_had}. Make room: `bulkhead reclaim --need 54G`"
    assert checklist.advice(55 * G, CONFIG) == (
        f"{can_be_had}. That is not enough: grow the volume (setting volume_size)"
    )
    assert checklist.advice(50 * G, CONFIG) == "Enough is free now: build again"
    host.cache = 0
    assert "image old:1" in checklist.advice(51 * G, CONFIG)
    kept = CONFIG._replace(prune_keep=("old:*",))
    assert checklist.advice(51 * G, kept) == "Nothing can be reclaimed: grow the volume (setting volume_size)"


@pytest.mark.usefixtures("host")
def test_advice_beside_another_build_counts_no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checklist, "programs_that_build", lambda: [Process(1, "docker")])
    assert checklist.advice(53 * G, CONFIG).endswith("1.0 GiB. Make room: `bulkhead reclaim --need 53G`")
    assert checklist.advice(54 * G, CONFIG).endswith(
        "Images stay during a build. When the other builds have ended, make room: `bulkhead reclaim --need 54G`"
    )


def test_own_docker_is_no_other_build(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Process(1, "docker")
    monkeypatch.setattr(checklist, "programs_that_build", lambda: [Process(os.getpid(), "docker"), other])
    assert checklist.other_builds() == [other]
