"""Which containers are steps of the builder before BuildKit, and which only look like one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bulkhead.docker import classic_builder
from bulkhead.docker.engine import EngineError

from ..fake_engine import Query, fake_engine
from .building_host import ID, OTHER_ID, BuildingHost, classic_container


def test_container_with_everything_that_a_step_has_is_one() -> None:
    assert classic_builder.is_step(classic_container())
    assert classic_builder.is_step(classic_container(HostConfig__RestartPolicy={"Name": "no"}))  # of newer engines


@pytest.mark.parametrize(
    "changed",
    [
        {"Config__Healthcheck": ...},
        {"Config__Healthcheck": None},
        {"Config__Env": None},
        {"Config__Env": ["LANG=C", "PATH=/bin"]},
        {"Config__Tty": True},
        {"Config__AttachStdout": True},
        {"HostConfig__RestartPolicy": {"Name": "always"}},
        {"HostConfig__PortBindings": {}},
        {"HostConfig__Dns": []},
        {"HostConfig__AutoRemove": True},
        {"HostConfig__Privileged": True},
        {"HostConfig__Binds": ["/srv:/srv"]},
        {"HostConfig__Mounts": [{"Type": "volume"}]},
        {"HostConfig__VolumesFrom": ["data"]},
        {"Mounts": [{"Type": "volume"}]},
        {"Name": "/database"},
        {"Name": "/build_step_12"},
    ],
)
def test_container_that_lacks_one_of_them_only_looks_like_a_step(changed: dict[str, Any]) -> None:
    assert classic_builder.looks_like_step(classic_container(**changed))
    assert not classic_builder.is_step(classic_container(**changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"HostConfig__LogConfig": {"Type": "json-file"}},
        {"Config__Image": "box:latest"},
        {"State__Running": False},
    ],
)
def test_other_container_does_not_even_look_like_one(changed: dict[str, Any]) -> None:
    assert not classic_builder.looks_like_step(classic_container(**changed))
    assert not classic_builder.is_step(classic_container(**changed))


def test_docker_is_asked_for_steps(host: BuildingHost, tmp_path: Path) -> None:
    host.process(60, "/bin/sh -c make", 2, f"/system.slice/docker-{ID}.scope", 5)
    host.process(70, "sh", 2, f"/system.slice/docker-{OTHER_ID}.scope")
    inspected = {
        ID: classic_container(),
        "similar": classic_container(Id="similar", Name="/database", State__Pid=70),
        "foreign": classic_container(Id="foreign", State__Pid=70),
    }

    def answer(_: str, path: str, __: Query) -> tuple[int, Any]:
        if path == "/containers/json":
            rows = [{"Id": name, "Image": "sha256:1"} for name in [*inspected, "gone"]]
            return 200, [*rows, {"Id": "web", "Image": "web:1"}]
        found = inspected.get(path.split("/")[2])
        return (200, found) if found else (404, {"message": "No such container"})

    with fake_engine(tmp_path / "docker.sock", answer) as engine:
        certain, similar = classic_builder.classic_steps(engine)
    assert [(step.id, step.pid, step.written, step.container) for step in certain] == [(ID, 60, 5, "nervous_mendeleev")]
    # The last has a control group that is not its own.
    assert similar == ["database", "nervous_mendeleev"]


@pytest.mark.parametrize("status", [400, 500])
def test_container_that_docker_does_not_show_may_be_a_step(tmp_path: Path, status: int) -> None:
    def answer(_: str, path: str, __: Query) -> tuple[int, Any]:
        if path == "/containers/json":
            return 200, [{"Id": ID, "Image": "sha256:1"}]
        return status, {"message": "no"}

    with (
        fake_engine(tmp_path / "docker.sock", answer) as engine,
        pytest.raises(EngineError, match=f"^Docker refuses /containers/{ID}/json: no$"),
    ):
        classic_builder.classic_steps(engine)
