"""What an engine holds, from a server that answers as Docker does, and what differs after a move."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bulkhead.docker import running_builds
from bulkhead.docker.engine import Engine, EngineError, moment
from bulkhead.docker.inventory import differences
from bulkhead.docker.running_builds import _builds, programs_that_build, under_way

from ...processes import orphan
from ..fake_engine import Query, fake_engine

Answers = dict[str, Any]


@pytest.fixture
def answers() -> Answers:
    return {
        "GET /images/json": [{"Id": "sha256:1", "RepoTags": ["b:1", "a:1"], "RepoDigests": None}],
        "GET /containers/json": [{"Id": "c1"}, {"Id": "c2"}],
        "GET /containers/c1/json": container("web", started="2"),
        "GET /containers/c2/json": container("old", status="exited", started="1"),
        "GET /volumes": {"Volumes": None},
        "GET /networks": [
            {"Name": "bridge", "Id": "n1", "Scope": "local"},
            {"Name": "mine", "Id": "n2", "Scope": "local"},
            {"Name": "ingress", "Id": "n3", "Scope": "swarm"},
        ],
        "GET /system/df": {"BuildCache": None},
    }


def container(name: str, status: str = "running", started: str = "1", **changes: Any) -> Answers:
    return {
        "Name": f"/{name}",
        "Id": {"web": "c1", "old": "c2"}[name],
        "Image": "sha256:1",
        "State": {
            "Status": status,
            "Running": status in ("running", "paused"),
            "Paused": status == "paused",
            "Restarting": status == "restarting",
            "StartedAt": started,
        },
        "Config": {"Image": "a:1"} | changes.pop("Config", {}),
        "HostConfig": {"RestartPolicy": {"Name": "no"}, "LogConfig": {"Type": "json-file"}, "AutoRemove": False}
        | changes,
    }


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def engine(tmp_path: Path, answers: Answers, asked: list[str]) -> Iterator[Engine]:
    def answer(method: str, path: str, _: Query) -> tuple[int, Any]:
        request = f"{method} {path}"
        asked.append(request)
        found = answers.get(request)
        if found is None:
            return 404, {"message": f"No such container: {request}"}
        return (500, {"message": found}) if isinstance(found, str) else (200, found)

    with fake_engine(tmp_path / "docker.sock", answer) as engine:
        yield engine


def test_inventory_is_by_identifier(engine: Engine) -> None:
    found = engine.inventory()
    assert found["images"] == {"sha256:1": ["a:1", "b:1"]}
    assert found["containers"]["c1"]["name"] == "web"
    assert found["volumes"] == {}
    assert found["networks"] == {"bridge": "", "mine": "n2"}, "the default bridge gets a new identifier with each start"


def test_container_that_goes_away_while_it_is_asked_for_is_passed_over(engine: Engine, answers: Answers) -> None:
    del answers["GET /containers/c1/json"]
    assert set(engine.inventory()["containers"]) == {"c2"}


def test_refusal_of_docker_is_an_error(engine: Engine, answers: Answers) -> None:
    answers["GET /images/json"] = "disk is full"
    with pytest.raises(EngineError, match="Docker refuses /images/json: disk is full"):
        engine.inventory()


def test_docker_that_is_down_is_an_error(tmp_path: Path) -> None:
    engine = Engine(str(tmp_path / "none"))
    assert not engine.answers()
    with pytest.raises(EngineError, match="did not answer within 0 s"):
        engine.wait(0)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"GET /containers/c1/json": container("web", AutoRemove=True)}, ["the --rm container web"]),
        ({"GET /containers/c1/json": container("web", status="paused")}, ["the paused container web"]),
        (
            {
                "GET /containers/c1/json": container(
                    "web", LogConfig={"Type": "none"}, Config={"Image": "sha256:0123", "Cmd": []}
                )
            },
            ["a build (its step is the container web)"],
        ),
        ({"GET /containers/c1/json": container("web", LogConfig={"Type": "none"})}, []),
        ({"GET /system/df": {"BuildCache": [{"InUse": False}, {"InUse": True}]}}, ["a build"]),
        ({"GET /system/df": {"BuildCache": [{"InUse": False}]}}, []),
    ],
)
def test_what_a_stop_would_lose_is_described(
    engine: Engine, answers: Answers, changed: Answers, found: list[str]
) -> None:
    answers.update(changed)
    assert under_way(engine) == found


def test_build_is_found_in_the_form_that_the_count_has_since_api_1_52(engine: Engine, answers: Answers) -> None:
    answers["GET /system/df"] = {"BuildCacheUsage": {"TotalSize": 1, "Items": [{"InUse": True}]}}
    assert under_way(engine) == ["a build"]


def test_count_of_somebody_else_is_waited_for(
    engine: Engine, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers["GET /system/df"] = "a disk usage operation is already running"

    def ends(_: float) -> None:
        answers["GET /system/df"] = {"LayersSize": 7, "Images": None}

    monkeypatch.setattr("time.sleep", ends)
    assert engine.usage("image") == {"image": [], "layers": 7}


@pytest.mark.parametrize(
    ("words", "is_build"),
    [
        ("docker build .", True),
        ("/usr/bin/docker --host tcp://h buildx --builder b build .", True),
        ("docker image build .", True),
        ("docker buildx bake", True),
        ("docker compose --file build.yaml build web", True),
        ("docker --debug compose -f a.yaml up --detach --build", True),
        ("/usr/libexec/docker/cli-plugins/docker-compose compose up --build", True),
        ("docker-compose -p mine up --build", True),
        ("/usr/libexec/docker/cli-plugins/docker-buildx buildx build .", True),
        ("docker run --rm box npm run build", False),
        ("docker run box configure --build", False),
        ("docker compose up build", False),
        ("docker --context build compose --profile build up", False),
        ("docker stats build", False),
        ("docker ps", False),
        ("make build", False),
        ("docker", False),
        ("", False),
    ],
)
def test_command_line_that_builds_is_distinguished_from_others(words: str, is_build: bool) -> None:
    assert _builds(words.split()) == is_build


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Callable[..., bool]]:
    """Runs a docker-compose in Python, as the first one was, and tells whether it counts as a build."""
    program = tmp_path / "docker-compose"
    program.write_text("import time; time.sleep(60)")
    started = []

    def run(*words: str) -> bool:
        started.append(orphan(sys.executable, str(program), *words))
        return started[-1] in [user.pid for user in programs_that_build()]

    yield run
    for process in started:
        os.kill(process, signal.SIGKILL)


def test_first_docker_compose_is_found_to_build(compose: Callable[..., bool]) -> None:
    assert compose("build")
    assert compose("up", "--build")
    assert not compose("logs", "build")


def test_compose_that_has_stayed_with_its_containers_no_longer_builds(
    compose: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_builds, "_COMPOSE_BUILDS", 0)
    assert not compose("up", "--build")
    assert compose("build")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02T00:00:00Z", 86400),
        ("1970-01-01T00:00:01.123456789Z", 1.123456789),
        ("1970-01-01T02:00:01.5+02:00", 1.5),
        ("0001-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00+02:00", 0),
        ("", 0),
    ],
)
def test_time_of_docker_is_read(text: str, seconds: float) -> None:
    assert moment(text) == pytest.approx(seconds)


def test_what_runs_is_listed_in_the_order_of_its_start(engine: Engine, answers: Answers) -> None:
    answers["GET /containers/c2/json"] = container("old", status="restarting", started="1")
    assert engine.running() == ["c2", "c1"]


def test_containers_are_stopped_also_when_one_has_gone(engine: Engine, answers: Answers, asked: list[str]) -> None:
    answers["POST /containers/c1/stop"] = {}
    engine.stop(["c1", "gone"])
    assert "POST /containers/c1/stop" in asked


def test_nothing_differs_where_something_has_only_come(engine: Engine, answers: Answers) -> None:
    before = engine.inventory()
    answers["GET /volumes"] = {"Volumes": [{"Name": "later", "Driver": "local"}]}
    answers["GET /containers/c2/json"] = container("old", started="3")
    assert differences(before, engine.inventory(), ran=["c1"]) == []


@pytest.mark.parametrize(
    ("request_", "answer", "found"),
    [
        ("GET /images/json", [], "the image sha256:1 is missing"),
        (
            "GET /images/json",
            [{"Id": "sha256:1", "RepoTags": ["a:1"], "RepoDigests": None}],
            "the image sha256:1 is not what it was",
        ),
        ("GET /containers/json", [{"Id": "c1"}], "the container old is missing"),
        ("GET /containers/c1/json", container("web", status="exited", started="2"), "the container web does not run"),
        (
            "GET /containers/c2/json",
            container("old", status="exited", RestartPolicy={"Name": "always"}),
            "the container old is not what it was",
        ),
        ("GET /networks", [{"Name": "bridge", "Id": "n9", "Scope": "local"}], "the network mine is missing"),
    ],
)
def test_difference_is_described(engine: Engine, answers: Answers, request_: str, answer: Any, found: str) -> None:
    before = engine.inventory()
    answers[request_] = answer
    assert differences(before, engine.inventory(), ran=["c1"]) == [found]


def test_container_that_has_run_again_and_ended_by_itself_did_run(engine: Engine, answers: Answers) -> None:
    before = engine.inventory()
    answers["GET /containers/c1/json"] = container("web", status="exited", started="3")
    assert differences(before, engine.inventory(), ran=["c1"]) == []
