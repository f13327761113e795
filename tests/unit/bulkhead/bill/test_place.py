"""Whether the disk that a build fills can be seen from here."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.bill import place
from bulkhead.bill.client import CONTAINER, ENGINE, Builder
from bulkhead.bill.place import Place, obstacle_to_saving, place_of
from bulkhead.docker import roots

from .bills import INFO, M

CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]]


def info(**changed: Any) -> dict[str, Any]:
    return {**INFO, "DockerRootDir": "/", **changed}


@pytest.mark.parametrize("driver", [ENGINE, CONTAINER])
def test_disk_of_the_engine_of_this_machine_is_seen(driver: str) -> None:
    assert place_of(info(), Builder(driver)) == Place(("/",))


@pytest.mark.parametrize(
    ("changed", "driver", "why"),
    [
        ({"Name": "docker-desktop"}, ENGINE, "the engine (docker-desktop) has its data on another machine"),
        (
            {"KernelVersion": "6.6.1-linuxkit"},
            ENGINE,
            f"the engine ({os.uname().nodename}) has its data on another machine",
        ),
        ({}, "kubernetes", "the builder (kubernetes) keeps its data outside Docker"),
        ({}, "", "the builder (of an unknown driver) keeps its data outside Docker"),
        ({"DockerRootDir": "/no/such"}, ENGINE, "/no/such cannot be seen from here: No such file or directory"),
    ],
)
def test_disk_elsewhere_is_not_taken_for_one_here(changed: dict[str, Any], driver: str, why: str) -> None:
    assert place_of(info(**changed), Builder(driver)) == Place((), why)


def test_containerds_store_counts_too_and_one_filesystem_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    stat = os.stat

    def devices(path: Any, **options: Any) -> Any:
        asked.append(str(path))
        return (
            SimpleNamespace(st_dev=2 if str(path) == "/containerd" else 1)
            if str(path) in ("/", "/containerd")
            else stat(path, **options)
        )

    monkeypatch.setattr(os, "stat", devices)
    monkeypatch.setattr(os.path, "isdir", lambda path: path in ("/", "/containerd"))
    monkeypatch.setattr(roots, "containerd_root", lambda: "/containerd")
    assert place_of(info(DriverStatus=CONTAINERD), Builder(ENGINE)).paths == ("/", "/containerd")
    assert place_of(info(), Builder(ENGINE)).paths == ("/",), "the classic store has nothing there"
    monkeypatch.setattr(roots, "containerd_root", lambda: "/no/such")
    assert place_of(info(DriverStatus=CONTAINERD), Builder(ENGINE)).paths == ("/",), "dockerd has its own containerd"
    monkeypatch.setattr(roots, "containerd_root", lambda: "/")
    assert place_of(info(DriverStatus=CONTAINERD), Builder(ENGINE)).paths == ("/",)


@pytest.mark.parametrize(
    ("available", "size", "saves"),
    [(150 * M, 100 * M, True), (149 * M, 100 * M, False), (1000 * M, 100 * M, True)],
)
def test_image_is_saved_if_a_twentieth_stays_free(
    available: int, size: int, saves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "space_of", lambda _: SimpleNamespace(size=1000 * M, available=available))
    assert (obstacle_to_saving(info(), Place(("/",)), size, 0) == "") is saves
    assert obstacle_to_saving(info(DriverStatus=CONTAINERD), Place(("/",)), size, 0) == "", "it writes no copy"
    assert (obstacle_to_saving(info(), Place(("/",)), size, 0, floor=900 * M) == "") is (available == 1000 * M)


def test_large_image_is_not_saved_where_nobody_sees_the_disk() -> None:
    assert obstacle_to_saving(info(), Place(()), 100, 100) == ""
    assert "how much is free cannot be seen from here" in obstacle_to_saving(info(), Place(()), 101, 100)
