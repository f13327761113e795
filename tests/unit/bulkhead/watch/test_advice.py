"""An alert advises what can be had, and names what fills the volume where nothing can be reclaimed."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bulkhead.docker import usage as docker_usage
from bulkhead.docker.usage import Usage
from bulkhead.errors import Failed
from bulkhead.storage.space import Space
from bulkhead.watch import advice
from bulkhead.watch.advice import DockersAnswer

from ..configs import config
from .alert_host import AlertHost

M, G = 2**20, 2**30
VOLUME = "/srv/docker-volume"
USAGE = Usage(images=20 * G, containers=0, build_cache=2 * G, volumes=3 * G, logs=0, reclaimable={})


def space(free: int, size: int = 60 * G, inodes: int = 0, inodes_free: int = 0) -> Space:
    counts: Any = SimpleNamespace(
        f_frsize=1, f_blocks=size, f_bfree=free, f_bavail=free, f_files=inodes, f_ffree=inodes_free, f_fsid=1
    )
    return Space(cast("Any", counts))


def advise(at: Space, *reclaimable: tuple[str, int], usage: Usage | None = USAGE) -> str:
    return advice.advice(config(), at, DockersAnswer(reclaimable=reclaimable, usage=usage))


def need(text: str) -> int:
    """Return the advised bytes."""
    found = re.search(r"`bulkhead reclaim --need (\d+)([GM])`", text)
    assert found, text
    return int(found[1]) * {"G": G, "M": M}[found[2]]


def test_what_ends_the_warning_is_advised_if_it_can_be_had() -> None:
    assert advise(space(9 * G), ("build cache", 6 * G), ("image old:1", 4 * G)) == (
        "Reclaimable: build cache 6.0G, image old:1 4.0G.\n"
        "Reclaim it: `bulkhead reclaim --need 15G`.\n"
        "Details: `bulkhead status`"
    )


def test_no_more_is_advised_than_can_be_had_and_what_else_fills_the_volume_is_named() -> None:
    text = advise(space(5 * G), ("build cache", 2 * G), ("image old:1", G))
    assert need(text) == (5 * G + 3 * G * 9 // 10) // M * M
    assert "It holds images 20G, volumes 3.0G, build cache 2.0G." in text
    assert "30G are neither images, build cache, containers, volumes nor logs." in text
    assert "grow the volume (setting volume_size)" in text


@pytest.mark.parametrize("reclaimable", [(), (("image tiny:1", 3 * M),)])
def test_file_that_fills_the_volume_is_not_answered_with_a_reclaim_of_nothing(
    reclaimable: tuple[tuple[str, int], ...],
) -> None:
    text = advise(space(0), *reclaimable)
    assert "Reclaimable: nothing worth it." in text
    assert "bulkhead reclaim" not in text
    assert "35G are neither images, build cache, containers, volumes nor logs." in text
    assert f"Where it is: `du -xm --max-depth=2 {VOLUME} | sort -n | tail`." in text


def test_cache_that_is_next_to_nothing_is_not_advised_where_inodes_are_short() -> None:
    at = space(40 * G, inodes=1000, inodes_free=10)
    assert need(advise(at, ("build cache", 3 * M), ("image old:1", 4 * G))) > 43 * G
    assert need(advise(at, ("build cache", 2 * G), ("image old:1", 4 * G))) < 42 * G


def test_volume_that_is_full_of_volumes_has_them_named_first() -> None:
    text = advise(space(G), usage=Usage(8 * G, 0, 0, 49 * G, 0, {}))
    assert "It holds volumes 49G, images 8.0G." in text
    assert "neither" not in text


def test_docker_that_takes_too_long_to_count_leaves_the_rest_of_the_advice() -> None:
    text = advise(space(0), usage=None)
    assert "It holds" not in text
    assert "Where it is: " in text


def test_volume_that_fills_but_has_space_is_not_answered_with_a_reclaim_that_does_nothing() -> None:
    at = space(30 * G)
    assert at.available < need(advise(at, ("image big:1", 9 * G), ("build cache", 5 * G))) < at.available + 5 * G
    assert at.available < need(advise(at, ("image big:1", 9 * G))) < at.available + 9 * G


def test_few_inodes_with_much_space_are_answered_with_what_frees_inodes() -> None:
    at = space(40 * G, inodes=4_000_000, inodes_free=400_000)
    text = advise(at, ("build cache", 6 * G), ("image old:1", 4 * G))
    assert "Inodes: 400000 of 4000000 are free. Each file takes one." in text
    assert at.available < need(text) < at.available + 6 * G
    assert "Where it is" not in text


def test_few_inodes_that_docker_does_not_hold_are_answered_with_where_the_files_are() -> None:
    text = advise(space(40 * G, inodes=4_000_000, inodes_free=400_000))
    assert "bulkhead reclaim" not in text
    assert f"`du --inodes -x --max-depth=2 {VOLUME} | sort -n | tail`" in text


@pytest.mark.parametrize("free", [0, 1, 5 * G, 11 * G, 14 * G, 16 * G, 55 * G])
@pytest.mark.parametrize("cache", [0, 64 * M, G, 30 * G])
@pytest.mark.parametrize("image", [0, 65 * M, 7 * G])
@pytest.mark.parametrize("size", [60 * G, 10_000 * G])
def test_advised_figure_can_be_had_and_changes_something(free: int, cache: int, image: int, size: int) -> None:
    reclaimable = [(name, each) for name, each in (("build cache", cache), ("image", image)) if each]
    text = advise(space(free, size), *reclaimable)
    if reclaimable:
        assert free < need(text) <= free + cache + image
    else:
        assert "bulkhead reclaim" not in text


def test_docker_that_hangs_does_not_hold_messages_back(host: AlertHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "_PATIENCE", 0.05)
    monkeypatch.setattr(advice, "_ask", lambda *_: time.sleep(1))
    text = advice.way_out(config(volume_mount=str(host.place)))
    assert "Reclaimable: unknown, Docker does not answer. `bulkhead rescue --dry-run`" in text


def test_what_docker_has_said_before_it_hung_is_kept(host: AlertHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Failed("the engine is gone")

    monkeypatch.setattr(advice.systemd, "is_running", lambda *_: True)
    monkeypatch.setattr(docker_usage, "reclaimable", lambda *_: [("build cache", G)])
    monkeypatch.setattr(docker_usage, "usage", fail)
    assert "build cache 1.0G" in advice.way_out(config(volume_mount=str(host.place)))
