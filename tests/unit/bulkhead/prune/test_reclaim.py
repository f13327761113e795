"""What `bulkhead reclaim` removes, refuses and asks."""

from __future__ import annotations

import argparse
import sys

import pytest

from bulkhead import state
from bulkhead.docker import daemon
from bulkhead.errors import Failed
from bulkhead.outage import journal
from bulkhead.outage.journal import Journal
from bulkhead.prune import attempt, commands, pruner, remover
from bulkhead.prune.unused import moment_to_free

from ..configs import config
from .contents import (
    GIB,
    NOW,
    FakeContents,
    ago,
    container,
    image,
    reclaim,
    record,
)

# -- reclaim


def test_reclaim_stops_as_soon_as_enough_is_free(contents: FakeContents) -> None:
    contents.cache = [record("old", 60, 2 * GIB), record("recent", 1, 2 * GIB)]
    contents.images = [image("lost", size=GIB)]
    assert reclaim(12 * GIB) == 0
    assert contents.names() == {"recent", "lost"}


def test_reclaim_does_nothing_where_enough_is_free(contents: FakeContents) -> None:
    assert reclaim(10 * GIB) == 0
    assert contents.asked == []


def test_reclaim_takes_the_least_recently_used_cache_first(contents: FakeContents) -> None:
    contents.cache = [record("a", 5), record("b", 20), record("c", 10), record("record", 40, InUse=True)]
    assert reclaim(12 * GIB) == 0
    assert contents.names() == {"a", "record"}


def test_reclaim_takes_all_idle_cache_where_the_count_was_too_high(contents: FakeContents) -> None:
    contents.cache = [record("a", 5), record("b", 20)]
    contents.free -= GIB  # what others have written meanwhile
    assert reclaim(11 * GIB) == 0
    assert contents.names() == set()


def test_reclaim_takes_the_least_recently_used_images_last_one_by_one(contents: FakeContents) -> None:
    state.save("images", {"sha256:a": NOW.timestamp() - 50, "sha256:b": NOW.timestamp() - 500})
    contents.cache = [record("cache", 1)]
    contents.images = [
        image("a", "a:1", size=GIB),
        image("b", "b:1", size=GIB),
        image("c", "c:1", size=GIB, tagged=ago(0.1)),
        image("used", "used:1", size=GIB),
    ]
    contents.containers = [container("c1", "used", finished=ago(1))]
    assert reclaim(13 * GIB) == 0
    assert contents.names() == {"a", "c1", "used"}


