"""Docker's API, from a server that answers as Docker does."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bulkhead.docker.engine import Engine, EngineError, moment

from .conftest import Answers, engine_container


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
    assert not engine.answers(1)
    with pytest.raises(EngineError, match="Docker does not answer /networks: "):
        engine.ask("GET", "/networks")


def test_count_of_somebody_else_is_waited_for(
    engine: Engine, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers["GET /system/df"] = "a disk usage operation is already running"

    def ends(_: float) -> None:
        answers["GET /system/df"] = {"LayersSize": 7, "Images": None}

    monkeypatch.setattr("time.sleep", ends)
    assert engine.usage("image") == {"image": [], "layers": 7}


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
    answers["GET /containers/c2/json"] = engine_container("old", status="restarting", started="1")
    assert engine.running() == ["c2", "c1"]


def test_containers_are_stopped_also_when_one_has_gone(engine: Engine, answers: Answers, asked: list[str]) -> None:
    answers["POST /containers/c1/stop"] = {}
    engine.stop(["c1", "gone"])
    assert "POST /containers/c1/stop" in asked


def test_containers_are_started_side_by_side_and_what_does_not_start_is_named(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody gets an answer before sixteen have asked: one after the other they would wait for ever.
    together = threading.Barrier(16)

    def ask(_: Engine, method: str, path: str, *__: object) -> None:
        assert method == "POST"
        together.wait(10)
        if path == "/containers/c7/start":
            raise EngineError("Docker refuses /containers/c7/start: port is already allocated")

    monkeypatch.setattr(Engine, "ask", ask)
    refused = engine.start([f"c{number}" for number in range(304)])
    assert refused == ["Docker refuses /containers/c7/start: port is already allocated"]
