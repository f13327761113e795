"""What fills Docker's volume, from what Docker counts and from the logs on the disk."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state
from bulkhead.docker.usage import Usage, is_dangling, last_use, own_bytes, reclaimable, usage

from ..fake_engine import fake_engine

IMAGES = [
    {"Id": "sha256:1", "RepoTags": ["web:1"], "RepoDigests": None, "Labels": None, "Size": 900, "SharedSize": 400},
    {"Id": "sha256:2", "RepoTags": ["old:1"], "RepoDigests": None, "Labels": None, "Size": 700, "SharedSize": 400},
    {
        "Id": "sha256:3" + "0" * 20,
        "RepoTags": None,
        "RepoDigests": ["<none>@<none>"],
        "Labels": {},
        "Size": 50,
        "SharedSize": -1,
        "Created": 0,
    },
    {
        "Id": "sha256:4",
        "RepoTags": ["kept:1"],
        "RepoDigests": [],
        "Labels": {"bulkhead.keep": ""},
        "Size": 60,
        "SharedSize": 0,
    },
]
CONTAINERS = [
    {"Id": "c1", "ImageID": "sha256:1", "State": "running", "SizeRw": 10},
    {"Id": "c2", "ImageID": "sha256:1", "State": "exited", "SizeRw": 5},
    {"Id": "c3", "ImageID": "sha256:1", "State": "created"},
]
CACHE = [
    {"ID": "a", "InUse": False, "Shared": False, "Size": 100},
    {"ID": "b", "InUse": True, "Shared": False, "Size": 30},
    {"ID": "c", "InUse": False, "Shared": True, "Size": 500},
]
_LABELS = {"com.docker.volume.anonymous": ""}
VOLUMES: list[dict[str, Any]] = [
    {"Name": "data", "UsageData": {"Size": 1000, "RefCount": 0}},
    {"Name": "nfs", "UsageData": {"Size": -1, "RefCount": 0}},
    {"Name": "none"},
    {"Name": "lost", "Driver": "local", "Labels": _LABELS, "UsageData": {"Size": 70, "RefCount": 0}},
    {"Name": "had", "Driver": "local", "Labels": _LABELS, "UsageData": {"Size": 7, "RefCount": 1}},
    {"Name": "ab" * 32, "Driver": "local", "Labels": None, "UsageData": {"Size": 30, "RefCount": 0}},
    {"Name": "cd" * 32, "Driver": "local", "Labels": None, "UsageData": {"Size": 30, "RefCount": 0}},
]

SHAPES: dict[str, dict[str, Any]] = {
    "until 28": {
        "LayersSize": 1360,
        "Images": IMAGES,
        "Containers": CONTAINERS,
        "Volumes": VOLUMES,
        "BuildCache": CACHE,
    },
    "from 29": {
        "ImageUsage": {"TotalSize": 1360, "Items": IMAGES},
        "ContainerUsage": {"Items": CONTAINERS},
        "VolumeUsage": {"Items": VOLUMES},
        "BuildCacheUsage": {"Items": CACHE},
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_usage_is_the_same_from_every_form_of_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setattr(state, "PERSISTENT", str(tmp_path / "lib"))
    monkeypatch.setattr(state, "VOLATILE", str(tmp_path / "run"))
    state.save("volumes", {"ab" * 32: 5})  # the prune has seen its container
    logs = tmp_path / "c1"
    (logs / "local-logs").mkdir(parents=True)
    (logs / "c1-json.log").write_bytes(bytes(3))
    (logs / "c1-json.log.1").write_bytes(bytes(4))
    (logs / "local-logs/container.log").write_bytes(bytes(5))
    with fake_engine(tmp_path / "docker.sock", lambda *_: (200, SHAPES[shape])) as engine:
        found = usage(engine, str(tmp_path))
    assert found == Usage(
        images=1360,
        containers=15,
        build_cache=130,
        volumes=1137,
        logs=12,
        reclaimable={"images": 410, "containers": 5, "build cache": 100},
        anonymous=2,
        anonymous_bytes=100,
    )


def test_what_could_be_reclaimed_is_listed_the_largest_first_and_without_what_is_kept(tmp_path: Path) -> None:
    with fake_engine(tmp_path / "docker.sock", lambda *_: (200, SHAPES["until 28"])) as engine:
        found = reclaimable(engine)
        kept = reclaimable(engine, keep=["old"])
    assert found == [("image old:1", 300), ("build cache", 100), ("image 300000000000", 50)]
    assert kept == [("build cache", 100), ("image 300000000000", 50)]


@pytest.mark.parametrize(("age", "is_listed"), [(3599, False), (3600, True), (86400, True)])
def test_image_without_a_name_can_be_reclaimed_an_hour_after_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: int, is_listed: bool
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9)
    answer = {"LayersSize": 0, "Images": [IMAGES[2] | {"Created": 10**9 - age}], "Containers": [], "BuildCache": []}
    with fake_engine(tmp_path / "docker.sock", lambda *_: (200, answer)) as engine:
        assert bool(reclaimable(engine)) == is_listed


@pytest.mark.parametrize(
    ("names", "dangling"),
    [
        ({"RepoTags": None, "RepoDigests": None}, True),
        ({"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}, True),
        ({"RepoTags": [], "RepoDigests": ["web@sha256:1"]}, False),
        ({"RepoTags": ["<none>:<none>"], "RepoDigests": ["web@sha256:1"]}, False),
        ({"RepoTags": ["web:1"], "RepoDigests": []}, False),
        ({"RepoTags": ["3proxy:1"], "RepoDigests": []}, False),
        ({"RepoTags": [], "RepoDigests": ["3proxy@sha256:1"]}, False),
    ],
)
def test_image_is_dangling_that_has_neither_a_tag_nor_a_digest(names: dict[str, Any], dangling: bool) -> None:
    assert is_dangling(names) == dangling


def test_image_of_containerds_store_promises_only_what_it_frees_for_certain() -> None:
    # Its size has what it shares twice: as it was pulled, and unpacked.
    packed = {"Id": "sha256:1", "RepoTags": ["a:1"], "Size": 900, "SharedSize": 400}
    assert own_bytes(packed | {"RepoDigests": ["a@sha256:1"]}) == 100
    assert own_bytes(packed | {"RepoDigests": ["a@sha256:2"]}) == 500
    assert own_bytes(packed | {"RepoDigests": ["a@sha256:1"], "SharedSize": 600}) == 0


def test_containers_between_two_prunes_show_by_the_layer_that_they_began_with(tmp_path: Path) -> None:
    (tmp_path / "link").write_text("X")
    os.utime(tmp_path / "link", (1000, 1))
    data = {"UpperDir": str(tmp_path / "diff")}
    assert last_use({"GraphDriver": {"Data": data}, "Metadata": {"LastTagTime": "1970-01-01T00:00:09Z"}}) == 1000
    assert last_use({"GraphDriver": None, "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"}}) == 0
