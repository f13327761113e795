"""What is removed from a fake engine, and what remains."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead import errors, state
from bulkhead.docker import daemon
from bulkhead.docker.engine import Engine
from bulkhead.errors import Failed
from bulkhead.outage import journal
from bulkhead.outage.journal import Journal
from bulkhead.prune import attempt, pruner, remover
from bulkhead.prune.memory import last_seen
from bulkhead.prune.unused import idle_cache

from ..configs import config
from .contents import (
    GIB,
    NEVER,
    NOW,
    FakeContents,
    ago,
    container,
    image,
    known,
    network,
    reclaim,
    record,
    result,
    run,
    step,
    up_for,
    volume,
)

# -- prune


def test_cache_goes_that_was_unused_for_long_and_in_no_use(contents: FakeContents) -> None:
    contents.cache = [record("old", 49), record("recent", 47), record("record", 90, InUse=True)]
    run()
    assert contents.names() == {"recent", "record"}


@pytest.mark.parametrize("parents", [{"Parents": ["base"]}, {"Parent": "base"}])
def test_cache_stays_that_newer_cache_was_made_from(parents: dict[str, Any]) -> None:
    records = [record("base", 90), record("step", 1, **parents), record("other", 90)]
    assert [found["ID"] for found in idle_cache(records, NOW.timestamp() - 48 * 3600)] == ["other"]
    assert len(idle_cache(records, NOW.timestamp())) == 3


def test_cache_stays_that_newer_cache_was_made_from_over_several_records() -> None:
    records = [record("base", 90), record("middle", 90, Parents=["base"]), record("step", 1, Parents=["middle"])]
    assert idle_cache(records, NOW.timestamp() - 48 * 3600) == []


def test_images_without_a_name_go_but_for_those_in_a_container_or_kept(contents: FakeContents) -> None:
    contents.images = [
        image("lost"),
        image("pulled-by-digest", "web@sha256:7"),
        image("named", "web:1"),
        image("running"),
        image("labelled", labels={"bulkhead.keep": "false"}),
        image("pinned", "base@sha256:9"),
        image("between"),
        image("final", "app:1", parent="between"),
    ]
    contents.containers = [container("c", "running", status="running")]
    assert run(config(prune_keep=("base",))) == 0
    assert contents.names() == {"c", "named", "running", "labelled", "pinned", "between", "final", "pulled-by-digest"}


def test_images_stay_that_others_were_made_from_over_several_steps(contents: FakeContents) -> None:
    contents.images = [
        image("base", "base:1"),
        image("between", parent="base"),
        image("app", "app:1", parent="between"),
    ]
    contents.containers = [container("c", "app", status="running")]
    for left in ({"base", "between", "app", "c"}, {"base", "between"}, set()):
        known("images", base=900, between=900, app=900)
        run(config(prune_images_after_days=30))
        assert contents.names() == left
        contents.containers.clear()


def test_image_that_a_build_may_have_made_just_now_stays(contents: FakeContents) -> None:
    known("images", older=1.1, newer=0.9)
    contents.images = [
        image("older", tagged=NEVER),
        image("newer", tagged=NEVER),
        image("new", tagged=NEVER, hours=9000),  # it may have been built long ago, and loaded just now
        image("untagged", tagged=ago(1.1)),
        image("just-untagged", tagged=ago(0.9)),
        image("t", "t:1", size=GIB),
    ]
    run()
    stays = {"newer", "new", "just-untagged"}
    assert contents.names() == stays | {"t"}
    assert reclaim(11 * GIB) == 0
    assert contents.names() == stays


def test_image_without_a_name_goes_an_hour_after_it_was_first_seen(contents: FakeContents) -> None:
    contents.images = [image("lost", tagged=NEVER)]
    run()
    assert contents.names() == {"lost"}
    known("images", lost=1)
    run()
    assert contents.names() == set()


def test_image_goes_with_the_last_container_that_had_it(contents: FakeContents) -> None:
    contents.images = [image("lost")]
    contents.containers = [container("old", "lost")]
    run()
    assert contents.names() == set()


@pytest.mark.parametrize("sign", ["cache in use", "classic step", "command line"])
def test_images_are_left_alone_beside_a_build(
    contents: FakeContents, capsys: pytest.CaptureFixture[str], sign: str
) -> None:
    contents.images = [image("lost"), image("old", "old:1")]
    if sign == "cache in use":
        contents.cache = [record("step", 0, InUse=True)]
    elif sign == "classic step":
        contents.containers = [step("silly_name", "base")]
    else:
        contents.building = ["docker (process 7)"]
    run(config(prune_images_after_days=1))
    assert {"lost", "old"} <= contents.names()
    assert "dangling images: not removed: images stay during a build: " in capsys.readouterr().out


def test_container_that_only_looks_like_a_step_blocks_nothing(contents: FakeContents) -> None:
    contents.images = [image("lost"), image("base", "base:1")]
    contents.containers = [container("db", "base", status="running", log="none", of="sha256:base")]
    run()
    assert contents.names() == {"db", "base"}


def test_containers_go_by_the_time_since_they_stopped(contents: FakeContents) -> None:
    contents.containers = [
        container("old", "i"),
        container("dead", "i", status="dead", restart=""),
        container("stopped-just-now", "i", finished=ago(1)),
        container("never-started", "i", status="created", created=ago(60), started=NEVER, finished=NEVER),
        container("made-just-now", "i", status="created", created=ago(1), started=NEVER, finished=NEVER),
        container("without-a-time", "i", created="", started="", finished=""),
        container("up", "i", status="running", finished=NEVER),
        container("paused", "i", status="paused"),
        container("restarts", "i", restart="unless-stopped"),
        container("labelled", "i", labels={"bulkhead.keep": ""}),
        container("ci-cache", "i"),
        container("cut", "i", started=ago(1), finished=ago(100)),
    ]
    assert run(config(prune_keep=("ci-*",))) == 0
    assert contents.names() == {
        *("stopped-just-now", "made-just-now", "without-a-time", "up", "paused"),
        *("restarts", "labelled", "ci-cache", "cut"),
    }


@pytest.mark.parametrize(("hours", "is_old"), [(48, True), (47.99, False)])
def test_what_is_as_old_as_the_settings_say_goes(contents: FakeContents, hours: float, is_old: bool) -> None:
    moment = (NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    known("networks", net=hours)
    known("volumes", v=hours)
    contents.cache = [record("record", hours, LastUsedAt=moment)]
    contents.containers = [
        container("c", "i", finished=moment),
        container("made", "i", status="created", created=moment, started=NEVER, finished=NEVER),
    ]
    contents.networks.append(network("net"))
    contents.volumes = [volume("v")]
    run(config(prune_anonymous_volumes=True))
    assert contents.names() == (set() if is_old else {"record", "c", "made", "net", "v"})


@pytest.mark.parametrize(("days", "is_old"), [(30, True), (29.99, False)])
def test_image_that_is_as_old_as_the_settings_say_goes(contents: FakeContents, days: float, is_old: bool) -> None:
    known("images", old=days * 24)
    contents.images = [image("old", "old:1", tagged=ago(900 * 24))]
    run(config(prune_images_after_days=30))
    assert contents.names() == (set() if is_old else {"old"})


@pytest.mark.parametrize(
    "reference",
    [
        {"VolumesFrom": ["needed:ro"]},
        {"VolumesFrom": ["id-needed"]},
        {"NetworkMode": "container:id-need"},
        {"IpcMode": "container:needed"},
        {"PidMode": "container:needed"},
        {"Links": ["/needed:/user/db"]},
    ],
)
def test_container_stays_that_another_refers_to(contents: FakeContents, reference: dict[str, Any]) -> None:
    contents.containers = [
        container("base", "i"),
        container("needed", "i", host={"VolumesFrom": ["base"]}),
        container("user", "i", finished=ago(1), host=reference),
        container("other", "i"),
    ]
    run()
    assert contents.names() == {"base", "needed", "user"}


def test_containers_go_together_that_only_refer_to_each_other(contents: FakeContents) -> None:
    contents.containers = [container("a", "i"), container("b", "i", host={"NetworkMode": "container:a"})]
    run()
    assert contents.names() == set()


def test_container_that_never_started_is_said_to_be_made(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.containers = [container("new", "i", status="created", created=ago(97), started=NEVER, finished=NEVER)]
    run()
    assert "  container new (5 bytes) removed: made 4 days ago, never started" in capsys.readouterr().out


def test_size_of_a_container_is_what_it_has_written_and_its_logs(
    contents: FakeContents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x-json.log").write_bytes(bytes(30))
    (tmp_path / "x-json.log.1").write_bytes(bytes(40))
    contents.containers = [container("old", "i") | {"LogPath": str(tmp_path / "x-json.log")}]
    run()
    assert "  container old (75 bytes) removed: stopped 60 h ago" in capsys.readouterr().out


def test_networks_go_that_no_container_refers_to(contents: FakeContents) -> None:
    known("networks", old=60, young=1, kept=60, labelled=60, swarm=60, template=60, docker_gwbridge=60)
    contents.networks += [
        network("old"),
        network("young"),
        network("new"),
        network("kept"),
        network("labelled", Labels={"bulkhead.keep": "1"}),
        network("of-a-stopped"),
        network("by-mode"),
        network("swarm", Scope="swarm"),
        network("template", ConfigOnly=True),
        network("docker_gwbridge"),
    ]
    contents.containers = [
        container("a", "i", finished=ago(1), networks={"x": {"NetworkID": "id-of-a-stopped"}}),
        container("b", "i", finished=ago(1), network="by-mode"),
    ]
    run(config(prune_keep=("kept",)))
    assert {found["Name"] for found in contents.networks} == {
        *("bridge", "host", "none", "young", "new", "kept", "labelled"),
        *("of-a-stopped", "by-mode", "swarm", "template", "docker_gwbridge"),
    }


def test_network_outlives_the_last_container_that_had_it_by_as_long(contents: FakeContents) -> None:
    known("networks", mine=900)
    contents.containers = [container("old", "i", network="mine")]
    contents.networks.append(network("mine"))
    run()
    assert contents.names() == {"mine"}
    assert state.load("networks")["id-mine"] == NOW.timestamp()


def test_named_images_stay_by_default(contents: FakeContents) -> None:
    contents.images = [image("old", "old:1")]
    run()
    assert contents.names() == {"old"}


def test_image_goes_when_no_container_has_had_it_for_days(contents: FakeContents) -> None:
    long, short = (NOW - timedelta(days=31)).timestamp(), (NOW - timedelta(days=29)).timestamp()
    state.save(
        "images",
        {
            "sha256:unused": long,
            "sha256:twice": long,
            "sha256:used": short,
            "sha256:running": long,
            "sha256:tagged": long,
        }
        | {"sha256:kept": long},
    )
    contents.images = [
        image("unused", "unused:1"),
        image("twice", "a:1", "b:1", "a@sha256:5", "c@sha256:5"),
        image("used", "used:1"),
        image("running", "running:1"),
        image("tagged", "tagged:1", tagged=ago(2)),
        image("kept", "registry.example.com/base:1"),
        image("first-seen-now", "new:1"),
    ]
    contents.containers = [container("c", "running", status="running")]
    assert run(config(prune_images_after_days=30, prune_keep=("registry.example.com/base:*",))) == 0
    assert contents.names() == {"c", "used", "running", "tagged", "kept", "first-seen-now"}


def test_image_that_a_container_mounts_is_in_use(contents: FakeContents) -> None:
    state.save("images", {"sha256:models": 0})
    contents.images = [image("models", "models:1")]
    mounts = [{"Type": "image", "Source": "models:1"}]
    contents.containers = [container("c", "gone", status="running", mounts=mounts)]
    run(config(prune_images_after_days=30))
    assert contents.names() == {"c", "models"}


def test_use_of_an_image_is_remembered(contents: FakeContents) -> None:
    contents.images = [image("a", "a:1"), image("b", "b:1")]
    contents.containers = [container("c", "a", status="running")]
    state.save("images", {"sha256:a": 5, "sha256:b": 7, "sha256:gone": 9, "sha256:odd": "?"})
    run()
    assert state.load("images") == {"sha256:a": NOW.timestamp(), "sha256:b": 7}


def test_use_that_a_clock_has_put_into_the_future_counts_as_now() -> None:
    assert last_seen(["a"], set(), {"a": 100.0}, 50.0) == {"a": 50.0}


# -- what it says, and what goes wrong


def test_log_has_a_line_for_each_object_and_each_step(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.cache = [record("a", 60), record("b", 60)]
    contents.images = [image("0123456789abcdef", size=GIB)]
    contents.containers = [container("old", "i")]
    run()
    assert capsys.readouterr().out.splitlines() == [
        "build cache unused for 48 h: removed 2 records, 2.0 GiB; freed 2.0 GiB",
        "  container old (5 bytes) removed: stopped 60 h ago",
        "containers stopped for 48 h: removed 1 container, 5 bytes; freed 0 bytes",
        "  image 0123456789ab (1.0 GiB) removed: dangling",
        "dangling images: removed 1 image, 1.0 GiB; freed 1.0 GiB",
        "networks unused for 48 h: nothing",
        "3.0 GiB freed; 13.0 GiB are free on /srv/docker-volume",
    ]


def test_dry_run_says_what_a_run_would_do_and_changes_nothing(
    contents: FakeContents, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    contents.cache = [record("a", 60), record("shared", 60, Shared=True)]
    contents.images = [image("of-old", size=GIB)]
    contents.containers = [container("old", "of-old", network="mine")]
    contents.networks.append(network("mine"))
    known("networks", mine=60)
    before = contents.names()
    files = {path: path.read_bytes() for path in tmp_path.glob("lib/*")}
    assert run(dry_run=True) == 0
    assert contents.names() == before
    assert not [request for request in contents.asked if not request.startswith("GET")]
    assert {path: path.read_bytes() for path in tmp_path.glob("lib/*")} == files
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out.splitlines() == [
        "build cache unused for 48 h: would remove 2 records, 1.0 GiB",
        "  container old (5 bytes) would be removed: stopped 60 h ago",
        "containers stopped for 48 h: would remove 1 container, 5 bytes",
        "  image of-old (1.0 GiB) would be removed: dangling",
        "dangling images: would remove 1 image, 1.0 GiB",
        "networks unused for 48 h: nothing",
        "2.0 GiB would be freed; 12.0 GiB would be free on /srv/docker-volume",
    ]


def test_result_is_remembered_for_status_and_metrics(contents: FakeContents) -> None:
    contents.images = [image("lost", size=GIB)]
    run()
    assert state.load("prune") == result(freed=GIB, removed=1)


def test_json_has_what_was_removed(contents: FakeContents, capsys: pytest.CaptureFixture[str]) -> None:
    contents.images = [image("lost", size=7)]
    run(as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["removed"] == [{"kind": "image", "id": "sha256:lost", "name": "lost", "size": 7, "why": "dangling"}]
    assert (printed["freed"], printed["free"], printed["failed"], printed["dry_run"]) == (7, 10 * GIB + 7, [], False)


@pytest.mark.parametrize("status", [400, 500])
def test_failure_of_one_object_does_not_stop_the_rest(
    contents: FakeContents, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    contents.containers = [container("busy", "i"), container("old", "i")]
    contents.refused["DELETE /containers/id-busy"] = (status, "device or resource busy")
    assert run() == 1
    assert contents.names() == {"busy"}
    what = "container busy (5 bytes) could not be removed: Docker refuses /containers/id-busy: device or resource busy"
    assert what in capsys.readouterr().out
    assert state.load("prune")["failed"] == [what]


@pytest.mark.parametrize("status", [404, 409])
def test_object_that_is_gone_or_has_come_into_use_is_no_failure(contents: FakeContents, status: int) -> None:
    contents.containers = [container("old", "i")]
    contents.refused["DELETE /containers/id-old"] = (status, "no")
    assert run() == 0
    assert state.load("prune")["removed"] == 0


@pytest.mark.parametrize(("status", "failed"), [(404, []), (400, ["no"]), (500, ["no"])])
def test_image_that_is_gone_before_it_is_inspected_is_no_failure(
    contents: FakeContents, status: int, failed: list[str]
) -> None:
    known("images", gone=900, old=900)
    contents.images = [image("gone", "gone:1"), image("old", "old:1")]
    contents.refused["GET /images/sha256:gone/json"] = (status, "no")
    assert run(config(prune_images_after_days=30)) == len(failed)
    assert contents.names() == ({"gone"} if not failed else {"gone", "old"})
    assert [each.partition(": ")[2] for each in state.load("prune")["failed"]] == failed


def test_image_of_which_one_name_is_gone_goes_with_the_other(contents: FakeContents) -> None:
    known("images", old=900)
    contents.images = [image("old", "a:1", "b:1")]
    contents.refused["DELETE /images/a:1"] = (404, "No such image")
    contents.images[0]["RepoTags"] = ["b:1", "a:1"]
    run(config(prune_images_after_days=30))
    assert state.load("prune")["failed"] == []
    assert state.load("prune")["removed"] == 1


def test_image_that_comes_into_use_between_its_names_stays(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    known("images", old=900)
    contents.images = [image("old", "a:1", "b:1", "c:1")]
    contents.refused["DELETE /images/b:1"] = (409, "container 3f uses it")
    assert run(config(prune_images_after_days=30)) == 0
    assert "DELETE /images/c:1" not in contents.asked
    assert state.load("prune") == result()
    assert "  image a:1 is in use: Docker refuses /images/b:1: container 3f uses it" in capsys.readouterr().out


def test_network_that_something_is_attached_to_is_no_failure(contents: FakeContents) -> None:
    contents.networks.append(network("old"))
    contents.refused["DELETE /networks/id-old"] = (403, "network old has active endpoints")
    assert run() == 0


def test_what_a_full_volume_refuses_is_tried_once_more_when_there_is_room(contents: FakeContents) -> None:
    contents.free = 0
    contents.cache = [record("old", 60)]
    contents.images = [image("lost", size=GIB)]
    contents.refused["POST /build/prune"] = (500, "write cache.db: no space left on device")
    contents.healed_by = "DELETE"
    assert run() == 0
    assert contents.names() == set()
    assert state.load("prune") == result(freed=2 * GIB, removed=2)


def test_other_failures_are_not_tried_again(contents: FakeContents) -> None:
    contents.cache = [record("old", 60)]
    contents.images = [image("lost", size=GIB)]
    contents.refused["POST /build/prune"] = (500, "locked")
    contents.healed_by = "DELETE"
    assert run() == 1
    assert contents.names() == {"old"}
    assert contents.asked.count("POST /build/prune") == 1


def test_prune_waits_for_the_space_that_docker_says_it_has_freed(
    contents: FakeContents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filesystem frees it a moment later. Without the wait, more would go than is needed."""
    clock = [0.0]
    came = [(0.4, GIB)]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        while came and clock[0] >= came[0][0]:
            contents.free += came.pop()[1]

    monkeypatch.setattr(remover, "_SETTLING", 5)
    monkeypatch.setattr(remover, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(contents, "_freed", lambda _: 0)
    contents.images = [image("a", "a:1", size=GIB, tagged=ago(99)), image("b", "b:1", size=GIB, tagged=ago(9))]
    assert reclaim(11 * GIB) == 0
    assert contents.names() == {"b"}
    assert clock[0] == pytest.approx(0.4)
    came.append((9e9, 0))
    assert reclaim(12 * GIB) == 1
    assert contents.names() == set()
    assert clock[0] == pytest.approx(0.4 + 5, abs=0.3), "it does not wait for ever"


def test_reclaim_waits_for_the_space_of_cache_too(contents: FakeContents, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        contents.free = 11 * GIB

    monkeypatch.setattr(remover, "_SETTLING", 5)
    monkeypatch.setattr(remover, "time", SimpleNamespace(monotonic=lambda: float(len(slept)), sleep=sleep))
    monkeypatch.setattr(contents, "_prune_cache", lambda _: {"CachesDeleted": ["a"], "SpaceReclaimed": 2 * GIB})
    contents.cache = [record("a", 60, 2 * GIB), record("b", 1, 2 * GIB)]
    assert reclaim(11 * GIB) == 0
    assert (contents.asked.count("POST /build/prune"), slept) == (1, [0.2])


def test_nobody_waits_for_more_space_than_is_needed(contents: FakeContents, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(remover, "_SETTLING", 5)
    monkeypatch.setattr(remover, "time", SimpleNamespace(monotonic=lambda: float(len(slept)), sleep=slept.append))
    contents.images = [image("a", "a:1", size=2 * GIB)]
    assert reclaim(11 * GIB) == 0
    assert slept == []


def test_volume_too_full_for_docker_to_remove_anything_is_reported(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.cache = [record("old", 60)]
    contents.refused["POST /build/prune"] = (500, "write cache.db: no space left on device")
    assert run() == 1
    assert contents.asked.count("POST /build/prune") == 1, "nothing has made room for a second try"
    assert capsys.readouterr().out.endswith("to remove objects: `bulkhead rescue` makes some\n")


def test_docker_that_hangs_ends_the_run_at_once(
    contents: FakeContents, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(attempt, "Engine", lambda: Engine(str(tmp_path / "nobody")))
    assert run() == 1
    assert contents.asked == []
    (line, _) = capsys.readouterr().out.splitlines()
    assert line.startswith("Docker does not answer /containers/json: ")
    assert line.endswith("The remaining steps were not tried")
    assert state.load("prune")["failed"] == [line]


def test_answer_that_nobody_expected_is_a_failure_and_the_rest_is_done(
    contents: FakeContents, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.networks.append({"Id": "id-odd", "Name": "odd"})
    contents.images = [image("lost")]
    assert run() == 1
    failed = ["networks: not done: KeyError('Scope')"]
    assert state.load("prune") == result(removed=1, failed=failed)
    assert failed[0] in capsys.readouterr().out


def test_docker_that_was_stopped_is_not_started(contents: FakeContents, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (daemon, attempt, pruner, remover):
        monkeypatch.setattr(module, "docker_runs", lambda: False)
    with pytest.raises(errors.Failed, match="Docker does not run"):
        run()
    assert contents.asked == []
    (failure,) = state.load("prune")["failed"]
    assert failure.startswith("Docker does not run")


@pytest.mark.parametrize("last", ["GET /system/df", "DELETE /containers/id-a", "DELETE /containers/id-b"])
def test_docker_that_is_stopped_meanwhile_is_not_started(contents: FakeContents, last: str) -> None:
    contents.containers = [container("a", "i"), container("b", "i")]
    contents.stopped_after = last
    assert run() == 1
    assert contents.asked[-1] == last
    assert state.load("prune")["failed"] == ["docker.service is no longer active. The remaining steps were not tried"]


@pytest.mark.parametrize("phase", journal.UNFINISHED)
@pytest.mark.parametrize("command", [run, lambda: reclaim(99 * GIB)])
@pytest.mark.parametrize("what", ["PATH", "ROLLBACK"])
def test_nothing_goes_while_a_move_or_a_rollback_is_unfinished(
    contents: FakeContents, what: str, command: Callable[[], int], phase: str
) -> None:
    contents.containers = [container("stopped-by-the-move", "i")]
    Journal(getattr(journal, what)).enter(phase)
    with pytest.raises(errors.Failed, match=rf"not finished \({phase}\).*`bulkhead relocate --recover`"):
        command()
    assert contents.asked == []


@pytest.mark.parametrize("phase", [journal.DONE, journal.FINALIZING, journal.FINALIZED, journal.FAILED])
@pytest.mark.usefixtures("contents")
def test_move_that_has_ended_is_in_nobodys_way(phase: str) -> None:
    Journal(journal.PATH).enter(phase)
    assert run() == 0


@pytest.mark.usefixtures("contents")
def test_refusal_is_remembered_as_a_failure() -> None:
    Journal(journal.PATH).enter(journal.COPYING)
    with pytest.raises(errors.Failed) as refusal:
        run()
    assert state.load("prune") == result(failed=[str(refusal.value)])


def test_journal_that_cannot_be_read_is_a_reason_to_remove_nothing(contents: FakeContents) -> None:
    Path(journal.PATH).parent.mkdir()
    Path(journal.PATH).write_text("{")
    with pytest.raises(ValueError, match="is not a journal of a move"):
        run()
    assert contents.asked == []
    assert state.load("prune")["failed"]


@pytest.mark.usefixtures("contents")
@pytest.mark.parametrize("command", [run, lambda: reclaim(None, volumes=True)])
def test_prune_beside_another_is_told_and_leaves_what_the_other_remembers(
    contents: FakeContents, monkeypatch: pytest.MonkeyPatch, command: Callable[[], int]
) -> None:
    contents.volumes = [volume("v")]
    monkeypatch.setattr(attempt, "_PATIENCE", 0)
    with (
        state.locked("prune", 0),
        pytest.raises(Failed, match=r"another prune or reclaim is at work.*nothing was removed"),
    ):
        command()
    assert state.load("prune") == {}
    assert contents.names() == {"v"}


@pytest.mark.parametrize("hours", [0.3, 2.9])
def test_nothing_goes_in_the_first_hours_after_a_boot(
    contents: FakeContents, capsys: pytest.CaptureFixture[str], hours: float
) -> None:
    contents.uptime = up_for(2400, since_boot=hours)
    contents.containers = [container("old", "i")]
    with pytest.raises(
        Failed, match=r"this host booted .* ago: nothing is pruned in the first 3 h.*`bulkhead reclaim` makes"
    ):
        run()
    assert contents.names() == {"old"}
    assert state.load("prune") == {}
    assert run(dry_run=True) == 0
    assert "nothing is pruned in the first 3 h" in capsys.readouterr().out