def test_reclaim_says_where_no_use_of_an_image_is_known(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.images = [image("a", "a:1", size=GIB, tagged="0001-01-01T00:00:00Z"), image("b", "b:1", tagged=ago(9))]
    reclaim(11 * GIB)
    assert "  image a:1 (1.0 GiB) removed: no use is known" in capsys.readouterr().out


def test_reclaim_knows_the_least_recently_used_of_images_that_were_found_at_once(contents: FakeContents) -> None:
    state.save("images", {"sha256:new": NOW.timestamp() - 50, "sha256:old": NOW.timestamp() - 50})
    contents.images = [image("new", "a:1", size=GIB, tagged=ago(9)), image("old", "b:1", size=GIB, tagged=ago(99))]
    assert reclaim(11 * GIB) == 0
    assert contents.names() == {"new"}


def test_reclaim_takes_an_image_after_what_was_made_from_it(contents: FakeContents) -> None:
    contents.images = [image("base", "base:1", size=GIB), image("app", "app:1", size=GIB, parent="base")]
    assert reclaim(12 * GIB) == 0
    assert contents.names() == set()


def test_reclaim_beyond_what_can_be_had_removes_nothing(contents: FakeContents) -> None:
    contents.cache = [record("recent", 1)]
    contents.images = [
        image("used", "used:1", size=GIB),
        image("kept", "kept:1", size=GIB, labels={"bulkhead.keep": ""}),
        image("old", "old:1", size=GIB),
    ]
    contents.containers = [container("c", "used", status="running"), container("old-container", "used")]
    held = contents.names()
    with pytest.raises(Failed) as refusal:
        reclaim(13 * GIB)
    assert contents.names() == held
    assert str(refusal.value) == (
        "13.0 GiB are needed on /srv/docker-volume, and at most 12.0 GiB can be had. Nothing was removed. Take what can be "
        "had: `bulkhead reclaim --need 12247M`. The rest is in use, or your settings or labels keep it: `bulkhead status` "
        "shows what fills the volume. More space: grow the volume (setting volume_size)"
    )
    assert reclaim(12247 * 2**20) == 0
    assert contents.names() == {"used", "kept", "c"}


@pytest.mark.usefixtures("contents")
def test_reclaim_without_anything_to_remove_advises_no_figure() -> None:
    with pytest.raises(Failed, match=r"at most 10.0 GiB can be had\. Nothing was removed\. The rest is in use"):
        reclaim(11 * GIB)


def test_reclaim_beside_a_build_says_why_images_stay(contents: FakeContents) -> None:
    contents.images = [image("old", "old:1", size=GIB)]
    contents.building = ["docker (process 7)"]
    with pytest.raises(
        Failed, match=r"Nothing was removed\. Images stay during a build: docker \(process 7\), which builds\."
    ):
        reclaim(11 * GIB)


def test_layers_that_images_share_can_be_had_with_the_last_of_them(contents: FakeContents) -> None:
    both = {"size": 2 * GIB, "shared": 2 * GIB, "layers": ["base", "app"]}
    contents.images = [
        image("a", "app:1", **both, tagged=ago(9)),
        image("b", "app:2", **both, tagged=ago(5)),
        image("used", "used:1", size=GIB, shared=GIB, layers=["base"]),
    ]
    contents.containers = [container("c", "used", status="running")]
    with pytest.raises(Failed, match=r"at most 11.0 GiB can be had"):
        reclaim(12 * GIB)
    contents.containers.clear()
    assert reclaim(12 * GIB, dry_run=True) == 0


def test_person_sees_what_would_go_and_is_asked(
    contents: FakeContents, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.images = [image("old", "old:1", size=GIB)]
    asked: list[str] = []
    answers = ["n", "y"]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answers.pop(0))
    assert reclaim(11 * GIB, yes=False) == 1
    output = capsys.readouterr().out
    assert "  image old:1 (1.0 GiB) would be removed: last used 83 days ago" in output
    assert output.endswith("nothing was removed\n")
    assert asked == ["1 object would be removed, with 1.0 GiB. Go on? [y/N] "]
    assert contents.names() == {"old"}
    assert reclaim(11 * GIB, yes=False) == 0
    assert contents.names() == set()


def test_nothing_goes_that_the_person_has_not_seen(contents: FakeContents, monkeypatch: pytest.MonkeyPatch) -> None:
    contents.images = [image("a", "a:1", size=GIB, tagged=ago(99)), image("b", "b:1", size=GIB, tagged=ago(9))]
    monkeypatch.setattr(contents, "_freed", lambda _: GIB // 2)  # less than Docker counts
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert reclaim(11 * GIB, yes=False) == 1
    assert contents.names() == {"b"}
    assert reclaim(11 * GIB, yes=True) == 0


def test_reclaim_without_a_terminal_wants_an_option(contents: FakeContents, monkeypatch: pytest.MonkeyPatch) -> None:
    contents.images = [image("old", "old:1", size=GIB)]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(Failed, match="stdin is not a terminal; pass --yes"):
        reclaim(11 * GIB, yes=False)
    assert contents.names() == {"old"}
    assert reclaim(10 * GIB, yes=False) == 0, "there is nothing to ask"


def test_reclaim_where_enough_is_free_waits_for_no_lock(contents: FakeContents) -> None:
    with state.locked("prune", 0), state.locked("move", 0):
        assert reclaim(10 * GIB) == 0
    assert contents.asked == []


@pytest.mark.usefixtures("contents")
def test_programs_are_not_asked() -> None:
    options = argparse.Namespace(need=11 * GIB, dry_run=False, json=True, yes=False, volumes=False)
    with pytest.raises(Failed, match="--json asks nothing; pass --yes, or --dry-run"):
        commands.reclaim(config(), options)


def test_reclaim_says_what_is_missing_where_docker_counted_too_much(
    contents: FakeContents, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents.images = [image("old", "old:1", size=GIB)]
    monkeypatch.setattr(contents, "_freed", lambda _: GIB // 2)
    assert reclaim(11 * GIB) == 1
    assert "11.0 GiB are needed: 512.0 MiB are missing. Docker counted more than came" in capsys.readouterr().out


def test_reclaim_that_is_dry_stops_where_a_real_one_would(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.cache = [record("a", 5), record("b", 20)]
    contents.images = [image("i", "i:1", size=GIB)]
    assert reclaim(12 * GIB, dry_run=True) == 0
    assert contents.names() == {"a", "b", "i"}
    assert "build cache that is not in use: would remove 2 records, 2.0 GiB" in capsys.readouterr().out


def test_moment_that_frees_enough_spares_what_is_shared_with_images() -> None:
    records = [record("shared", 30, Shared=True), record("b", 20), record("a", 10)]
    assert moment_to_free(records, GIB) == pytest.approx(NOW.timestamp() - 20 * 3600, abs=1)


# -- the cache alone


def test_cache_is_reclaimed_alone_and_counted_in_bytes(contents: FakeContents) -> None:
    contents.cache = [record("old", 90), record("recent", 1)]
    contents.images = [image("lost"), image("old-image", "old:1")]
    assert pruner.reclaim_cache(config(), 11 * GIB, print, wait=0) == GIB
    assert contents.names() == {"recent", "lost", "old-image"}
    assert pruner.reclaim_cache(config(), 11 * GIB, print, wait=0) == 0
    assert pruner.reclaim_cache(config(), 99 * GIB, print, wait=0) == GIB
    assert contents.names() == {"lost", "old-image"}


def test_cache_that_images_share_counts_as_nothing(contents: FakeContents) -> None:
    contents.cache = [record("old", 90), record("shared", 95, Shared=True)]
    assert pruner.reclaim_cache(config(), 99 * GIB, print, wait=0) == GIB
    assert contents.names() == set()


def test_cache_stays_where_docker_does_not_run_or_somebody_else_is_at_work(
    contents: FakeContents, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents.cache = [record("old", 90)]
    with state.locked("prune", 0), pytest.raises(TimeoutError):
        pruner.reclaim_cache(config(), 99 * GIB, print, wait=0)
    with state.locked("move", 0), pytest.raises(TimeoutError):
        pruner.reclaim_cache(config(), 99 * GIB, print, wait=0)
    for module in (daemon, attempt, pruner, remover):
        monkeypatch.setattr(module, "docker_runs", lambda: False)
    assert pruner.reclaim_cache(config(), 99 * GIB, print, wait=0) == 0
    assert contents.names() == {"old"}


def test_cache_stays_while_a_move_is_unfinished(contents: FakeContents) -> None:
    contents.cache = [record("old", 90)]
    Journal(journal.PATH).enter("copying")
    with pytest.raises(Failed, match="a move of Docker's data is not finished"):
        pruner.reclaim_cache(config(), 99 * GIB, print, wait=0)
    assert contents.names() == {"old"}
