"""What Docker holds, and what differs after a move."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.docker import inventory as docker_inventory
from bulkhead.docker.engine import Engine, EngineError, Inventory
from bulkhead.docker.inventory import differences

from .conftest import Answers, engine_container


def test_nothing_differs_where_something_has_only_come(engine: Engine, answers: Answers) -> None:
    before = engine.inventory()
    answers["GET /volumes"] = {"Volumes": [{"Name": "later", "Driver": "local"}]}
    answers["GET /containers/c2/json"] = engine_container("old", started="3")
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
        (
            "GET /containers/c1/json",
            engine_container("web", status="exited", started="2"),
            "the container web does not run",
        ),
        (
            "GET /containers/c2/json",
            engine_container("old", status="exited", RestartPolicy={"Name": "always"}),
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
    answers["GET /containers/c1/json"] = engine_container("web", status="exited", started="3")
    assert differences(before, engine.inventory(), ran=["c1"]) == []


# -- the record that a snapshot keeps


class InventoriedEngine(Engine):
    def containers(self) -> Any:
        mounts = [{"Type": "volume", "Name": "a" * 64}, {"Type": "volume", "Name": "named"}, {"Type": "bind"}]
        yield {"Id": "passing", "HostConfig": {"AutoRemove": True}, "Mounts": mounts}
        yield {"Id": "web", "HostConfig": {}, "Mounts": mounts}

    def inventory(self) -> Inventory:
        volumes = {"a" * 64: "local", "named": "local"}
        return {"images": {}, "containers": {"passing": {}, "web": {}}, "volumes": volumes, "networks": {}}

    def running(self) -> list[str]:
        return ["passing", "web"]


def test_what_docker_removes_at_its_start_is_not_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkhead.docker.daemon.docker_runs", lambda: True)
    held = docker_inventory.record(InventoriedEngine())
    assert ([*held["before"]["containers"]], held["ran"]) == (["web"], ["web"])
    assert [*held["before"]["volumes"]] == ["named"]


def test_docker_that_is_down_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkhead.docker.daemon.docker_runs", lambda: False)
    assert docker_inventory.record(InventoriedEngine()) == {}


def test_docker_that_refuses_holds_nothing_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkhead.docker.daemon.docker_runs", lambda: True)

    def refuse(_: Engine) -> Inventory:
        raise EngineError("no")

    monkeypatch.setattr(InventoriedEngine, "inventory", refuse)
    assert docker_inventory.record(InventoriedEngine()) == {}
