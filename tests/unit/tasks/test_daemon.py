"""daemon.json: ours, the user's and the host's own keys in one file."""

from __future__ import annotations

from typing import Any

from settings import Settings, check
from tasks.daemon import merged, our_keys, wanted, without

G = 2**30


def keys(**changes: Any) -> dict[str, Any]:
    settings = check(changes)
    assert isinstance(settings, Settings)
    return our_keys(settings, 60 * G)


def test_limits_of_the_build_cache_are_a_part_of_the_volume() -> None:
    collected = keys()["builder"]["gc"]
    assert collected["enabled"] is True
    assert collected["defaultKeepStorage"] == collected["defaultMaxUsedSpace"] == "12288MB"


def test_log_options_are_strings_as_docker_wants_them() -> None:
    assert keys(log_max_file=5)["log-opts"] == {"max-size": "10m", "max-file": "5"}


def test_users_keys_are_merged_in_object_by_object() -> None:
    written = keys(daemon_json={"log-opts": {"labels": "team"}, "debug": True})
    assert written["log-opts"] == {"max-size": "10m", "max-file": "3", "labels": "team"}
    assert written["debug"] is True


def test_key_that_the_host_had_before_us_stays() -> None:
    assert wanted({"a": 1}, {"mirror": "x", "o": {"theirs": 1}}, {}) == {"a": 1, "mirror": "x", "o": {"theirs": 1}}


def test_key_that_we_wrote_and_no_longer_want_goes() -> None:
    assert wanted({"a": 1}, {"a": 1, "b": 2, "theirs": 3}, {"a": 1, "b": 2}) == {"a": 1, "theirs": 3}


def test_key_inside_an_object_that_we_no_longer_want_goes() -> None:
    applied = {"log-opts": {"max-size": "10m", "labels": "team"}}
    current = {"log-opts": {"max-size": "10m", "labels": "team", "env": "theirs"}}
    ours = {"log-opts": {"max-size": "20m"}}
    assert wanted(ours, current, applied) == {"log-opts": {"max-size": "20m", "env": "theirs"}}


def test_ours_holds_where_both_have_a_say() -> None:
    assert wanted({"log-driver": "json-file"}, {"log-driver": "journald"}, {})["log-driver"] == "json-file"


def test_second_time_is_the_same() -> None:
    first = wanted(keys(), {"theirs": 1}, {})
    assert first["theirs"] == 1
    assert wanted(keys(), first, keys()) == first


def test_without_and_merged_undo_each_other() -> None:
    assert without(merged({"theirs": {"a": 1}}, {"theirs": {"b": 2}}), {"theirs": {"b": 2}}) == {"theirs": {"a": 1}}
