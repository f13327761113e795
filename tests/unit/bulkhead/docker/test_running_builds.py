"""What is under way in Docker, and would be lost with it."""

from __future__ import annotations

import pytest

from bulkhead.docker import running_builds
from bulkhead.docker.engine import Engine

from .building_host import classic_container
from .conftest import Answers, engine_container


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"GET /containers/c1/json": engine_container("web", AutoRemove=True)}, ["the --rm container web"]),
        ({"GET /containers/c1/json": engine_container("web", status="paused")}, ["the paused container web"]),
        (
            {"GET /containers/c1/json": classic_container(State={"Running": True, "Paused": False})},
            ["a build (its step is the container nervous_mendeleev)"],
        ),
        # It looks like a step, but a person has named it, or keeps it.
        ({"GET /containers/c1/json": classic_container(Name="/web", State={"Running": True, "Paused": False})}, []),
        ({"GET /containers/c1/json": engine_container("web", LogConfig={"Type": "none"})}, []),
        ({"GET /system/df": {"BuildCache": [{"InUse": False}, {"InUse": True}]}}, ["a build"]),
        ({"GET /system/df": {"BuildCache": [{"InUse": False}]}}, []),
    ],
)
def test_what_a_stop_would_lose_is_described(
    engine: Engine, answers: Answers, changed: Answers, found: list[str]
) -> None:
    answers.update(changed)
    assert running_builds.under_way(engine) == found


def test_build_is_found_in_the_form_that_the_count_has_since_api_1_52(engine: Engine, answers: Answers) -> None:
    answers["GET /system/df"] = {"BuildCacheUsage": {"TotalSize": 1, "Items": [{"InUse": True}]}}
    assert running_builds.under_way(engine) == ["a build"]
