"""What fills Docker's volume, from what Docker counts and from the logs on the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bulkhead.docker.usage import Usage, last_use, reclaimable, usage

from ..fake_engine import fake_engine

IMAGES = [
    {"Id": "sha256:1", "RepoTags": ["web:1"], "RepoDigests": None, "Labels": None, "Size": 900, "SharedSize": 400},
    {"Id": "sha256:2", "RepoTags": ["old:1"], "RepoDigests": None, "Labels": None, "Size": 700, "SharedSize": 400},
    {"Id": "sha256:3" + "0" * 20, "RepoTags": None, "RepoDigests": None, "Labels": {}, "Size": 50, "SharedSize": -1},
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
VOLUMES = [{"Name": "data", "UsageData": {"Size": 1000}}, {"Name": "nfs", "UsageData": {"Size": -1}}, {"Name": "none"}]

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
def test_usage_is_the_same_from_every_form_of_the_answer(tmp_path: Path, shape: str) -> None:
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
        volumes=1000,
        logs=12,
        reclaimable={"images": 410, "containers": 5, "build cache": 100},
    )


def test_what_could_be_reclaimed_is_listed_the_largest_first_and_without_what_is_kept(tmp_path: Path) -> None:
    with fake_engine(tmp_path / "docker.sock", lambda *_: (200, SHAPES["until 28"])) as engine:
        found = reclaimable(engine)
        kept = reclaimable(engine, ["old:*"])
    assert found == [("image old:1", 300), ("build cache", 100), ("image 300000000000", 50)]
    assert kept == found[1:]


def test_containers_between_two_prunes_show_by_the_layer_that_they_began_with(tmp_path: Path) -> None:
    (tmp_path / "link").write_text("X")
    os.utime(tmp_path / "link", (1000, 1))
    data = {"UpperDir": str(tmp_path / "diff")}
    assert last_use({"GraphDriver": {"Data": data}, "Metadata": {"LastTagTime": "1970-01-01T00:00:09Z"}}) == 1000
    assert last_use({"GraphDriver": None, "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"}}) == 0
